"""HAProxy's configuration from a spec. Pure; shared by every driver that runs it.

A request's way through a frontend: refused by network or rate first; then the most exact route puts its name into
txn.route; what the route changes is done under that name; a random number splits by weight. Source: the HAProxy 2.8
configuration manual.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from chandlery_kinds.loadbalancer.listeners import Listener, LogFormat, Protocol, RateLimit
from chandlery_kinds.loadbalancer.model import LoadBalancerSpec
from chandlery_kinds.loadbalancer.pools import (
    Algorithm,
    HealthCheckType,
    PathMatchType,
    Pool,
    ProxyProtocol,
    Route,
    StickinessType,
)
from chandlery_kinds.loadbalancer.targets import Server

_BALANCE = {
    Algorithm.ROUND_ROBIN: "roundrobin",
    Algorithm.LEAST_CONNECTIONS: "leastconn",
    Algorithm.SOURCE: "source",
    Algorithm.URI: "uri",
    Algorithm.RANDOM: "random",
    Algorithm.FIRST: "first",
}
_PORTS = {"http": 80, "https": 443}
_RANK = {PathMatchType.EXACT: 0, PathMatchType.PREFIX: 1, PathMatchType.REGEX: 2}
MARK = "CHANDLERY_CONFIG"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the spec doesn't say: where files are and where to listen."""

    bind: str = "127.0.0.1"
    socket: str = "unix@run/admin.sock"
    certificates: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Listener -> PEM files with certificate and key."""
    client_cas: Mapping[str, str] = field(default_factory=dict)
    """Listener -> file of the CA that client certificates come from."""
    pool_cas: Mapping[str, str] = field(default_factory=dict)
    """Pool -> file of the CA of its targets."""
    stats_port: int | None = None
    log_target: str = "stdout"


def render(spec: LoadBalancerSpec, servers: Mapping[str, Sequence[Server]], where: Surroundings) -> str:
    """The whole file. A mark in it tells which configuration is at work; servers come and go without a new mark."""
    mark = fingerprint(_body(spec, {}, where))
    return f"global\n    setenv {MARK} {mark}\n{_body(spec, servers, where)}"


def _body(spec: LoadBalancerSpec, servers: Mapping[str, Sequence[Server]], where: Surroundings) -> str:
    text = _global(spec, where) + _defaults(spec) + _tables(spec)
    for listener in spec.listeners:
        text += _frontend(spec, listener, where)
    for name, mode in sorted(backends_in_use(spec)):
        pool = next(p for p in spec.pools if p.name == name)
        text += _backend(pool, mode, servers.get(name, ()), where)
    return text


def mark_of(text: str) -> str:
    """The mark of a rendered configuration: the same for any servers."""
    found = re.search(rf"setenv {MARK} (\S+)", text)
    return found[1] if found else ""


def fingerprint(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def backend_name(pool: str, mode: str) -> str:
    return f"pool_{pool}_{mode}"


def backends_in_use(spec: LoadBalancerSpec) -> set[tuple[str, str]]:
    """(pool, mode) of every backend that a listener can send to."""
    found = set()
    for listener in spec.listeners:
        mode = _mode(listener)
        if listener.pool is not None:
            found.add((listener.pool, mode))
        for route in routes_of(spec, listener):
            found |= {(backend.pool, mode) for backend in route.backends}
    return found


def _mode(listener: Listener) -> str:
    return "http" if listener.protocol in (Protocol.HTTP, Protocol.HTTPS) else "tcp"


def routes_of(spec: LoadBalancerSpec, listener: Listener) -> list[Route]:
    """The routes of a listener, most exact first."""
    if listener.protocol is Protocol.TCP:
        return []
    found = [route for route in spec.routes if not route.listeners or listener.name in route.listeners]
    return sorted(found, key=_exactness)


def _exactness(route: Route) -> tuple[int, int, int, int, int, str]:
    """Host before path; an exact host before a wildcard; Exact before the longest Prefix before Regex."""
    host = 2 if not route.hostnames else 1 if any(h.startswith("*") for h in route.hostnames) else 0
    path = 3 if route.path is None else _RANK[route.path.type]
    length = -len(route.path.value) if route.path else 0
    return host, path, length, -len(route.headers), -len(route.methods), route.name


# -- sections


def _global(spec: LoadBalancerSpec, where: Surroundings) -> str:
    lines = [
        f"stats socket {where.socket} mode 600 level admin expose-fd listeners",
        "stats timeout 30s",
        "hard-stop-after 10m",
        "tune.ssl.default-dh-param 2048",
        "ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets",
    ]
    if spec.access_log is not None and spec.access_log.enabled:
        lines.append(f"log {where.log_target} format raw local0 info")
    lines += [f"{name} {value}" for name, value in sorted(spec.configuration.items())]
    return _lines(lines)


def _defaults(spec: LoadBalancerSpec) -> str:
    times = spec.timeouts
    return "defaults\n" + _lines(
        [
            "mode tcp",
            "log global",
            "option dontlognull",
            "option splice-auto",
            f"timeout connect {ms(times.connect.seconds)}",
            f"timeout client {ms(times.client.seconds)}",
            f"timeout server {ms(times.server.seconds)}",
            f"timeout queue {ms(times.queue.seconds)}",
            f"timeout http-request {ms(times.http_request.seconds)}",
            f"timeout http-keep-alive {ms(times.keep_alive.seconds)}",
            f"timeout tunnel {ms(times.tunnel.seconds)}",
            "retries 3",
            "option redispatch",
            "default-server init-addr last,libc,none",
        ]
    )


def ms(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}ms"


def _lines(lines: Sequence[str]) -> str:
    return "".join(f"    {line}\n" for line in lines)


def _tables(spec: LoadBalancerSpec) -> str:
    """Tables for rate limits: of all listeners together, of each listener, of each route."""
    text = ""
    if spec.rate_limit is not None:
        text += _table("rate_all", spec.rate_limit)
    for listener in spec.listeners:
        if listener.rate_limit is not None:
            text += _table(f"rate_listener_{listener.name}", listener.rate_limit)
    for route in spec.routes:
        if route.rate_limit is not None:
            text += _table(f"rate_route_{route.name}", route.rate_limit)
    return text


def _table(name: str, limit: RateLimit) -> str:
    key = "string len 128" if limit.header else "ipv6"
    period = ms(limit.period.seconds)
    store = f"http_req_rate({period}),conn_rate({period})"
    return f"backend {name}\n    stick-table type {key} size 100k expire {period} store {store}\n"


def _frontend(spec: LoadBalancerSpec, listener: Listener, where: Surroundings) -> str:
    http = _mode(listener) == "http"
    lines = [f"bind {where.bind}:{listener.port}{_bind_options(listener, where)}", f"mode {'http' if http else 'tcp'}"]
    if listener.connection_limit is not None:
        lines.append(f"maxconn {listener.connection_limit}")
    lines += _log(spec, http=http)
    if listener.allowed_cidrs:
        networks = " ".join(listener.allowed_cidrs)
        lines.append(f"tcp-request {'content' if http else 'connection'} reject if !{{ src {networks} }}")
    lines += _http(spec, listener) if http else _tcp(spec, listener)
    return f"frontend {listener.name}\n" + _lines(lines)


def _bind_options(listener: Listener, where: Surroundings) -> str:
    words = []
    if listener.accept_proxy_protocol:
        words.append("accept-proxy")
    if listener.protocol is Protocol.HTTPS:
        words.append("ssl")
        words += [f"crt {path}" for path in where.certificates.get(listener.name, ())]
        tls = listener.tls
        words.append("alpn h2,http/1.1" if tls is None or tls.http2 else "alpn http/1.1")
        if tls is not None:
            words.append(f"ssl-min-ver TLSv{tls.minimum_version.value}")
            if listener.name in where.client_cas:
                need = "required" if tls.require_client_certificate else "optional"
                words.append(f"ca-file {where.client_cas[listener.name]} verify {need}")
    return "".join(f" {word}" for word in words)


def _log(spec: LoadBalancerSpec, *, http: bool) -> list[str]:
    log = spec.access_log
    if log is None or not log.enabled:
        return []
    lines = []
    if http:
        for header in log.headers:
            lines.append(f"http-request capture req.hdr({header}) len 256")
    if log.format is LogFormat.TEXT:
        lines.append("option httplog" if http else "option tcplog")
    else:
        fields = {
            "time": "%tr" if http else "%t",
            "client": "%ci:%cp",
            "listener": "%f",
            "pool": "%b",
            "target": "%s",
            "seconds": "%Ta" if http else "%Tt",
            "bytes": "%B",
            "termination": "%ts",
        }
        if http:
            fields |= {"method": "%HM", "path": "%HP", "status": "%ST", "route": "%[var(txn.route)]"}
            fields |= {f"header_{h.lower()}": f"%[capture.req.hdr({i}),json(utf8s)]" for i, h in enumerate(log.headers)}
        quoted = ",".join(f'\\"{key}\\":\\"{value}\\"' for key, value in fields.items())
        lines.append(f'log-format "{{{quoted}}}"')
    if log.sample_percent < 100:
        verb = "http-request" if http else "tcp-request content"
        lines.append(f"{verb} set-log-level silent if {{ rand(100) ge {log.sample_percent} }}")
    return lines


# -- HTTP


def _http(spec: LoadBalancerSpec, listener: Listener) -> list[str]:
    lines = ["option forwardfor", "http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]"]
    if spec.rate_limit is not None:
        lines += _limit(spec.rate_limit, "rate_all", 0)
    if listener.rate_limit is not None:
        lines += _limit(listener.rate_limit, f"rate_listener_{listener.name}", 1)
    if listener.hostnames:
        lines.append(f"http-request deny deny_status 404 if !{{ {host_condition(listener.hostnames)} }}")
    if listener.redirect_to_https:
        where = f"https://%[req.hdr(host),host_only]{port_of(spec, 'https', listener)}%[pathq]"
        lines.append(f'http-request redirect location "{where}" code 301')
        return lines
    routes = routes_of(spec, listener)
    for route in routes:
        conditions = _route_conditions(route)
        lines.append(f"http-request set-var(txn.route) str({route.name}) if !{{ var(txn.route) -m found }}{conditions}")
    if any(len(route.backends) > 1 for route in routes):
        lines.append("http-request set-var(txn.pick) rand(1000000)")
    for route in routes:
        lines += _route_actions(spec, listener, route)
    for route in routes:
        lines += _picks(route, "http")
    if listener.pool is not None:
        lines.append(f"default_backend {backend_name(listener.pool, 'http')}")
    else:
        lines.append(
            'http-request return status 404 content-type text/plain string "no route for this request\\n" '
            "if !{ var(txn.route) -m found }"
        )
    return lines


def port_of(spec: LoadBalancerSpec, scheme: str, listener: Listener) -> str:
    """With its colon, the port where this scheme serves what comes to a listener of another; "" for the scheme's own.

    Of several listeners it is the first that shares a host name with this one; without any, the scheme's own port.
    """
    there = [x for x in spec.listeners if x.protocol.value.lower() == scheme]
    names = set(listener.hostnames)
    there.sort(key=lambda x: bool(names and x.hostnames) and names.isdisjoint(x.hostnames))
    return "" if not there or there[0].port == _PORTS[scheme] else f":{there[0].port}"


def _limit(limit: RateLimit, table: str, slot: int, condition: str = "") -> list[str]:
    key = f"req.hdr({limit.header})" if limit.header else "src"
    extra = f" {condition}" if condition else ""
    return [
        f"http-request track-sc{slot} {key} table {table}" + (f" if{extra}" if extra else ""),
        f"http-request deny deny_status 429 if {{ sc{slot}_http_req_rate({table}) gt {limit.requests} }}{extra}",
    ]


def host_condition(names: Sequence[str], fetch: str = "req.hdr(host),field(1,:),lower") -> str:
    """A condition on host names; `*.` stands for any one part."""
    patterns = []
    for name in names:
        if name.startswith("*."):
            patterns.append(r"^[^.]+\." + re.escape(name[2:].lower()) + "$")
        else:
            patterns.append("^" + re.escape(name.lower()) + "$")
    return f"{fetch} -m reg {' '.join(patterns)}"


def _route_conditions(route: Route) -> str:
    words = []
    if route.hostnames:
        words.append(f"{{ {host_condition(route.hostnames)} }}")
    if route.path is not None:
        value = route.path.value
        match route.path.type:
            case PathMatchType.EXACT:
                words.append(f"{{ path -m str {quote(value)} }}")
            case PathMatchType.PREFIX if value.rstrip("/"):
                words.append(f"{{ path -m reg {quote('^' + re.escape(value.rstrip('/')) + '(/.*)?$')} }}")
            case PathMatchType.REGEX:
                words.append(f"{{ path -m reg {quote(value)} }}")
    for header in route.headers:
        words.append(f"{{ req.hdr({header.name}) -m str {quote(header.value)} }}")
    if route.methods:
        words.append(f"{{ method {' '.join(m.value for m in route.methods)} }}")
    return "".join(f" {word}" for word in words)


def quote(value: str) -> str:
    """A word for the configuration: strong quotes keep everything but themselves."""
    return "'" + value.replace("'", "'\\''") + "'"


def _format(value: str) -> str:
    """Text inside of a log-format string: % and spaces mean themselves."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "\\$")
    return f'"{escaped}"'


def _route_actions(spec: LoadBalancerSpec, listener: Listener, route: Route) -> list[str]:
    chosen = f"{{ var(txn.route) -m str {route.name} }}"
    lines = []
    if route.rate_limit is not None:
        lines += _limit(route.rate_limit, f"rate_route_{route.name}", 2, chosen)
    for header in route.request_headers.set:
        lines.append(f"http-request set-header {header.name} {_format(header.value)} if {chosen}")
    for name in route.request_headers.remove:
        lines.append(f"http-request del-header {name} if {chosen}")
    for header in route.response_headers.set:
        lines.append(f"http-response set-header {header.name} {_format(header.value)} if {chosen}")
    for name in route.response_headers.remove:
        lines.append(f"http-response del-header {name} if {chosen}")
    if route.timeout is not None:
        lines.append(f"http-request set-timeout server {ms(route.timeout.seconds)} if {chosen}")
    if route.redirect is not None:
        redirect = route.redirect
        scheme = redirect.scheme or "%[ssl_fc,iif(https,http)]"
        host = redirect.host or "%[req.hdr(host)]"
        if redirect.scheme not in (None, listener.protocol.value.lower()) and not redirect.host:
            host = f"%[req.hdr(host),host_only]{port_of(spec, scheme, listener)}"
        path = redirect.path or "%[pathq]"
        lines.append(f'http-request redirect location "{scheme}://{host}{path}" code {redirect.status} if {chosen}')
    if route.replace_prefix is not None and route.path is not None:
        prefix, new = re.escape(route.path.value.rstrip("/")), route.replace_prefix.rstrip("/")
        lines.append(f"http-request replace-path '^{prefix}/?(.*)$' '{new}/\\1' if {chosen}")
    return lines


def _picks(route: Route, mode: str) -> list[str]:
    """use_backend lines; the last one takes what is left."""
    chosen = f"{{ var(txn.route) -m str {route.name} }}"
    shares = [backend for backend in route.backends if backend.weight > 0]
    total, passed = sum(backend.weight for backend in shares), 0
    lines = []
    for backend in shares:
        passed += backend.weight
        name = backend_name(backend.pool, mode)
        if passed == total:
            lines.append(f"use_backend {name} if {chosen}")
        else:
            limit = round(1_000_000 * passed / total)
            lines.append(f"use_backend {name} if {chosen} {{ var(txn.pick) -m int lt {limit} }}")
    return lines


# -- TCP and TLS


def _tcp(spec: LoadBalancerSpec, listener: Listener) -> list[str]:
    lines = []
    for limit, table, slot in (
        (spec.rate_limit, "rate_all", 0),
        (listener.rate_limit, f"rate_listener_{listener.name}", 1),
    ):
        if limit is not None:
            lines.append(f"tcp-request connection track-sc{slot} src table {table}")
            lines.append(f"tcp-request connection reject if {{ sc{slot}_conn_rate({table}) gt {limit.requests} }}")
    if listener.protocol is Protocol.TLS:
        lines += ["tcp-request inspect-delay 5s"]
        if listener.hostnames:
            allowed = host_condition(listener.hostnames, "req.ssl_sni,lower")
            lines.append(f"tcp-request content reject if {{ req.ssl_hello_type 1 }} !{{ {allowed} }}")
        routes = routes_of(spec, listener)
        for route in routes:
            host = f" {{ {host_condition(route.hostnames, 'req.ssl_sni,lower')} }}" if route.hostnames else ""
            lines.append(
                f"tcp-request content set-var(txn.route) str({route.name}) if {{ req.ssl_hello_type 1 }} "
                f"!{{ var(txn.route) -m found }}{host}"
            )
        if any(len(route.backends) > 1 for route in routes):
            lines.append("tcp-request content set-var(txn.pick) rand(1000000) if { req.ssl_hello_type 1 }")
        lines.append("tcp-request content accept if { req.ssl_hello_type 1 }")
        for route in routes:
            lines += _picks(route, "tcp")
    if listener.pool is not None:
        lines.append(f"default_backend {backend_name(listener.pool, 'tcp')}")
    return lines


# -- backends


def _backend(pool: Pool, mode: str, servers: Sequence[Server], where: Surroundings) -> str:
    lines = [f"mode {mode}", f"balance {_BALANCE[pool.algorithm]}"]
    if pool.algorithm in (Algorithm.SOURCE, Algorithm.URI):
        lines.append("hash-type consistent")  # few clients move when a target comes or goes
    check = pool.health_check
    if check.enabled:
        lines.append(f"timeout check {ms(check.timeout.seconds)}")
        if check.type is HealthCheckType.HTTP:
            host = f" hdr host {quote(check.host)}" if check.host else ""
            lines.append("option httpchk")
            lines.append(
                f"http-check send meth GET uri {quote(check.path or '/')} ver HTTP/1.1{host or ' hdr host localhost'}"
            )
            lines.append(f"http-check expect status {check.expected_status or '200-399'}")
    sticky = pool.stickiness
    if sticky is not None and sticky.type is StickinessType.COOKIE and mode == "http":
        name = sticky.cookie_name or "chandlery-target"
        lines.append(f"cookie {name} insert indirect nocache httponly maxlife {round(sticky.ttl.seconds)}s")
    elif sticky is not None:
        lines.append(f"stick-table type ipv6 size 100k expire {ms(sticky.ttl.seconds)}")
        lines.append("stick on src")
    options = server_options(pool, where)
    if options:
        lines.append(f"default-server {options}")  # also what makes the mark change when these do
    lines += [f"server {server.id} {server.address} {own_options(pool, server)}" for server in servers]
    return f"backend {backend_name(pool.name, mode)}\n" + _lines(lines)


def server_options(pool: Pool, where: Surroundings) -> str:
    """The words that all servers of a pool share; also those of `add server` at run time."""
    words = []
    check = pool.health_check
    if check.enabled:
        words.append(
            f"check inter {ms(check.interval.seconds)} fall {check.unhealthy_threshold} rise {check.healthy_threshold}"
        )
        if check.port is not None:
            words.append(f"port {check.port}")
    if pool.connection_limit is not None:
        words.append(f"maxconn {pool.connection_limit}")
    if pool.slow_start is not None:
        words.append(f"slowstart {ms(pool.slow_start.seconds)}")
    if pool.proxy_protocol is not ProxyProtocol.NONE:
        words.append("send-proxy" if pool.proxy_protocol is ProxyProtocol.V1 else "send-proxy-v2")
    if pool.tls is not None:
        words.append("ssl")
        words.append("verify required" if pool.tls.verify else "verify none")
        if pool.tls.verify:
            words.append(f"ca-file {where.pool_cas.get(pool.name, '@system-ca')}")
        words.append(f"sni str({pool.tls.server_name})" if pool.tls.server_name else "sni req.hdr(host),field(1,:)")
        if pool.tls.verify and pool.tls.server_name:
            words.append(f"verifyhost {pool.tls.server_name}")
    return " ".join(words)


def own_options(pool: Pool, server: Server) -> str:
    """The words of one server."""
    words = [f"weight {server.weight}"]
    if server.backup:
        words.append("backup")
    if pool.stickiness is not None and pool.stickiness.type is StickinessType.COOKIE:
        words.append(f"cookie {fingerprint(server.id)}")
    return " ".join(words)


def live_addable(pool: Pool) -> bool:
    """Whether HAProxy 2.8 can add servers to this pool while it runs: not with cookies or a slow start."""
    cookie = pool.stickiness is not None and pool.stickiness.type is StickinessType.COOKIE
    return not cookie and pool.slow_start is None
