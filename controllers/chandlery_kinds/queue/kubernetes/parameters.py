"""What a ResourceClass may say to the `kubernetes` driver of Queue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import Field

from chandlery.driver.parameters import OneOf
from chandlery.providers.kubernetes.parameters import Image, Program, WorkloadParameters

_IMAGES: Final = OneOf("nats", "rabbitmq", "nats-exporter", "chandlery")
_PROGRAMS: Final = OneOf(
    "nats-server", "prometheus-nats-exporter", "rabbitmq-server", "rabbitmq-queues", "rabbitmqctl", "chandlery-python"
)


class QueueParameters(WorkloadParameters):
    """Images, programs and who may connect."""

    images: Annotated[
        Mapping[Annotated[str, _IMAGES], Image],
        Field(description="Images by name; they win over `image`."),
    ] = Field(default_factory=dict)
    commands: Annotated[
        Mapping[Annotated[str, _PROGRAMS], Program],
        Field(description="How a program is started where an image has it in another place: a list of words."),
    ] = Field(default_factory=dict)
    rabbitmq_operator: Annotated[
        Literal["cluster", "topology"] | None,
        Field(
            description="Queues by RabbitMQ are handed over to its operators: to the cluster operator alone, or to the "
            "messaging topology operator too."
        ),
    ] = None
