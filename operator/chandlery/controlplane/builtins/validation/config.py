"""Rules of Secrets, ConfigMaps, ServiceAccounts, namespaces, nodes, quotas, limits, events, leases and priorities.

Source: the field descriptions of these kinds and observed error texts of kube-apiserver 1.36.
"""

from __future__ import annotations

import base64
import json

from chandlery.controlplane.builtins.validation.common import (
    IMMUTABLE,
    NON_NEGATIVE,
    Errors,
    config_key_errors,
    each,
    forbidden,
    immutable,
    invalid,
    one_of,
    required,
    too_long,
)
from chandlery.controlplane.metadata import qualified_name_errors
from chandlery.controlplane.types import FieldError, Obj, RequestContext

_MEGABYTE = 1024 * 1024
_FROZEN = "field is immutable when `immutable` is set"
_NEEDED = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}


def _bytes(text: str | None) -> int:
    return len(text or "") * 3 // 4 - (text or "").count("=", -2) if text else 0


def secret(_: RequestContext, obj: Obj) -> Errors:
    errors: Errors = []
    data = obj.get("data") or {}
    size = 0
    for key, value in data.items():
        errors += each(f"data[{key}]", key, config_key_errors(key))
        size += _bytes(value)
    if size > _MEGABYTE:
        errors.append(too_long("data", _MEGABYTE))
    kind = obj.get("type", "")
    if kind == "kubernetes.io/service-account-token":
        name = (obj["metadata"].get("annotations") or {}).get("kubernetes.io/service-account.name")
        if not name:
            errors.append(required("metadata.annotations[kubernetes.io/service-account.name]"))
    elif kind == "kubernetes.io/basic-auth" and "username" not in data and "password" not in data:
        errors += [required("data[username]"), required("data[password]")]
    for key in _NEEDED.get(kind, ()):
        if key not in data or (key == "ssh-privatekey" and not data[key]):
            errors.append(required(f"data[{key}]"))
        elif kind.startswith("kubernetes.io/docker"):
            errors += _docker(data[key], f"data[{key}]")
    return errors


def _docker(text: str | None, path: str) -> Errors:
    try:
        found = json.loads(base64.b64decode(text or ""))
    except ValueError as error:
        return [
            FieldError(
                path, "FieldValueInvalid", f'Invalid value: "<secret contents redacted>": {_go_json(error, text)}'
            )
        ]
    if not isinstance(found, dict):
        what = {list: "array", str: "string", bool: "bool", type(None): "null"}.get(type(found), "number")
        if what == "null":
            return []
        detail = f"json: cannot unmarshal {what} into Go value of type map[string]interface {{}}"
        return [FieldError(path, "FieldValueInvalid", f'Invalid value: "<secret contents redacted>": {detail}')]
    return []


def _go_json(error: Exception, text: str | None) -> str:
    raw = base64.b64decode(text or "").decode("utf-8", "replace").lstrip()
    if not raw:
        return "unexpected end of JSON input"
    if isinstance(error, json.JSONDecodeError) and error.pos >= len(raw):
        return "unexpected end of JSON input"
    return f"invalid character '{raw[0]}' looking for beginning of value"


def secret_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    errors = immutable("type", obj.get("type", ""), old.get("type", ""))
    if old.get("immutable"):
        if not obj.get("immutable"):
            errors.append(forbidden("immutable", _FROZEN))
        if (obj.get("data") or {}) != (old.get("data") or {}):
            errors.append(forbidden("data", _FROZEN))
    return errors + secret(ctx, obj)


def config_map(_: RequestContext, obj: Obj) -> Errors:
    errors: Errors = []
    data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
    size = 0
    for key, value in data.items():
        errors += each(f"data[{key}]", key, config_key_errors(key))
        if key in binary:
            errors.append(invalid(f"data[{key}]", key, "duplicate of key present in binaryData"))
        size += len(value.encode())
    for key, value in binary.items():
        errors += each(f"binaryData[{key}]", key, config_key_errors(key))
        size += _bytes(value)
    if size > _MEGABYTE:
        errors.append(too_long("", _MEGABYTE))
    return errors


def config_map_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    errors: Errors = []
    if old.get("immutable"):
        if not obj.get("immutable"):
            errors.append(forbidden("immutable", _FROZEN))
        for field in ("data", "binaryData"):
            if (obj.get(field) or {}) != (old.get(field) or {}):
                errors.append(forbidden(field, _FROZEN))
    return errors + config_map(ctx, obj)


def lease(_: RequestContext, obj: Obj) -> Errors:
    spec = obj.get("spec") or {}
    errors: Errors = []
    seconds, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    if seconds is not None and seconds <= 0:
        errors.append(invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0"))
    if transitions is not None and transitions < 0:
        errors.append(invalid("spec.leaseTransitions", transitions, NON_NEGATIVE))
    strategy = spec.get("strategy")
    if strategy is not None and "/" in strategy:
        errors += each("spec.strategy.strategy", strategy, qualified_name_errors(strategy))
    elif strategy is not None:
        errors += one_of("spec.strategy.strategy", strategy, ("OldestEmulationVersion",))
    if spec.get("preferredHolder") and not spec.get("strategy"):
        text = "may only be specified if `strategy` is defined"
        errors.append(forbidden("spec.preferredHolder", text))
    return errors


def lease_update(ctx: RequestContext, obj: Obj, _: Obj) -> Errors:
    return lease(ctx, obj)


_SYSTEM = {"system-cluster-critical": 2000000000, "system-node-critical": 2000001000}
_HIGHEST = 1000000000


def _system_class(name: str, value: int, *, default: bool) -> str:
    """Why this isn't one of the classes the system knows."""
    if name not in _SYSTEM:
        return f"{name} is not a known system priority class"
    if value != _SYSTEM[name]:
        return f"value of {name} PriorityClass must be {_SYSTEM[name]}"
    return f"globalDefault of {name} PriorityClass must be false" if default else ""


def priority_class(_: RequestContext, obj: Obj) -> Errors:
    errors: Errors = []
    name, value = obj["metadata"].get("name") or "", obj.get("value", 0)
    if name.startswith("system-"):
        why = _system_class(name, value, default=bool(obj.get("globalDefault")))
        if why:
            text = f"priority class names with 'system-' prefix are reserved for system use only. error: {why}"
            errors.append(forbidden("metadata.name", text))
    elif value > _HIGHEST:
        text = f"maximum allowed value of a user defined priority is {_HIGHEST}"
        errors.append(forbidden("value", text))
    if obj.get("preemptionPolicy") is not None:
        policies = ("PreemptLowerPriority", "Never")
        errors += one_of("preemptionPolicy", obj["preemptionPolicy"], policies, need=True)
    return errors


def priority_class_update(_: RequestContext, obj: Obj, old: Obj) -> Errors:
    errors: Errors = []
    if obj.get("value", 0) != old.get("value", 0):
        errors.append(forbidden("value", "may not be changed in an update."))
    if obj.get("preemptionPolicy") != old.get("preemptionPolicy"):
        errors.append(invalid("preemptionPolicy", obj.get("preemptionPolicy"), IMMUTABLE))
    return errors
