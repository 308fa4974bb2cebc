"""What the Gateway API can't say, by name: a load balancer with a class of that kind refuses it."""

from __future__ import annotations

from collections.abc import Iterator

from chandlery.driver.protocol import Unsupported
from chandlery.model.parts import ExposureType, Placement, Resources, TlsVersion
from chandlery_kinds.loadbalancer.listeners import Listener, Protocol, Timeouts
from chandlery_kinds.loadbalancer.model import LoadBalancerSpec
from chandlery_kinds.loadbalancer.pools import Algorithm, HealthCheck, Pool, ProxyProtocol, Route

_WHY = "the Gateway API can't say it; use a class without the parameter gateway (HAProxy)"


def limits(spec: LoadBalancerSpec) -> Iterator[Unsupported]:
    """Everything in a spec that can't be honoured by a Gateway."""
    whole = {
        "replicas": spec.replicas != 1,
        "timeouts": spec.timeouts != Timeouts(),
        "rateLimit": spec.rate_limit is not None,
        "accessLog": spec.access_log is not None and spec.access_log.enabled,
        "configuration": bool(spec.configuration),
        "metrics": spec.metrics is not None and spec.metrics.enabled,
        "placement": spec.placement != Placement(),
        "resources": spec.resources != Resources(),
        "exposure.nodePort": spec.exposure.node_port is not None,
        "exposure.loadBalancerClass": spec.exposure.load_balancer_class is not None,
        "exposure.allowedCidrs": bool(spec.exposure.allowed_cidrs),
    }
    yield from (Unsupported(f"spec.{field}", "set", _WHY) for field, given in whole.items() if given)
    if spec.exposure.type is ExposureType.NODE_PORT:
        yield Unsupported("spec.exposure.type", "NodePort", _WHY)
    for listener in spec.listeners:
        yield from _listener(spec, listener)
    for pool in spec.pools:
        yield from _pool(pool)
    for route in spec.routes:
        yield from _route(spec, route)


def _listener(spec: LoadBalancerSpec, x: Listener) -> Iterator[Unsupported]:
    at = f"spec.listeners[{x.name}]"
    given = {
        "allowedCidrs": bool(x.allowed_cidrs),
        "connectionLimit": x.connection_limit is not None,
        "rateLimit": x.rate_limit is not None,
        "acceptProxyProtocol": x.accept_proxy_protocol,
    }
    tls = x.tls
    if tls is not None:
        given |= {
            "tls.minimumVersion": tls.minimum_version is not TlsVersion.V1_2,
            "tls.clientCaSecret": tls.client_ca_secret is not None,
            "tls.http2": not tls.http2,
        }
    yield from (Unsupported(f"{at}.{field}", "set", _WHY) for field, there in given.items() if there)
    if x.protocol is Protocol.HTTPS and (tls is None or not tls.certificate_secrets):
        why = "a Gateway needs a certificate of yours: name a Secret of type kubernetes.io/tls"
        yield Unsupported(f"{at}.tls.certificateSecrets", "unset", why)
    if x.protocol is Protocol.TLS and not x.hostnames:
        mine = [r for r in spec.routes if not r.listeners or x.name in r.listeners]
        if x.pool is not None or any(not r.hostnames for r in mine):
            why = "a Gateway passes TLS through by server name only: list the host names"
            yield Unsupported(f"{at}.hostnames", "unset", why)


def _pool(pool: Pool) -> Iterator[Unsupported]:
    at = f"spec.pools[{pool.name}]"
    given = {
        "algorithm": pool.algorithm is not Algorithm.ROUND_ROBIN,
        "healthCheck": pool.health_check != HealthCheck(),
        "stickiness": pool.stickiness is not None,
        "slowStart": pool.slow_start is not None,
        "connectionLimit": pool.connection_limit is not None,
        "proxyProtocol": pool.proxy_protocol is not ProxyProtocol.NONE,
        "tls": pool.tls is not None,
    }
    yield from (Unsupported(f"{at}.{field}", "set", _WHY) for field, there in given.items() if there)
    for target in pool.targets:
        if target.address is not None:
            why = "a Gateway leads to Services only: make a Service (with an EndpointSlice) for it, and name that"
            yield Unsupported(f"{at}.targets[{target.name}].address", target.address, why)
        if target.backup:
            yield Unsupported(f"{at}.targets[{target.name}].backup", "true", _WHY)


def _route(spec: LoadBalancerSpec, route: Route) -> Iterator[Unsupported]:
    at = f"spec.routes[{route.name}]"
    if route.rate_limit is not None:
        yield Unsupported(f"{at}.rateLimit", "set", _WHY)
    if len(route.hostnames) > 16:
        yield Unsupported(f"{at}.hostnames", f"{len(route.hostnames)} names", "a route there has 16 at most")
    passed = [x for x in spec.listeners if x.protocol is Protocol.TLS and x.name in (route.listeners or (x.name,))]
    content = route.path or route.headers or route.methods or route.redirect or route.replace_prefix or route.timeout
    if passed and content and route.listeners:
        why = f"the listener {passed[0].name} passes TLS through: nothing inside of it can be seen"
        yield Unsupported(at, "set", why)
