"""What expressions of MutatingAdmissionPolicies know besides the usual: `Object{...}`, `JSONPatch{...}`, escapeKey.

Source: Kubernetes documentation, "Mutating Admission Policy": types of a mutation's result.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from chandlery.controlplane.cel import DYN, STRING, Functions, Type
from chandlery.controlplane.cel.decls import Message
from chandlery.controlplane.cel.types import list_of

OBJECT = Type("opaque", "Object")
JSON_PATCH = Type("opaque", "JSONPatch")
PATCHES = list_of(JSON_PATCH)
_PATCH = Message(JSON_PATCH, {"op": STRING, "path": STRING, "from": STRING, "value": DYN}.get)


def _message(name: str) -> Message | None:
    if name == "JSONPatch":
        return _PATCH
    if name == "Object" or name.startswith("Object."):
        return Message(Type("opaque", name), lambda _field: DYN)
    return None


@cache
def mutation_functions() -> Functions:
    """The environment of mutations."""
    from chandlery.controlplane.auth.cellib import authorizer_functions

    functions = Functions(authorizer_functions())
    functions.message = _message
    functions.add("jsonpatch.escapeKey", "string_jsonpatch_escapeKey_string", [STRING], STRING, _escape)
    return functions


def _escape(text: str) -> str:
    return text.replace("~", "~0").replace("/", "~1")


def as_json(value: Any) -> Any:
    """An expression's value as JSON. Raises ValueError for what JSON can't hold: times, bytes, a library's types."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return value
    if isinstance(value, dict):
        return {str(key): as_json(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(member) for member in value]
    raise ValueError(f"a value of type {type(value).__name__} can't be written into an object")
