"""What the `kubernetes` drivers of all kinds have in common: one pass reads what is there and does the rest."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import orjson

from chandlery.driver.parameters import Parameters
from chandlery.driver.permissions import Rule
from chandlery.driver.plan import window_of
from chandlery.driver.protocol import Difference, DriverContext, Observation, Unsupported
from chandlery.foundation.errors import DependencyNotReady
from chandlery.model.base import AnyResource, DeletionPolicy
from chandlery.providers.kubernetes.children import Children
from chandlery.providers.kubernetes.ownership import Owner
from chandlery.providers.kubernetes.session import Key, KubernetesSession
from chandlery.providers.kubernetes.templates import ANY, UPGRADE
from chandlery.providers.kubernetes.types import CLAIMS, SECRETS, STATEFUL_SETS, Obj
from chandlery.providers.local.rotation import Rotation

R = TypeVar("R", bound=AnyResource)
P = TypeVar("P", bound=Parameters)

AUTH = "-auth"
"""Suffix of the Secret with generated passwords."""
MADE: tuple[str, ...] = ("get", "list", "watch", "create", "patch", "delete")
"""Verbs on what a driver makes."""


def child_rules(*groups: tuple[str, Sequence[str]]) -> tuple[Rule, ...]:
    """Permissions on kinds of which a driver makes objects: pairs of API group and plural names."""
    return tuple(Rule((group,), tuple(plurals), MADE) for group, plurals in groups)


class Pass(Protocol):
    """Everything that one pass does with one object. Made anew each time; keeps nothing."""

    async def observe(self) -> Observation: ...

    async def create(self) -> None: ...

    async def update(self, observed: Observation) -> None: ...

    async def delete(self) -> bool: ...


class KubernetesDriver(ABC, Generic[R, P]):
    """The four verbs by a pass; a kind says which pass, which parameters it has, and what it refuses."""

    name: ClassVar[str] = "kubernetes"
    permissions: ClassVar[tuple[Rule, ...]] = ()
    parameters: ClassVar[type[Parameters]]

    @abstractmethod
    async def begin(self, ctx: DriverContext, obj: R) -> Pass:
        """Read what is there."""

    @abstractmethod
    def refused(self, obj: R, parameters: P) -> Iterator[Unsupported]:
        """What this kind can't honour."""

    def unsupported(self, obj: R, parameters: P) -> Sequence[Unsupported]:
        found = list(self.refused(obj, parameters))
        if getattr(obj.spec, "adopt", None) is not None:
            why = "workloads that something else made can't be taken over"
            found.append(Unsupported("spec.adopt", "set", why))
        return found

    async def observe(self, ctx: DriverContext, obj: R) -> Observation:
        return await (await self.begin(ctx, obj)).observe()

    async def create(self, ctx: DriverContext, obj: R) -> None:
        await (await self.begin(ctx, obj)).create()

    async def update(self, ctx: DriverContext, obj: R, observed: Observation) -> None:
        await (await self.begin(ctx, obj)).update(observed)

    async def delete(self, ctx: DriverContext, obj: R) -> bool:
        return await (await self.begin(ctx, obj)).delete()


def agreed(spec: Any, annotations: Mapping[str, str], now: datetime) -> str:
    """For `templates.keep`: a digest that a person agreed to, or ANY while the maintenance window is open."""
    window = window_of(spec)
    return ANY if window is not None and window.open_at(now) else annotations.get(UPGRADE, "")


ROTATION = "rotation"
"""Key of the Secret with generated passwords under which their rotation is on record."""


class AuthRecord:
    """The Secret with generated passwords, as what `Rotation` keeps its record in. `flush` writes it."""

    def __init__(self, there: Children) -> None:
        self._there = there
        live = there.get(SECRETS, AUTH)
        data = {key: b64decode(value).decode() for key, value in ((live or {}).get("data") or {}).items()}
        self._before = data
        rotation = orjson.loads(data.get(ROTATION) or "{}")
        self.record: dict[str, Any] = {
            "secrets": {key: value for key, value in data.items() if key != ROTATION},
            **({ROTATION: rotation} if rotation else {}),
        }
        self.changed = False
        """Whether there is something to write."""

    def secret(self, name: str) -> str:
        value: str = self.record["secrets"][name]
        return value

    def save(self) -> None:
        self.changed = True

    async def flush(self) -> None:
        """On record, all at once, unless somebody else wrote in between (Conflict)."""
        live = self._there.get(SECRETS, AUTH)
        if not self.changed or live is None:
            return
        data = {**self.record["secrets"], ROTATION: orjson.dumps(self.record.get(ROTATION, {})).decode()}
        news = {k: b64encode(v.encode()).decode() for k, v in data.items() if self._before.get(k) != v}
        version = live["metadata"]["resourceVersion"]
        await self._there.session.merge(live, {"metadata": {"resourceVersion": version}, "data": news})
        await self._there.look()
        self.changed = False


class Workload(ABC, Generic[R]):
    """The part of a pass that is the same for every engine: children, passwords, deletion."""

    application: ClassVar[str] = "app"
    """The binding's user, as spec.rotation.users names it."""
    grace: ClassVar[bool] = True
    """Whether the engine can hold an old password beside a new one."""

    keeps_auth: ClassVar[bool] = True
    """Whether passwords stay with retained volumes: without them the data is of little use."""

    def __init__(self, ctx: DriverContext, obj: R, there: Children) -> None:
        self.ctx = ctx
        self.obj = obj
        self.spec: Any = obj.spec
        self.there = there
        self.session: KubernetesSession = there.session
        self.owner: Owner = there.owner

    @property
    def stateful(self) -> Obj | None:
        """The workload with the engine; where there are several, the one that holds the notes."""
        return self.there.get(STATEFUL_SETS)

    # -- passwords

    def auth(self) -> dict[str, str]:
        """The generated passwords."""
        live = self.there.get(SECRETS, AUTH)
        return {key: b64decode(value).decode() for key, value in ((live or {}).get("data") or {}).items()}

    def auth_keys(self) -> list[str]:
        """Which passwords there must be."""
        return ["admin", "password", *(f"user-{u.name}" for u in self.spec.users if u.password_secret is None)]

    def missing_auth(self) -> list[str]:
        known = self.auth()
        return [key for key in self.auth_keys() if key not in known]

    async def ensure_auth(self) -> None:
        """Generate what is missing, on record before anything uses it."""
        missing = self.missing_auth()
        if missing:
            await self.there.secret_once(AUTH, {key: secrets.token_urlsafe(24) for key in missing})
            await self.there.look()

    async def user_password(self, name: str) -> str:
        """The password of a user of the spec.

        Raises:
            DependencyNotReady: the Secret that should hold it isn't there.
        """
        user = next(u for u in self.spec.users if u.name == name)
        if user.password_secret is None:
            return self.auth()[f"user-{name}"]
        found = await self.ctx.reader.secret(self.owner.namespace, user.password_secret.name)
        password = (found or {}).get("password", b"").decode()
        if not password:
            raise DependencyNotReady(
                f"Secret {user.password_secret.name} with the key `password` isn't there",
                field=f"spec.users[{name}].passwordSecret",
                hint="Create it, or leave passwordSecret out to have a password generated.",
            )
        return password

    def generated(self) -> dict[str, str]:
        """Users with generated passwords, and the keys of these."""
        own = {u.name: f"user-{u.name}" for u in self.spec.users if u.password_secret is None}
        return {self.application: "password", **own}

    @cached_property
    def record(self) -> AuthRecord:
        return AuthRecord(self.there)

    @property
    def rotation(self) -> Rotation:
        """What spec.rotation and its annotation ask for; `rotate` does it."""
        return Rotation(self.ctx, self.obj, self.record, self.generated(), grace=self.grace)

    def rotation_differences(self) -> list[Difference]:
        """Passwords that are due; when a schedule is seen for the first time, that has to be put on record."""
        found = self.rotation.differences()
        if not found and self.record.changed:
            found.append(Difference("spec.rotation", "on record", "not on record", payload=("anchor",)))
        return found

    async def rotate(self, payload: Sequence[Any]) -> None:
        """What a payload of `rotation_differences` says: on record, before the engine hears of it."""
        rotation = self.rotation
        if payload[0] == "anchor":
            rotation.differences()
        else:
            rotation.apply(payload)
        await self.record.flush()
        del self.record

    def passwords(self, user: str) -> list[str]:
        """All generated passwords of a user that work now, the present one first."""
        return [password.value for password in self.rotation.passwords(user)]

    def user_facts(self) -> list[dict[str, Any]]:
        """`status.users`."""
        times = self.rotation.times()
        return [
            {
                "name": user.name,
                "secretName": f"{self.owner.name}-user-{user.name}",
                "ready": True,
                **({"lastRotatedTime": times[user.name]} if user.name in times else {}),
            }
            for user in self.spec.users
        ]

    # -- templates

    @property
    def upgrade(self) -> str:
        """For `templates.keep`."""
        return agreed(self.spec, self.obj.metadata.annotations, self.ctx.base.now())

    @property
    def opens(self) -> datetime | None:
        """When the maintenance window is open next; None without one."""
        window = window_of(self.spec)
        return window.next_open(self.ctx.base.now()) if window is not None else None

    def poll(self, seconds: float | None, newer: str) -> float | None:
        """`poll_after`: what the kind wants, the next rotation, or the window in which a newer template goes out."""
        due = self.rotation.next_due()
        moments = [] if due is None else [due]
        opens = self.opens if newer else None
        if opens is not None:
            moments.append((opens - self.ctx.base.now()).total_seconds())
        if seconds is not None:
            moments.append(seconds)
        return max(0.05, min(moments)) if moments else None

    @property
    def address(self) -> str:
        """As in commands for people: `cache/orders -n shop`."""
        return f"{self.obj.names.singular}/{self.owner.name} -n {self.owner.namespace}"

    # -- acts

    async def act_all(self, desired: Iterable[Obj]) -> None:
        """Make what is missing, change what is different."""
        for change in self.there.differences(desired):
            await self.there.act(*change.payload)

    async def delete(self) -> bool:
        """Everything goes; with `Retain` the volumes stay, and the passwords with them."""
        keep: set[Key] = set()
        if self.spec.deletion_policy is DeletionPolicy.RETAIN:
            keep = {key for key in self.there.live if key[0] == CLAIMS.kind}
            if keep and self.keeps_auth:
                keep |= await self.release(AUTH)
        return await self.there.remove(keep=keep)

    async def release(self, suffix: str) -> set[Key]:
        """A Secret that stays when everything else goes: nobody owns it any more. Its key; none where it isn't."""
        live = self.there.get(SECRETS, suffix)
        if live is None:
            return set()
        if live["metadata"].get("ownerReferences"):
            await self.session.merge(live, {"metadata": {"ownerReferences": None}})
        return {(SECRETS.kind, live["metadata"]["name"])}
