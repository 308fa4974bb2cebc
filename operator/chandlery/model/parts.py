"""Parts of a spec that several kinds share: storage, TLS, exposure, placement, metrics, maintenance, rotation.

Backup and restore are in `chandlery.model.backup`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from chandlery.model.base import CelRule, Label, LocalRef, Model, Name, SecretKeyRef
from chandlery.model.rules import (
    absent,
    at_most_one_of,
    atomic,
    extra,
    fixed_optional,
    lasts,
    map_list,
    not_more,
    only_grows,
    only_when,
    set_list,
)
from chandlery.model.scalars import Address, Cidr, Cron, Duration, Size, TimeOfDay, TimeZone
from chandlery.model.words import UserName, Words

LabelKey = Annotated[str, Field(max_length=317)]
"""A label's name as the key of a map, where no rule can look at it."""
LabelName = Annotated[
    str,
    Words(
        "([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?",
        "must be a label's name, with or without a DNS name before it, such as team or example.com/team",
        317,
    ),
]
LabelValue = Annotated[
    str,
    Words(
        "([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?",
        "must be a label's value: letters and digits, with - _ or . between them, such as eu-1",
    ),
]
Labels = Annotated[dict[LabelKey, LabelValue], Field(max_length=64)]
LooseLabels = Annotated[
    dict[LabelKey, Annotated[str, Field(max_length=63, pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$")]],
    Field(max_length=64),
]
"""As Labels, without a rule: within lists of lists its cost would be too high."""
Annotations = Annotated[dict[LabelKey, Annotated[str, Field(max_length=4096)]], Field(max_length=64)]
Port = Annotated[int, Field(ge=1, le=65535)]


class Autogrow(Model):
    """Let the volume grow by itself before it is full."""

    enabled: Annotated[bool, Field(description="Grow the volume when it is nearly full.")] = True
    limit: Annotated[Size, Field(description="Never grow beyond this size.")]
    threshold_percent: Annotated[
        int, Field(ge=50, le=95, description="Grow when this share of the volume is used, in percent.")
    ] = 80
    step_percent: Annotated[
        int, Field(ge=5, le=100, description="Grow by this share of the present size, in percent.")
    ] = 20


class StorageSpec(Model):
    """A volume for data. It can grow, never shrink."""

    cel_rules = (
        fixed_optional("className", "the storage class can't change after creation: restore into a new object instead"),
        CelRule(
            rule="!has(self.autogrow) || " + not_more("self.size", "self.autogrow.limit"),
            message="autogrow.limit must be at least size",
            field_path=".autogrow.limit",
        ),
    )

    size: Annotated[
        Size,
        Field(
            description="Size of the volume of each instance, as a Kubernetes quantity in bytes. It may only grow.",
            json_schema_extra=extra(only_grows("storage can't shrink: give the present size or more")),
        ),
    ]
    class_name: Annotated[
        Name | None,
        Field(
            description="StorageClass of the volumes, where the driver makes volumes. Default: the cluster's own "
            "default."
        ),
    ] = None
    autogrow: Annotated[Autogrow | None, Field(description="Grow the volume by itself before it is full.")] = None


class IssuerKind(StrEnum):
    ISSUER = "Issuer"
    CLUSTER_ISSUER = "ClusterIssuer"


class IssuerRef(Model):
    """A cert-manager issuer."""

    name: Annotated[Name, Field(description="Name of the issuer.")]
    kind: Annotated[IssuerKind, Field(description="Issuer or ClusterIssuer.")] = IssuerKind.ISSUER


class TlsVersion(StrEnum):
    V1_2 = "1.2"
    V1_3 = "1.3"


class ClientAuthentication(StrEnum):
    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"


class Tls(Model):
    """Encryption between clients and the engine.

    Without a certificate of yours, one is made by a CA of the object's own.
    """

    cel_rules = (
        at_most_one_of(("certificateSecret", "issuerRef"), "give certificateSecret or issuerRef, not both"),
        CelRule(
            rule="self.enabled || !(has(self.certificateSecret) || has(self.issuerRef) || has(self.clientCaSecret))",
            message="certificates need enabled: true",
            field_path=".enabled",
        ),
        CelRule(
            rule="!has(self.clientAuthentication) || self.clientAuthentication == 'none' || has(self.clientCaSecret)",
            message="clientAuthentication needs clientCaSecret, the CA that signs the clients' certificates",
            field_path=".clientCaSecret",
        ),
        only_when(
            "clientCaSecret",
            "has(self.clientAuthentication) && self.clientAuthentication != 'none'",
            "clientCaSecret needs clientAuthentication optional or required: without it nobody asks for a certificate",
        ),
    )

    enabled: Annotated[bool, Field(description="Whether clients connect by TLS.")] = True
    required: Annotated[bool, Field(description="Refuse connections without TLS.")] = True
    certificate_secret: Annotated[
        LocalRef | None,
        Field(description="Secret of type kubernetes.io/tls with tls.crt, tls.key and, for private CAs, ca.crt."),
    ] = None
    issuer_ref: Annotated[IssuerRef | None, Field(description="cert-manager issuer that signs the certificate.")] = None
    client_ca_secret: Annotated[
        LocalRef | None, Field(description="Secret with ca.crt, the CA that clients' certificates must come from.")
    ] = None
    client_authentication: Annotated[ClientAuthentication, Field(description="Whether clients show a certificate.")] = (
        ClientAuthentication.NONE
    )
    minimum_version: Annotated[TlsVersion, Field(description="Oldest TLS version that is accepted.")] = TlsVersion.V1_2


class ExposureType(StrEnum):
    INTERNAL = "Internal"
    NODE_PORT = "NodePort"
    LOAD_BALANCER = "LoadBalancer"


class Exposure(Model):
    """From where clients can connect."""

    cel_rules = (
        only_when("nodePort", "self.type != 'Internal'", "nodePort needs type NodePort or LoadBalancer"),
        only_when("loadBalancerClass", "self.type == 'LoadBalancer'", "loadBalancerClass needs type LoadBalancer"),
    )

    type: Annotated[
        ExposureType,
        Field(
            description="Internal: inside the cluster, or on the loopback interface of a laptop. NodePort: a port "
            "of every node, "
            "or of every interface of the machine. LoadBalancer: an address of its own from the substrate."
        ),
    ] = ExposureType.INTERNAL
    port: Annotated[
        Port | None,
        Field(
            description="TCP port that clients connect to. Default: the engine's usual port, or a free one on a laptop."
        ),
    ] = None
    node_port: Annotated[
        int | None, Field(ge=1024, le=65535, description="Port on the nodes. Default: one that is free.")
    ] = None
    hostname: Annotated[
        Name | None, Field(description="DNS name under which clients reach it; put into certificates and the binding.")
    ] = None
    allowed_cidrs: Annotated[
        tuple[Cidr, ...],
        Field(max_length=64, description="Networks that may connect; empty: all.", json_schema_extra=set_list()),
    ] = ()
    load_balancer_class: Annotated[
        LabelName | None, Field(description="Implementation of the load balancer, where a cluster has several.")
    ] = None
    annotations: Annotated[Annotations, Field(description="Annotations for the Service that is made.")] = Field(
        default_factory=dict
    )


class ResourceAmounts(Model):
    """Amounts of CPU and memory."""

    cpu: Annotated[
        str | None,
        Field(
            max_length=16,
            description="CPU cores: 500m, 1, 2.5.",
            json_schema_extra=extra(
                CelRule(
                    rule="self.matches('^([1-9][0-9]{0,5}m|[0-9]{1,4}([.][0-9]{1,3})?)$') && "
                    "quantity(self).isGreaterThan(quantity('0'))",
                    message="must be a number of CPU cores above zero, as text, such as '500m', '1' or '2.5'",
                )
            ),
        ),
    ] = None
    memory: Annotated[Size | None, Field(description="Memory in bytes.")] = None


class Resources(Model):
    """What each instance asks for and may use at most."""

    cel_rules = (
        CelRule(
            rule="!has(self.requests) || !has(self.limits) || !has(self.requests.cpu) || !has(self.limits.cpu) || "
            + not_more("self.requests.cpu", "self.limits.cpu"),
            message="requests.cpu can't exceed limits.cpu",
            field_path=".requests",
        ),
        CelRule(
            rule="!has(self.requests) || !has(self.limits) || !has(self.requests.memory) || "
            "!has(self.limits.memory) || " + not_more("self.requests.memory", "self.limits.memory"),
            message="requests.memory can't exceed limits.memory",
            field_path=".requests",
        ),
    )

    requests: Annotated[ResourceAmounts | None, Field(description="Set aside for each instance.")] = None
    limits: Annotated[ResourceAmounts | None, Field(description="Each instance gets at most this.")] = None


class TolerationOperator(StrEnum):
    EXISTS = "Exists"
    EQUAL = "Equal"


class TaintEffect(StrEnum):
    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(Model):
    """A taint that the instances put up with."""

    cel_rules = (
        only_when("value", "self.operator == 'Equal'", "value needs operator Equal"),
        CelRule(
            rule="has(self.key) || self.operator == 'Exists'",
            message="a toleration without key is for all taints: it needs operator Exists",
            field_path=".key",
        ),
        only_when(
            "tolerationSeconds",
            "has(self.effect) && self.effect == 'NoExecute'",
            "tolerationSeconds needs effect NoExecute",
        ),
    )

    key: Annotated[LabelName | None, Field(description="Key of the taint; without it, all taints.")] = None
    operator: Annotated[TolerationOperator, Field(description="Exists or Equal.")] = TolerationOperator.EQUAL
    value: Annotated[LabelValue | None, Field(description="Value of the taint, for operator Equal.")] = None
    effect: Annotated[TaintEffect | None, Field(description="Effect; without it, all effects.")] = None
    toleration_seconds: Annotated[
        int | None, Field(ge=0, le=31536000, description="Seconds to stay after a NoExecute taint appears.")
    ] = None


class SpreadPolicy(StrEnum):
    REQUIRED = "Required"
    PREFERRED = "Preferred"
    NONE = "None"


class Spread(Model):
    """How instances are kept apart."""

    policy: Annotated[
        SpreadPolicy,
        Field(description="Required: never two instances in one domain; Preferred: where possible; None: anywhere."),
    ] = SpreadPolicy.PREFERRED
    topology_key: Annotated[LabelName, Field(description="Node label that tells the domains apart.")] = (
        "kubernetes.io/hostname"
    )


class Placement(Model):
    """On which nodes the instances run, and how they are kept apart."""

    node_selector: Annotated[Labels, Field(description="Labels that a node must have.")] = Field(default_factory=dict)
    tolerations: Annotated[
        tuple[Toleration, ...],
        Field(max_length=32, description="Taints that the instances put up with.", json_schema_extra=atomic()),
    ] = ()
    spread: Annotated[Spread, Field(description="How instances are kept apart.")] = Spread()
    priority_class_name: Annotated[Name | None, Field(description="PriorityClass of the instances.")] = None


class Metrics(Model):
    """Metrics for Prometheus."""

    cel_rules = (
        CelRule(
            rule="!self.monitor || self.enabled",
            message="monitor needs enabled: true, else there is nothing to ask for",
            field_path=".monitor",
        ),
        CelRule(
            rule=f"{absent('labels')} || self.monitor",
            message="labels are those of the ServiceMonitor: they need monitor: true",
            field_path=".labels",
        ),
    )

    enabled: Annotated[bool, Field(description="Serve metrics.")] = True
    port: Annotated[
        Port | None, Field(description="Port of the metrics. Default: the exporter's usual port, or a free one.")
    ] = None
    monitor: Annotated[
        bool, Field(description="Make a ServiceMonitor, where the Prometheus operator is installed.")
    ] = False
    interval: Annotated[
        Duration,
        Field(
            description="How often Prometheus asks, 1s to 1h.",
            json_schema_extra=extra(lasts("1s", "1h", "metrics.interval must be from 1s to 1h")),
        ),
    ] = Duration("30s")
    labels: Annotated[Labels, Field(description="Labels for the ServiceMonitor.")] = Field(default_factory=dict)


class Weekday(StrEnum):
    MON = "Mon"
    TUE = "Tue"
    WED = "Wed"
    THU = "Thu"
    FRI = "Fri"
    SAT = "Sat"
    SUN = "Sun"


class MaintenanceWindow(Model):
    """When changes that disturb clients may be made. Changes without disruption never wait."""

    days: Annotated[
        tuple[Weekday, ...],
        Field(min_length=1, max_length=7, description="Days on which the window opens.", json_schema_extra=set_list()),
    ] = tuple(Weekday)
    start: Annotated[TimeOfDay, Field(description="When the window opens, HH:MM.")]
    duration: Annotated[
        Duration,
        Field(
            description="How long it stays open, 15 minutes to a day.",
            json_schema_extra=extra(lasts("15m", "24h", "a maintenance window lasts from 15m to 24h")),
        ),
    ] = Duration("2h")
    time_zone: Annotated[TimeZone, Field(description="Time zone of start.")] = TimeZone("UTC")


class Rotation(Model):
    """Generated passwords are replaced on a schedule.

    The old one keeps working for a while, so that clients can follow.
    """

    schedule: Annotated[Cron, Field(description="When passwords are replaced, as a cron schedule, in UTC.")]
    grace_period: Annotated[
        Duration,
        Field(
            description="How long the old password keeps working, where the engine can hold two; at most 720h.",
            json_schema_extra=extra(lasts("", "720h", "gracePeriod must be 720h or less")),
        ),
    ] = Duration("1h")
    users: Annotated[
        tuple[UserName, ...],
        Field(
            max_length=64,
            description="Users to rotate; empty: all with generated passwords.",
            json_schema_extra=set_list(),
        ),
    ] = ()


__all__ = [
    "Address",
    "Annotations",
    "Autogrow",
    "Cidr",
    "ClientAuthentication",
    "Exposure",
    "ExposureType",
    "IssuerRef",
    "Label",
    "Labels",
    "MaintenanceWindow",
    "Metrics",
    "Placement",
    "Port",
    "ResourceAmounts",
    "Resources",
    "Rotation",
    "SecretKeyRef",
    "Spread",
    "SpreadPolicy",
    "StorageSpec",
    "Tls",
    "TlsVersion",
    "Toleration",
    "UserName",
    "Weekday",
    "map_list",
]
