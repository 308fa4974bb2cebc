r"""Kubernetes protobuf request bodies: the generated Go clients send them whatever the server says it likes.

A body is the four bytes `k8s\0`, then a runtime.Unknown message (type and raw bytes), then the object's own message in
those bytes. Field numbers never change; they are in data/protobuf.json.z, written by hack/protobuf-table/extract.py.
Source: Kubernetes API concepts, "Kubernetes Protobuf encoding"; Protocol Buffers encoding.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Any, Final

import orjson

from chandlery.controlplane.codec import gojson
from chandlery.controlplane.types import Obj

PREFIX: Final = b"k8s\x00"
_MAX_DEPTH: Final = 200
_META: Final = "k8s.io.apimachinery.pkg.apis.meta.v1"
_CRD: Final = "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1"
_EVERYWHERE: Final = frozenset(
    "CreateOptions DeleteOptions GetOptions ListOptions PatchOptions Status UpdateOptions".split()
)
"""Kinds of meta/v1 that every group version knows."""


class ProtobufError(ValueError):
    """A body that isn't the message it says it is."""


Field = tuple[str, bool, bool, Callable[[Any, int], Any]]
"""(JSON name or "" for an inlined struct, repeated, map, decoder of one wire value)."""


@cache
def _tables() -> tuple[dict[str, str], dict[str, dict[str, list[str]]]]:
    data = orjson.loads(
        zlib.decompress(files("chandlery.controlplane.codec").joinpath("data", "protobuf.json.z").read_bytes())
    )
    return data["groups"], data["messages"]


def decode_object(raw: bytes) -> Obj:
    """The object of a whole body, prefix included, as decoded JSON; zero values that were sent are in it.

    Raises ProtobufError.
    """
    if not raw.startswith(PREFIX):
        raise ProtobufError("the body has no protobuf prefix")
    api_version = kind = encoding = ""
    payload = b""
    for number, value in _fields(raw[len(PREFIX) :]):
        if number == 1:
            for inner, text in _fields(_bytes(value)):
                if inner == 1:
                    api_version = _text(text)
                elif inner == 2:
                    kind = _text(text)
        elif number == 2:
            payload = _bytes(value)
        elif number == 3:
            encoding = _text(value)
    if encoding:
        raise ProtobufError(f"content encoding {encoding!r} is not supported")
    groups, messages = _tables()
    package = _META if kind in _EVERYWHERE else groups.get(api_version)
    name = f"{package}.{kind}"
    if package is None or name not in messages:
        raise ProtobufError(f'no kind "{kind}" is registered for version "{api_version}"')
    try:
        obj: Obj = _message(name)(payload, 0)
    except (struct.error, UnicodeDecodeError, OverflowError, RecursionError) as error:
        raise ProtobufError(f"malformed {kind}: {error}") from None
    return {"apiVersion": api_version, "kind": kind, **obj}


def encode_status(status: Obj) -> bytes:
    """A `metav1.Status` as a whole protobuf body: all that clients can be told who take nothing else."""
    details = status.get("details") or {}
    causes = b"".join(
        _field(
            4,
            _field(1, cause.get("reason", ""))
            + _field(2, cause.get("message", ""))
            + _field(3, cause.get("field", "")),
        )
        for cause in details.get("causes") or ()
    )
    names = (
        _field(1, details.get("name", "")) + _field(2, details.get("group", "")) + _field(3, details.get("kind", ""))
    )
    more = _field(5, details.get("retryAfterSeconds", 0)) + _field(6, details.get("uid", ""))
    message = (
        _field(1, _field(1, "") + _field(2, "") + _field(3, ""))
        + _field(2, status.get("status", ""))
        + _field(3, status.get("message", ""))
        + _field(4, status.get("reason", ""))
        + (_field(5, names + causes + more) if details else b"")
        + _field(6, status.get("code", 0))
    )
    type_meta = _field(1, status.get("apiVersion", "v1")) + _field(2, status.get("kind", "Status"))
    return PREFIX + _field(1, type_meta) + _field(2, message) + _field(3, "") + _field(4, "")


def _field(number: int, value: bytes | str | int) -> bytes:
    """One field on the wire: a number as a varint, everything else with its length."""
    if isinstance(value, int):
        return _packed(number << 3) + _packed(value)
    raw = value.encode() if isinstance(value, str) else value
    return _packed(number << 3 | 2) + _packed(len(raw)) + raw


def _packed(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


# --- the wire -----------------------------------------------------------------------------------------------


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(raw):
            raise ProtobufError("unexpected EOF")
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
        if shift >= 70:
            raise ProtobufError("proto: integer overflow")


def _fields(raw: bytes) -> list[tuple[int, Any]]:
    """(field number, int or bytes) pairs in order."""
    out: list[tuple[int, Any]] = []
    at, end = 0, len(raw)
    value: Any
    while at < end:
        key = raw[at]
        at += 1
        if key >= 0x80:
            key, at = _varint(raw, at - 1)
        wire = key & 7
        if wire == 2:
            if at >= end:
                raise ProtobufError("unexpected EOF")
            size = raw[at]
            at += 1
            if size >= 0x80:
                size, at = _varint(raw, at - 1)
            if at + size > end:
                raise ProtobufError("unexpected EOF")
            value = raw[at : at + size]
            at += size
        elif wire == 0:
            value, at = _varint(raw, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            if at + size > end:
                raise ProtobufError("unexpected EOF")
            value = raw[at : at + size]
            at += size
        else:
            raise ProtobufError(f"proto: illegal wireType {wire}")
        if key < 8:
            raise ProtobufError("proto: illegal tag 0")
        out.append((key >> 3, value))
    return out


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise ProtobufError("proto: wrong wireType = 0")
    return value


def _text(value: Any, _depth: int = 0) -> str:
    return _bytes(value).decode("utf-8", "replace")


def _signed(value: Any, _depth: int = 0) -> int:
    if not isinstance(value, int):
        raise ProtobufError("proto: wrong wireType = 2")
    return value - (1 << 64) if value >> 63 else value


def _unsigned(value: Any, _depth: int = 0) -> int:
    if not isinstance(value, int):
        raise ProtobufError("proto: wrong wireType = 2")
    return value


def _bool(value: Any, _depth: int = 0) -> bool:
    return bool(_unsigned(value))


def _double(value: Any, _depth: int = 0) -> float:
    found: float = struct.unpack("<d", _bytes(value))[0]
    return found


def _base64(value: Any, _depth: int = 0) -> str:
    return base64.b64encode(_bytes(value)).decode()


_SCALARS: Final[dict[str, Callable[[Any, int], Any]]] = {
    "s": _text,
    "b": _base64,
    "t": _bool,
    "i": _signed,
    "u": _unsigned,
    "d": _double,
}


# --- messages ----------------------------------------------------------------------------------------------


def _decoder(kind: str) -> Callable[[Any, int], Any]:
    if kind[0] != "M":
        return _SCALARS[kind]
    name = kind[1:]
    special = _SPECIAL.get(name)
    if special is not None:
        return special
    _, messages = _tables()
    fields = messages[name]
    if list(fields) == ["1"] and fields["1"][1] == "*s" and fields["1"][0] == "items":
        return _strings  # a named list of strings

    def decode(value: Any, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise ProtobufError("messages are nested too deeply")
        return _message(name)(_bytes(value), depth + 1)

    return decode


def _strings(value: Any, _depth: int) -> list[str]:
    return [_text(item) for number, item in _fields(_bytes(value)) if number == 1]


@cache
def _message(name: str) -> Callable[[bytes, int], Obj]:
    """The decoder of one message, compiled at first use."""
    _, messages = _tables()
    table: dict[int, Field] = {}
    for number, (json_name, kind) in messages[name].items():
        repeated, mapped = kind[0] == "*", kind[0] == "{"
        table[int(number)] = (json_name, repeated, mapped, _decoder(kind.lstrip("*{")))

    def decode(raw: bytes, depth: int) -> Obj:
        out: Obj = {}
        for number, value in _fields(raw):
            field = table.get(number)
            if field is None:
                continue  # a newer client's field
            json_name, repeated, mapped, decoder = field
            if mapped:
                key, found = "", None
                for inner, part in _fields(_bytes(value)):
                    if inner == 1:
                        key = _text(part)
                    elif inner == 2:
                        found = decoder(part, depth)
                if found is None:
                    found = decoder(0, depth) if decoder in (_bool, _signed, _unsigned) else decoder(b"", depth)
                out.setdefault(json_name, {})[key] = found
            elif repeated:
                out.setdefault(json_name, []).append(decoder(value, depth))
            elif json_name:
                out[json_name] = decoder(value, depth)
            else:
                out.update(decoder(value, depth))
        return out

    return decode


def _numbers(value: Any) -> dict[int, int]:
    return {number: _signed(found) for number, found in _fields(_bytes(value)) if isinstance(found, int)}


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _moment(value: Any) -> datetime | None:
    found = _numbers(value)
    seconds, nanos = found.get(1, 0), found.get(2, 0)
    if not seconds and not nanos:
        return None
    return _EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1000)


def _time(value: Any, _depth: int) -> str | None:
    moment = _moment(value)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0") if moment else None


def _micro_time(value: Any, _depth: int) -> str | None:
    moment = _moment(value)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0") if moment else None


def _quantity(value: Any, _depth: int) -> str:
    return next((_text(found) for number, found in _fields(_bytes(value)) if number == 1), "") or "0"


def _int_or_string(value: Any, _depth: int) -> int | str:
    kind, number, text = 0, 0, ""
    for field, found in _fields(_bytes(value)):
        if field == 1:
            kind = _signed(found)
        elif field == 2:
            number = _signed(found)
        elif field == 3:
            text = _text(found)
    return text if kind == 1 else number


def _raw_json(value: Any, _depth: int) -> Any:
    raw = next((_bytes(found) for number, found in _fields(_bytes(value)) if number == 1), b"")
    if not raw:
        return None
    try:
        return gojson.loads(raw)
    except gojson.JsonError as error:
        raise ProtobufError(str(error)) from None


def _duration(value: Any, _depth: int) -> str:
    nanos = _numbers(value).get(1, 0)
    if not nanos:
        return "0s"
    seconds, rest = divmod(abs(nanos), 1_000_000_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f"{seconds + rest / 1e9:.9f}".rstrip("0").rstrip(".")
    text = (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{fraction}s"
    return "-" + text if nanos < 0 else text


def _schema_or(value: Any, depth: int, plain: Callable[[Any], Any]) -> Any:
    """One of the JSONSchemaPropsOr... types: a schema, or what field 1 or 2 has besides."""
    found = [(number, part) for number, part in _fields(_bytes(value))]
    for number, part in found:
        if isinstance(part, bytes) and plain is _allows and number == 2:
            return _message(f"{_CRD}.JSONSchemaProps")(part, depth + 1)
        if plain is not _allows and number == 1:
            return _message(f"{_CRD}.JSONSchemaProps")(_bytes(part), depth + 1)
    return plain(found)


def _allows(found: list[tuple[int, Any]]) -> bool:
    return any(number == 1 and bool(part) for number, part in found)


def _or_bool(value: Any, depth: int) -> Any:
    return _schema_or(value, depth, _allows)


def _or_array(value: Any, depth: int) -> Any:
    decode = _message(f"{_CRD}.JSONSchemaProps")
    return _schema_or(
        value, depth, lambda found: [decode(_bytes(part), depth + 1) for number, part in found if number == 2]
    )


def _or_strings(value: Any, depth: int) -> Any:
    return _schema_or(value, depth, lambda found: [_text(part) for number, part in found if number == 2])


_SPECIAL: Final[dict[str, Callable[[Any, int], Any]]] = {
    "k8s.io.apimachinery.pkg.api.resource.Quantity": _quantity,
    "k8s.io.apimachinery.pkg.util.intstr.IntOrString": _int_or_string,
    "k8s.io.apimachinery.pkg.runtime.RawExtension": _raw_json,
    f"{_META}.Time": _time,
    f"{_META}.MicroTime": _micro_time,
    f"{_META}.Duration": _duration,
    f"{_META}.FieldsV1": _raw_json,
    f"{_CRD}.JSON": _raw_json,
    f"{_CRD}.JSONSchemaPropsOrBool": _or_bool,
    f"{_CRD}.JSONSchemaPropsOrArray": _or_array,
    f"{_CRD}.JSONSchemaPropsOrStringArray": _or_strings,
}
