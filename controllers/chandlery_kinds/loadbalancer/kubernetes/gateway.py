"""A load balancer as objects of the Gateway API: one Gateway, and one route for each pair of listener and route.

Source: the Gateway API reference, gateway.networking.k8s.io/v1 (release 1.6).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chandlery.driver.objects import ResourceType
from chandlery.providers.kubernetes.drift import digest
from chandlery.providers.kubernetes.ownership import Owner
from chandlery.providers.kubernetes.types import GATEWAYS, HTTP_ROUTES, TCP_ROUTES, TLS_ROUTES, Obj
from chandlery_kinds.loadbalancer.listeners import Listener, Protocol
from chandlery_kinds.loadbalancer.model import LoadBalancerSpec
from chandlery_kinds.loadbalancer.pools import PathMatchType, Route, RouteBackend

GROUP = GATEWAYS.group
ROUTE_KINDS: Mapping[Protocol, ResourceType] = {
    Protocol.HTTP: HTTP_ROUTES,
    Protocol.HTTPS: HTTP_ROUTES,
    Protocol.TLS: TLS_ROUTES,
    Protocol.TCP: TCP_ROUTES,
}
_PATHS = {PathMatchType.PREFIX: "PathPrefix", PathMatchType.EXACT: "Exact", PathMatchType.REGEX: "RegularExpression"}


@dataclass(frozen=True, slots=True)
class Backend:
    """A Service that a pool leads to."""

    service: str
    port: int
    weight: int = 100


Backends = Mapping[str, Sequence[Backend]]
"""By pool."""


def kinds_for(spec: LoadBalancerSpec) -> list[ResourceType]:
    """Which kinds of the Gateway API a spec needs."""
    return [GATEWAYS, *dict.fromkeys(ROUTE_KINDS[x.protocol] for x in spec.listeners)]


def gateway(owner: Owner, spec: LoadBalancerSpec, class_name: str) -> Obj:
    """The Gateway. Host names stand at the routes: a listener there knows one only."""
    body: dict[str, Any] = {"gatewayClassName": class_name, "listeners": [_listener(x) for x in spec.listeners]}
    if spec.address.ip:
        body["addresses"] = [{"type": "IPAddress", "value": str(spec.address.ip)}]
    if spec.exposure.annotations:
        body["infrastructure"] = {"annotations": dict(spec.exposure.annotations)}
    return owner.child(GATEWAYS, spec=body)


def _listener(x: Listener) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": str(x.name),
        "port": x.port,
        "protocol": x.protocol.value,
        "allowedRoutes": {
            "namespaces": {"from": "Same"},
            "kinds": [{"group": GROUP, "kind": ROUTE_KINDS[x.protocol].kind}],
        },
    }
    if x.protocol is Protocol.HTTPS and x.tls is not None:
        secrets = [{"group": "", "kind": "Secret", "name": ref.name} for ref in x.tls.certificate_secrets]
        found["tls"] = {"mode": "Terminate", "certificateRefs": secrets}
    if x.protocol is Protocol.TLS:
        found["tls"] = {"mode": "Passthrough"}
    return found


def routes(owner: Owner, spec: LoadBalancerSpec, backends: Backends) -> list[Obj]:
    """All routes, in the order of listeners."""
    return [made for x in spec.listeners for made in _of_listener(owner, spec, x, backends)]


def _of_listener(owner: Owner, spec: LoadBalancerSpec, x: Listener, backends: Backends) -> Iterator[Obj]:
    kind = ROUTE_KINDS[x.protocol]
    if x.redirect_to_https:
        redirect = {"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "statusCode": 301}}
        yield _route(owner, kind, x, "default", x.hostnames, {"filters": [redirect]})
        return
    for route in spec.routes:
        if x.protocol is not Protocol.TCP and (not route.listeners or x.name in route.listeners):
            hostnames = common(x.hostnames, route.hostnames)
            if hostnames is None:
                continue
            rule = _rule(route, backends) if kind is HTTP_ROUTES else {"backendRefs": _refs(route.backends, backends)}
            yield _route(owner, kind, x, str(route.name), hostnames, rule)
    if x.pool is not None:
        refs = _refs([RouteBackend(pool=x.pool)], backends)
        yield _route(owner, kind, x, "default", x.hostnames, {"backendRefs": refs})


def _route(
    owner: Owner, kind: ResourceType, x: Listener, name: str, hostnames: Sequence[str], rule: Mapping[str, Any]
) -> Obj:
    spec: dict[str, Any] = {
        "parentRefs": [{"group": GROUP, "kind": GATEWAYS.kind, "name": owner.base, "sectionName": str(x.name)}],
        "rules": [dict(rule)],
    }
    if hostnames and kind is not TCP_ROUTES:
        spec["hostnames"] = [str(name) for name in hostnames]
    # Names of listeners and routes may both hold a `-`: the digest tells `a-b` + `c` from `a` + `b-c`.
    return owner.child(kind, f"-{x.name}-{name}-{digest([str(x.name), name])[:6]}", spec=spec)


def common(listener: Sequence[str], route: Sequence[str]) -> list[str] | None:
    """Host names that both want; empty: all. None when there is none."""
    if not listener or not route:
        return list(listener or route)
    found = [one for one in listener for other in route if _within(one, other)]
    found += [other for one in listener for other in route if _within(other, one)]
    return list(dict.fromkeys(found)) or None


def _within(name: str, pattern: str) -> bool:
    """Whether a name (or pattern) is one of those that a pattern stands for."""
    return name == pattern or (pattern.startswith("*.") and name.removeprefix("*").endswith(pattern[1:]))


def _refs(shares: Sequence[RouteBackend], backends: Backends) -> list[dict[str, Any]]:
    return [
        {"group": "", "kind": "Service", "name": b.service, "port": b.port, "weight": share.weight * b.weight}
        for share in shares
        for b in backends.get(str(share.pool), ())
    ]


def _rule(route: Route, backends: Backends) -> dict[str, Any]:
    match: dict[str, Any] = {}
    if route.path is not None:
        match["path"] = {"type": _PATHS[route.path.type], "value": route.path.value}
    if route.headers:
        match["headers"] = [{"type": "Exact", "name": h.name, "value": h.value} for h in route.headers]
    rule: dict[str, Any] = {}
    if route.methods:
        rule["matches"] = [{**match, "method": method.value} for method in route.methods]
    elif match:
        rule["matches"] = [match]
    filters = list(_filters(route))
    if filters:
        rule["filters"] = filters
    if route.redirect is None:
        rule["backendRefs"] = _refs(route.backends, backends)
    if route.timeout is not None:
        rule["timeouts"] = {"request": _duration(route.timeout.seconds)}
    return rule


def _duration(seconds: float) -> str:
    """In the Gateway API's form (GEP-2257): five digits and a unit, here and there several of them."""
    whole, rest = divmod(round(seconds * 1000), 1000)
    hours, whole = divmod(whole, 3600)
    parts = [f"{number}{unit}" for number, unit in ((hours, "h"), (whole, "s"), (rest, "ms")) if number]
    return "".join(parts) or "0s"


def _filters(route: Route) -> Iterator[dict[str, Any]]:
    for kind, changes in (("request", route.request_headers), ("response", route.response_headers)):
        change: dict[str, Any] = {}
        if changes.set:
            change["set"] = [{"name": h.name, "value": h.value} for h in changes.set]
        if changes.remove:
            change["remove"] = [str(name) for name in changes.remove]
        if change:
            yield {"type": f"{kind.capitalize()}HeaderModifier", f"{kind}HeaderModifier": change}
    if route.redirect is not None:
        to: dict[str, Any] = {"statusCode": route.redirect.status}
        if route.redirect.scheme:
            to["scheme"] = route.redirect.scheme
        if route.redirect.host:
            to["hostname"] = str(route.redirect.host)
        if route.redirect.path:
            to["path"] = {"type": "ReplaceFullPath", "replaceFullPath": str(route.redirect.path)}
        yield {"type": "RequestRedirect", "requestRedirect": to}
    elif route.replace_prefix:
        path = {"type": "ReplacePrefixMatch", "replacePrefixMatch": str(route.replace_prefix)}
        yield {"type": "URLRewrite", "urlRewrite": {"path": path}}
