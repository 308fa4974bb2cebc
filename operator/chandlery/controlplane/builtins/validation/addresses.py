"""IPAddresses and ServiceCIDRs: which service address belongs to whom, and where service addresses come from.

Source: the kinds' API documentation (networking.k8s.io/v1), texts of kube-apiserver 1.36.
"""

from __future__ import annotations

from chandlery.controlplane.builtins.validation.common import (
    Errors,
    cidr,
    dns_subdomain,
    each,
    immutable,
    invalid,
    parse_cidr,
    required,
)
from chandlery.controlplane.metadata import path_segment_errors
from chandlery.controlplane.types import Obj, RequestContext

_TWO_FAMILIES = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/96"


def ip_address(_: RequestContext, obj: Obj) -> Errors:
    parent = (obj.get("spec") or {}).get("parentRef")
    path = "spec.parentRef"
    if parent is None:
        return [required(path)]
    errors = dns_subdomain(f"{path}.group", parent["group"]) if parent.get("group") else []
    for field in ("resource", "name"):
        value = parent.get(field, "")
        errors += each(f"{path}.{field}", value, path_segment_errors(value)) if value else [required(f"{path}.{field}")]
    if parent.get("namespace"):
        errors += each(f"{path}.namespace", parent["namespace"], path_segment_errors(parent["namespace"]))
    return errors


def ip_address_update(_: RequestContext, obj: Obj, old: Obj) -> Errors:
    new, was = ((side.get("spec") or {}).get("parentRef") for side in (obj, old))
    return immutable("spec.parentRef", new, was)


def service_cidr(_: RequestContext, obj: Obj) -> Errors:
    path, ranges = "spec.cidrs", (obj.get("spec") or {}).get("cidrs") or []
    if not ranges:
        return [required(path, "at least one CIDR required")]
    if len(ranges) > 2:
        return [invalid(path, ranges, "may only hold up to 2 values")]
    errors: Errors = []
    if len(ranges) == 2:
        families = {parsed.version for one in ranges if (parsed := parse_cidr(one)) is not None}
        if len(families) != 2:
            errors.append(invalid(path, ranges, _TWO_FAMILIES))
    for index, one in enumerate(ranges):
        errors += cidr(f"{path}[{index}]", one)
    return errors


def service_cidr_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    if ctx.subresource == "status":
        return []
    new, was = ((side.get("spec") or {}).get("cidrs") or [] for side in (obj, old))
    grown = len(was) == 1 and len(new) == 2 and new[0] == was[0]  # one family may become two
    return service_cidr(ctx, obj) if grown else immutable("spec.cidrs", new, was)
