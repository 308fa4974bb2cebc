"""Where a LoadBalancer sends traffic: pools of targets, and routes to them."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, model_validator

from chandlery.model.base import CelRule, Label, LocalRef, Model, Name, Ref
from chandlery.model.parts import LooseLabels, Port
from chandlery.model.rules import absent, extra, lasts, map_list, not_longer, one_of, only_when, set_list
from chandlery.model.scalars import Duration
from chandlery.model.words import HeaderName, HostPattern, HttpPath, KindName, OneLine, Words
from chandlery_kinds.loadbalancer.listeners import RateLimit, Timeout

TargetAddress = Annotated[
    str,
    Words(
        "[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*",
        "must be an IP address or a DNS name, such as 192.0.2.10, 2001:db8::1 or web.example.com",
        253,
    ),
]
StatusCodes = Annotated[
    str,
    Words(
        "[1-5][0-9]{2}(-[1-5][0-9]{2})?(,[1-5][0-9]{2}(-[1-5][0-9]{2})?)*",
        "must be status codes from 100 to 599 or ranges of them, joined by commas, such as 200-399 or 200,204",
        32,
    ),
]
PathText = Annotated[str, Words("[^ \\t-\\r]+", "must be a path or an expression without blanks, such as /api/v1", 512)]


class ServiceTarget(Model):
    """A Service of the same namespace: its endpoints, one by one."""

    name: Annotated[Name, Field(description="Name of the Service.")]


KIND_GROUPS = {
    "Cache": "data.chandlery.dev",
    "Database": "data.chandlery.dev",
    "LoadBalancer": "network.chandlery.dev",
    "Queue": "messaging.chandlery.dev",
    "VirtualMachine": "compute.chandlery.dev",
}
"""Groups of the kinds that need none in a reference."""


class ObjectTarget(Model):
    """Another object of ours in the same namespace: the endpoint in its status, followed as it moves."""

    cel_rules = (
        CelRule(
            rule="has(self.group) || self.kind in [" + ", ".join(f"'{k}'" for k in KIND_GROUPS) + "]",
            message="kinds other than " + ", ".join(KIND_GROUPS) + " need their group",
            field_path=".group",
        ),
    )

    group: Annotated[Name | None, Field(description="API group, for kinds of third parties.")] = None
    kind: Annotated[
        KindName,
        Field(
            description="Kind of the object: Cache, Database, Queue, LoadBalancer, VirtualMachine.",
        ),
    ]
    name: Annotated[Name, Field(description="Name of the object.")]

    @property
    def ref(self) -> Ref:
        return Ref(group=self.group or KIND_GROUPS.get(self.kind, ""), kind=self.kind, name=self.name)


class MachineSelector(Model):
    """All VirtualMachines of the same namespace that have these labels."""

    match_labels: Annotated[LooseLabels, Field(min_length=1, description="Labels that a VirtualMachine must have.")]


class Target(Model):
    """One target, or a group that is found anew whenever it changes."""

    cel_rules = (
        one_of(
            ("address", "service", "object", "machines"),
            "give exactly one of address, service, object or machines",
        ),
        CelRule(
            rule="has(self.port) || has(self.object)",
            message="port is needed with address, service and machines",
            field_path=".port",
        ),
    )

    name: Annotated[Label, Field(description="Name of the target.")]
    address: Annotated[TargetAddress | None, Field(description="IP address or DNS name.")] = None
    service: Annotated[ServiceTarget | None, Field(description="A Service.")] = None
    object: Annotated[ObjectTarget | None, Field(description="Another object of ours.")] = None
    machines: Annotated[MachineSelector | None, Field(description="VirtualMachines by label.")] = None
    port: Annotated[
        Port | None, Field(description="Port of the target. Default for an object: the one in its endpoint.")
    ] = None
    weight: Annotated[
        int,
        Field(ge=0, le=256, description="Share of the traffic against the other targets; 0: drained, no new traffic."),
    ] = 100
    backup: Annotated[bool, Field(description="Gets traffic only when all others are down.")] = False


class Algorithm(StrEnum):
    ROUND_ROBIN = "round-robin"
    LEAST_CONNECTIONS = "least-connections"
    SOURCE = "source"
    URI = "uri"
    RANDOM = "random"
    FIRST = "first"


class HealthCheckType(StrEnum):
    TCP = "tcp"
    HTTP = "http"


class HealthCheck(Model):
    """How a target shows that it is well."""

    cel_rules = (
        only_when("path", "self.type == 'http'", "path needs type http"),
        only_when("host", "self.type == 'http'", "host needs type http"),
        only_when("expectedStatus", "self.type == 'http'", "expectedStatus needs type http"),
        CelRule(
            rule=not_longer("self.timeout", "self.interval"),
            message="timeout can't exceed interval",
            field_path=".timeout",
        ),
    )

    enabled: Annotated[bool, Field(description="Whether targets are checked; without, all count as well.")] = True
    type: Annotated[HealthCheckType, Field(description="tcp: a connection. http: a request.")] = HealthCheckType.TCP
    path: Annotated[HttpPath | None, Field(description="Path to ask for. Default: /.")] = None
    host: Annotated[HostPattern | None, Field(description="Host header of the request.")] = None
    expected_status: Annotated[
        StatusCodes | None,
        Field(
            description="Status codes that count as well: 200-399, 200,204. Default: 200-399.",
        ),
    ] = None
    port: Annotated[Port | None, Field(description="Port to check. Default: the target's.")] = None
    interval: Annotated[
        Duration,
        Field(
            description="Time between checks, 100ms to 1h.",
            json_schema_extra=extra(lasts("100ms", "1h", "a health check's interval must be from 100ms to 1h")),
        ),
    ] = Duration("2s")
    timeout: Annotated[Timeout, Field(description="A check that takes longer has failed.")] = Duration("1s")
    healthy_threshold: Annotated[int, Field(ge=1, le=100, description="Good checks until it counts as well.")] = 2
    unhealthy_threshold: Annotated[int, Field(ge=1, le=100, description="Bad checks until it gets no traffic.")] = 3


class StickinessType(StrEnum):
    COOKIE = "cookie"
    SOURCE_IP = "source-ip"


class Stickiness(Model):
    """A client stays with its target."""

    cel_rules = (only_when("cookieName", "self.type == 'cookie'", "cookieName needs type cookie"),)

    type: Annotated[StickinessType, Field(description="By a cookie (HTTP) or by the client's address.")]
    cookie_name: Annotated[HeaderName | None, Field(description="Name of the cookie. Default: chandlery-target.")] = (
        None
    )
    ttl: Annotated[
        Duration,
        Field(
            description="How long it is remembered, 1s to 168h.",
            json_schema_extra=extra(lasts("1s", "168h", "a stickiness must last from 1s to 168h")),
        ),
    ] = Duration("30m")


class ProxyProtocol(StrEnum):
    NONE = "none"
    V1 = "v1"
    V2 = "v2"


class PoolTls(Model):
    """Encryption towards the targets."""

    verify: Annotated[bool, Field(description="Check the target's certificate.")] = True
    ca_secret: Annotated[LocalRef | None, Field(description="Secret with ca.crt. Default: the system's CAs.")] = None
    server_name: Annotated[HostPattern | None, Field(description="Name to ask for. Default: the request's host.")] = (
        None
    )


class Pool(Model):
    """Targets that share the traffic."""

    name: Annotated[Label, Field(description="Name of the pool.")]
    targets: Annotated[
        tuple[Target, ...],
        Field(max_length=64, description="Targets.", json_schema_extra=map_list("name")),
    ] = ()
    algorithm: Annotated[Algorithm, Field(description="How a target is chosen.")] = Algorithm.ROUND_ROBIN
    health_check: Annotated[HealthCheck, Field(description="How targets show that they are well.")] = HealthCheck()
    stickiness: Annotated[Stickiness | None, Field(description="Clients stay with their target. Default: no.")] = None
    slow_start: Annotated[
        Duration | None,
        Field(
            description="A target that came back gets its full share only after this time, at most 1h.",
            json_schema_extra=extra(lasts("", "1h", "slowStart must be 1h or less")),
        ),
    ] = None
    connection_limit: Annotated[int | None, Field(ge=1, le=1_000_000, description="Connections to each target.")] = None
    proxy_protocol: Annotated[ProxyProtocol, Field(description="Tell targets the client's address that way.")] = (
        ProxyProtocol.NONE
    )
    tls: Annotated[PoolTls | None, Field(description="Encrypt towards the targets. Default: no.")] = None


class PathMatchType(StrEnum):
    PREFIX = "Prefix"
    EXACT = "Exact"
    REGEX = "Regex"


class PathMatch(Model):
    """Which paths."""

    cel_rules = (
        CelRule(
            rule="self.type == 'Regex' || self.value.startsWith('/')",
            message="a path begins with /",
            field_path=".value",
        ),
    )

    type: Annotated[PathMatchType, Field(description="Prefix ends at a / or at the path's end.")] = PathMatchType.PREFIX
    value: Annotated[PathText, Field(description="The path.")]

    @model_validator(mode="after")
    def _a_good_regex(self) -> PathMatch:
        if self.type is PathMatchType.REGEX:
            try:
                re.compile(self.value)
            except re.error as error:
                raise ValueError(f"value is no regular expression: {error}") from None
        return self


class HeaderMatch(Model):
    name: Annotated[HeaderName, Field(description="Name of the header.")]
    value: Annotated[OneLine, Field(description="Its exact value.")]


class HttpMethod(StrEnum):
    GET = "GET"
    HEAD = "HEAD"
    POST = "POST"
    PUT = "PUT"
    PATCH = "PATCH"
    DELETE = "DELETE"
    OPTIONS = "OPTIONS"
    CONNECT = "CONNECT"
    TRACE = "TRACE"


class RouteBackend(Model):
    """A share of a route's traffic."""

    pool: Annotated[Label, Field(description="Name of the pool.")]
    weight: Annotated[int, Field(ge=0, le=1000, description="Share against the other backends.")] = 100


class Redirect(Model):
    """Send the client elsewhere instead of to a pool."""

    cel_rules = (
        CelRule(
            rule="has(self.scheme) || has(self.host) || has(self.path)",
            message="give scheme, host or path: without any of them it leads to itself",
        ),
    )

    scheme: Annotated[Literal["http", "https"] | None, Field(description="http or https.")] = None
    host: Annotated[HostPattern | None, Field(description="Host to go to. Default: the request's.")] = None
    path: Annotated[HttpPath | None, Field(description="Path to go to. Default: the request's.")] = None
    status: Annotated[
        int,
        Field(
            ge=301,
            le=308,
            description="301, 302, 303, 307 or 308.",
            json_schema_extra=extra(
                CelRule(rule="self in [301, 302, 303, 307, 308]", message="status must be 301, 302, 303, 307 or 308")
            ),
        ),
    ] = 302


class HeaderValue(Model):
    name: Annotated[HeaderName, Field(description="Name of the header.")]
    value: Annotated[OneLine, Field(description="Its value.")]


class HeaderChanges(Model):
    set: Annotated[
        tuple[HeaderValue, ...], Field(max_length=16, description="Set these.", json_schema_extra=map_list("name"))
    ] = ()
    remove: Annotated[
        tuple[HeaderName, ...], Field(max_length=16, description="Take these out.", json_schema_extra=set_list())
    ] = ()


class Route(Model):
    """Which requests go where.

    The most exact one wins: host before path; Exact before the longest Prefix before Regex.
    """

    cel_rules = (
        CelRule(
            rule=f"{absent('backends')} == has(self.redirect)",
            message="give either backends or redirect",
        ),
        CelRule(
            rule=f"{absent('backends')} || self.backends.exists(b, b.weight > 0)",
            message="at least one backend needs a weight above 0",
            field_path=".backends",
        ),
        only_when(
            "replacePrefix",
            "has(self.path) && self.path.type == 'Prefix' && !has(self.redirect)",
            "replacePrefix needs a path of type Prefix and backends: it is what the target sees in place of that path",
        ),
    )

    name: Annotated[Label, Field(description="Name of the route.")]
    listeners: Annotated[
        tuple[Label, ...],
        Field(
            max_length=16,
            description="Listeners that it is for; empty: all with HTTP, HTTPS or TLS.",
            json_schema_extra=set_list(),
        ),
    ] = ()
    hostnames: Annotated[
        tuple[HostPattern, ...],
        Field(max_length=16, description="Host names; empty: all.", json_schema_extra=set_list()),
    ] = ()
    path: Annotated[PathMatch | None, Field(description="Paths. Default: all.")] = None
    headers: Annotated[
        tuple[HeaderMatch, ...],
        Field(max_length=8, description="Headers that must be there.", json_schema_extra=map_list("name")),
    ] = ()
    methods: Annotated[
        tuple[HttpMethod, ...], Field(max_length=9, description="Methods; empty: all.", json_schema_extra=set_list())
    ] = ()
    backends: Annotated[
        tuple[RouteBackend, ...],
        Field(max_length=16, description="Pools that share the traffic by weight.", json_schema_extra=map_list("pool")),
    ] = ()
    redirect: Annotated[Redirect | None, Field(description="Send the client elsewhere.")] = None
    replace_prefix: Annotated[
        HttpPath | None, Field(description="What the target sees in place of the matched prefix.")
    ] = None
    request_headers: Annotated[HeaderChanges, Field(description="Changes to the request.")] = HeaderChanges()
    response_headers: Annotated[HeaderChanges, Field(description="Changes to the answer.")] = HeaderChanges()
    timeout: Annotated[Timeout | None, Field(description="Time for the whole answer. Default: timeouts.server.")] = None
    rate_limit: Annotated[RateLimit | None, Field(description="How much each client may ask for.")] = None
