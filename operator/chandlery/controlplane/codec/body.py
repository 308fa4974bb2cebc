"""Request bodies and patches: from bytes and a content type to decoded JSON, with the real server's errors."""

from __future__ import annotations

from typing import Any, Final

from chandlery.controlplane.codec import gojson
from chandlery.controlplane.codec.protobuf import PREFIX, ProtobufError, decode_object
from chandlery.controlplane.types import ApiError, Obj

JSON: Final = "application/json"
YAML: Final = "application/yaml"
PROTOBUF: Final = "application/vnd.kubernetes.protobuf"
JSON_PATCH: Final = "application/json-patch+json"
MERGE_PATCH: Final = "application/merge-patch+json"
STRATEGIC_PATCH: Final = "application/strategic-merge-patch+json"
APPLY_PATCH: Final = "application/apply-patch+yaml"

_TYPE_META: Final = (
    'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'
)
_MAP: Final = "map[string]interface {}"


def media_type(content_type: str) -> str:
    """The bare media type; a request without one carries JSON."""
    return content_type.partition(";")[0].strip().lower() or JSON


def decode_body(raw: bytes, content_type: str, *, strict: bool, kind: str = "") -> tuple[Obj, list[str]]:
    """An object and, when `strict`, what a strict decoder says about keys that are there twice.

    `kind` is what the endpoint expects; error texts name it. Raises ApiError 415 for an unknown content type and
    400 for a body that isn't an object of it. apiVersion and kind are strings when present; nothing else is checked.
    """
    match media_type(content_type):
        case "application/json":
            return _decode_json(raw, strict=strict, kind=kind)
        case "application/yaml":
            from chandlery.controlplane.codec import yamlbody

            try:
                value, twice = yamlbody.loads(raw)
            except yamlbody.YamlError as error:
                raise unrecognized(raw, kind, str(error)) from None
            return _object(value, raw, kind), [_yaml_errors(twice)] if strict and twice else []
        case "application/vnd.kubernetes.protobuf":
            if not raw.startswith(PREFIX):
                prefix = " ".join(str(byte) for byte in PREFIX)
                text = f"provided data does not appear to be a protobuf message, expected prefix [{prefix}]"
                if not raw:
                    text = "empty data"
                raise unrecognized(raw, kind, text)
            try:
                return decode_object(raw), []
            except ProtobufError as error:
                raise unrecognized(raw, kind, str(error)) from None
        case _:
            accepted = f"{JSON}, {YAML}, {PROTOBUF}"
            raise ApiError(
                415,
                "UnsupportedMediaType",
                f"the body of the request was in an unknown format - accepted media types include: {accepted}",
            )


def _decode_json(raw: bytes, *, strict: bool, kind: str) -> tuple[Obj, list[str]]:
    try:
        value = gojson.loads(raw)
    except gojson.JsonError as error:
        raise unrecognized(raw, kind, f"couldn't get version/kind; json parse error: {error}") from None
    return _object(value, raw, kind), gojson.duplicates(raw, value) if strict else []


def _object(value: Any, raw: bytes, kind: str) -> Obj:
    if value is None:
        return {}
    if not isinstance(value, dict):
        why = f"json: cannot unmarshal {gojson.kind_of(value)} into Go value of type {_TYPE_META}"
        raise unrecognized(raw, kind, f"couldn't get version/kind; json parse error: {why}")
    for name in ("apiVersion", "kind"):
        found = value.get(name)
        if found is not None and not isinstance(found, str):
            why = f"json: cannot unmarshal {gojson.kind_of(found)} into Go struct field .{name} of type string"
            raise unrecognized(raw, kind, f"couldn't get version/kind; json parse error: {why}")
    return value


def unrecognized(raw: bytes, kind: str, why: str) -> ApiError:
    """The answer to a body whose type can't be told."""
    return ApiError(
        400,
        "BadRequest",
        f"the object provided is unrecognized (must be of type {kind}): {why} ({_summary(raw)})",
    )


def _summary(raw: bytes) -> str:
    if not raw:
        return "<empty>"
    short = raw[:30].decode("utf-8", "replace") if raw[:1] == b"{" else raw[:30].hex()
    return short + " ..." if len(raw) > 30 else short


def missing_kind(raw: bytes, kind: str) -> ApiError:
    """The answer to a custom resource that doesn't say its kind."""
    return unrecognized(raw, kind, f"Object 'Kind' is missing in '{raw.decode('utf-8', 'replace')}'")


def _yaml_errors(lines: list[str]) -> str:
    return "yaml: unmarshal errors:\n" + "\n".join("  " + line for line in lines)


_YAML_PREFIXES: Final = (
    "yaml: unmarshal errors:\n",
    "error converting YAML to JSON: yaml: unmarshal errors:\n",
)


def warning_texts(errors: list[str]) -> list[str]:
    """Strict-decoding errors as warnings: one for each line of a YAML decoder's."""
    out: list[str] = []
    for error in errors:
        for prefix in _YAML_PREFIXES:
            if error.startswith(prefix):
                out.extend(line.strip() for line in error.removeprefix(prefix).split("\n"))
                break
        else:
            out.append(error)
    return out


def encode_yaml(obj: Any) -> bytes:
    """A response as YAML."""
    from chandlery.controlplane.codec import yamlbody  # PyYAML is not needed by clients that speak JSON

    return yamlbody.dumps(obj)


# --- patches ---------------------------------------------------------------------------------------------


def decode_patch(raw: bytes, content_type: str) -> Any:
    """A patch without strictness: see `read_patch`."""
    return read_patch(raw, content_type, strict=False)[0]


def read_patch(raw: bytes, content_type: str, *, strict: bool) -> tuple[Any, list[str]]:
    """A patch (a list for JSON patch, else an object) and, when `strict`, what a strict decoder says about it.

    Raises ApiError 400 with the text that belongs to the format.
    """
    match media_type(content_type):
        case "application/json-patch+json":
            return _read_json_patch(raw, strict=strict)
        case "application/merge-patch+json":
            return _read_merge_patch(raw, strict=strict)
        case "application/strategic-merge-patch+json":
            return _read_map(raw, strict=strict, prefix="")
        case _:
            return _read_apply(raw, strict=strict)


def _bad(text: str) -> ApiError:
    return ApiError(400, "BadRequest", text)


def _read_json_patch(raw: bytes, *, strict: bool) -> tuple[Any, list[str]]:
    prefix, slice_type, item_type = "", "jsonpatch.Patch", "jsonpatch.Operation"
    if strict:
        prefix, slice_type, item_type = "error decoding patch: ", "[]handlers.jsonPatchOp", "handlers.jsonPatchOp"
    try:
        value = gojson.loads(raw)
    except gojson.JsonError as error:
        raise _bad(f"{prefix}{error}") from None
    if value is None:
        return [], []
    if not isinstance(value, list):
        raise _bad(f"{prefix}json: cannot unmarshal {gojson.kind_of(value)} into Go value of type {slice_type}")
    errors: list[str] = []
    for index, op in enumerate(value):
        if op is None:
            continue
        if not isinstance(op, dict):
            raise _bad(f"{prefix}json: cannot unmarshal {gojson.kind_of(op)} into Go value of type {item_type}")
        if not strict:
            continue
        for name, found in op.items():
            if name in ("op", "path", "from"):
                if found is not None and not isinstance(found, str):
                    raise _bad(
                        f"{prefix}json: cannot unmarshal {gojson.kind_of(found)} "
                        f"into Go struct field jsonPatchOp.{name} of type string"
                    )
            elif name != "value":
                errors.append(f'unknown field "[{index}].{name}"')
    if strict:
        twice = gojson.duplicates(raw, value)
        if twice and errors:
            errors = gojson.in_document_order(raw, [*twice, *errors])
        else:
            errors += twice
    return value, ["json patch " + error for error in errors]


def _read_merge_patch(raw: bytes, *, strict: bool) -> tuple[Any, list[str]]:
    if strict:
        return _read_map(raw, strict=True, prefix="error decoding patch: ")
    try:
        return gojson.loads(raw), []
    except gojson.JsonError:
        raise _bad("Invalid JSON Patch") from None


def _read_map(raw: bytes, *, strict: bool, prefix: str) -> tuple[Any, list[str]]:
    try:
        value = gojson.loads(raw)
    except gojson.JsonError as error:
        raise _bad(f"{prefix}{error}") from None
    if value is None:
        return (None if prefix else {}), []
    if not isinstance(value, dict):
        raise _bad(f"{prefix}json: cannot unmarshal {gojson.kind_of(value)} into Go value of type {_MAP}")
    return value, gojson.duplicates(raw, value) if strict else []


def _read_apply(raw: bytes, *, strict: bool) -> tuple[Any, list[str]]:
    value: Any = None
    twice: list[str] = []
    if raw.lstrip()[:1] == b"{":  # most clients send JSON, which is YAML
        try:
            value = gojson.loads(raw)
            if not strict or not gojson.duplicates(raw, value):
                return gojson.whole_numbers(value) if b".0" in raw else value, []
        except gojson.JsonError:
            pass
    from chandlery.controlplane.codec import yamlbody

    try:
        value, twice = yamlbody.loads(raw)
    except yamlbody.YamlError as error:
        raise _bad(f"error decoding YAML: error converting YAML to JSON: {error}") from None
    if value is None:
        return {}, []
    if not isinstance(value, dict):
        raise _bad(
            "error decoding YAML: error unmarshaling JSON: while decoding JSON: "
            f"json: cannot unmarshal {gojson.kind_of(value)} into Go value of type {_MAP}"
        )
    return value, ["error converting YAML to JSON: " + _yaml_errors(twice)] if strict and twice else []
