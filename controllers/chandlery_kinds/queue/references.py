"""What a Queue refers to: Secrets, the Queue whose broker it shares, its dead-letter queue."""

from __future__ import annotations

from collections.abc import Iterator

from chandlery.model.base import Ref
from chandlery.model.references import distinct, secrets
from chandlery_kinds.queue.model import Queue


def references(obj: Queue) -> tuple[Ref, ...]:
    return distinct((*secrets(obj.spec), *_queues(obj)))


def _queues(obj: Queue) -> Iterator[Ref]:
    spec = obj.spec
    if spec.broker_ref is not None:
        yield Ref(group=obj.names.group, kind="Queue", name=spec.broker_ref.name)
    if spec.dead_letter is not None and spec.dead_letter.queue is not None:
        yield Ref(group=obj.names.group, kind="Queue", name=spec.dead_letter.queue.name)
