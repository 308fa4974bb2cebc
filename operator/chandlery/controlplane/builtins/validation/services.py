"""Rules of Services.

Source: the field descriptions of core/v1, observed error texts of kube-apiserver 1.36.
"""

from __future__ import annotations

from chandlery.controlplane.builtins import internal
from chandlery.controlplane.builtins.validation.common import (
    Errors,
    cidr,
    dns_label,
    dns_subdomain,
    duplicate,
    forbidden,
    invalid,
    ip_address,
    labels_map,
    one_of,
    parse_ip,
    port_number,
    port_or_name,
    qualified_name,
    required,
    special_ip,
)
from chandlery.controlplane.types import FieldError, Obj, RequestContext

_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_PORT = "io.k8s.api.core.v1.ServicePort"
_DISTRIBUTION = ("PreferClose", "PreferSameNode", "PreferSameZone")


def _ports(spec: Obj) -> Errors:
    errors: Errors = []
    ports = spec.get("ports") or []
    names: set[str] = set()
    for index, port in enumerate(ports):
        here, name = f"spec.ports[{index}]", port.get("name", "")
        if len(ports) > 1 and not name:
            errors.append(required(f"{here}.name"))
        elif name:
            errors += dns_label(f"{here}.name", name)
            if name in names:
                errors.append(duplicate(f"{here}.name", name))
            names.add(name)
        errors += port_number(f"{here}.port", port.get("port", 0))
        errors += one_of(f"{here}.protocol", port.get("protocol", ""), _PROTOCOLS, need=True)
        errors += port_or_name(f"{here}.targetPort", port.get("targetPort", 0))
        if port.get("appProtocol") is not None:
            errors += qualified_name(f"{here}.appProtocol", port["appProtocol"])
    return errors


def _unique_ports(spec: Obj) -> Errors:
    """(protocol, port) pairs, and where nodes listen."""
    ports = spec.get("ports") or []
    hidden: Errors = []
    errors: Errors = []
    seen: set[tuple[str, str, int]] = set()
    for field in ("nodePort", "port"):
        for index, port in enumerate(ports):
            here = f"spec.ports[{index}]"
            protocol, number = port.get("protocol", ""), port.get(field, 0)
            if field == "nodePort" and number and spec.get("type") == "ClusterIP":
                hidden.append(forbidden(f"{here}.nodePort", "may not be used when `type` is 'ClusterIP'"))
            if (field, protocol, number) in seen:
                errors.append(
                    duplicate(f"{here}.nodePort", number)
                    if field == "nodePort"
                    else _duplicate_port(here, {"protocol": protocol, "port": number})
                )
            if field == "port" or number:
                seen.add((field, protocol, number))
    return hidden + errors


def _duplicate_port(path: str, port: Obj) -> FieldError:
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
    if spec.get("type") == "ExternalName":
        return []
    ip, ips, here = spec.get("clusterIP") or "", spec.get("clusterIPs") or [], "spec.clusterIPs"
    errors: Errors = []
    families = spec.get("ipFamilies") or []
    if not ip and ips:
        errors.append(invalid(here, ips, "must be empty when `clusterIP` is not specified"))
    elif ip and not ips:
        errors.append(required(here))
    elif ip and ips[0] != ip:
        errors.append(invalid(here, ips, "first value must match `clusterIP`"))
    for index, family in enumerate(families):
        where = f"spec.ipFamilies[{index}]"
        errors += one_of(where, family, ("IPv4", "IPv6"))
        if family in families[:index]:
            errors.append(duplicate(where, family))
    if spec.get("ipFamilyPolicy") is not None:
        policies = ("PreferDualStack", "RequireDualStack", "SingleStack")
        errors += one_of("spec.ipFamilyPolicy", spec["ipFamilyPolicy"], policies)
    bad: Errors = []
    for index, one in enumerate(ips):
        if index or one != "None":
            bad += ip_address(f"{here}[{index}]", one)
        elif len(ips) > 1:
            bad.append(invalid(here, ips, "'None' must be the first and only value"))
    errors += bad
    if len(ips) > 2:
        errors.append(invalid(here, ips, "may only hold up to 2 values"))
    return errors if bad else errors + _families(ips, families)


def _families(ips: list[str], families: list[str]) -> Errors:
    """One address for each IP family, in the order of the families."""
    here = "spec.clusterIPs"
    if ips == ["None"]:
        return []
    errors: Errors = []
    found = ["IPv6" if ":" in one else "IPv4" for one in ips]
    if len(ips) > 1 and len(set(found)) < 2:
        errors.append(invalid(here, ips, "may specify no more than one IP for each IP family"))
    for index, (one, is_a, want) in enumerate(zip(ips, found, families, strict=False)):
        if is_a != want and want in ("IPv4", "IPv6"):
            text = f"expected an {want} value as indicated by `ipFamilies[{index}]`"
            errors.append(invalid(f"{here}[{index}]", one, text))
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
    if port and not _needs_check(spec):
        text = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        errors.append(invalid("spec.healthCheckNodePort", port, text))
    elif port:
        errors += port_number("spec.healthCheckNodePort", port)
    inside = spec.get("internalTrafficPolicy")
    if inside is not None:
        errors += one_of("spec.internalTrafficPolicy", inside, ("Cluster", "Local"))
    elif kind in ("ClusterIP", "NodePort", "LoadBalancer"):
        errors.append(required("spec.internalTrafficPolicy"))
    if spec.get("trafficDistribution") is not None:
        errors += one_of("spec.trafficDistribution", spec["trafficDistribution"], _DISTRIBUTION)
    return errors


_BALANCED = "may only be used when `type` is 'LoadBalancer'"
_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"


def _load_balancer(obj: Obj) -> Errors:
    errors: Errors = []
    spec = obj.get("spec") or {}
    balanced = spec.get("type") == "LoadBalancer"
    ranges = spec.get("loadBalancerSourceRanges") or []
    annotation = (obj["metadata"].get("annotations") or {}).get(_RANGES)
    if ranges and not balanced:
        errors.append(forbidden("spec.LoadBalancerSourceRanges", _BALANCED))
    for index, text in enumerate(ranges):
        errors += cidr(f"spec.LoadBalancerSourceRanges[{index}]", text.strip())
    if not ranges and annotation is not None:
        here = f"metadata.annotations[{_RANGES}]"
        if not balanced:
            errors.append(forbidden(here, _BALANCED))
        for text in annotation.strip().split(",") if annotation.strip() else ():
            errors += cidr(here, text.strip())
    allocate = spec.get("allocateLoadBalancerNodePorts")
    if balanced and allocate is None:
        errors.append(required("allocateLoadBalancerNodePorts"))
    elif not balanced and allocate is not None:
        errors.append(forbidden("spec.allocateLoadBalancerNodePorts", _BALANCED))
    return errors + _balancer_class(spec, balanced=balanced)


def _balancer_class(spec: Obj, *, balanced: bool) -> Errors:
    name = spec.get("loadBalancerClass")
    if name is None:
        return []
    if not balanced:
        return [forbidden("spec.loadBalancerClass", _BALANCED)]
    return qualified_name("spec.loadBalancerClass", name)


def _by_type(spec: Obj) -> Errors:
    errors: Errors = []
    kind, headless = spec.get("type", ""), spec.get("clusterIPs") == ["None"]
    if not spec.get("ports") and not headless and kind != "ExternalName":
        errors.append(required("spec.ports"))
    if headless and kind in ("LoadBalancer", "NodePort"):
        errors.append(invalid("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services"))
    if kind != "ExternalName":
        return errors
    for field in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        if spec.get(field):
            errors.append(forbidden(f"spec.{field}", "may not be set for ExternalName services"))
    name = spec.get("externalName", "").removesuffix(".")
    return errors + (dns_subdomain("spec.externalName", name) if name else [required("spec.externalName")])


_HINTS = "service.kubernetes.io/topology-aware-hints"
_MODE = "service.kubernetes.io/topology-mode"


def service(_: RequestContext, obj: Obj) -> Errors:
    spec, annotations = obj.get("spec") or {}, obj["metadata"].get("annotations") or {}
    errors: Errors = []
    if _HINTS in annotations and annotations.get(_MODE, annotations[_HINTS]) != annotations[_HINTS]:
        text = f"must match annotations[{_HINTS}] when both are specified"
        errors.append(invalid(f"metadata.annotations[{_MODE}]", annotations[_MODE], text))
    errors += _by_type(spec) + _ports(spec)
    errors += labels_map(spec.get("selector"), "spec.selector")
    errors += _affinity(spec) + _cluster_ips(spec)
    for index, ip in enumerate(spec.get("externalIPs") or ()):
        here = f"spec.externalIPs[{index}]"
        errors += ip_address(here, ip) or special_ip(here, ip)
    errors += one_of("spec.type", spec.get("type", ""), _TYPES, need=True)
    return errors + _unique_ports(spec) + _load_balancer(obj) + _traffic(spec)


def _kept_ips(spec: Obj, before: Obj) -> Errors:
    """The primary address stays; a secondary one comes and goes with the policy."""
    now, was, here = spec.get("clusterIPs") or [], before.get("clusterIPs") or [], "spec.clusterIPs"
    if now == was == ["None"]:
        return []
    if len(now) == len(was):
        return [
            invalid(f"{here}[{index}]", now, "may not change once set")
            for index, (one, old) in enumerate(zip(now, was, strict=True))
            if one != old
        ]
    errors: Errors = []
    if was and not now:
        errors.append(invalid(f"{here}[0]", now or None, "primary clusterIP can not be unset"))
    elif was and now[0] != was[0]:
        errors.append(invalid(f"{here}[0]", now, "may not change once set"))
    if len(was) > len(now) == 1 and spec.get("ipFamilyPolicy") != "SingleStack":
        text = "must be set to 'SingleStack' when releasing the secondary clusterIP"
        errors.append(invalid("spec.ipFamilyPolicy", spec.get("ipFamilyPolicy"), text))
    return errors


def _kept_families(spec: Obj, before: Obj) -> Errors:
    if "None" in ((spec.get("clusterIPs") or [""])[0], (before.get("clusterIPs") or [""])[0]):
        return []
    now, was, here = spec.get("ipFamilies") or [], before.get("ipFamilies") or [], "spec.ipFamilies[0]"
    if len(now) == len(was):
        changed = sum(one != old for one, old in zip(now, was, strict=True))
        return [invalid(here, now, "may not change once set")] * changed
    errors: Errors = []
    if len(was) > len(now) and not spec.get("clusterIPs"):
        errors.append(invalid(here, now, "primary ipFamily can not be unset"))
    if was and now and now[0] != was[0]:
        errors.append(invalid(here, spec.get("clusterIPs"), "may not change once set"))
    if len(was) > len(now) == 1 and spec.get("ipFamilyPolicy") != "SingleStack":
        text = "must be set to 'SingleStack' when releasing the secondary ipFamily"
        errors.append(invalid("spec.ipFamilyPolicy", spec.get("ipFamilyPolicy"), text))
    return errors


def _needs_check(spec: Obj) -> bool:
    return bool(spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local")


def service_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    if ctx.subresource == "status":
        return _balancer_status(obj)
    spec, before = obj.get("spec") or {}, old.get("spec") or {}
    errors: Errors = []
    if "ExternalName" not in (spec.get("type"), before.get("type")):
        errors += _kept_ips(spec, before) + _kept_families(spec, before)
    balanced = spec.get("type") == "LoadBalancer"
    if balanced and before.get("type") == "LoadBalancer":
        name, name_before = spec.get("loadBalancerClass"), before.get("loadBalancerClass")
        if name != name_before:
            errors.append(invalid("spec.loadBalancerClass", name, "may not change once set"))
    errors += _balancer_class(spec, balanced=balanced)
    port = spec.get("healthCheckNodePort", 0)
    if _needs_check(spec) and _needs_check(before) and port != before.get("healthCheckNodePort", 0):
        errors.append(forbidden("spec.healthCheckNodePort", "field is immutable"))
    return errors + service(ctx, obj)


def _balancer_status(obj: Obj) -> Errors:
    errors: Errors = []
    points = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    if points and (obj.get("spec") or {}).get("type") != "LoadBalancer":
        text = "may only be used when `spec.type` is LoadBalancer"
        errors.append(forbidden("status.loadBalancer.ingress", text))
    for index, point in enumerate(points):
        here = f"status.loadBalancer.ingress[{index}]"
        mode = point.get("ipMode")
        if point.get("ip"):
            errors += ip_address(f"{here}.ip", point["ip"])
            if mode is None:
                errors.append(required(f"{here}.ipMode", "must be specified when `ip` is set"))
        elif mode is not None:
            errors.append(forbidden(f"{here}.ipMode", "may not be specified when `ip` is not set"))
        if mode is not None:
            errors += one_of(f"{here}.ipMode", mode, ("Proxy", "VIP"))
        if point.get("hostname"):
            errors += dns_subdomain(f"{here}.hostname", point["hostname"])
            if parse_ip(point["hostname"]) is not None:
                errors.append(invalid(f"{here}.hostname", point["hostname"], "must be a DNS name, not an IP address"))
    return errors
