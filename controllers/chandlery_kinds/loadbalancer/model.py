"""LoadBalancer: spreads TCP, HTTP, HTTPS and TLS traffic over targets."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from chandlery.model.base import (
    CelRule,
    CommonSpec,
    CommonStatus,
    LooseModel,
    Names,
    PrinterColumn,
    Resource,
    ScalePaths,
)
from chandlery.model.parts import Exposure, MaintenanceWindow, Metrics, Placement, Resources
from chandlery.model.rules import each, map_list, some
from chandlery.model.settings import Configuration, check_configuration
from chandlery.model.settings_rules import configuration_rules
from chandlery_kinds.loadbalancer.listeners import AccessLog, Listener, RateLimit, StableAddress, Timeouts
from chandlery_kinds.loadbalancer.pools import Pool, Route
from chandlery_kinds.loadbalancer.settings import TABLES


class LoadBalancerSpec(CommonSpec):
    """What is wanted."""

    cel_rules = (
        CelRule(
            rule="self.deletionPolicy != 'Snapshot'",
            message="a load balancer has no data to take a snapshot of: use Delete or Retain",
            field_path=".deletionPolicy",
        ),
        CelRule(
            rule="self.listeners.all(l, self.listeners.exists_one(m, m.port == l.port))",
            message="two listeners can't have the same port: give one of them several hostnames instead",
            field_path=".listeners",
        ),
        CelRule(
            rule="self.listeners.all(l, !has(l.pool) || " + some("pools", "p", "p.name == l.pool") + ")",
            message="each listener's pool must be one of spec.pools",
            message_expression="'listener ' + self.listeners.map(l, has(l.pool) && !"
            + some("pools", "p", "p.name == l.pool")
            + ", l.name + ' names the pool ' + l.pool)[0] + ', which is not in spec.pools'",
            field_path=".listeners",
        ),
        CelRule(
            rule=each("routes", "r", each("backends", "b", some("pools", "p", "p.name == b.pool"), "r")),
            message="each backend's pool must be one of spec.pools",
            message_expression="'route ' + self.routes.map(r, !"
            + each("backends", "b", some("pools", "p", "p.name == b.pool"), "r")
            + ", r.name)[0] + ' leads to a pool that is not in spec.pools'",
            field_path=".routes",
        ),
        CelRule(
            rule=each(
                "routes",
                "r",
                each("listeners", "n", "self.listeners.exists(l, l.name == n && l.protocol != 'TCP')", "r"),
            ),
            message="each route's listeners must be of spec.listeners, with protocol HTTP, HTTPS or TLS",
            message_expression="'route ' + self.routes.map(r, !"
            + each("listeners", "n", "self.listeners.exists(l, l.name == n && l.protocol != 'TCP')", "r")
            + ", r.name)[0] + ' is for a listener that is not in spec.listeners, or that has protocol TCP'",
            field_path=".routes",
        ),
        *configuration_rules(TABLES, ""),
    )

    replicas: Annotated[int, Field(ge=1, le=20, description="Instances of the load balancer.")] = 1
    listeners: Annotated[
        tuple[Listener, ...],
        Field(
            min_length=1,
            max_length=32,
            description="Ports that accept connections.",
            json_schema_extra=map_list("name"),
        ),
    ]
    pools: Annotated[
        tuple[Pool, ...], Field(max_length=32, description="Groups of targets.", json_schema_extra=map_list("name"))
    ] = ()
    routes: Annotated[
        tuple[Route, ...],
        Field(max_length=64, description="Which requests go where.", json_schema_extra=map_list("name")),
    ] = ()
    timeouts: Annotated[Timeouts, Field(description="When to give up.")] = Timeouts()
    rate_limit: Annotated[
        RateLimit | None, Field(description="How much each client may ask for, over all listeners.")
    ] = None
    access_log: Annotated[AccessLog | None, Field(description="One line per request. Default: none.")] = None
    address: Annotated[StableAddress, Field(description="The address, which survives recreation.")] = StableAddress()
    exposure: Annotated[Exposure, Field(description="From where clients can connect.")] = Exposure()
    configuration: Annotated[
        Configuration, Field(description="Global settings of the engine by their own names, all values as text.")
    ] = Field(default_factory=dict)
    metrics: Annotated[Metrics | None, Field(description="Metrics for Prometheus. Default: none.")] = None
    placement: Annotated[Placement, Field(description="On which nodes the instances run.")] = Placement()
    resources: Annotated[Resources, Field(description="CPU and memory of each instance.")] = Resources()
    maintenance_window: Annotated[
        MaintenanceWindow | None, Field(description="When disturbing changes may be made. Default: at once.")
    ] = None

    @field_validator("configuration")
    @classmethod
    def _known_settings(cls, value: dict[str, str]) -> dict[str, str]:
        check_configuration(TABLES["haproxy"], value)
        return value


class TargetStatus(LooseModel):
    """One target as the load balancer sees it; a group has one entry for each member."""

    name: Annotated[str, Field(description="Name of the target; with /member for a member of a group.")]
    address: Annotated[str | None, Field(description="host:port.")] = None
    healthy: Annotated[bool, Field(description="Whether it gets traffic.")] = False
    sessions: Annotated[int | None, Field(description="Connections now.")] = None
    message: Annotated[str | None, Field(description="What the last check said.")] = None


class PoolStatus(LooseModel):
    """One pool."""

    name: Annotated[str, Field(description="Name of the pool.")]
    targets: Annotated[int, Field(description="Targets, members of groups counted one by one.")] = 0
    healthy_targets: Annotated[int, Field(description="Targets that get traffic.")] = 0
    members: Annotated[
        tuple[TargetStatus, ...], Field(description="Each target.", json_schema_extra=map_list("name"))
    ] = ()


class ListenerStatus(LooseModel):
    """One listener."""

    name: Annotated[str, Field(description="Name of the listener.")]
    ready: Annotated[bool, Field(description="Whether it accepts connections.")] = False
    port: Annotated[int | None, Field(description="Port that clients connect to.")] = None
    sessions: Annotated[int | None, Field(description="Connections now.")] = None
    certificate_expires: Annotated[str | None, Field(description="End of its first certificate, RFC 3339.")] = None
    message: Annotated[str | None, Field(description="What is wrong, when it isn't ready.")] = None


class LoadBalancerStatus(CommonStatus):
    """What is there."""

    engine: Annotated[str | None, Field(description="Engine that runs.")] = None
    version: Annotated[str | None, Field(description="Exact version that runs.")] = None
    address: Annotated[str | None, Field(description="Address that clients connect to.")] = None
    replicas: Annotated[int | None, Field(description="Instances now.")] = None
    ready_replicas: Annotated[int | None, Field(description="Instances that serve clients.")] = None
    targets: Annotated[int | None, Field(description="Targets of all pools.")] = None
    healthy_targets: Annotated[int | None, Field(description="Targets that get traffic.")] = None
    selector: Annotated[str | None, Field(description="Label selector of the pods, for the scale subresource.")] = None
    listeners: Annotated[
        tuple[ListenerStatus, ...], Field(description="Each listener.", json_schema_extra=map_list("name"))
    ] = ()
    pools: Annotated[tuple[PoolStatus, ...], Field(description="Each pool.", json_schema_extra=map_list("name"))] = ()


class LoadBalancer(Resource[LoadBalancerSpec, LoadBalancerStatus]):
    """Spreads TCP, HTTP, HTTPS and TLS traffic over targets, under an address that stays."""

    cel_rules = (
        CelRule(
            rule="!has(self.spec.pools) || self.spec.pools.all(p, !has(p.targets) || p.targets.all(t, "
            "!has(t.object) || t.object.kind != 'LoadBalancer' || t.object.name != self.metadata.name))",
            message="a load balancer can't be its own target",
            field_path=".spec.pools",
        ),
    )
    names = Names(
        group="network.chandlery.dev",
        kind="LoadBalancer",
        plural="loadbalancers",
        singular="loadbalancer",
        short_names=("lb",),
        columns=(
            PrinterColumn("Address", "string", ".status.address"),
            PrinterColumn("Targets", "integer", ".status.targets"),
            PrinterColumn("Healthy", "integer", ".status.healthyTargets"),
        ),
        scale=ScalePaths(".spec.replicas", ".status.replicas", ".status.selector"),
        selectable=(".spec.className",),
    )
