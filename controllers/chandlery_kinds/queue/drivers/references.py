"""Other Queues that this one's spec names, on this machine: found, or said what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chandlery.driver.protocol import DriverContext, external_name
from chandlery.foundation.errors import DependencyNotReady, InvalidSpec
from chandlery.providers.local import Instance
from chandlery_kinds.queue.model import Queue

WAIT = 1.0
"""The loop wakes an object when what it refers to changes; this is for what nobody hears of."""


@dataclass(frozen=True, slots=True)
class Other:
    """Another Queue with its instance."""

    obj: Queue
    instance: Instance
    goes: bool
    """It is being deleted."""


async def other(ctx: DriverContext, obj: Queue, name: str, field: str) -> Other:
    """The Queue of this name in the namespace of `obj`, made real on this machine.

    Raises:
        DependencyNotReady: it isn't there, or not made yet; the message says which.
        InvalidSpec: its engine is another one.
    """
    raw = await ctx.reader.get(obj.names.group, obj.kind, obj.metadata.namespace, name)
    if raw is None:
        raise DependencyNotReady(
            f"there is no Queue {name} in the namespace {obj.metadata.namespace}",
            field=field,
            value=name,
            hint="Create it, or name another; it goes on by itself then.",
            retry_after=WAIT,
        )
    found = Queue.model_validate({"status": {}, **raw})
    if found.spec.engine is not obj.spec.engine:
        raise InvalidSpec(
            f"Queue {name} runs {found.spec.engine.value}, this one {obj.spec.engine.value}",
            field=field,
            value=name,
            hint="Name a Queue of the same engine.",
        )
    instance = ctx.provider.instance(external_name(found))
    if not instance.exists:
        raise DependencyNotReady(
            f"Queue {name} is not made yet, or not on this machine",
            field=field,
            value=name,
            hint=f"Look at `kubectl describe queue {name}`; it goes on by itself when it is there.",
            retry_after=WAIT,
        )
    return Other(found, instance, found.metadata.deletion_timestamp is not None)


async def host_of(ctx: DriverContext, obj: Queue) -> Other:
    """The Queue whose broker this one shares.

    Raises:
        DependencyNotReady: it isn't there yet.
        InvalidSpec: it has no broker of its own, or runs another engine.
    """
    assert obj.spec.broker_ref is not None
    name, field = obj.spec.broker_ref.name, "spec.brokerRef"
    found = await other(ctx, obj, name, field)
    owner = found.obj.spec.broker_ref
    if owner is not None:
        raise InvalidSpec(
            f"Queue {name} has no broker of its own: it shares that of {owner.name}",
            field=field,
            value=name,
            hint=f"Name {owner.name}; brokerRef can't change, so make this Queue anew.",
        )
    return found


async def sharers(ctx: DriverContext, obj: Queue) -> dict[str, str]:
    """The Queues that name this one as their broker: uid -> name."""
    listed: list[dict[str, Any]] = await ctx.reader.list(obj.names.group, obj.kind, obj.metadata.namespace)
    return {
        raw["metadata"]["uid"]: raw["metadata"]["name"]
        for raw in listed
        if (raw["spec"].get("brokerRef") or {}).get("name") == obj.metadata.name
    }
