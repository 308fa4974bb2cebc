"""Everything that a leading replica runs, put together: engine, workers, informers of classes, bindings, references.

Where events of our own kinds come from is not decided here: kopf in the operator, an informer in tests and wherever
kopf isn't wanted. Both call `engine.feed`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any

from chandlery.driver.kind import Kind
from chandlery.driver.provider import Leaves, ProviderFactory
from chandlery.foundation.clock import SYSTEM, Clock
from chandlery.foundation.concurrency.workqueue import WorkQueue
from chandlery.foundation.context import Context, Logger
from chandlery.foundation.errors import ChandleryError, ProviderUnavailable
from chandlery.foundation.events import Bus
from chandlery.model.base import Ref
from chandlery.model.scalars import Duration
from chandlery.reconcile.answers import Answers
from chandlery.reconcile.api import FINALIZER, PROVIDER_CONFIGS, RESOURCE_CLASSES, SECRETS, Api, Key, Obj, type_of
from chandlery.reconcile.binding import MANAGED_SELECTOR, Binder, owner_of
from chandlery.reconcile.classes import Catalogue, made_by
from chandlery.reconcile.drivers import Drivers
from chandlery.reconcile.engine import Engine
from chandlery.reconcile.env import Environment
from chandlery.reconcile.events import Recorder
from chandlery.reconcile.guard import Gate, guarded
from chandlery.reconcile.informer import Informer
from chandlery.reconcile.loop import Loop, Next
from chandlery.reconcile.metrics import Metrics
from chandlery.reconcile.platform_status import PlatformStatus
from chandlery.reconcile.reader import ApiReader
from chandlery.reconcile.said import Audited, Said
from chandlery.reconcile.sessions import Sessions
from chandlery.reconcile.settings import LoopSettings
from chandlery.reconcile.store import Store
from chandlery.reconcile.writer import Writer


def parse_interval(value: Any) -> float | None:
    """A duration as classes write it, in seconds."""
    return Duration.parse(str(value)).seconds if value else None


class Core:
    """Built for one term of leadership; started once, stopped once.

    Args:
        api: the API server.
        kinds: the kinds that are switched on.
        retired: kinds that are switched off, of which deletions are carried out and nothing else.
        providers: how to open the sessions of each provider, by name.
        settings: of the loop.
        clock: the only source of time.
        fence: gives the fencing token; raises Fenced when another replica leads.
        audit: takes one line for what was done without a person asking.
        metrics: where to report.
        jitter: 0 to 1, evenly spread.
        gate: which objects are this replica's, where several share the work.
    """

    def __init__(
        self,
        api: Api,
        kinds: Sequence[Kind],
        providers: Mapping[str, ProviderFactory],
        *,
        settings: LoopSettings | None = None,
        clock: Clock = SYSTEM,
        fence: Callable[[], int] = lambda: 0,
        audit: Callable[[str, Key, str], None] | None = None,
        metrics: Metrics | None = None,
        jitter: Callable[[], float] = random.random,
        gate: Gate | None = None,
        retired: Sequence[Kind] = (),
    ) -> None:
        self.settings = settings or LoopSettings()
        self.metrics = metrics or Metrics()
        self.kinds = {kind.name: kind for kind in (*kinds, *retired)}
        self.types = {kind.name: type_of(kind.names) for kind in (*kinds, *retired)}
        self.retired = frozenset(kind.name for kind in retired)
        self._api = api
        self._clock = clock
        self._jitter = jitter
        self._audit = audit
        self._logger: Logger = Context(clock=clock).logger
        self._tasks: set[asyncio.Task[Any]] = set()
        self._sweep_now = asyncio.Event()
        self.crashed = asyncio.Event()
        """Set when a task that must never end has ended."""
        self._followed: dict[tuple[str, str], Informer] = {}
        self.informers: list[Informer] = []
        self.sources: dict[str, Informer] = {}
        self.primaries_synced: Callable[[str], bool] = self._source_synced
        self._gate = gate
        self._build(api, providers, clock, fence)

    def _build(
        self, api: Api, providers: Mapping[str, ProviderFactory], clock: Clock, fence: Callable[[], int]
    ) -> None:
        store = Store()
        self.catalogue = Catalogue(parse_interval)
        self.reader = ApiReader(api, store, self.types, self._synced)
        self.sessions = Sessions(
            providers,
            self.catalogue,
            self.reader,
            clock,
            self._notify,
            places=self.settings.provider_workers,
            wake=self._wake_stranded,
        )
        self.binder = Binder(api)
        self.recorder = Recorder(api, clock, logger=self._logger)
        self.bus = Bus(logger=self._logger)
        """Whoever wants to hear what is said about objects subscribes here."""
        self.bus.subscribe(Said, self._record, name="events")
        self.bus.subscribe(Said, self._count, name="metrics")
        self.bus.subscribe(Audited, self._audited, name="audit")
        self.drivers = Drivers(self.metrics, self.settings.deadlines)
        self.answers = Answers()
        writer = Writer(api, self._stored, fence, self._lost, self.answers)
        env = Environment(
            api=api,
            clock=clock,
            settings=self.settings,
            kinds=self.kinds,
            types=self.types,
            store=store,
            catalogue=self.catalogue,
            sessions=self.sessions,
            drivers=self.drivers,
            reader=self.reader,
            binder=self.binder,
            writer=writer,
            bus=self.bus,
            fence=fence,
            refer=self._refer,
            retired=self.retired,
            enqueue=self._enqueue,
            random=self._jitter,
        )
        served = {name: kind for name, kind in self.kinds.items() if name not in self.retired}
        self.platform = PlatformStatus(
            api, clock, store, self.catalogue, served, self.drivers, self.sessions, fence, self._logger
        )
        self._tell_platform = guarded(self.platform.tell, fence, self._gate, None)
        queue: WorkQueue[Key] = WorkQueue(
            group=attrgetter("kind"),
            clock=clock,
            base=self.settings.backoff_base,
            limit=self.settings.backoff_limit,
            random=self._jitter,
            waited=self.metrics.waited,
        )
        self.engine = Engine(
            clock=clock,
            store=store,
            queue=queue,
            writer=writer,
            groups={name: kind.names.group for name, kind in self.kinds.items()},
            reconcile=guarded(Loop(env).reconcile, fence, self._gate, Next()),
            logger=self._logger,
            metrics=self.metrics,
        )

    async def start(self, before_work: Callable[[], Awaitable[None]] | None = None) -> None:
        """Know classes, configurations and bindings first; then let the workers go.

        Args:
            before_work: awaited in between, to bring in our own kinds.
        """
        self._loop = asyncio.get_running_loop()
        before = [
            self._inform(RESOURCE_CLASSES, self._class_changed),
            self._inform(PROVIDER_CONFIGS, self._config_changed),
            self._inform(SECRETS, self._secret_changed, labels=MANAGED_SELECTOR),
        ]
        await asyncio.gather(*(informer.synced.wait() for informer in before))
        self.binder.watching = True
        if before_work is not None:
            await before_work()
        self._spawn(self.recorder.run())
        self._spawn(self._platform())
        for _ in range(self.settings.workers):
            self._spawn(self.engine.work())

    def follow_primaries(self) -> None:
        """Informers for our own kinds, where kopf doesn't bring their events."""
        for name, where in self.types.items():
            self.sources[name] = self._inform(where, partial(self.engine.feed, name))

    def sweep_regularly(self) -> None:
        """Full lists of our own kinds now and then: an event source may lose deletions."""
        self._spawn(self._sweeps())

    async def sweep(self) -> int:
        """One full list of each kind; how many objects turned out to be gone."""
        # Asked before the lists: what is begun for an object that is made meanwhile must not seem lost.
        leaving = [(session, session.owners()) for session in await self._leaving()]
        gone = 0
        live: set[str] = set()
        for name, where in self.types.items():
            page = await self._api.list(where)
            gone += self.engine.swept(name, page.items, page.resource_version)
            live.update(obj["metadata"].get("uid", "") for obj in page.items)
        for session, owners in leaving:
            lost = {uid for uid, kind in owners.items() if kind in self.types and uid not in live}
            if lost:
                self._logger.warning("what ran for objects that are gone is ended", names=await session.end(lost))
        return gone

    async def _leaving(self) -> list[Leaves]:
        try:
            return await self.sessions.leaving()
        except ChandleryError as error:  # the objects that need the session tell of it
            self._logger.info("a provider can't be opened", error=error)
            return []

    def take_over(self, mine: Callable[[Key], bool]) -> None:
        """These objects are this replica's from now on: look at each of them."""
        for key in self.engine.store:
            if mine(key):
                self.engine.queue.add(key)

    async def stop(self) -> None:
        """Finish nothing more; what is under way is cancelled and taken up by the next leader."""
        self.engine.queue.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await self.sessions.close()

    # What informers tell

    def _class_changed(self, event: str, obj: Obj) -> None:
        name = obj["metadata"]["name"]
        before = self.catalogue.classes.get(name)
        if event == "DELETED":
            self.catalogue.classes.pop(name, None)
        else:
            self.catalogue.classes[name] = obj
            if before is not None and before.get("spec") == obj.get("spec"):
                return
        self.platform.changed()
        self._wake_users(name)

    def _config_changed(self, event: str, obj: Obj) -> None:
        name = obj["metadata"]["name"]
        before = self.catalogue.configs.get(name)
        if event == "DELETED":
            self.catalogue.configs.pop(name, None)
        else:
            self.catalogue.configs[name] = obj
            if before is not None and before.get("spec") == obj.get("spec"):
                return
        self.platform.changed()
        for class_name, found in self.catalogue.classes.items():
            if (found.get("spec", {}).get("providerConfigRef") or {}).get("name") == name:
                self._wake_users(class_name)
        for key in self.engine.store:
            made = made_by(self.engine.store.get(key) or {"metadata": {}})
            if made is not None and made.config == name:
                self.engine.queue.add(key)

    def _enqueue(self, key: Key) -> None:
        self.engine.queue.add(key)

    def _wake_stranded(self, config: str, everyone: bool) -> None:
        """Objects whose provider could not be reached: one of them tries it, or all need not wait any longer."""
        for key in self.engine.store:
            obj = self.engine.store.get(key) or {"metadata": {}}
            said = {c.get("reason") for c in (obj.get("status") or {}).get("conditions", ())}
            made = made_by(obj)
            if ProviderUnavailable.code in said and (made is None or made.config == config):
                self.engine.queue.add(key)
                if not everyone:
                    return

    def _wake_users(self, class_name: str) -> None:
        for key in self.engine.store:
            obj = self.engine.store.get(key)
            if obj is not None and self.catalogue.users_of(class_name, obj):
                self.engine.queue.add(key)

    def _secret_changed(self, event: str, obj: Obj) -> None:
        meta = obj["metadata"]
        if event == "DELETED":
            self.binder.gone(meta.get("namespace", ""), meta["name"])
            changed = True
        else:
            changed = self.binder.seen(obj)
        if not changed:
            return
        owner = owner_of(obj)
        if owner is not None:
            self.engine.wake(owner["uid"])
        elif event == "DELETED":
            self._wake_binders(meta.get("namespace", ""), meta["name"])

    def _wake_binders(self, namespace: str, secret: str) -> None:
        """A Secret vanished while nobody watched: whoever is bound by it makes it again."""
        for key in self.engine.store:
            obj = self.engine.store.get(key) or {}
            if key.namespace == namespace and (obj.get("status", {}).get("binding") or {}).get("name") == secret:
                self.engine.queue.add(key)

    def _refer(self, key: Key, refs: Sequence[Ref]) -> None:
        self.engine.references.set(key, refs)
        for ref in refs:
            if (ref.group, ref.kind) in self._followed or ref.kind in self.types:
                continue
            try:
                where = self.reader.type_of(ref.group, ref.kind)
            except ChandleryError:
                continue  # the driver says what it makes of the reference
            target = (ref.group, ref.kind)
            self._followed[target] = self._inform(where, partial(self._referred_changed, *target))

    def _referred_changed(self, group: str, kind: str, _event: str, obj: Obj) -> None:
        meta = obj["metadata"]
        self.engine.touch((group, kind, meta.get("namespace", ""), meta["name"]))

    # Helpers

    def _inform(self, where: Any, on_event: Callable[[str, Obj], None], *, labels: str = "") -> Informer:
        informer = Informer(
            self._api,
            where,
            on_event,
            clock=self._clock,
            logger=self._logger,
            labels=labels,
            watch_seconds=self.settings.watch_seconds,
            jitter=self._jitter,
        )
        self.informers.append(informer)
        self._spawn(informer.run())
        return informer

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        """A worker or an informer that ends is a fault of ours: the process must not go on half alive."""
        if not task.cancelled() and task.exception() is not None:
            self._logger.error("a task of the loop ended", exc_info=task.exception())
            self.crashed.set()

    async def _platform(self) -> None:
        """Keep the status of classes and configurations."""
        while True:
            for key in self.platform.everything():
                with contextlib.suppress(ChandleryError):  # another replica leads, or none: it tells
                    await self._tell_platform(key)
            await self.platform.wait()

    def held(self) -> int:
        """Objects of kinds that are switched off which our finalizer holds."""
        store = self.engine.store
        items = (obj for name in self.retired for _, obj in store.items(name))
        return sum(FINALIZER in (obj["metadata"].get("finalizers") or ()) for obj in items)

    def sweep_soon(self) -> None:
        """Events may have been lost: make a full list now."""
        self._sweep_now.set()

    async def _sweeps(self) -> None:
        while True:
            wait = self.settings.sweep_interval * (0.8 + 0.4 * self._jitter())
            with contextlib.suppress(TimeoutError):
                async with self._clock.timeout(wait):
                    await self._sweep_now.wait()
            self._sweep_now.clear()
            try:
                gone = await self.sweep()
            except ChandleryError as error:
                self._logger.info("sweep failed", error=error)
            else:
                if gone:
                    self._logger.warning("deletions were noticed by a full list only", count=gone)

    def _synced(self, kind: str) -> bool:
        return self.primaries_synced(kind)

    def _stored(self, key: Key, obj: Obj) -> None:
        self.engine.stored(key, obj)

    def _lost(self, key: Key, uid: str) -> None:
        self.engine.lost(key, uid)

    def _source_synced(self, kind: str) -> bool:
        source = self.sources.get(kind)
        return source is not None and source.synced.is_set()

    def _notify(self, uid: str) -> None:
        self._loop.call_soon_threadsafe(self.engine.wake, uid)

    # What is said on the bus

    def _record(self, said: Said) -> None:
        """A Kubernetes Event; of what went as asked only where that is wanted."""
        if not said.routine or self.settings.routine_events:
            self.recorder.record(said.obj, said.type, said.reason, said.message)

    def _count(self, said: Said) -> None:
        self.metrics.said(str(said.obj.get("kind", "")), said.type, said.reason)

    def _audited(self, done: Audited) -> None:
        key = done.key
        if done.what == "retained":
            self.metrics.retained.labels(key.kind).inc()
        if self._audit is not None:
            self._audit(done.what, key, done.why)
        else:
            self._logger.warning(
                done.what, audit=True, kind=key.kind, namespace=key.namespace, name=key.name, why=done.why
            )
