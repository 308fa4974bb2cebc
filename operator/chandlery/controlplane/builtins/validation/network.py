"""Rules of NetworkPolicies, Ingresses and IngressClasses.

Source: the field descriptions of networking.k8s.io/v1 and observed error texts of kube-apiserver 1.36.
"""

from __future__ import annotations

import re
from typing import Any

from chandlery.controlplane.builtins.validation.common import (
    Errors,
    cidr,
    dns_label,
    dns_subdomain,
    each,
    forbidden,
    immutable,
    invalid,
    ip_address,
    label_selector,
    one_of,
    parse_cidr,
    parse_ip,
    port_name_errors,
    port_number,
    port_or_name,
    required,
    too_long,
    unsupported,
    wildcard_errors,
)
from chandlery.controlplane.builtins.validation.common import dns_1035_errors as service_name_errors
from chandlery.controlplane.metadata import label_errors, path_segment_errors
from chandlery.controlplane.types import Obj, RequestContext


def _policy_port(found: Obj, path: str) -> Errors:
    errors: Errors = []
    protocol = found.get("protocol")
    if protocol is not None and protocol not in ("TCP", "UDP", "SCTP"):
        errors.append(unsupported(f"{path}.protocol", protocol, ("TCP", "UDP", "SCTP")))
    port, end = found.get("port"), found.get("endPort")
    if port is not None:
        errors += port_or_name(f"{path}.port", port)
        if end is not None:
            if isinstance(port, str):
                text = "may not be specified when `port` is non-numeric"
                errors.append(invalid(f"{path}.endPort", end, text))
            else:
                if end < port:
                    errors.append(invalid(f"{path}.endPort", end, "must be greater than or equal to `port`"))
                errors += port_number(f"{path}.endPort", end)
    elif end is not None:
        errors.append(invalid(f"{path}.endPort", end, "may not be specified when `port` is not specified"))
    return errors


def _block(found: Obj, path: str) -> Errors:
    text = found.get("cidr", "")
    if not text:
        return [required(f"{path}.cidr")]
    errors = cidr(f"{path}.cidr", text)
    network = parse_cidr(text)
    if network is None:
        return errors
    for index, one in enumerate(found.get("except") or ()):
        here = f"{path}.except[{index}]"
        errors += cidr(here, one)
        inner = parse_cidr(one)
        if inner is not None and (inner.version != network.version or not _inside(inner, network)):
            errors.append(invalid(here, one, "must be a strict subset of `cidr`"))
    return errors


def _inside(inner: Any, outer: Any) -> bool:
    return bool(inner.network_address in outer and inner.prefixlen > outer.prefixlen)


def _peer(found: Obj, path: str) -> Errors:
    errors: Errors = []
    count = 0
    for field in ("podSelector", "namespaceSelector"):
        if found.get(field) is not None:
            count += 1
            errors += label_selector(found[field], f"{path}.{field}")
    if found.get("ipBlock") is not None:
        count += 1
        errors += _block(found["ipBlock"], f"{path}.ipBlock")
    if count == 0:
        errors.append(required(path, "must specify a peer"))
    elif count > 1 and found.get("ipBlock") is not None:
        errors.append(forbidden(path, "may not specify both ipBlock and another peer"))
    return errors


def network_policy(_: RequestContext, obj: Obj) -> Errors:
    spec = obj.get("spec") or {}
    errors = label_selector(spec.get("podSelector") or {}, "spec.podSelector")
    for rules, side in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate(spec.get(rules) or ()):
            here = f"spec.{rules}[{index}]"
            for number, port in enumerate(rule.get("ports") or ()):
                errors += _policy_port(port, f"{here}.ports[{number}]")
            for number, peer in enumerate(rule.get(side) or ()):
                errors += _peer(peer, f"{here}.{side}[{number}]")
    types = spec.get("policyTypes") or []
    if len(types) > 2:
        errors.append(invalid("spec.policyTypes", types, "may not specify more than two policyTypes"))
        return errors
    for index, kind in enumerate(types):
        if kind not in ("Ingress", "Egress"):
            errors.append(unsupported(f"spec.policyTypes[{index}]", kind, ("Ingress", "Egress")))
    return errors


def network_policy_update(ctx: RequestContext, obj: Obj, _: Obj) -> Errors:
    return network_policy(ctx, obj) * 2


def _typed_reference(found: Obj, path: str) -> Errors:
    errors: Errors = []
    if found.get("apiGroup") is not None:
        errors += dns_subdomain(f"{path}.apiGroup", found["apiGroup"])
    for field in ("kind", "name"):
        text = found.get(field, "")
        if text:
            errors += each(f"{path}.{field}", text, path_segment_errors(text))
        else:
            errors.append(required(f"{path}.{field}", f"{field} is required"))
    return errors


def _backend(found: Any, path: str) -> Errors:
    found = found or {}
    errors: Errors = []
    resource, service = found.get("resource"), found.get("service")
    if resource is not None and service is not None:
        return [invalid(path, "", "cannot set both resource and service backends")]
    if resource is not None:
        return _typed_reference(resource, f"{path}.resource")
    if service is None:
        return [invalid(path, "", "resource or service backend is required")]
    name = service.get("name", "")
    if not name:
        errors.append(required(f"{path}.service.name"))
    else:
        errors += each(f"{path}.service.name", name, service_name_errors(name) and label_errors(name))
    port = service.get("port") or {}
    has_name, has_number = bool(port.get("name")), bool(port.get("number"))
    if has_name and has_number:
        errors.append(invalid(path, "", "cannot set both port name & port number"))
    elif has_name:
        errors += each(f"{path}.service.port.name", port["name"], port_name_errors(port["name"]))
    elif has_number:
        errors += port_number(f"{path}.service.port.number", port["number"])
    else:
        errors.append(required(path, "port name or number is required"))
    return errors


_BAD_SEQUENCES = ("//", "/./", "/../", "%2f", "%2F")
_BAD_ENDS = ("/..", "/.")


def _path(found: Obj, path: str) -> Errors:
    errors: Errors = []
    kind, text = found.get("pathType"), found.get("path", "")
    if kind is None:
        return [required(f"{path}.pathType", "pathType must be specified")]
    if kind in ("Exact", "Prefix"):
        if not text.startswith("/"):
            errors.append(invalid(f"{path}.path", text, "must be an absolute path"))
        if text:
            for bad in _BAD_SEQUENCES:
                if bad in text:
                    errors.append(invalid(f"{path}.path", text, f"must not contain '{bad}'"))
            for bad in _BAD_ENDS:
                if text.endswith(bad):
                    errors.append(invalid(f"{path}.path", text, f"cannot end with '{bad}'"))
    elif kind == "ImplementationSpecific":
        if text and not text.startswith("/"):
            errors.append(invalid(f"{path}.path", text, "must be an absolute path"))
    else:
        supported = ("Exact", "ImplementationSpecific", "Prefix")
        errors.append(unsupported(f"{path}.pathType", kind, supported))
    return errors + _backend(found.get("backend"), f"{path}.backend")


def _host(host: str, path: str) -> Errors:
    if not host:
        return []
    errors: Errors = []
    if parse_ip(host) is not None:
        errors.append(invalid(path, host, "must be a DNS name, not an IP address"))
    if "*" in host:
        errors += each(path, host, wildcard_errors(host))
    else:
        errors += dns_subdomain(path, host)
    return errors


def ingress(_: RequestContext, obj: Obj) -> Errors:
    spec = obj.get("spec") or {}
    errors: Errors = []
    rules = spec.get("rules") or []
    if not rules and spec.get("defaultBackend") is None:
        errors.append(invalid("spec", spec.get("rules"), "either `defaultBackend` or `rules` must be specified"))
    if spec.get("defaultBackend") is not None:
        errors += _backend(spec["defaultBackend"], "spec.defaultBackend")
    for index, rule in enumerate(rules):
        here = f"spec.rules[{index}]"
        errors += _host(rule.get("host", ""), f"{here}.host")
        http = rule.get("http")
        if http is not None:
            if not http.get("paths"):
                errors.append(required(f"{here}.http.paths"))
            for number, one in enumerate(http.get("paths") or ()):
                errors += _path(one, f"{here}.http.paths[{number}]")
    for index, tls in enumerate(spec.get("tls") or ()):
        here = f"spec.tls[{index}]"
        for number, host in enumerate(tls.get("hosts") or ()):
            where = f"{here}.hosts[{number}]"
            errors += each(where, host, wildcard_errors(host)) if "*" in host else dns_subdomain(where, host)
        if tls.get("secretName"):
            errors += dns_subdomain(f"{here}.secretName", tls["secretName"])
    if spec.get("ingressClassName") is not None:
        errors += dns_subdomain("spec.ingressClassName", spec["ingressClassName"])
    return errors


def ingress_create(ctx: RequestContext, obj: Obj) -> Errors:
    errors = ingress(ctx, obj)
    annotation = (obj["metadata"].get("annotations") or {}).get("kubernetes.io/ingress.class")
    if annotation is not None and (obj.get("spec") or {}).get("ingressClassName") not in (None, annotation):
        text = "must match `ingressClassName` when both are specified"
        errors.append(invalid("annotations.kubernetes.io/ingress.class", annotation, text))
    return errors


def ingress_update(ctx: RequestContext, obj: Obj, _: Obj) -> Errors:
    if ctx.subresource != "status":
        return ingress(ctx, obj)
    errors: Errors = []
    for index, point in enumerate(((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()):
        here = f"status.loadBalancer.ingress[{index}]"
        if point.get("ip"):
            errors += ip_address(f"{here}.ip", point["ip"])
        if point.get("hostname"):
            name = point["hostname"]
            errors += dns_subdomain(f"{here}.hostname", name)
            if parse_ip(name) is not None:
                errors.append(invalid(f"{here}.hostname", name, "must be a DNS name, not an IP address"))
    return errors


def ingress_class(_: RequestContext, obj: Obj) -> Errors:
    spec = obj.get("spec") or {}
    controller = spec.get("controller", "")
    errors: Errors = []
    if len(controller) > 250:
        errors.append(too_long("spec.controller", 250))
    errors += domain_prefixed("spec.controller", controller)
    parameters = spec.get("parameters")
    if parameters is None:
        return errors
    here = "spec.parameters"
    errors += _typed_reference(parameters, here)
    scope, namespace = parameters.get("scope"), parameters.get("namespace")
    if scope is None:
        return [*errors, required(f"{here}.scope")]
    errors += one_of(f"{here}.scope", scope, ("Cluster", "Namespace"))
    if scope == "Namespace":
        if namespace is None:
            errors.append(required(f"{here}.namespace", "`parameters.scope` is set to 'Namespace'"))
        else:
            errors += dns_label(f"{here}.namespace", namespace)
    if scope == "Cluster" and namespace is not None:
        text = "`parameters.scope` is set to 'Cluster'"
        errors.append(forbidden(f"{here}.namespace", text))
    return errors


_HTTP_PATH = re.compile(r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+")


def domain_prefixed(path: str, text: str) -> Errors:
    """`acme.io/foo`."""
    if not text:
        return [required(path)]
    host, slash, rest = text.partition("/")
    if not slash or not host or not rest:
        return [invalid(path, text, 'must be a domain-prefixed path (such as "acme.io/foo")')]
    errors = dns_subdomain(path, host)
    if not _HTTP_PATH.fullmatch(rest):
        errors.append(invalid(path, rest, f"Invalid path (regex used for validation is '{_HTTP_PATH.pattern}')"))
    return errors


def ingress_class_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    new, before = ((o.get("spec") or {}).get("controller", "") for o in (obj, old))
    return immutable("spec.controller", new, before) + ingress_class(ctx, obj)
