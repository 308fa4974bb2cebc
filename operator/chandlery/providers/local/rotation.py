"""Generated passwords that are replaced: on a schedule (spec.rotation), or on request by an annotation.

All in the four verbs: `observe` finds that a rotation is due, or that an old password's grace period is over, and says
so as a Difference; `update` hands the payload to `apply`, which changes the record, and the driver then brings the
engine to what the record says, as it does anyway. So the order is safe at any line: the new password is on record
before the engine hears of it, and the binding is written after the engine took it.

    rotation = Rotation(ctx, obj, instance, {"app": "password", "reader": "user-reader"})
    rotation.passwords("app")      newest first; more than one during a grace period
    rotation.differences()         part of the observation; payload ("rotate", ...) or ("expire", ...)
    rotation.apply(payload)        in update, before the engine's users are put right
    rotation.poll(10.0)            poll_after, not beyond the next due moment

An engine that holds several passwords for one name gets them all. One that holds one for each name can be given twins
(`Password.name`): another name for the new password, so that nobody who is connected is thrown out. Where neither is
possible, `grace=False`: the old one ends at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from chandlery.driver.protocol import Difference, DriverContext, Unsupported
from chandlery.foundation.clock import rfc3339
from chandlery.foundation.validation.cron import Cron
from chandlery.model.base import AnyResource
from chandlery.model.parts import Rotation as RotationSpec
from chandlery.providers.local.instance import generate_password

ROTATE_ANNOTATION: Final = "chandlery.dev/rotate-requested-at"
"""Set it to the time, or to anything that is new: the passwords that spec.rotation.users names are replaced once."""
DEFAULT_GRACE: Final = 3600.0
"""Seconds that old passwords go on working when they are replaced on request and there is no spec.rotation."""
_RECORD: Final = "rotation"


@dataclass(frozen=True, slots=True)
class Password:
    """One password of a user that works now."""

    user: str
    value: str = field(repr=False)
    slot: int = 0
    """Tells the passwords of one user apart; no two that work at the same time have the same."""
    until: datetime | None = None
    """When it stops working; None for the present one."""

    @property
    def name(self) -> str:
        """A name of its own for it, where the engine holds one password for each: the user's own at first."""
        return f"{self.user}~{self.slot + 1}" if self.slot else self.user


class Keeper(Protocol):
    """Where passwords are on record: `Instance`, or a Secret of a workload in a cluster."""

    @property
    def record(self) -> dict[str, Any]:
        """`secrets` holds the generated values by name; the rotation keeps its own entry beside it."""

    def secret(self, name: str) -> str:
        """A generated value."""

    def save(self) -> None:
        """The record has changed."""


class Rotation:
    """The rotation of one object's generated passwords, for one pass.

    Args:
        ctx: for the time and for events.
        obj: its spec.rotation and its annotations are read.
        instance: in whose record all is kept.
        secrets: user, as spec.rotation.users names it -> name of its generated secret in the record. Users with a
            password of their own choice don't belong here.
        grace: whether the engine can hold an old password beside the new one.
    """

    def __init__(
        self,
        ctx: DriverContext,
        obj: AnyResource,
        instance: Keeper,
        secrets: Mapping[str, str],
        *,
        grace: bool = True,
    ) -> None:
        self._ctx = ctx
        self._spec: RotationSpec | None = getattr(obj.spec, "rotation", None)
        self._requested = obj.metadata.annotations.get(ROTATE_ANNOTATION, "")
        self._instance = instance
        self._secrets = secrets
        self._grace = grace
        self._now = ctx.base.clock.now()

    # -- what works

    def passwords(self, user: str) -> tuple[Password, ...]:
        """All passwords of a user that should work now, the present one first; one is made where there is none."""
        present = self._instance.secret(self._secrets[user])
        return (Password(user, present, int(self._known(user).get("slot", 0))), *self._old(user))

    def password(self, user: str) -> Password:
        """The present one: what the binding holds."""
        return self.passwords(user)[0]

    def times(self) -> dict[str, str]:
        """When each user's password was last replaced, RFC 3339, for status; users that never were are left out."""
        return {user: at for user in self._secrets if (at := self._known(user).get("at"))}

    # -- what is due

    def differences(self) -> list[Difference]:
        """What `apply` should do now. A schedule that is seen for the first time counts from now on."""
        self._anchor()
        found = []
        why = self._due()
        if why:
            users = self._chosen()
            names = ", ".join(users)
            found.append(
                Difference(
                    "spec.rotation", f"new passwords for {names}", why, payload=("rotate", users, self._requested)
                )
            )
        over = tuple(user for user in self._secrets if self._over(user))
        if over:
            found.append(
                Difference(
                    "spec.rotation.gracePeriod", "one password", f"two for {', '.join(over)}", payload=("expire",)
                )
            )
        return found

    def next_due(self) -> float | None:
        """Seconds until there is something to do, 0 when it is now; None when nothing is ahead."""
        ends = [old.until for user in self._secrets for old in self._old(user) if old.until is not None]
        moments = [*ends, *([self._next_scheduled()] if self._spec is not None else [])]
        if self._due():
            return 0.0
        return max(0.0, (min(moments) - self._now).total_seconds()) if moments else None

    def poll(self, seconds: float) -> float:
        """A time until the next look that doesn't miss what is due."""
        due = self.next_due()
        return seconds if due is None else min(seconds, due)

    # -- doing it

    def apply(self, payload: Sequence[Any]) -> None:
        """Do in the record what a Difference of `differences` asked for; the engine comes after.

        One write: there is no moment at which a new password counts and the old one is forgotten.
        """
        if payload[0] == "rotate":
            self._rotate(tuple(payload[1]), str(payload[2]))
        elif payload[0] == "expire":
            for user in self._secrets:
                self._keep(user, [old for old in self._old(user) if old.until is not None and old.until > self._now])
        self._instance.save()

    def _rotate(self, users: Sequence[str], requested: str) -> None:
        until = self._now + timedelta(seconds=self._grace_seconds())
        for user in users:
            entry = self._entry(user)
            present, *old = self.passwords(user)
            kept = [replace(present, until=until), *old] if until > self._now else []
            self._keep(user, kept)
            taken = {old.slot for old in kept}
            entry["slot"] = next(slot for slot in range(len(taken) + 1) if slot not in taken)
            entry["at"] = rfc3339(self._now)
            self._instance.record["secrets"][self._secrets[user]] = generate_password()
        self._state.update({"since": self._now.isoformat(), "requested": requested})
        names, ends = ", ".join(users), f"; the old ones work until {rfc3339(until)}" if until > self._now else ""
        self._ctx.event("Normal", "Rotated", f"The passwords of {names} were replaced{ends}.")

    # -- record

    @property
    def _state(self) -> dict[str, Any]:
        found: dict[str, Any] = self._instance.record.setdefault(_RECORD, {})
        return found

    def _entry(self, user: str) -> dict[str, Any]:
        """What is on record of a user, to be changed."""
        found: dict[str, Any] = self._state.setdefault("users", {}).setdefault(user, {})
        return found

    def _known(self, user: str) -> Mapping[str, Any]:
        """What is on record of a user, to be read."""
        found: Mapping[str, Any] = self._instance.record.get(_RECORD, {}).get("users", {}).get(user, {})
        return found

    def _old(self, user: str) -> list[Password]:
        """Whether their time is over or not: until `apply` dropped them the engine may still take them."""
        return [
            Password(user, old["value"], old["slot"], datetime.fromisoformat(old["until"]))
            for old in self._known(user).get("old", ())
        ]

    def _keep(self, user: str, old: Sequence[Password]) -> None:
        self._entry(user)["old"] = [
            {"value": each.value, "slot": each.slot, "until": each.until.isoformat()} for each in old if each.until
        ]

    def _over(self, user: str) -> bool:
        return any(old.until is not None and old.until <= self._now for old in self._old(user))

    # -- schedule

    def _anchor(self) -> None:
        """From when on the schedule counts: a new or changed one counts from now, not from long ago."""
        if self._spec is None:
            return
        schedule = str(self._spec.schedule)
        if self._state.get("schedule") != schedule:
            self._state.update({"schedule": schedule, "since": self._now.isoformat()})
            self._instance.save()

    def _next_scheduled(self) -> datetime:
        assert self._spec is not None
        since = self._instance.record.get(_RECORD, {}).get("since")
        return Cron(str(self._spec.schedule)).next(datetime.fromisoformat(since) if since else self._now)

    def _due(self) -> str:
        """Why the passwords must be replaced now; empty when they needn't."""
        if not self._chosen():
            return ""
        if self._requested and self._requested != self._instance.record.get(_RECORD, {}).get("requested", ""):
            return f"asked for by the annotation {ROTATE_ANNOTATION}"
        if self._spec is not None and self._next_scheduled() <= self._now:
            return f"due since {rfc3339(self._next_scheduled())}"
        return ""

    def _chosen(self) -> tuple[str, ...]:
        chosen = self._spec.users if self._spec is not None else ()
        return tuple(user for user in self._secrets if not chosen or user in chosen)

    def _grace_seconds(self) -> float:
        if not self._grace:
            return 0.0
        return self._spec.grace_period.seconds if self._spec is not None else DEFAULT_GRACE


def refused(spec: Any, secrets: Mapping[str, str]) -> list[Unsupported]:
    """Users in spec.rotation.users that have no generated password to replace."""
    rotation: RotationSpec | None = getattr(spec, "rotation", None)
    if rotation is None:
        return []
    able = ", ".join(secrets) or "none"
    why = f"it has no generated password here; those that have: {able}"
    return [Unsupported("spec.rotation.users", user, why) for user in rotation.users if user not in secrets]
