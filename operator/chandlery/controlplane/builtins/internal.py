"""How error texts show whole objects: as the server's internal types marshal, not as the API writes them.

Fields go by their Go names, all of them, in the order of the Go struct; the types of meta/v1 keep their JSON names.
Source: observed error texts of kube-apiserver 1.36.
"""

from __future__ import annotations

import difflib
import json
from typing import Any

from chandlery.controlplane.builtins.data import definitions, go_structs
from chandlery.controlplane.types import Obj

_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_POD_SPEC = "io.k8s.api.core.v1.PodSpec"
_HOST_FIELDS = ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace", "hostUsers")
_LATE = {
    # fields that the internal struct has elsewhere: (after which, Go names)
    _POD_SPEC: {
        "order": (
            "Volumes InitContainers Containers EphemeralContainers RestartPolicy TerminationGracePeriodSeconds "
            "ActiveDeadlineSeconds DNSPolicy NodeSelector ServiceAccountName AutomountServiceAccountToken NodeName "
            "SecurityContext ImagePullSecrets Hostname Subdomain SetHostnameAsFQDN Affinity SchedulerName Tolerations "
            "HostAliases PriorityClassName Priority PreemptionPolicy DNSConfig ReadinessGates RuntimeClassName "
            "Overhead "
            "EnableServiceLinks TopologySpreadConstraints OS SchedulingGates ResourceClaims Resources HostnameOverride"
        ).split()
    }
}


def _escape(text: str) -> str:
    return (
        text.replace("<", "\\u003c")
        .replace(">", "\\u003e")
        .replace("&", "\\u0026")
        .replace("\u2028", "\\u2028")
        .replace("\u2029", "\\u2029")
    )


def compact(value: Any) -> str:
    """JSON as Go marshals it: no spaces, maps sorted by the caller, HTML characters escaped."""
    return _escape(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def plain(value: Any) -> Any:
    """A value of external (or scalar) type: maps sorted."""
    if isinstance(value, dict):
        return {key: plain(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def _zero(schema: Obj, go_type: str) -> Any:
    if go_type.startswith("*"):
        return None
    ref = schema.get("$ref")
    if ref:
        name = ref.rsplit("/", 1)[1]
        if name.endswith((".Quantity",)):
            return "0"
        if name.endswith((".IntOrString",)):
            return 0
        if name in go_structs() and definitions()[name].get("properties"):
            return internal(name, {})
        return None
    return {"string": "", "boolean": False, "integer": 0, "number": 0}.get(schema.get("type", ""))


def _value(schema: Obj, value: Any, go_type: str) -> Any:
    if value is None:
        return _zero(schema, go_type)
    ref = schema.get("$ref")
    if ref:
        name = ref.rsplit("/", 1)[1]
        return internal(name, value) if isinstance(value, dict) else value
    if isinstance(value, list) and "items" in schema:
        return [_value(schema["items"], item, "") for item in value] or None
    if isinstance(value, dict):
        inner = schema.get("additionalProperties")
        if isinstance(inner, dict):
            return {key: _value(inner, value[key], "") for key in sorted(value)} or None
        return plain(value)
    return value


def _external(name: str, value: Obj) -> Obj:
    """A meta/v1 struct: JSON names, in the order of the struct, empty fields left out."""
    out = {}
    properties = definitions()[name].get("properties", {})
    for field, _, kind, flags, *_ in go_structs().get(name, ()):
        found = value.get(field)
        schema = properties[field]
        if found is None and "o" in flags:
            continue
        if not found and not kind.startswith("*") and "o" in flags and found != {}:
            continue
        out[field] = _nested(schema, found)
    return out


def _nested(schema: Obj, value: Any) -> Any:
    ref = schema.get("$ref")
    if ref and isinstance(value, dict):
        name = ref.rsplit("/", 1)[1]
        return _external(name, value) if name in go_structs() else plain(value)
    if isinstance(value, list) and "items" in schema:
        return [_nested(schema["items"], item) for item in value]
    return plain(value)


def internal(definition: str, value: Obj) -> Any:
    """One struct as a dict whose JSON is what the server's internal type marshals to."""
    if definition.startswith(_META):
        return _external(definition, value) if definition in go_structs() else plain(value)
    out: dict[str, Any] = {}
    properties = definitions()[definition].get("properties", {})
    for field, go_name, kind, *_ in go_structs().get(definition, ()):
        if field in ("kind", "apiVersion") and "metadata" in properties:
            continue
        if field == "metadata" and go_name is None:
            out.update(_external(_META + "ObjectMeta", value.get("metadata") or {}))
            continue
        if definition == _POD_SPEC and (field in _HOST_FIELDS or field == "serviceAccount"):
            continue
        out[go_name or field] = _value(properties[field], value.get(field), kind)
    if definition == _POD_SPEC:
        _pod_spec(out, value)
    return out


def _pod_spec(out: dict[str, Any], value: Obj) -> None:
    if out.get("SecurityContext") is not None or any(value.get(field) for field in _HOST_FIELDS):
        hosts = {
            "HostNetwork": bool(value.get("hostNetwork")),
            "HostPID": bool(value.get("hostPID")),
            "HostIPC": bool(value.get("hostIPC")),
            "ShareProcessNamespace": value.get("shareProcessNamespace"),
            "HostUsers": value.get("hostUsers"),
        }
        out["SecurityContext"] = {**hosts, **(out.get("SecurityContext") or {})}
    order = _LATE[_POD_SPEC]["order"]
    ordered = {name: out[name] for name in order if name in out}
    ordered.update({name: found for name, found in out.items() if name not in ordered})
    out.clear()
    out.update(ordered)


def shown(definition: str, value: Obj | None) -> str:
    """The text after `Invalid value: ` for a struct."""
    return "null" if value is None else compact(internal(definition, value))


def difference(definition: str, old: Obj, new: Obj) -> str:
    """What changed between two structs, as a unified diff of their indented JSON with three lines around."""
    before, after = (
        _escape(json.dumps(internal(definition, one), ensure_ascii=False, indent=1)).split("\n") for one in (old, new)
    )
    lines = list(difflib.unified_diff(before, after, n=3, lineterm=""))[2:]
    return "".join(line + "\n" for line in lines)
