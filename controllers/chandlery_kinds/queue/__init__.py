"""Queue: NATS JetStream or RabbitMQ."""

from __future__ import annotations

from chandlery.driver.kind import Kind
from chandlery_kinds.queue.model import Queue
from chandlery_kinds.queue.references import references

KIND = Kind(
    model=Queue,
    drivers={
        "memory": "chandlery_kinds.queue.drivers.memory:QueueDriver",
        "local": "chandlery_kinds.queue.drivers.local:QueueDriver",
        "kubernetes": "chandlery_kinds.queue.drivers.kubernetes:QueueDriver",
    },
    references=references,
    operations=("backup", "restore", "rotate"),
    package=__name__,
)
