"""Decode JSON values into built-in types as the Go decoder does.

For every definition one `Struct` is compiled on first use: unknown fields are dropped and reported, scalars are
checked and normalised, zero values of `omitempty` fields vanish, fields that are always written appear. Error texts
are those of Go's encoding/json; an empty list or map is nothing at all, as storage in protobuf leaves it. Source:
sigs.k8s.io/json and encoding/json documentation; facts about fields from `data.go_structs`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

from chandlery.controlplane.builtins import gotime, quantity
from chandlery.controlplane.builtins.data import definitions, go_aliases, go_structs

Decoder = Callable[[Any, "Where"], Any]

OMIT = object()
"""What a field decoder returns when the field isn't written."""


class DecodeError(ValueError):
    """A value that its type can't hold; the message is the text after `cannot be handled as a Kind: `."""


class Where:
    """Where in the document the decoder is: for error texts only."""

    __slots__ = ("fields", "path", "struct", "unknown")

    def __init__(self) -> None:
        self.struct = ""
        self.fields: list[str] = []
        self.path: list[str] = []
        self.unknown: list[str] = []

    def mismatch(self, value: Any, go_type: str) -> DecodeError:
        if isinstance(value, bool):
            what = "bool"
        elif isinstance(value, str):
            what = "string"
        elif isinstance(value, (int, float)):
            what = "number"
            if go_type in ("int32", "int64", "int", "float64"):
                what = f"number {value}"
        elif isinstance(value, list):
            what = "array"
        else:
            what = "object"
        if self.fields:
            return DecodeError(
                f"json: cannot unmarshal {what} into Go struct field {self.struct}.{'.'.join(self.fields)} of type "
                f"{go_type}"
            )
        return DecodeError(f"json: cannot unmarshal {what} into Go value of type {go_type}")


def _plain(value: Any, go_type: str) -> DecodeError:
    """A mismatch inside a type with its own decoder: the field isn't named."""
    where = Where()
    return where.mismatch(value, go_type)


_BASE64 = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")


def check_base64(text: str) -> str:
    """The text in standard base64 without line breaks; DecodeError with Go's position of the first bad byte."""
    clean = text.replace("\n", "").replace("\r", "") if "\n" in text or "\r" in text else text
    body = clean.rstrip("=")
    padding = len(clean) - len(body)
    if len(clean) % 4 == 0 and padding <= 2 and _BASE64.issuperset(body):
        return clean
    seen = 0
    for index, char in enumerate(text):
        if char in "\r\n":
            continue
        if char in _BASE64:
            seen += 1
            continue
        if char == "=" and seen % 4 >= 2:
            rest = text[index:].replace("\n", "").replace("\r", "")
            want = 4 - seen % 4
            if rest == "=" * want:
                return clean
            bad = index + 1 if len(rest) < want or rest[1:2] != "=" else index + want
            raise DecodeError(f"illegal base64 data at input byte {len(text) if len(rest) < want else bad}")
        raise DecodeError(f"illegal base64 data at input byte {index}")
    raise DecodeError(f"illegal base64 data at input byte {len(text) - seen % 4}")


def _string(go_type: str) -> Decoder:
    def decode(value: Any, where: Where) -> Any:
        if type(value) is str:
            return value
        if value is None:
            return ""
        raise where.mismatch(value, go_type)

    return decode


def _bool(go_type: str) -> Decoder:
    def decode(value: Any, where: Where) -> Any:
        if value is True or value is False:
            return value
        if value is None:
            return False
        raise where.mismatch(value, go_type)

    return decode


def _integer(go_type: str, bits: int) -> Decoder:
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1

    def decode(value: Any, where: Where) -> Any:
        if type(value) is int and low <= value <= high:
            return value
        if value is None:
            return 0
        raise where.mismatch(value, go_type)

    return decode


def _number(go_type: str) -> Decoder:
    def decode(value: Any, where: Where) -> Any:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e21 else value
        if value is None:
            return 0
        raise where.mismatch(value, go_type)

    return decode


def _bytes(value: Any, where: Where) -> Any:
    if value is None:
        return None
    if isinstance(value, str):
        return check_base64(value)
    raise where.mismatch(value, "[]uint8")


def _time(value: Any, _: Where) -> Any:
    if value is None:
        return None
    if not isinstance(value, str):
        raise _plain(value, "string")
    try:
        return gotime.normal_time(value)
    except gotime.TimeError as error:
        raise DecodeError(str(error)) from None


def _micro_time(value: Any, _: Where) -> Any:
    if value is None:
        return None
    if not isinstance(value, str):
        raise _plain(value, "string")
    try:
        return gotime.normal_micro_time(value)
    except gotime.TimeError as error:
        raise DecodeError(str(error)) from None


def _quantity(value: Any, _: Where) -> Any:
    if value is None:
        return "0"
    if isinstance(value, (bool, list, dict)):
        raise DecodeError(quantity.FORMAT_WRONG)
    try:
        return quantity.canonical(str(value).strip())
    except quantity.QuantityError as error:
        raise DecodeError(str(error)) from None


def _int_or_string(value: Any, _: Where) -> Any:
    if isinstance(value, str):
        return value
    if value is None:
        return 0
    if type(value) is int and -(1 << 31) <= value < 1 << 31:
        return value
    raise _plain(value, "int32")


_DURATION = re.compile(
    r"[-+]?(\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)((\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))*|[-+]?0"
)


def _duration(value: Any, _: Where) -> Any:
    if value is None:
        return "0s"
    if not isinstance(value, str):
        raise _plain(value, "string")
    if not _DURATION.fullmatch(value):
        raise DecodeError(f'time: invalid duration "{value}"')
    return value


def _raw(value: Any, _: Where) -> Any:
    return value


def _array(item: Decoder, go_type: str) -> Decoder:
    def decode(value: Any, where: Where) -> Any:
        if value is None:
            return None
        if type(value) is not list:
            raise where.mismatch(value, go_type)
        if not value:
            return None
        path = where.path
        out = []
        path.append("")
        for index, one in enumerate(value):
            path[-1] = f"[{index}]"
            out.append(item(one, where))
        path.pop()
        return out

    return decode


def _string_array(go_type: str, element: str) -> Decoder:
    def decode(value: Any, where: Where) -> Any:
        if value is None:
            return None
        if type(value) is not list:
            raise where.mismatch(value, go_type)
        for one in value:
            if type(one) is not str:
                break
        else:
            return value or None
        out = []
        for one in value:
            if one is None:
                out.append("")
            elif type(one) is str:
                out.append(one)
            else:
                raise where.mismatch(one, element)
        return out

    return decode


def _map(item: Decoder, go_type: str) -> Decoder:
    def decode(value: Any, where: Where) -> Any:
        if value is None:
            return None
        if type(value) is not dict:
            raise where.mismatch(value, go_type)
        if not value:
            return None
        path = where.path
        out = {}
        path.append("")
        for key, one in value.items():
            path[-1] = f".{key}"
            out[key] = item(one, where)
        path.pop()
        return out

    return decode


def _string_map(go_type: str, element: str) -> Decoder:
    def decode(value: Any, where: Where) -> Any:
        if value is None:
            return None
        if type(value) is not dict:
            raise where.mismatch(value, go_type)
        for one in value.values():
            if type(one) is not str:
                break
        else:
            return value or None
        out = {}
        for key, one in value.items():
            if one is None:
                out[key] = ""
            elif type(one) is str:
                out[key] = one
            else:
                raise where.mismatch(one, element)
        return out

    return decode


class Struct:
    """One Go struct: its fields' decoders and what it writes when a field is absent."""

    __slots__ = ("always", "fields", "go_type", "name", "order")

    def __init__(self, definition: str) -> None:
        self.name = definition.rsplit(".", 1)[1]
        self.go_type = f"{definition.rsplit('.', 2)[1]}.{self.name}"
        self.fields: dict[str, tuple[Decoder, bool, bool]] = {}
        """name -> (decoder, pointer, omitempty)"""
        self.always: dict[str, Callable[[], Any]] = {}
        """Fields that are written even when absent, with the value then."""
        self.order: list[str] = []

    def compile(self, definition: str) -> None:
        schema = definitions()[definition]
        properties = schema.get("properties", {})
        for name, _, kind, flags, *_ in go_structs().get(definition, []):  # some have no fields
            pointer = kind.startswith("*")
            decoder, zero, is_struct = _field(definition, name, kind.lstrip("*"), properties[name])
            omit = "o" in flags or "z" in flags
            self.order.append(name)
            if pointer:
                self.fields[name] = (decoder, True, omit)
                if not omit:
                    self.always[name] = _nothing
            elif is_struct and "z" not in flags:
                self.fields[name] = (decoder, False, False)
                self.always[name] = zero
            else:
                self.fields[name] = (decoder, False, omit)
                if not omit:
                    self.always[name] = zero

    def decode(self, value: Any, where: Where) -> Any:
        if type(value) is not dict:
            if value is None:
                return self.zero()
            raise where.mismatch(value, self.go_type)
        fields = self.fields
        outer, path, stack = where.struct, where.path, where.fields
        stack.append("")
        path.append("")
        out: dict[str, Any] = {}
        for key, one in value.items():
            known = fields.get(key)
            if known is None:
                prefix = "".join(path)[1:]
                where.unknown.append(f'unknown field "{prefix}.{key}"' if prefix else f'unknown field "{key}"')
                continue
            decoder, pointer, omit = known
            if one is None and pointer:
                if not omit:
                    out[key] = None
                continue
            where.struct = self.name
            stack[-1] = key
            path[-1] = f".{key}"
            done = decoder(one, where)
            path[-1] = ""
            if omit and not pointer and not done:
                continue
            out[key] = done
        path.pop()
        stack.pop()
        where.struct = outer
        for key, zero in self.always.items():
            if key not in out:
                out[key] = zero()
        return out

    def zero(self) -> Any:
        """The empty struct as it is written."""
        return {key: zero() for key, zero in self.always.items()}


def _nothing() -> Any:
    return None


def _empty_string() -> Any:
    return ""


def _zero_number() -> Any:
    return 0


def _false() -> Any:
    return False


def _zero_quantity() -> Any:
    return "0"


def _zero_duration() -> Any:
    return "0s"


_APIEXTENSIONS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1."


def _props_or(array: bool) -> Decoder:
    """JSONSchemaPropsOrBool and JSONSchemaPropsOrArray."""

    def decode(value: Any, where: Where) -> Any:
        if isinstance(value, dict):
            return struct(_APIEXTENSIONS + "JSONSchemaProps").decode(value, where)
        if array and isinstance(value, list):
            return [struct(_APIEXTENSIONS + "JSONSchemaProps").decode(one, where) for one in value]
        if value is None or (not array and isinstance(value, bool)):
            return value
        raise DecodeError("unable to unmarshal JSONSchemaPropsOrArray" if array else "boolean or JSON schema expected")

    return decode


def _props_or_strings(value: Any, where: Where) -> Any:
    if isinstance(value, dict):
        return struct(_APIEXTENSIONS + "JSONSchemaProps").decode(value, where)
    return value


_SPECIAL: dict[str, tuple[Decoder, Callable[[], Any]]] = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": (_quantity, _zero_quantity),
    "io.k8s.apimachinery.pkg.apis.meta.v1.Time": (_time, _nothing),
    "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime": (_micro_time, _nothing),
    "io.k8s.apimachinery.pkg.apis.meta.v1.Duration": (_duration, _zero_duration),
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": (_int_or_string, _zero_number),
    "io.k8s.apimachinery.pkg.runtime.RawExtension": (_raw, _nothing),
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1": (_raw, _nothing),
    "io.k8s.apimachinery.pkg.apis.meta.v1.Patch": (_raw, _nothing),
    _APIEXTENSIONS + "JSON": (_raw, _nothing),
    _APIEXTENSIONS + "JSONSchemaPropsOrBool": (_props_or(array=False), _nothing),
    _APIEXTENSIONS + "JSONSchemaPropsOrArray": (_props_or(array=True), _nothing),
    _APIEXTENSIONS + "JSONSchemaPropsOrStringArray": (_props_or_strings, _nothing),
}


def _field(definition: str, name: str, go_type: str, schema: Any) -> tuple[Decoder, Callable[[], Any], bool]:
    """(decoder, value when absent, is it a struct) of one field."""
    ref = schema.get("$ref")
    if ref:
        target = ref.rsplit("/", 1)[1]
        special = _SPECIAL.get(target)
        if special:
            return special[0], special[1], True
        nested = struct(target)
        return nested.decode, nested.zero, True
    kind = schema.get("type")
    if kind == "array":
        element = schema["items"]
        underlying = go_aliases().get(go_type, go_type)
        inner = underlying.removeprefix("[]")
        if "$ref" not in element and element.get("type") == "string" and element.get("format") != "byte":
            return _string_array(go_type, inner), _nothing, False
        decoder, _, _ = _field(definition, name, inner.lstrip("*"), element)
        return _array(decoder, go_type), _nothing, False
    if kind == "object":
        element = schema.get("additionalProperties")
        underlying = go_aliases().get(go_type, go_type)
        inner = underlying.partition("]")[2]
        if not element:
            return _raw, _nothing, False
        if "$ref" not in element and element.get("type") == "string" and element.get("format") != "byte":
            return _string_map(go_type, inner), _nothing, False
        decoder, _, _ = _field(definition, name, inner.lstrip("*"), element)
        return _map(decoder, go_type), _nothing, False
    if kind == "boolean":
        return _bool(go_type), _false, False
    if kind == "integer":
        return _integer(go_type, 32 if schema.get("format") == "int32" else 64), _zero_number, False
    if kind == "number":
        return _number(go_type), _zero_number, False
    if schema.get("format") == "byte":
        return _bytes, _nothing, False
    return _string(go_type), _empty_string, False


_structs: dict[str, Struct] = {}


def struct(definition: str) -> Struct:
    """The compiled decoder of a definition."""
    found = _structs.get(definition)
    if found is None:
        found = _structs[definition] = Struct(definition)
        found.compile(definition)
    return found


@cache
def has_struct(definition: str) -> bool:
    return definition in go_structs()
