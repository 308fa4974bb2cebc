"""The scale subresource of a custom resource: its paths, its rules, and the Scale object."""

from __future__ import annotations

from typing import Any

from chandlery.controlplane.schema import errors
from chandlery.controlplane.schema.gotext import json_text, verb_v
from chandlery.controlplane.types import ApiError, FieldError, Obj

_INT32 = (1 << 31) - 1
_GO_TYPES: dict[type, str] = {
    str: "string", bool: "bool", int: "int64", float: "float64", list: "[]interface {}",
    dict: "map[string]interface {}", type(None): "<nil>",
}  # fmt: skip


class PathError(ValueError):
    """A value at a scale path that has the wrong type."""


def _split(path: str) -> list[str]:
    return path.removeprefix(".").split(".")


def nested(obj: Obj, path: list[str], wanted: type) -> Any:
    """The value at a dotted path; None when it is absent. Raises PathError for another type."""
    value: Any = obj
    for depth, name in enumerate(path):
        if not isinstance(value, dict):
            shown, where = _shown(value), "." + ".".join(path[:depth])
            raise PathError(
                f"{where} accessor error: {shown} is of the type {_GO_TYPES[type(value)]}, "
                "expected map[string]interface{}"
            )
        if name not in value:
            return None
        value = value[name]
    if type(value) is not wanted:
        raise PathError(
            f".{'.'.join(path)} accessor error: {_shown(value)} is of the type {_GO_TYPES[type(value)]}, "
            f"expected {_GO_TYPES[wanted]}"
        )
    return value


def _shown(value: Any) -> str:
    if value is None:
        return "<nil>"
    return value if isinstance(value, str) else verb_v(value) if isinstance(value, int | float) else json_text(value)


class Scale:
    """Where replicas and the label selector of one version stand."""

    def __init__(self, spec: Obj) -> None:
        self.spec_path: str = spec.get("specReplicasPath") or ""
        self.status_path: str = spec.get("statusReplicasPath") or ""
        self.selector_path: str = spec.get("labelSelectorPath") or ""

    def validate_spec(self, obj: Obj) -> list[FieldError]:
        return self._replicas(obj, self.spec_path)

    def validate_status(self, obj: Obj) -> list[FieldError]:
        found = self._replicas(obj, self.status_path)
        if self.selector_path:
            try:
                nested(obj, _split(self.selector_path), str)
            except PathError as error:
                found.append(errors.invalid(self.selector_path, "", str(error)))
        return found

    def _replicas(self, obj: Obj, path: str) -> list[FieldError]:
        try:
            replicas = nested(obj, _split(path), int)
        except PathError as error:
            return [errors.invalid(path, 0, str(error))]
        if replicas is None:
            return []
        if replicas < 0:
            return [errors.invalid(path, replicas, "should be a non-negative integer")]
        if replicas > _INT32:
            return [errors.invalid(path, replicas, f"should be less than or equal to {_INT32}")]
        return []

    def to_scale(self, obj: Obj) -> Obj:
        """The `autoscaling/v1` Scale of an object. Raises ApiError 500 when a path holds the wrong type."""
        meta = obj["metadata"]
        try:
            wanted = nested(obj, _split(self.spec_path), int)
            current = nested(obj, _split(self.status_path), int)
            selector = nested(obj, _split(self.selector_path), str) if self.selector_path else None
        except PathError as error:
            raise ApiError(500, "InternalError", f"Internal error occurred: {error}") from error
        if wanted is None:
            text = f"the spec replicas field {json_text(self.spec_path)} does not exist"
            raise ApiError(500, "InternalError", f"Internal error occurred: {text}", {"causes": [{"message": text}]})
        kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
        status: Obj = {"replicas": current or 0}
        if selector:
            status["selector"] = selector
        return {
            "kind": "Scale",
            "apiVersion": "autoscaling/v1",
            "metadata": {name: meta[name] for name in kept if name in meta},
            "spec": {"replicas": wanted} if wanted else {},
            "status": status,
        }

    def set_replicas(self, obj: Obj, replicas: int) -> None:
        """Write the wanted number into a custom resource, in place."""
        *parents, last = _split(self.spec_path)
        value: Any = obj
        for name in parents:
            value = value.setdefault(name, {})
        value[last] = replicas
