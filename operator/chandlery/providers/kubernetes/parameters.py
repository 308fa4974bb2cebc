"""What classes may say about workloads in pods, whatever engine runs in them, and what the provider itself takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Generic, TypeVar

from pydantic import BeforeValidator, Field

from chandlery.driver.parameters import OneOf, Parameters
from chandlery.model.base import Model
from chandlery.model.rules import extra
from chandlery.model.words import Name, Words

Image = Annotated[
    str,
    Words(
        "[a-z0-9]([a-z0-9._:/-]*[a-z0-9])?(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?(@sha256:[0-9a-f]{64})?",
        "must be an image, such as registry.example/valkey:9.1 or registry.example/valkey@sha256:..., without blanks",
        512,
    ),
]
"""A reference to a container image."""
Program = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=512)], ...], Field(min_length=1, max_length=16)]
"""How a program is started: the words before its arguments."""
IMAGES: Final = OneOf(
    "chandlery",
    "haproxy",
    "mariadb",
    "memcached",
    "mysqld-exporter",
    "nats",
    "nats-exporter",
    "pgbouncer",
    "postgres",
    "postgres-exporter",
    "rabbitmq",
    "redis",
    "redis-exporter",
    "valkey",
)
"""Everything that the drivers of this provider take an image for."""
FREE = extra(**{"x-kubernetes-preserve-unknown-fields": True})


class Peer(Model):
    """Who may connect, as in a NetworkPolicy."""

    pod_selector: Annotated[dict[str, Any] | None, Field(json_schema_extra=FREE, description="Which pods.")] = None
    namespace_selector: Annotated[
        dict[str, Any] | None, Field(json_schema_extra=FREE, description="In which namespaces; without it the own one.")
    ] = None
    ip_block: Annotated[
        dict[str, Any] | None, Field(json_schema_extra=FREE, description="Which addresses: cidr, except.")
    ] = None

    def manifest(self) -> dict[str, Any]:
        """As in a NetworkPolicy."""
        return self.model_dump(by_alias=True, exclude_unset=True)


class NetworkPolicyParameter(Model):
    """Who may connect to the pods."""

    from_: Annotated[
        tuple[Peer, ...],
        Field(alias="from", max_length=64, description="Who may connect; without it the pods of the same namespace."),
    ] = ()
    metrics_from: Annotated[
        tuple[Peer, ...], Field(max_length=64, description="Who may ask for metrics; without it all.")
    ] = ()


def _switch(value: Any) -> Any:
    if isinstance(value, bool):
        return {} if value else None
    return value


ImageName = TypeVar("ImageName", bound=str)
ProgramName = TypeVar("ProgramName", bound=str)


class WorkloadParameters(Parameters, Generic[ImageName, ProgramName]):
    """Of drivers that make pods, which say what names of images and programs they know."""

    image: Annotated[Image | None, Field(description="Image of the engine, for every object of the class.")] = None
    images: Annotated[Mapping[ImageName, Image], Field(description="Images by name; they win over `image`.")] = Field(
        default_factory=dict
    )
    commands: Annotated[
        Mapping[ProgramName, Program],
        Field(description="How a program is started where an image has it in another place: a list of words."),
    ] = Field(default_factory=dict)
    pull_secrets: Annotated[
        tuple[Name, ...],
        Field(
            max_length=16,
            description="Secrets to pull images with, in the object's namespace. They win over those of the provider.",
        ),
    ] = ()
    network_policy: Annotated[
        NetworkPolicyParameter | None,
        BeforeValidator(_switch),
        Field(description="A NetworkPolicy for the pods: true, or an object that says who may connect."),
    ] = None

    def image_of(self, name: str, *, engine: bool = True) -> str:
        """What the class says of an image; empty when it says nothing. `image` speaks of engines only."""
        images: Mapping[Any, str] = self.images
        return str(images.get(name) or (self.image if engine else "") or "")

    def commands_said(self) -> dict[str, list[str]]:
        """For a template's digest."""
        return {name: list(words) for name, words in self.commands.items()}


AnyWorkload = WorkloadParameters[str, str]
"""Of a driver that doesn't matter here."""


class KubernetesParameters(Parameters):
    """Of a ProviderConfig of the provider `kubernetes`: the API server is always the operator's own."""

    images: Annotated[
        Mapping[Annotated[str, IMAGES], Image],
        Field(description="Images by name, in place of CHANDLERY_KUBERNETES_IMAGES and the built-in ones."),
    ] = Field(default_factory=dict)
    pull_secrets: Annotated[
        tuple[Name, ...],
        Field(
            max_length=16,
            description="Secrets to pull images with, in each object's namespace; in place of "
            "CHANDLERY_KUBERNETES_PULL_SECRETS.",
        ),
    ] = ()
