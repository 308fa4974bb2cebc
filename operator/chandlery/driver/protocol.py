"""The driver contract: four verbs, one observation, one plan.

    observe(ctx, obj) -> Observation     never changes anything
    create(ctx, obj) -> None             idempotent; safe to repeat after a crash at any line
    update(ctx, obj, observed) -> None   does exactly what observed.plan says
    delete(ctx, obj) -> bool             idempotent; honours deletionPolicy; True when nothing is left to do

Rules that the contract suite checks for every driver:

- Names outside are derived from the object's uid (`external_name`), so a crash between making a thing and
  recording it can't leak the thing.
- The state is read whole in `observe`; no verb relies on what an earlier call remembered in memory.
- Errors are `chandlery.foundation.errors`; a provider translates its SDK's errors at its edge. Retrying is the
  loop's business, never a driver's.
- A driver refuses what it can't honour in `unsupported`, before anything is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from chandlery.driver.health import Health
from chandlery.driver.parameters import NONE
from chandlery.foundation.context import Context
from chandlery.model.base import AnyResource, Condition, Endpoint, Ref


class Disruption(IntEnum):
    """What a change costs those who use the resource, in rising order."""

    NONE = 0
    RELOAD = 1
    """Configuration is read again; connections stay open."""
    RESTART = 2
    FAILOVER = 3
    """Another instance takes over; connections break once."""
    REPLACE = 4
    """A new one is made and the data moved."""
    DATA_LOSS = 5

    @property
    def label(self) -> str:
        return self.name.lower().replace("_", "-")


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as the spec asks."""

    field: str
    """Path as in the object: `spec.memory`, `spec.users[app].commands`."""
    desired: str
    actual: str
    disruption: Disruption = Disruption.NONE
    sensitive: bool = False
    """The values are secret: status and events show the field only."""
    payload: Any = None
    """What the driver needs to do this change; never shown."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The changes that an update makes, in order. `held` ones wait: for a maintenance window or for approval."""

    changes: tuple[Difference, ...] = ()
    held: tuple[Difference, ...] = ()

    @property
    def disruption(self) -> Disruption:
        return max((c.disruption for c in self.changes), default=Disruption.NONE)


@dataclass(frozen=True, slots=True)
class Binding:
    """What an application connects with: the content of the binding Secret.

    `type` and `provider` are the well-known servicebinding.io entries; `entries` holds the rest (host, port, username,
    password, uri, ...), all text. Never logged; `repr` shows the keys only.
    """

    type: str
    provider: str
    entries: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Binding(type={self.type!r}, provider={self.provider!r}, keys={sorted(self.entries)})"


@dataclass(frozen=True, slots=True)
class Observation:
    """What a driver found. Everything that status says comes from here."""

    exists: bool
    ready: bool = False
    """Serves clients now, with the real credentials."""
    reason: str = ""
    """CamelCase reason when not ready: Starting, CrashLoop, Replicating, ... ("" = the loop's default)."""
    message: str = ""
    """A sentence for people, with what to do when something is wrong."""
    differences: tuple[Difference, ...] = ()
    external_name: str = ""
    endpoint: Endpoint | None = None
    binding: Binding | None = None
    user_bindings: Mapping[str, Binding] = field(default_factory=dict)
    """Further binding Secrets by the Secret's name: one for each user that the spec asks for."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """The kind's own status fields by JSON name (replicas, primary, version, ...)."""
    conditions: tuple[Condition, ...] = ()
    """Conditions of the kind's own besides Ready, Reconciling, Stalled; lastTransitionTime is the loop's."""
    poll_after: float | None = None
    """Look again after this many seconds (0.02 while an engine starts); None: the class's drift interval."""
    plan: Plan = field(default_factory=Plan)
    """Set by the loop before `update`: what may be done now."""

    @property
    def up_to_date(self) -> bool:
        return not self.differences


@dataclass(frozen=True, slots=True)
class Unsupported:
    """One field that a driver can't honour."""

    field: str
    value: str
    why: str


class Reader(Protocol):
    """Reading other objects through the API server: Secrets that a spec names, objects that it refers to.

    Raises `errors.DependencyNotReady` only from `require`; a missing object is None elsewhere.
    """

    async def get(self, group: str, kind: str, namespace: str, name: str) -> dict[str, Any] | None: ...

    async def list(
        self, group: str, kind: str, namespace: str, labels: Mapping[str, str] | None = None
    ) -> list[dict[str, Any]]: ...

    async def secret(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        """The decoded data of a Secret."""


@dataclass(frozen=True, slots=True)
class DriverContext:
    """Context of one verb on one object. `base` carries deadline, logger, trace and clock."""

    base: Context
    reader: Reader
    provider: Any
    """The provider session that drivers of one substrate share."""
    parameters: Any = NONE
    """The ResourceClass's parameters, as the driver's class declares them by its own attribute `parameters`."""
    class_name: str = ""
    event: Callable[[str, str, str], None] = lambda _type, _reason, _message: None
    """Record a Kubernetes Event on the object: (Normal|Warning, reason, sentence)."""
    health: Health | None = None
    """The provider's, which the wrapper around each driver asks before a call."""


R_contra = TypeVar("R_contra", bound=AnyResource, contravariant=True)


@runtime_checkable
class Driver(Protocol[R_contra]):
    """What makes a kind real on one substrate."""

    name: ClassVar[str]

    def unsupported(self, obj: R_contra, parameters: Any) -> Sequence[Unsupported]:
        """The fields of this spec that this driver can't honour, with its class's parameters. Pure."""

    async def observe(self, ctx: DriverContext, obj: R_contra) -> Observation: ...

    async def create(self, ctx: DriverContext, obj: R_contra) -> None: ...

    async def update(self, ctx: DriverContext, obj: R_contra, observed: Observation) -> None: ...

    async def delete(self, ctx: DriverContext, obj: R_contra) -> bool:
        """True when nothing is left; False when it is under way and the loop should call again."""


def external_name(obj: AnyResource) -> str:
    """The name of the resource outside: what `adopt` says, else derived from the uid alone.

    Shape: `<kind>-<uid>` in lower case, at most 63 characters: valid as a DNS label, a directory and an AWS identifier.
    """
    adopt = getattr(obj.spec, "adopt", None)
    if adopt is not None:
        return str(adopt.external_name)
    return f"{obj.kind.lower()}-{obj.metadata.uid}"[:63]


References = Callable[[Any], Sequence[Ref]]
