"""Rules of Services, Endpoints and EndpointSlices.

Source: the field descriptions of core/v1 and discovery.k8s.io/v1, observed error texts of kube-apiserver 1.36.
"""

from __future__ import annotations

from typing import Any

from chandlery.controlplane.builtins.validation.common import (
    Errors,
    dns_label,
    dns_subdomain,
    duplicate,
    forbidden,
    immutable,
    invalid,
    invalid_struct,
    ip_address,
    labels_map,
    one_of,
    parse_cidr,
    parse_ip,
    port_name_errors,
    port_number,
    port_or_name,
    qualified_name,
    required,
    too_many,
    unsupported,
)
from chandlery.controlplane.types import Obj, RequestContext

_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_PORT = "io.k8s.api.core.v1.ServicePort"
_DISTRIBUTION = ("PreferClose", "PreferSameNode", "PreferSameZone")


def special_ip(path: str, text: str) -> Errors:
    """Addresses that are valid but can't be an endpoint or an external IP."""
    address = parse_ip(text)
    if address is None:
        return [invalid(path, text, "must be a valid IP address")]
    errors: Errors = []
    if address.is_unspecified:
        errors.append(invalid(path, text, f"may not be unspecified ({text})"))
    if address.is_loopback:
        errors.append(invalid(path, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)"))
    if address.is_link_local:
        errors.append(invalid(path, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"))
    if address.is_multicast and (address.version == 6 or text.startswith("224.0.0.")):
        errors.append(invalid(path, text, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"))
    return errors


def _ports(spec: Obj) -> Errors:
    errors: Errors = []
    ports = spec.get("ports") or []
    names: set[str] = set()
    keys: set[tuple[str, int]] = set()
    node_ports: set[tuple[str, int]] = set()
    for index, port in enumerate(ports):
        here = f"spec.ports[{index}]"
        name, protocol, number = port.get("name", ""), port.get("protocol", ""), port.get("port", 0)
        if len(ports) > 1 and not name:
            errors.append(required(f"{here}.name"))
        elif name:
            errors += dns_label(f"{here}.name", name)
            if name in names:
                errors.append(duplicate(f"{here}.name", name))
            names.add(name)
        errors += port_number(f"{here}.port", number)
        errors += one_of(f"{here}.protocol", protocol, _PROTOCOLS, need=True)
        errors += port_or_name(f"{here}.targetPort", port.get("targetPort", 0))
        if port.get("appProtocol") is not None:
            errors += qualified_name(f"{here}.appProtocol", port["appProtocol"])
        if (protocol, number) in keys:
            shown = {"protocol": protocol, "port": number}
            errors.append(_duplicate_port(here, shown))
        keys.add((protocol, number))
        node = port.get("nodePort", 0)
        if node:
            if spec.get("type") == "ClusterIP":
                errors.append(forbidden(f"{here}.nodePort", "may not be used when `type` is 'ClusterIP'"))
            if (protocol, node) in node_ports:
                errors.append(duplicate(f"{here}.nodePort", node))
            node_ports.add((protocol, node))
    return errors


def _duplicate_port(path: str, port: Obj) -> Any:
    from chandlery.controlplane.builtins import internal
    from chandlery.controlplane.types import FieldError

    return FieldError(path, "FieldValueDuplicate", f"Duplicate value: {internal.shown(_PORT, port)}")


def _affinity(spec: Obj) -> Errors:
    kind, config = spec.get("sessionAffinity", ""), spec.get("sessionAffinityConfig")
    errors = one_of("spec.sessionAffinity", kind, ("ClientIP", "None"), need=True)
    if kind == "ClientIP":
        seconds = ((config or {}).get("clientIP") or {}).get("timeoutSeconds")
        here = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
        if seconds is None:
            errors.append(required("spec.sessionAffinityConfig", "when session affinity type is ClientIP"))
        elif not 0 < seconds <= 86400:
            errors.append(invalid(here, seconds, "must be greater than 0 and less than 86400"))
    elif kind == "None" and config is not None:
        text = "must not be set when session affinity is None"
        errors.append(forbidden("spec.sessionAffinityConfig", text))
    return errors


def _cluster_ips(spec: Obj) -> Errors:
    kind, ip, ips = spec.get("type"), spec.get("clusterIP") or "", spec.get("clusterIPs") or []
    errors: Errors = []
    families = spec.get("ipFamilies") or []
    if kind == "ExternalName":
        text = "may not be set for ExternalName services"
        if ip or ips:
            errors.append(forbidden("spec.clusterIPs", text))
        if families:
            errors.append(forbidden("spec.ipFamilies", text))
        if spec.get("ipFamilyPolicy") is not None:
            errors.append(forbidden("spec.ipFamilyPolicy", text))
        return errors
    if not ip and ips:
        errors.append(invalid("spec.clusterIPs", ips, "must be empty when `clusterIP` is not specified"))
    elif ip and not ips:
        errors.append(required("spec.clusterIPs"))
    elif ip and ips[0] != ip:
        errors.append(invalid("spec.clusterIPs", ips, "first value must match `clusterIP`"))
    for index, family in enumerate(families):
        here = f"spec.ipFamilies[{index}]"
        if family not in ("IPv4", "IPv6"):
            errors.append(unsupported(here, family, ("IPv4", "IPv6")))
        if family in families[:index]:
            errors.append(duplicate(here, family))
    if spec.get("ipFamilyPolicy") is not None:
        policies = ("PreferDualStack", "RequireDualStack", "SingleStack")
        errors += one_of("spec.ipFamilyPolicy", spec["ipFamilyPolicy"], policies)
    if "None" in ips and len(ips) > 1:
        errors.append(invalid("spec.clusterIPs", ips, "'None' must be the first and only value"))
        return errors
    for index, one in enumerate(ips):
        if one != "None":
            errors += ip_address(f"spec.clusterIPs[{index}]", one)
            if one in ips[:index]:
                errors.append(duplicate(f"spec.clusterIPs[{index}]", one))
    if len(ips) > 2:
        errors.append(invalid("spec.clusterIPs", ips, "may only hold up to 2 values"))
    return errors


def _traffic(spec: Obj) -> Errors:
    errors: Errors = []
    kind = spec.get("type")
    external = kind in ("NodePort", "LoadBalancer") or (kind == "ClusterIP" and bool(spec.get("externalIPs")))
    policy = spec.get("externalTrafficPolicy", "")
    if not external:
        if policy:
            text = "may only be set for externally-accessible services"
            errors.append(invalid("spec.externalTrafficPolicy", policy, text))
    elif not policy:
        errors.append(required("spec.externalTrafficPolicy"))
    else:
        errors += one_of("spec.externalTrafficPolicy", policy, ("Cluster", "Local"))
    port = spec.get("healthCheckNodePort", 0)
    if port and not (kind == "LoadBalancer" and policy == "Local"):
        text = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        errors.append(invalid("spec.healthCheckNodePort", port, text))
    inside = spec.get("internalTrafficPolicy")
    if inside is not None:
        errors += one_of("spec.internalTrafficPolicy", inside, ("Cluster", "Local"))
    elif kind in ("ClusterIP", "NodePort", "LoadBalancer"):
        errors.append(required("spec.internalTrafficPolicy"))
    if spec.get("trafficDistribution") is not None:
        errors += one_of("spec.trafficDistribution", spec["trafficDistribution"], _DISTRIBUTION)
    return errors


def _load_balancer(spec: Obj) -> Errors:
    errors: Errors = []
    balanced = spec.get("type") == "LoadBalancer"
    ranges = spec.get("loadBalancerSourceRanges") or []
    if ranges and not balanced:
        text = "may only be used when `type` is 'LoadBalancer'"
        errors.append(forbidden("spec.LoadBalancerSourceRanges", text))
    for index, text in enumerate(ranges):
        if parse_cidr(text.strip()) is None:
            detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
            errors.append(invalid(f"spec.LoadBalancerSourceRanges[{index}]", text, detail))
    allocate = spec.get("allocateLoadBalancerNodePorts")
    if balanced and allocate is None:
        errors.append(required("spec.allocateLoadBalancerNodePorts"))
    elif not balanced and allocate is not None:
        text = "may only be used when `type` is 'LoadBalancer'"
        errors.append(forbidden("spec.allocateLoadBalancerNodePorts", text))
    name = spec.get("loadBalancerClass")
    if name is not None:
        if not balanced:
            errors.append(forbidden("spec.loadBalancerClass", "may only be used when `type` is 'LoadBalancer'"))
        else:
            errors += qualified_name("spec.loadBalancerClass", name)
    return errors


def _rules(spec: Obj) -> Errors:
    errors: Errors = []
    kind, headless = spec.get("type", ""), spec.get("clusterIP") == "None"
    if not spec.get("ports") and not headless and kind != "ExternalName":
        errors.append(required("spec.ports"))
    if headless and kind in ("LoadBalancer", "NodePort"):
        errors.append(invalid("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services"))
    if kind == "ExternalName":
        name = spec.get("externalName", "").strip().lower()
        errors += dns_subdomain("spec.externalName", name) if name else [required("spec.externalName")]
    errors += _ports(spec)
    errors += labels_map(spec.get("selector"), "spec.selector")
    errors += _affinity(spec)
    errors += one_of("spec.type", kind, _TYPES, need=True)
    for index, ip in enumerate(spec.get("externalIPs") or ()):
        here = f"spec.externalIPs[{index}]"
        bad = ip_address(here, ip)
        errors += bad or special_ip(here, ip)
    errors += _cluster_ips(spec) + _load_balancer(spec) + _traffic(spec)
    return errors


def service(_: RequestContext, obj: Obj) -> Errors:
    return _rules(obj.get("spec") or {})


def service_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    if ctx.subresource == "status":
        return []
    spec, before = obj.get("spec") or {}, old.get("spec") or {}
    errors: Errors = []
    if "ExternalName" not in (spec.get("type"), before.get("type")):
        ips, ips_before = spec.get("clusterIPs") or [], before.get("clusterIPs") or []
        if ips_before and not ips:
            errors.append(invalid("spec.clusterIPs[0]", ips, "primary clusterIP can not be unset"))
        elif ips_before and ips[0] != ips_before[0]:
            errors.append(invalid("spec.clusterIPs[0]", ips, "may not change once set"))
        families, families_before = spec.get("ipFamilies") or [], before.get("ipFamilies") or []
        if families_before and families and families[0] != families_before[0]:
            errors.append(invalid("spec.ipFamilies[0]", families, "may not change once set"))
        elif families_before and not families:
            errors.append(invalid("spec.ipFamilies[0]", families, "primary ipFamily can not be unset"))
    if spec.get("type") == before.get("type") == "LoadBalancer":
        name, name_before = spec.get("loadBalancerClass"), before.get("loadBalancerClass")
        if name != name_before:
            errors.append(invalid("spec.loadBalancerClass", name, "may not change once set"))
    return errors + _rules(spec)


def _endpoint_address(found: Obj, path: str) -> Errors:
    ip = found.get("ip", "")
    errors = ip_address(f"{path}.ip", ip) or special_ip(f"{path}.ip", ip)
    if found.get("hostname"):
        errors += dns_label(f"{path}.hostname", found["hostname"])
    if found.get("nodeName") is not None:
        errors += dns_subdomain(f"{path}.nodeName", found["nodeName"])
    return errors


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
    return endpoints(ctx, obj) if obj.get("subsets") != old.get("subsets") else []


_ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")


def _slice_address(kind: str, text: str, path: str) -> Errors:
    if kind == "FQDN":
        return dns_subdomain(path, text)
    bad = ip_address(path, text)
    if bad:
        return bad
    address = parse_ip(text)
    if address is not None and kind in ("IPv4", "IPv6") and f"IPv{address.version}" != kind:
        return [invalid(path, text, f"must be a valid {kind} address")]
    return special_ip(path, text)


def endpoint_slice(_: RequestContext, obj: Obj) -> Errors:
    errors: Errors = []
    kind = obj.get("addressType", "")
    errors += one_of("addressType", kind, _ADDRESS_TYPES, need=True)
    found = obj.get("endpoints") or []
    if len(found) > 1000:
        errors.append(too_many("endpoints", len(found), 1000))
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
        if one.get("hostname") is not None:
            errors += dns_label(f"{here}.hostname", one["hostname"])
        if one.get("deprecatedTopology"):
            errors += labels_map(one["deprecatedTopology"], f"{here}.deprecatedTopology")
    ports = obj.get("ports") or []
    if len(ports) > 20000:
        errors.append(too_many("ports", len(ports), 20000))
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


__all__ = ["invalid_struct", "port_name_errors"]
