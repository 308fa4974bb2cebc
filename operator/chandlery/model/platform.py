"""ResourceClass and ProviderConfig: which driver makes a kind real, with which parameters, at which provider.

Both are cluster-scoped: who offers the platform writes them, who uses it names a class, or nothing.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from chandlery.model.base import (
    Condition,
    DeletionPolicy,
    Label,
    LooseModel,
    Model,
    Name,
    Names,
    PrinterColumn,
    Resource,
)
from chandlery.model.rules import extra, fixed, lasts, map_list, only_when, set_list
from chandlery.model.scalars import Duration
from chandlery.model.words import KindName

GROUP = "platform.chandlery.dev"

FREE_FORM = extra(**{"x-kubernetes-preserve-unknown-fields": True})


class ProviderConfigRef(Model):
    """A ProviderConfig."""

    name: Annotated[Name, Field(description="Name of the ProviderConfig.")]


class ResourceClassSpec(Model):
    """Which driver makes objects of one kind, and how."""

    kind: Annotated[
        KindName,
        Field(
            description="Kind that the class is for: Cache, Database, Queue, LoadBalancer, VirtualMachine, ...",
            json_schema_extra=extra(fixed("kind can't change: make a new class")),
        ),
    ]
    driver: Annotated[
        Label,
        Field(
            description="Driver that makes it: local, kubernetes, memory (simulated) or one of a third party.",
            json_schema_extra=extra(fixed("driver can't change, objects would be lost from sight: make a new class")),
        ),
    ]
    default: Annotated[
        bool,
        Field(description="Used by objects of the kind that name no class. Of several defaults the newest is used."),
    ] = False
    parameters: Annotated[
        dict[str, Any],
        Field(
            description="What the driver wants to know; the kind's reference page lists it for each driver.",
            json_schema_extra=FREE_FORM,
        ),
    ] = Field(default_factory=dict)
    provider_config_ref: Annotated[
        ProviderConfigRef | None,
        Field(description="Where the provider is and how to log in. Default: the driver's own way."),
    ] = None
    deletion_policies: Annotated[
        tuple[DeletionPolicy, ...],
        Field(
            min_length=1,
            max_length=3,
            description="Deletion policies that objects of this class may ask for.",
            json_schema_extra=set_list(),
        ),
    ] = tuple(DeletionPolicy)
    drift_interval: Annotated[
        Duration,
        Field(
            description="How often a driver looks whether all is still as the spec asks, 1s to 168h.",
            json_schema_extra=extra(lasts("1s", "168h", "driftInterval must be from 1s to 168h")),
        ),
    ] = Duration("5m")


class PlatformStatus(LooseModel):
    """What is known of it."""

    observed_generation: Annotated[int, Field(description="The generation that this status speaks of.")] = 0
    conditions: Annotated[
        tuple[Condition, ...], Field(description="Ready, with a sentence.", json_schema_extra=map_list("type"))
    ] = ()
    users: Annotated[int | None, Field(description="How many objects use it.")] = None


class ResourceClass(Resource[ResourceClassSpec, PlatformStatus]):
    """For one kind: which driver makes it, with which parameters. Like a StorageClass; one may be the default."""

    names = Names(
        group=GROUP,
        kind="ResourceClass",
        plural="resourceclasses",
        singular="resourceclass",
        short_names=("rclass",),
        categories=("chandlery-platform",),
        namespaced=False,
        columns=(
            PrinterColumn("Kind", "string", ".spec.kind"),
            PrinterColumn("Driver", "string", ".spec.driver"),
            PrinterColumn("Default", "boolean", ".spec.default"),
            PrinterColumn("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
            PrinterColumn("Users", "integer", ".status.users"),
            PrinterColumn("Provider", "string", ".spec.providerConfigRef.name", priority=1),
        ),
        selectable=(".spec.kind", ".spec.driver"),
    )


class NamespacedSecretRef(Model):
    """A Secret in any namespace."""

    namespace: Annotated[Label, Field(description="Namespace of the Secret.")]
    name: Annotated[Name, Field(description="Name of the Secret.")]


class ProviderConfigSpec(Model):
    """Where a provider is, and how to log in."""

    cel_rules = (
        only_when(
            "credentialsSecretRef",
            "!(self.provider in ['local', 'kubernetes', 'memory'])",
            "the providers local, kubernetes and memory take no credentials, the operator's own identity is used: "
            "leave credentialsSecretRef out",
        ),
    )

    provider: Annotated[
        Label,
        Field(
            description="Which provider: local, kubernetes, memory (simulated) or one of a third party.",
            json_schema_extra=extra(fixed("provider can't change: make a new ProviderConfig")),
        ),
    ]
    parameters: Annotated[
        dict[str, Any],
        Field(
            description="What the provider wants to know; this kind's reference page lists it for each provider.",
            json_schema_extra=FREE_FORM,
        ),
    ] = Field(default_factory=dict)
    credentials_secret_ref: Annotated[
        NamespacedSecretRef | None,
        Field(description="Secret with the credentials. Default: the identity that the operator runs as."),
    ] = None


class ProviderConfig(Resource[ProviderConfigSpec, PlatformStatus]):
    """Where a provider is and which Secret holds its credentials."""

    names = Names(
        group=GROUP,
        kind="ProviderConfig",
        plural="providerconfigs",
        singular="providerconfig",
        short_names=("pcfg",),
        categories=("chandlery-platform",),
        namespaced=False,
        columns=(
            PrinterColumn("Provider", "string", ".spec.provider"),
            PrinterColumn("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
            PrinterColumn("Users", "integer", ".status.users"),
        ),
    )


PLATFORM: tuple[type[Resource[Any, Any]], ...] = (ResourceClass, ProviderConfig)
"""The kinds without drivers."""
