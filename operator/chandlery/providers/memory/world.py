"""The simulated world: what exists outside, whoever made it, until somebody removes it.

It is a small provider's API. A resource is made of parts (volume, address, user, instance), each made by one call, so
that a crash can come between any two of them. Instances take time to start and to stop. Every call goes through
`World.call`, where latency, errors and crashes are injected before or after it takes effect.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from chandlery.foundation.clock import SYSTEM, Clock
from chandlery.foundation.errors import ChandleryError, NotFound, ProviderUnavailable

INSTANCE: Final = "instance"
When = Literal["before", "after"]


class Crash(BaseException):
    """The operator was killed here. Not an Exception: nothing may catch it and go on."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the world's API."""

    number: int
    verb: str
    part: str
    name: str


@dataclass(slots=True)
class Part:
    """Something that exists."""

    part: str
    name: str
    data: dict[str, Any] = field(default_factory=dict)


Hook = Callable[[Call, When], Awaitable[None]]


async def _nothing(_call: Call, _when: When) -> None:
    return


class World:
    """Everything that exists, and the ways in which it can fail.

    Attributes:
        latency: seconds that each call takes.
        start_time: seconds from an instance's start until it serves.
        stop_time: seconds from an instance's removal until it is gone.
        down: while set, every call fails with this error.
        hook: called before and after each call takes effect; may raise.
    """

    def __init__(
        self, clock: Clock = SYSTEM, *, latency: float = 0.0, start_time: float = 0.0, stop_time: float = 0.0
    ) -> None:
        self.clock = clock
        self.latency = latency
        self.start_time = start_time
        self.stop_time = stop_time
        self.down: ChandleryError | None = None
        self.hook: Hook = _nothing
        self.calls: list[Call] = []
        self.listeners: set[Callable[[str], None]] = set()
        self._names: dict[str, dict[str, Part]] = {}
        self._port = 20_000

    # The provider's API

    async def look(self, name: str) -> dict[str, Part]:
        """All parts of this name, as copies."""
        async with self.call("look", "*", name):
            return {p.part: Part(p.part, p.name, dict(p.data)) for p in self._names.get(name, {}).values()}

    async def make(self, part: str, name: str, data: Mapping[str, Any]) -> None:
        """Make a part; one that exists stays as it is, so that it is safe to repeat."""
        async with self.call("make", part, name):
            parts = self._names.setdefault(name, {})
            if part not in parts:
                parts[part] = Part(part, name, dict(data))

    async def start(self, name: str, data: Mapping[str, Any]) -> None:
        """Make and start the instance, or start the one that stands still; one that starts goes on as it was."""
        async with self.call("start", INSTANCE, name):
            found = self._names.setdefault(name, {}).setdefault(INSTANCE, Part(INSTANCE, name, dict(data)))
            if found.data.get("state") not in {"starting", "running"}:
                self._boot(found)

    async def configure(self, name: str, changes: Mapping[str, Any], *, restart: bool, renew: bool = False) -> None:
        """Change an instance's settings; `renew` makes a new one out of it."""
        async with self.call("configure", INSTANCE, name):
            found = self.part(INSTANCE, name)
            if found is None:
                raise NotFound(f"no instance {name}")
            settings = {**found.data.get("settings", {}), **changes}
            found.data["settings"] = {key: value for key, value in settings.items() if value is not None}
            if renew:
                found.data["incarnation"] = found.data.get("incarnation", 1) + 1
            if restart or renew:
                self._boot(found)

    async def remove(self, part: str, name: str) -> None:
        """Remove a part; an absent one is no error. An instance needs `stop_time` to go."""
        async with self.call("remove", part, name):
            found = self.part(part, name)
            if found is None:
                return
            if part == INSTANCE and self.stop_time > 0:
                if found.data.get("state") != "stopping":
                    found.data["state"] = "stopping"
                    found.data["gone_at"] = self.clock.monotonic() + self.stop_time
                    self.clock.call_later(self.stop_time, self._gone, found)
                return
            self._drop(part, name)

    # For tests and demonstrations

    def exists(self, name: str) -> list[str]:
        """Names of the parts there are; without going through the API."""
        return sorted(self._names.get(name, ()))

    def everything(self) -> list[tuple[str, str]]:
        """(part, name) of all there is."""
        return sorted((part, name) for name, parts in self._names.items() for part in parts)

    def part(self, part: str, name: str) -> Part | None:
        """The part itself, to look at or to tamper with."""
        return self._names.get(name, {}).get(part)

    def destroy(self, part: str, name: str) -> None:
        """Somebody removes a part behind the operator's back."""
        self._drop(part, name)
        self._tell(name)

    def break_instance(self, name: str) -> None:
        """The instance crashes."""
        found = self.part(INSTANCE, name)
        if found is not None:
            found.data["state"] = "crashed"
            self._tell(name)

    def fail(
        self, error: ChandleryError | None = None, *, times: int = 1, verb: str = "", when: When = "before"
    ) -> None:
        """Let the next calls (of one verb, if given) fail before or after they take effect."""
        left = times
        problem = error or ProviderUnavailable("the simulated provider is away", retry_after=1.0)

        async def hook(call: Call, moment: When) -> None:
            nonlocal left
            if left > 0 and moment == when and (not verb or call.verb == verb):
                left -= 1
                raise problem

        self.hook = hook

    def crash_at(self, number: int, when: When = "before") -> None:
        """Kill the operator at the n-th call from now on (1 is the next one)."""
        target = len(self.calls) + number

        async def hook(call: Call, moment: When) -> None:
            if call.number == target and moment == when:
                raise Crash(f"{call.verb} {call.part} {call.name}")

        self.hook = hook

    def heal(self) -> None:
        """No more injected failures."""
        self.hook = _nothing
        self.down = None

    @asynccontextmanager
    async def call(self, verb: str, part: str, name: str) -> AsyncIterator[None]:
        """Around each call of the API."""
        call = Call(len(self.calls) + 1, verb, part, name)
        self.calls.append(call)
        if self.latency:
            await self.clock.sleep(self.latency)
        if self.down is not None:
            raise self.down
        if self.hook is not _nothing:
            await self.hook(call, "before")
        yield
        if self.hook is not _nothing:
            await self.hook(call, "after")

    def _drop(self, part: str, name: str) -> None:
        parts = self._names.get(name, {})
        parts.pop(part, None)
        if not parts:
            self._names.pop(name, None)

    def _boot(self, instance: Part) -> None:
        instance.data.setdefault("incarnation", 1)
        if "port" not in instance.data:
            self._port += 1
            instance.data["port"] = self._port
        if self.start_time <= 0:
            instance.data["state"] = "running"
            return
        instance.data["state"] = "starting"
        instance.data["ready_at"] = self.clock.monotonic() + self.start_time
        self.clock.call_later(self.start_time, self._ready, instance)

    def _ready(self, instance: Part) -> None:
        if instance.data.get("state") != "starting":
            return
        left = float(instance.data.get("ready_at", 0.0)) - self.clock.monotonic()
        if left > 0.0005:  # started again meanwhile; timers of some event loops are early by less than that
            self.clock.call_later(left, self._ready, instance)
            return
        instance.data["state"] = "running"
        self._tell(instance.name)

    def _gone(self, instance: Part) -> None:
        if self.part(INSTANCE, instance.name) is instance:
            self._drop(INSTANCE, instance.name)
            self._tell(instance.name)

    def _tell(self, name: str) -> None:
        for listener in list(self.listeners):
            listener(name)


def password() -> str:
    """A password for a simulated user."""
    return secrets.token_urlsafe(24)
