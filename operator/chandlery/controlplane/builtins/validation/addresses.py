"""IPAddresses and ServiceCIDRs: which service address belongs to whom, and where service addresses come from.

Source: the kinds' API documentation (networking.k8s.io/v1), texts of kube-apiserver 1.36.
"""

from __future__ import annotations

from chandlery.controlplane.builtins.validation.common import (
    IMMUTABLE,
    Errors,
    cidr,
    dns_subdomain,
    each,
    immutable,
    invalid,
    invalid_struct,
    parse_cidr,
    required,
)
from chandlery.controlplane.metadata import path_segment_errors
from chandlery.controlplane.types import Obj, RequestContext

_PARENT = "io.k8s.api.networking.v1.ParentReference"
_RANGES = "io.k8s.api.networking.v1.ServiceCIDRSpec"
_TWO_FAMILIES = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"


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
    return [] if new == was else [invalid_struct("spec.parentRef", _PARENT, new, IMMUTABLE)]


def _strict(path: str, text: str) -> Errors:
    """A range in the one form that it is written in."""
    errors = cidr(path, text)
    known = parse_cidr(text)
    if errors or known is None or str(known) == text:
        return errors
    return [invalid(path, text, f'must be in canonical form ("{known}")')]


def service_cidr(_: RequestContext, obj: Obj) -> Errors:
    spec = obj.get("spec") or {}
    path, ranges = "spec.cidrs", spec.get("cidrs") or []
    if not ranges:
        return [required(path, "at least one CIDR required")]
    if len(ranges) > 2:
        return [invalid_struct(path, _RANGES, spec, "may only hold up to 2 values")]
    errors: Errors = []
    for index, one in enumerate(ranges):
        errors += _strict(f"{path}[{index}]", one)
    families = [parsed.version for one in ranges if (parsed := parse_cidr(one)) is not None]
    if len(families) == 2 and families[0] == families[1]:
        errors.append(invalid(path, ranges, _TWO_FAMILIES))
    return errors


def service_cidr_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    if ctx.subresource == "status":
        return []
    new, was = ((side.get("spec") or {}).get("cidrs") or [] for side in (obj, old))
    if len(new) != len(was) and (len(was), len(new)) != (1, 2):
        return [invalid("spec.cidrs", new or None, IMMUTABLE)]
    errors: Errors = []
    for index, (one, before) in enumerate(zip(new, was, strict=False)):
        errors += immutable(f"spec.cidrs[{index}]", one, before)
    return errors + (service_cidr(ctx, obj) if len(new) > len(was) else [])  # one family may become two
