"""What a ResourceClass may say to the `kubernetes` driver of Queue."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from chandlery.driver.parameters import OneOf
from chandlery.providers.kubernetes.parameters import WorkloadParameters

ImageName = Annotated[str, OneOf("nats", "rabbitmq", "nats-exporter", "chandlery")]
ProgramName = Annotated[
    str,
    OneOf(
        "nats-server",
        "prometheus-nats-exporter",
        "rabbitmq-server",
        "rabbitmq-queues",
        "rabbitmqctl",
        "chandlery-python",
    ),
]


class QueueParameters(WorkloadParameters[ImageName, ProgramName]):
    """Images, programs and who may connect."""

    rabbitmq_operator: Annotated[
        Literal["cluster", "topology"] | None,
        Field(
            description="Queues by RabbitMQ are handed over to its operators: to the cluster operator alone, or to the "
            "messaging topology operator too."
        ),
    ] = None
