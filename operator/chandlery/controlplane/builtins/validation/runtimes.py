"""RuntimeClasses. Source: the API documentation of node.k8s.io/v1, texts of kube-apiserver 1.36."""

from __future__ import annotations

from chandlery.controlplane.builtins.validation.common import Errors, dns_label, duplicate, immutable, labels_map
from chandlery.controlplane.builtins.validation.pods import tolerations
from chandlery.controlplane.builtins.validation.resources import requirements
from chandlery.controlplane.types import Obj, RequestContext


def runtime_class(_: RequestContext, obj: Obj) -> Errors:
    errors = dns_label("handler", obj.get("handler", ""))
    overhead, scheduling = obj.get("overhead"), obj.get("scheduling")
    if overhead is not None:
        errors += requirements({"limits": overhead.get("podFixed") or {}}, set(), "overhead")
    if scheduling is not None:
        errors += labels_map(scheduling.get("nodeSelector"), "scheduling.nodeSelector")
        found = scheduling.get("tolerations") or []
        errors += tolerations(found, "scheduling.tolerations")
        for index, one in enumerate(found):
            alike = [{k: v for k, v in other.items() if k != "tolerationSeconds"} for other in found[: index + 1]]
            if alike[-1] in alike[:-1]:
                errors.append(duplicate(f"scheduling.tolerations[{index}]", one))
    return errors


def runtime_class_update(_: RequestContext, obj: Obj, old: Obj) -> Errors:
    return immutable("handler", obj.get("handler"), old.get("handler"))
