"""What a pass works with, put together once by the operator."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Final

from chandlery.driver.health import Health
from chandlery.driver.kind import Kind
from chandlery.driver.parameters import InvalidParameters
from chandlery.driver.protocol import DriverContext, Reader
from chandlery.driver.provider import provider_of
from chandlery.foundation import telemetry
from chandlery.foundation.clock import Clock
from chandlery.foundation.context import Context
from chandlery.foundation.errors import ChandleryError
from chandlery.foundation.events import Bus
from chandlery.foundation.logging import bound, rebind
from chandlery.model.base import Ref
from chandlery.reconcile.api import Api, Key, Obj, ResourceType
from chandlery.reconcile.binding import Binder
from chandlery.reconcile.classes import Catalogue, Place, made_by, recorded_class
from chandlery.reconcile.drivers import Drivers
from chandlery.reconcile.said import Audited, Said
from chandlery.reconcile.sessions import Sessions
from chandlery.reconcile.settings import LoopSettings
from chandlery.reconcile.store import Store
from chandlery.reconcile.writer import Writer

NO_ROOM: Final = 10.0
"""Seconds until a pass is tried again that found its provider's places taken, should nobody call it before."""

_IDS = random.Random(os.urandom(16))  # noqa: S311 - trace ids must be unlikely to meet, not hard to guess; urandom costs more
_LOGGER = Context().logger
_TRACE: ContextVar[str] = ContextVar("chandlery_pass", default="")


class traced_pass:  # noqa: N801 - reads as a block; a class, because each pass is such a block
    """A span around one pass; every log line in it, whoever writes it, says which object and which pass it is about."""

    __slots__ = ("_bound", "_span", "_token", "_trace")

    def __init__(self, key: Key, obj: Obj, clock: Clock) -> None:
        self._trace = f"{_IDS.getrandbits(128):032x}"
        meta = obj["metadata"]
        words = {"kind": key.kind, "namespace": key.namespace, "name": key.name}
        facts = {"uid": meta.get("uid", ""), "generation": meta.get("generation", 0), "trace_id": self._trace}
        self._bound = bound(**words, **facts, driver=(obj.get("status") or {}).get("driver", ""))
        ctx = Context(clock=clock, trace_id=self._trace) if telemetry.tracing() else None
        self._span = telemetry.span("reconcile", ctx, **words)

    def __enter__(self) -> None:
        self._token = _TRACE.set(self._trace)
        self._bound.__enter__()
        self._span.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._span.__exit__(kind, error, trace)
        finally:
            self._bound.__exit__()
            _TRACE.reset(self._token)


@dataclass(frozen=True, slots=True)
class Environment:
    """Everything that outlives a pass."""

    api: Api
    clock: Clock
    settings: LoopSettings
    kinds: Mapping[str, Kind]
    types: Mapping[str, ResourceType]
    store: Store
    catalogue: Catalogue
    sessions: Sessions
    drivers: Drivers
    reader: Reader
    binder: Binder
    writer: Writer
    bus: Bus
    """Where the loop and drivers say what happens."""
    fence: Callable[[], int]
    """The fencing token; raises Fenced when another replica leads."""
    refer: Callable[[Key, Sequence[Ref]], None] = lambda _key, _refs: None
    """What the object refers to now: a change there enqueues it."""
    retired: frozenset[str] = frozenset()
    """Kinds that are switched off: nothing is done for them but deletions."""
    enqueue: Callable[[Key], None] = lambda _key: None
    """The object needs a pass."""
    random: Callable[[], float] = field(default=random.random)

    def say(self, obj: Obj, kind: str, reason: str, message: str, *, routine: bool = False) -> None:
        """Tell whoever listens; `kind` is Normal or Warning."""
        self.bus.publish(Said(obj, kind, reason, message, routine))

    def audit(self, what: str, key: Key, why: str) -> None:
        """Tell what was done without a person asking for it, to which object, and why."""
        self.bus.publish(Audited(what, key, why))

    def no_room(self, key: Key, obj: Obj) -> bool:
        """Whether a pass would find its provider's places taken, told before it begins: it is enqueued once not.

        A pass that finds out by itself has done a third of its work for nothing.
        """
        if not self.sessions.crowded:
            return False
        try:
            place = made_by(obj)
            if place is None:
                asked = (obj.get("spec") or {}).get("className")
                place = self.catalogue.choose(key.kind, asked, recorded_class(obj))
            health = self._health(key, place)
        except ChandleryError:
            return False  # the pass says so
        return health is not None and health.sends_away(key, partial(self.enqueue, key))

    def room(self, key: Key, place: Place) -> AbstractContextManager[None]:
        """One of the places that passes have at a provider; raises NoRoom, and enqueues the key when there is one."""
        health = self._health(key, place)
        return nullcontext() if health is None else health.room(key, partial(self.enqueue, key))

    def misparametrized(self, kind: Kind, place: Place) -> InvalidParameters | None:
        """What is wrong in the parameters of a class or of its ProviderConfig; the objects of both suffer from it."""
        provider = provider_of(self.drivers.get(kind, place.driver).inner)
        return self.drivers.read(kind, place).error or self.sessions.read(provider, place.config).error

    def _health(self, key: Key, place: Place) -> Health | None:
        driver = self.drivers.get(self.kinds[key.kind], place.driver)
        return self.sessions.health(provider_of(driver.inner), place.config)

    async def context(self, key: Key, obj: Obj, place: Place) -> DriverContext:
        """A driver's context for one object.

        Raises:
            ProviderNotFound: and whatever the provider raises when it is opened.
            InvalidParameters: those of the class or of the ProviderConfig can't be read.
        """
        kind = self.kinds[key.kind]
        driver = self.drivers.get(kind, place.driver)
        parameters = self.drivers.read(kind, place).usable()
        session = await self.sessions.get(provider_of(driver.inner), place.config)
        meta = obj["metadata"]

        def event(kind: str, reason: str, message: str) -> None:
            self.say(obj, kind, reason, message)

        rebind(driver=place.driver)
        trace = _TRACE.get() or f"{_IDS.getrandbits(128):032x}"
        words = {"kind": key.kind, "namespace": key.namespace, "name": key.name, "driver": place.driver}
        facts = {"uid": meta.get("uid", ""), "generation": meta.get("generation", 0), "trace_id": trace}
        base = Context(
            clock=self.clock, trace_id=trace, fencing_token=self.fence(), logger=_LOGGER.bind(**words, **facts)
        )
        health = self._health(key, place)
        return DriverContext(base, self.reader, session, parameters, place.class_name, event, health)
