"""The base of all memory drivers: a resource of four parts, its settings compared field by field.

A kind's driver says what its fields cost to change, which of them it refuses, and what its binding and facts are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final

from pydantic import Field

from chandlery.driver.parameters import Parameters
from chandlery.driver.protocol import (
    Binding,
    Difference,
    Disruption,
    DriverContext,
    Observation,
    Unsupported,
    external_name,
)
from chandlery.foundation.errors import InvalidSpec
from chandlery.model.base import CommonSpec, DeletionPolicy, Endpoint
from chandlery.providers.memory.provider import MemorySession
from chandlery.providers.memory.world import INSTANCE, Part, World, password

PARTS: Final = ("volume", "address", "user")
"""Made before the instance, in this order; removed after it, in the reverse one."""
HOST: Final = "127.0.0.1"
_COMMON: Final = frozenset(CommonSpec.model_fields)
# what tells the operator when to act, and nothing to the engine
_NOT_SETTINGS: Final = _COMMON | {"maintenance_window", "restore_from"}
_SHOWN: Final = 60
_KEPT: Final = 256
_dumped: OrderedDict[int, tuple[Any, dict[str, Any]]] = OrderedDict()


class MemoryParameters(Parameters):
    """Of the memory drivers of all kinds."""

    unsupported: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=63)], ...],
        Field(max_length=64, description="Fields of spec to refuse, so that refusals can be tried out."),
    ] = ()


class MemoryDriver:
    """A driver on the simulated world."""

    name: ClassVar[str] = "memory"
    parameters: ClassVar[type[MemoryParameters]] = MemoryParameters
    costs: ClassVar[Mapping[str, Disruption]] = {}
    """What changing a field of spec costs, by JSON name; those not named cost nothing."""

    def unsupported(self, obj: Any, parameters: Parameters) -> Sequence[Unsupported]:
        """Fields listed in the class's parameter `unsupported` are refused, so that refusals can be tried out."""
        listed = parameters.unsupported if isinstance(parameters, MemoryParameters) else ()
        given = settings_of(obj)
        return [
            Unsupported(f"spec.{field}", str(given[field])[:_SHOWN], "the simulated world does not know this field")
            for field in listed
            if field in given
        ]

    async def observe(self, ctx: DriverContext, obj: Any) -> Observation:
        session = session_of(ctx)
        name = external_name(obj)
        session.owners[name] = obj.metadata.uid
        parts = await session.world.look(name)
        instance = parts.get(INSTANCE)
        if instance is None:
            return Observation(exists=False, external_name=name)
        state = str(instance.data.get("state", "crashed"))
        ready = state == "running" and all(part in parts for part in PARTS)
        endpoint = Endpoint(host=HOST, port=int(instance.data["port"]))
        user = parts.get("user")
        return Observation(
            exists=True,
            ready=ready,
            reason="" if ready else {"starting": "Starting", "stopping": "Stopping"}.get(state, "Crashed"),
            message="" if ready else _explain(state, parts),
            differences=(*_missing(state, parts), *self._changes(obj, instance)),
            external_name=name,
            endpoint=endpoint,
            binding=self.binding(obj, user, endpoint) if user is not None else None,
            facts=self.facts(obj, instance, ready=ready),
            poll_after=_until(session.world, instance, state),
        )

    async def create(self, ctx: DriverContext, obj: Any) -> None:
        world = session_of(ctx).world
        name = external_name(obj)
        for part in PARTS:
            await world.make(part, name, new_part(part, obj))
        await world.start(name, {"settings": settings_of(obj), "kind": obj.kind})

    async def update(self, ctx: DriverContext, obj: Any, observed: Observation) -> None:
        world = session_of(ctx).world
        name = external_name(obj)
        for change in observed.plan.changes:
            if change.field == "instance":
                await world.start(name, {"settings": settings_of(obj), "kind": obj.kind})
            elif change.field in PARTS:
                await world.make(change.field, name, new_part(change.field, obj))
            else:
                await world.configure(
                    name,
                    change.payload,
                    restart=change.disruption >= Disruption.RESTART,
                    renew=change.disruption >= Disruption.REPLACE,
                )

    async def delete(self, ctx: DriverContext, obj: Any) -> bool:
        policy = obj.spec.deletion_policy
        if policy is DeletionPolicy.RETAIN:
            return True
        world = session_of(ctx).world
        name = external_name(obj)
        parts = await world.look(name)
        if policy is DeletionPolicy.SNAPSHOT and INSTANCE in parts:
            await world.make("snapshot", name, {"settings": parts[INSTANCE].data.get("settings", {})})
        for part in (INSTANCE, *reversed(PARTS)):
            if part in parts:
                await world.remove(part, name)
                if part == INSTANCE and world.stop_time > 0:
                    return False
        return True

    # What kinds say

    def binding(self, obj: Any, user: Part, endpoint: Endpoint) -> Binding:
        """The content of the binding Secret."""
        entries = {
            "host": endpoint.host,
            "port": str(endpoint.port),
            "username": str(user.data["username"]),
            "password": str(user.data["password"]),
        }
        return Binding(type=obj.kind.lower(), provider="chandlery", entries=entries)

    def facts(self, obj: Any, instance: Part, *, ready: bool) -> Mapping[str, Any]:
        """The kind's own status fields."""
        return {}

    # Inside

    def _changes(self, obj: Any, instance: Part) -> list[Difference]:
        wanted, there = settings_of(obj), instance.data.get("settings", {})
        return [
            Difference(
                f"spec.{field}",
                _text(wanted.get(field)),
                _text(there.get(field)),
                self.costs.get(field, Disruption.NONE),
                payload={field: wanted.get(field)},
            )
            for field in sorted(wanted.keys() | there.keys())
            if wanted.get(field) != there.get(field)
        ]


def session_of(ctx: DriverContext) -> MemorySession:
    session = ctx.provider
    if not isinstance(session, MemorySession):
        raise InvalidSpec("the class's provider is not the memory provider", field="spec.className")
    return session


def settings_of(obj: Any) -> dict[str, Any]:
    """The part of spec that an engine is configured by, as JSON; not to be changed by the caller."""
    known = _dumped.get(id(obj.spec))
    if known is not None and known[0] is obj.spec:
        return known[1]
    dumped: dict[str, Any] = obj.spec.model_dump(
        mode="json", by_alias=True, exclude=set(_NOT_SETTINGS), exclude_none=True
    )
    _dumped[id(obj.spec)] = (obj.spec, dumped)  # held together, so that an id is not used again meanwhile
    if len(_dumped) > _KEPT:
        _dumped.popitem(last=False)
    return dumped


def new_part(part: str, obj: Any) -> dict[str, Any]:
    """What a part is made with."""
    if part == "user":
        return {"username": obj.metadata.name, "password": password()}
    return {"for": obj.kind}


def _missing(state: str, parts: Mapping[str, Part]) -> list[Difference]:
    found = [Difference(part, "exists", "is missing") for part in PARTS if part not in parts]
    if state == "crashed":
        found.append(Difference("instance", "running", "crashed", Disruption.RESTART))
    return found


def _explain(state: str, parts: Mapping[str, Part]) -> str:
    missing = [part for part in PARTS if part not in parts]
    if missing:
        return f"Its {' and '.join(missing)} went missing and will be made again."
    if state == "crashed":
        return "The instance crashed and will be started again."
    return "The instance is stopping." if state == "stopping" else "The instance is starting."


def _until(world: World, instance: Part, state: str) -> float | None:
    """The world tells when an instance is ready; the look afterwards is for whoever isn't listening."""
    moment = {"starting": "ready_at", "stopping": "gone_at"}.get(state)
    if moment is None:
        return None
    return max(0.02, float(instance.data.get(moment, 0.0)) - world.clock.monotonic())


def _text(value: Any) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
