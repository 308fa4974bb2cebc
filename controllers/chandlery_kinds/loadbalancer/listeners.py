"""Where a LoadBalancer accepts connections: listeners, timeouts, rate limits, access log, address."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from chandlery.model.base import CelRule, Label, LocalRef, Model
from chandlery.model.parts import Port, TlsVersion
from chandlery.model.rules import absent, extra, lasts, only_when, set_list
from chandlery.model.scalars import Address, Cidr, Duration
from chandlery.model.words import HeaderName, HostPattern


class Protocol(StrEnum):
    TCP = "TCP"
    HTTP = "HTTP"
    HTTPS = "HTTPS"
    TLS = "TLS"


class RateLimit(Model):
    """How much each client may ask for. More is refused: 429 for HTTP, a closed connection else."""

    requests: Annotated[
        int, Field(ge=1, le=1_000_000, description="Requests (HTTP) or connections (TCP, TLS) within the period.")
    ]
    period: Annotated[
        Duration,
        Field(
            description="Length of the period, 1s to 1h.",
            json_schema_extra=extra(lasts("1s", "1h", "a rate limit's period must be from 1s to 1h")),
        ),
    ] = Duration("1s")
    header: Annotated[
        HeaderName | None,
        Field(
            description="Tell clients apart by this request header. Default: by their address.",
        ),
    ] = None


class ListenerTls(Model):
    """How a HTTPS listener encrypts. Without certificates one is made by a CA of the object's own."""

    cel_rules = (
        CelRule(
            rule="!self.requireClientCertificate || has(self.clientCaSecret)",
            message="requireClientCertificate needs clientCaSecret, the CA that signs the clients' certificates",
            field_path=".clientCaSecret",
        ),
    )

    certificate_secrets: Annotated[
        tuple[LocalRef, ...],
        Field(
            max_length=64,
            description="Secrets of type kubernetes.io/tls; the one that fits the client's server name is used, "
            "else the first.",
            json_schema_extra=extra(**{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}),
        ),
    ] = ()
    minimum_version: Annotated[TlsVersion, Field(description="Oldest TLS version that is accepted.")] = TlsVersion.V1_2
    client_ca_secret: Annotated[
        LocalRef | None, Field(description="Secret with ca.crt, the CA that clients' certificates must come from.")
    ] = None
    require_client_certificate: Annotated[bool, Field(description="Refuse clients without a certificate.")] = False
    http2: Annotated[bool, Field(description="Offer HTTP/2.")] = True


class Listener(Model):
    """A port that accepts connections."""

    cel_rules = (
        only_when(
            "tls", "self.protocol == 'HTTPS'", "tls needs protocol HTTPS; protocol TLS passes encryption through"
        ),
        CelRule(
            rule=f"{absent('hostnames')} || self.protocol != 'TCP'",
            message="protocol TCP knows no host names: use HTTP, HTTPS or TLS, or leave hostnames out",
            field_path=".hostnames",
        ),
        CelRule(
            rule="!self.redirectToHttps || self.protocol == 'HTTP'",
            message="redirectToHttps needs protocol HTTP",
            field_path=".redirectToHttps",
        ),
        CelRule(
            rule="self.protocol != 'TCP' || has(self.pool)",
            message="a TCP listener needs pool: it has no routes",
            field_path=".pool",
        ),
        CelRule(
            rule="!self.redirectToHttps || !has(self.pool)",
            message="a listener that redirects to HTTPS needs no pool",
            field_path=".pool",
        ),
    )

    name: Annotated[Label, Field(description="Name of the listener.")]
    port: Annotated[Port, Field(description="TCP port that it listens on.")]
    protocol: Annotated[
        Protocol,
        Field(
            description="TCP: bytes. HTTP. HTTPS: HTTP, TLS ends here. TLS: bytes, TLS ends at the target, chosen "
            "by server name."
        ),
    ]
    hostnames: Annotated[
        tuple[HostPattern, ...],
        Field(
            max_length=64,
            description="Host names that it answers for; `*.` at the start stands for any one part; empty: all.",
            json_schema_extra=set_list(),
        ),
    ] = ()
    pool: Annotated[Label | None, Field(description="Pool for whatever no route takes. Default: 404, or closed.")] = (
        None
    )
    tls: Annotated[ListenerTls | None, Field(description="How it encrypts (HTTPS).")] = None
    redirect_to_https: Annotated[bool, Field(description="Answer each request with a redirect to https://.")] = False
    allowed_cidrs: Annotated[
        tuple[Cidr, ...],
        Field(max_length=64, description="Networks that may connect; empty: all.", json_schema_extra=set_list()),
    ] = ()
    connection_limit: Annotated[int | None, Field(ge=1, le=1_000_000, description="Connections at once.")] = None
    rate_limit: Annotated[RateLimit | None, Field(description="How much each client may ask for.")] = None
    accept_proxy_protocol: Annotated[
        bool,
        Field(description="Expect the PROXY protocol from a load balancer in front, and trust its client address."),
    ] = False


Timeout = Annotated[
    Duration, Field(json_schema_extra=extra(lasts("1ms", "168h", "a timeout must be from 1ms to 168h")))
]
"""No end at all is no timeout: what hangs would hold its connection for ever."""


class Timeouts(Model):
    """When to give up."""

    connect: Annotated[Timeout, Field(description="Connecting to a target.")] = Duration("5s")
    client: Annotated[Timeout, Field(description="The client says nothing.")] = Duration("50s")
    server: Annotated[Timeout, Field(description="The target says nothing.")] = Duration("50s")
    queue: Annotated[Timeout, Field(description="Waiting for a free connection to a target.")] = Duration("30s")
    http_request: Annotated[Timeout, Field(description="The request's head is incomplete.")] = Duration("10s")
    keep_alive: Annotated[Timeout, Field(description="Between two requests.")] = Duration("60s")
    tunnel: Annotated[Timeout, Field(description="WebSockets and TCP in both directions.")] = Duration("1h")


class LogFormat(StrEnum):
    JSON = "json"
    TEXT = "text"


class AccessLog(Model):
    """One line per request or connection."""

    enabled: Annotated[bool, Field(description="Write the log.")] = True
    format: Annotated[LogFormat, Field(description="json or text.")] = LogFormat.JSON
    sample_percent: Annotated[int, Field(ge=1, le=100, description="Share of the requests that are logged.")] = 100
    headers: Annotated[
        tuple[HeaderName, ...],
        Field(max_length=16, description="Request headers to log.", json_schema_extra=set_list()),
    ] = ()


class StableAddress(Model):
    """An address that survives recreation of the LoadBalancer."""

    ip: Annotated[Address | None, Field(description="The address wanted. Default: one is chosen and kept.")] = None
    retain: Annotated[bool, Field(description="Keep the address for an object of the same name after deletion.")] = True
