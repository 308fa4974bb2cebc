"""`spec.adopt` on this machine: an object takes over the directory that another one left behind.

What can be taken over is what deletionPolicy Retain kept, or what belongs to an object that is gone without having been
deleted in order. A directory whose object is still there is nobody else's: it is neither looked at nor removed.
"""

from __future__ import annotations

from typing import Any

from chandlery.driver.protocol import Difference, DriverContext, Observation
from chandlery.foundation.errors import AlreadyExists, InvalidSpec
from chandlery.providers.local.instance import Instance

FIELD = "spec.adopt.externalName"
ADOPT = ("adopt",)


def is_owner(instance: Instance, obj: Any) -> bool:
    """Whether the directory is this object's; an unwritten record is anybody's."""
    owner = instance.record.get("owner")
    return owner is None or owner.get("uid") == obj.metadata.uid


async def offer(ctx: DriverContext, obj: Any, instance: Instance, *, by_name: bool = False) -> Observation:
    """What `observe` says of a directory that isn't the object's yet.

    Args:
        ctx: of the pass.
        obj: the object that adopts.
        instance: the directory.
        by_name: what is in it bears the object's name, so the new object must have the same.

    Raises:
        InvalidSpec: it is of another kind, or of another name where that matters.
        AlreadyExists: its object is still there.
    """
    owner = instance.record["owner"]
    if owner["kind"] != obj.kind:
        raise InvalidSpec(f"it was made for a {owner['kind']}, not for a {obj.kind}", field=FIELD, value=instance.name)
    if by_name and owner["name"] != obj.metadata.name:
        raise InvalidSpec(
            f"its data bear the name of the {obj.kind} that made them, {owner['name']}",
            field=FIELD,
            value=instance.name,
            hint=f"Name the new object {owner['name']}, too.",
        )
    title = f"{owner['namespace']}/{owner['name']}"
    if not instance.record.get("retained"):
        group = obj.names.api_version.rpartition("/")[0]
        other = await ctx.reader.get(group, owner["kind"], owner["namespace"], owner["name"])
        if other is not None and other["metadata"].get("uid") == owner["uid"]:
            raise AlreadyExists(
                f"it belongs to the {owner['kind']} {title}",
                field=FIELD,
                value=instance.name,
                hint="Delete that object with deletionPolicy Retain first; it is taken over by itself then.",
                retry_after=10.0,
            )
    return Observation(
        exists=True,
        reason="Adopting",
        message=f"taking over what {owner['kind']} {title} left",
        differences=(Difference(FIELD, instance.name, f"left by {title}", payload=ADOPT),),
        external_name=instance.name,
        poll_after=0.02,
    )


def take_over(instance: Instance, obj: Any) -> None:
    """Write the new owner into the record. Ports were given up, secrets stay as they were."""
    meta = obj.metadata
    owner = {"kind": obj.kind, "namespace": meta.namespace, "name": meta.name, "uid": meta.uid}
    instance.reload()
    instance.record["owner"] = owner
    instance.record.pop("retained", None)
    instance.save()
    instance.create(kind=obj.kind, namespace=meta.namespace, name=meta.name, uid=meta.uid)


def wanted(observed: Observation) -> bool:
    """Whether the plan says to take over."""
    return any(change.payload == ADOPT for change in observed.plan.changes)
