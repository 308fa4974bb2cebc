"""What a pass works with, put together once by the operator."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from chandlery.driver.kind import Kind
from chandlery.driver.protocol import DriverContext, Reader
from chandlery.driver.provider import provider_of
from chandlery.foundation import telemetry
from chandlery.foundation.clock import Clock
from chandlery.foundation.context import Context
from chandlery.model.base import Ref
from chandlery.reconcile.api import Api, Key, Obj, ResourceType
from chandlery.reconcile.binding import Binder
from chandlery.reconcile.classes import Catalogue, Place
from chandlery.reconcile.drivers import Drivers
from chandlery.reconcile.events import Recorder
from chandlery.reconcile.sessions import Sessions
from chandlery.reconcile.settings import LoopSettings
from chandlery.reconcile.store import Store
from chandlery.reconcile.writer import Writer

_IDS = random.Random(os.urandom(16))  # noqa: S311 - trace ids must be unlikely to meet, not hard to guess; urandom costs more
_LOGGER = Context().logger
_TRACE: ContextVar[str] = ContextVar("chandlery_pass", default="")


@contextmanager
def traced_pass(key: Key, clock: Clock) -> Iterator[None]:
    """A span around one pass; logs and the spans of driver calls in it have its trace id."""
    trace = f"{_IDS.getrandbits(128):032x}"
    token = _TRACE.set(trace)
    try:
        with telemetry.span(
            "reconcile", Context(clock=clock, trace_id=trace), kind=key.kind, namespace=key.namespace, name=key.name
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
    recorder: Recorder
    fence: Callable[[], int]
    """The fencing token; raises Fenced when another replica leads."""
    audit: Callable[[str, Key, str], None] = lambda _what, _key, _why: None
    """One line in the audit log: what was done without a person asking for it, to which object, and why."""
    refer: Callable[[Key, Sequence[Ref]], None] = lambda _key, _refs: None
    """What the object refers to now: a change there enqueues it."""
    random: Callable[[], float] = field(default=random.random)

    async def context(self, key: Key, obj: Obj, place: Place) -> DriverContext:
        """A driver's context for one object.

        Raises:
            ProviderNotFound: and whatever the provider raises when it is opened.
        """
        driver = self.drivers.get(self.kinds[key.kind], place.driver)
        session = await self.sessions.get(provider_of(driver.inner), place.config)
        meta = obj["metadata"]

        def event(kind: str, reason: str, message: str) -> None:
            self.recorder.record(obj, kind, reason, message)

        words = {"kind": key.kind, "namespace": key.namespace, "name": key.name}
        base = Context(
            clock=self.clock,
            trace_id=_TRACE.get() or f"{_IDS.getrandbits(128):032x}",
            fencing_token=self.fence(),
            logger=_LOGGER.bind(**words, uid=meta.get("uid", ""), generation=meta.get("generation", 0)),
        )
        return DriverContext(base, self.reader, session, place.parameters, place.class_name, event)
