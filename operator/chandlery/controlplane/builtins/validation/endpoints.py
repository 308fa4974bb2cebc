"""Rules of Endpoints and EndpointSlices.

Source: the field descriptions of core/v1 and discovery.k8s.io/v1, observed error texts of kube-apiserver 1.36.
"""

from __future__ import annotations

from chandlery.controlplane.builtins.validation.common import (
    Errors,
    dns_label,
    dns_subdomain,
    duplicate,
    each,
    immutable,
    invalid,
    ip_address,
    labels_map,
    one_of,
    parse_ip,
    port_number,
    qualified_name,
    required,
    special_ip,
    too_many,
)
from chandlery.controlplane.metadata import label_value_errors
from chandlery.controlplane.types import Obj, RequestContext

_PROTOCOLS = ("SCTP", "TCP", "UDP")


def _endpoint_address(found: Obj, path: str) -> Errors:
    ip = found.get("ip", "")
    errors = ip_address(f"{path}.ip", ip)
    if found.get("hostname"):
        errors += dns_label(f"{path}.hostname", found["hostname"])
    if found.get("nodeName") is not None:
        errors += dns_subdomain(f"{path}.nodeName", found["nodeName"])
    return errors + special_ip(f"{path}.ip", ip)


def endpoints(_: RequestContext, obj: Obj) -> Errors:
    errors: Errors = []
    for index, subset in enumerate(obj.get("subsets") or ()):
        here = f"subsets[{index}]"
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            errors.append(required(here, "must specify `addresses` or `notReadyAddresses`"))
        for field in ("addresses", "notReadyAddresses"):
            for number, address in enumerate(subset.get(field) or ()):
                errors += _endpoint_address(address, f"{here}.{field}[{number}]")
        ports = subset.get("ports") or ()
        for number, port in enumerate(ports):
            where = f"{here}.ports[{number}]"
            if len(ports) > 1 and not port.get("name"):
                errors.append(required(f"{where}.name"))
            elif port.get("name"):
                errors += dns_label(f"{where}.name", port["name"])
            errors += port_number(f"{where}.port", port.get("port", 0))
            errors += one_of(f"{where}.protocol", port.get("protocol", ""), _PROTOCOLS, need=True)
            if port.get("appProtocol") is not None:
                errors += qualified_name(f"{where}.appProtocol", port["appProtocol"])
    return errors


def endpoints_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    del old
    return endpoints(ctx, obj)


_ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")


def _slice_address(kind: str, text: str, path: str) -> Errors:
    if kind == "FQDN":
        return _full_name(text, path)
    address = parse_ip(text)
    errors: Errors = []
    if address is None or f"IPv{address.version}" != kind:
        errors.append(invalid(path, text, f"must be a valid {kind} address"))
    return errors + special_ip(path, text)


def _full_name(text: str, path: str) -> Errors:
    if not text:
        return [required(path)]
    name = text.removesuffix(".")
    errors = dns_subdomain(path, name)
    if errors:
        return errors
    if "." not in name:
        return [invalid(path, name, "should be a domain with at least two segments separated by dots")]
    for label in name.split("."):
        errors += dns_label(path, label)
    return errors


def _hints(hints: Obj, path: str) -> Errors:
    errors: Errors = []
    for field, limit in (("forZones", 8), ("forNodes", 8)):
        found = hints.get(field) or ()
        if len(found) > limit:
            errors.append(too_many(f"{path}.{field}", len(found), limit))
            continue
        seen: set[str] = set()
        for number, one in enumerate(found):
            here, name = f"{path}.{field}[{number}].name", one.get("name", "")
            if name in seen:
                errors.append(duplicate(here, name))
            seen.add(name)
            errors += each(here, name, label_value_errors(name)) if field == "forZones" else dns_subdomain(here, name)
    return errors


def endpoint_slice(_: RequestContext, obj: Obj) -> Errors:
    errors: Errors = []
    kind = obj.get("addressType", "")
    errors += one_of("addressType", kind, _ADDRESS_TYPES, need=True)
    found = obj.get("endpoints") or []
    if len(found) > 1000:
        errors.append(too_many("endpoints", len(found), 1000))
        found = []
    for index, one in enumerate(found):
        here = f"endpoints[{index}]"
        addresses = one.get("addresses") or []
        if not addresses:
            errors.append(required(f"{here}.addresses", "must contain at least 1 address"))
        elif len(addresses) > 100:
            errors.append(too_many(f"{here}.addresses", len(addresses), 100))
        if kind in _ADDRESS_TYPES:
            for number, address in enumerate(addresses):
                errors += _slice_address(kind, address, f"{here}.addresses[{number}]")
        if one.get("nodeName") is not None:
            errors += dns_subdomain(f"{here}.nodeName", one["nodeName"])
        topology = one.get("deprecatedTopology") or {}
        if len(topology) > 16:
            errors.append(too_many(f"{here}.deprecatedTopology", len(topology), 16))
        errors += labels_map(topology, f"{here}.deprecatedTopology")
        if one.get("hostname") is not None:
            errors += dns_label(f"{here}.hostname", one["hostname"])
        errors += _hints(one.get("hints") or {}, f"{here}.hints")
    ports = obj.get("ports") or []
    if len(ports) > 20000:
        errors.append(too_many("ports", len(ports), 20000))
        ports = []
    names: set[str] = set()
    for index, port in enumerate(ports):
        here = f"ports[{index}]"
        name = port.get("name") or ""
        if name:
            errors += dns_label(f"{here}.name", name)
        if name in names:
            errors.append(duplicate(f"{here}.name", name))
        names.add(name)
        errors += one_of(f"{here}.protocol", port.get("protocol", ""), _PROTOCOLS, need=True)
        if port.get("appProtocol") is not None:
            errors += qualified_name(f"{here}.appProtocol", port["appProtocol"])
    return errors


def endpoint_slice_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    return endpoint_slice(ctx, obj) + immutable("addressType", obj.get("addressType", ""), old.get("addressType", ""))
