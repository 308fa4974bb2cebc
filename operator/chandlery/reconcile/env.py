"""What a pass works with, put together once by the operator."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

from chandlery.driver.health import Health
from chandlery.driver.kind import Kind
from chandlery.driver.parameters import InvalidParameters
from chandlery.driver.protocol import DriverContext, Reader
from chandlery.driver.provider import provider_of
from chandlery.foundation import telemetry
from chandlery.foundation.clock import Clock
from chandlery.foundation.context import Context
from chandlery.foundation.events import Bus
from chandlery.foundation.logging import bound, rebind
from chandlery.model.base import Ref
from chandlery.reconcile.api import Api, Key, Obj, ResourceType
from chandlery.reconcile.binding import Binder
from chandlery.reconcile.classes import Catalogue, Place
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


@contextmanager
def traced_pass(key: Key, obj: Obj, clock: Clock) -> Iterator[None]:
    """A span around one pass; every log line in it, whoever writes it, says which object and which pass it is about."""
    trace = f"{_IDS.getrandbits(128):032x}"
    token = _TRACE.set(trace)
    meta = obj["metadata"]
    words = {"kind": key.kind, "namespace": key.namespace, "name": key.name}
    facts = {"uid": meta.get("uid", ""), "generation": meta.get("generation", 0), "trace_id": trace}
    driver = (obj.get("status") or {}).get("driver", "")
    try:
        with (
            bound(**words, **facts, driver=driver),
            telemetry.span("reconcile", Context(clock=clock, trace_id=trace), **words),
        ):
            yield
    finally:
        _TRACE.reset(token)


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
    enqueue: Callable[[Key], None] = lambda _key: None
    """The object needs a pass."""
    random: Callable[[], float] = field(default=random.random)

    def say(self, obj: Obj, kind: str, reason: str, message: str, *, routine: bool = False) -> None:
        """Tell whoever listens; `kind` is Normal or Warning."""
        self.bus.publish(Said(obj, kind, reason, message, routine))

    def audit(self, what: str, key: Key, why: str) -> None:
        """Tell what was done without a person asking for it, to which object, and why."""
        self.bus.publish(Audited(what, key, why))

    def room(self, key: Key, place: Place) -> AbstractAsyncContextManager[None]:
        """One of the places that passes have at a provider; raises NoRoom, and enqueues the key when there is one."""
        health = self._health(key, place)
        return nullcontext() if health is None else health.room(key, lambda: self.enqueue(key))

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
