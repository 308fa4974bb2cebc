"""The operator: what runs in every replica, and what only the leader runs.

Every replica answers probes and admission. The one that holds the Lease also runs the core, fed by kopf. When the lead
is lost the core is stopped first, and the replica stands for election again. With shards every replica runs the core,
over its own share of the objects.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from chandlery.driver.kind import Kind
from chandlery.driver.provider import ProviderFactory
from chandlery.foundation.clock import SYSTEM, Clock
from chandlery.foundation.context import Context
from chandlery.foundation.errors import ChandleryError, Internal
from chandlery.foundation.resilience import Backoff
from chandlery.reconcile.api import Key
from chandlery.reconcile.client import HttpApi
from chandlery.reconcile.core import Core
from chandlery.reconcile.credentials import Credentials
from chandlery.reconcile.informer import silence
from chandlery.reconcile.kopf_binding import KopfSource
from chandlery.reconcile.leader import Elector, identity
from chandlery.reconcile.locks import LeaseLocks
from chandlery.reconcile.metrics import Metrics
from chandlery.reconcile.retired import Left, look, tell
from chandlery.reconcile.server import Listen, Server
from chandlery.reconcile.settings import LoopSettings
from chandlery.reconcile.shards import Shards
from chandlery.reconcile.webhook import Webhook

_LASTED: Final = 60.0
"""Seconds that a loop must have run for its end to be no repetition of an earlier one."""
_RETRY: Final = Backoff(initial=0.2, maximum=15.0, floor=0.5)


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """What can be set about the operator as a whole."""

    loop: LoopSettings = field(default_factory=LoopSettings)
    source: Literal["kopf", "informer"] = "kopf"
    """Where events of our own kinds come from."""
    leader_election: bool = True
    lease_name: str = "chandlery"
    lease_namespace: str = ""
    """Default: the namespace of the credentials."""
    lease_seconds: float = 15.0
    shards: int = 0
    """Into how many shards the work falls that all replicas share; 0: one replica leads, the others wait."""
    plain: Listen = field(default_factory=Listen)
    """Metrics and probes."""
    webhook: Listen = field(default_factory=lambda: Listen(port=None))
    """Admission. Without a certificate of its own, one is made, kept in a Secret and registered with the API server."""
    webhook_service: str = ""
    """`name.namespace` of the Service before the replicas' webhooks; without it the API server is given a URL."""
    webhook_registration: str = ""
    """A ValidatingWebhookConfiguration that somebody else keeps: only the CA is written into it."""
    webhook_files: Path | None = None
    """A folder with webhook.crt, webhook.key and ca.crt, where somebody else made them for this machine."""
    other_kinds: Literal["delete", "leave"] = "delete"
    """What is done to objects of kinds that are switched off and still have our finalizer: their deletion is carried
    out, or nothing."""
    namespace: str = ""
    """The only namespace to work in; "" for all."""


class Operator:
    """Started once; `stop` ends it in order.

    Args:
        credentials: the API server, and as whom.
        kinds: the kinds that are switched on.
        others: the kinds that are switched off.
        providers: by name, how to open each provider's sessions.
        settings: of all of it.
        clock: the only source of time.
        audit: takes one line for what was done without a person asking.
    """

    def __init__(
        self,
        credentials: Credentials,
        kinds: Sequence[Kind],
        providers: Mapping[str, ProviderFactory],
        *,
        others: Sequence[Kind] = (),
        settings: OperatorSettings | None = None,
        clock: Clock = SYSTEM,
        audit: Callable[[str, Key, str], None] | None = None,
    ) -> None:
        self.settings = settings or OperatorSettings()
        self.metrics = Metrics()
        self.api = HttpApi(credentials, clock=clock, on_request=self.metrics.request, namespace=self.settings.namespace)
        self.core: Core | None = None
        self.source: KopfSource | None = None
        self._credentials = credentials
        self._kinds = list(kinds)
        self._others = list(others)
        self._left: Sequence[Left] = ()
        self._providers = providers
        self._clock = clock
        self._audit = audit
        self._logger = Context(clock=clock).logger
        self._task: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._elector = self._make_elector()
        self._webhook = self._make_webhook()
        self.server = self._make_server()
        self._gauges()

    @property
    def leading(self) -> bool:
        """This replica does the work."""
        return self._elector.leading if self._elector is not None else self.core is not None

    async def start(self) -> None:
        """Listen, and stand for election; returns before the lead is won."""
        if self._webhook is not None:
            await self._webhook.prepare()
        await self.server.start()
        plain, webhook = self.settings.plain.host, self.settings.webhook.host
        places = (("metrics", plain, self.server.port), ("webhooks", webhook, self.server.webhook_port))
        self._logger.info("serving", **{name: f"{host}:{port}" for name, host, port in places if port is not None})
        if self._webhook is not None and self.server.webhook_port is not None:
            await self._webhook.register(self.server.webhook_port)
            self._keeper = asyncio.create_task(self._webhook.keep(self.server.webhook_port))
        self._task = asyncio.create_task(self._terms())

    async def settled(self) -> None:
        """Wait until this replica leads and its workers run."""
        await self._settled.wait()

    async def stop(self) -> None:
        """Stop working, hand over the lead, close all connections."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._elector is not None:
            await self._elector.release()
        await self.server.stop()
        if self._webhook is not None:
            await self._webhook.remove()
        await self.api.close()

    # Probes

    def wrong(self) -> dict[str, str]:
        """What only a restart mends; for the liveness probe."""
        found = {}
        if self._task is not None and self._task.done():
            found["operator"] = "has ended"
        core = self.core
        if core is not None:
            quiet = self._age()
            if quiet > self.settings.loop.silence_limit:
                found["watch"] = f"nothing heard of the API server for {quiet:.0f} s"
            if core.crashed.is_set():
                found["loop"] = "a task has ended"
        if self.source is not None and self.source.ended:
            found["kopf"] = "has ended"
        return found

    def unready(self) -> dict[str, str]:
        """What keeps this replica from its work; waiting for the lead does not."""
        found = self.wrong()
        if self._task is None:
            found["operator"] = "has not started"
        if self.leading and not self._settled.is_set():
            found["loop"] = "is starting"
        return found

    # Terms of leadership

    async def _terms(self) -> None:
        failures = 0
        while True:
            if self._elector is not None:
                await self._elector.acquire()
            began = self._clock.monotonic()
            try:
                await self._term()
            except ChandleryError as error:
                if self._clock.monotonic() - began > _LASTED:
                    failures = 0
                delay = _RETRY.delay(failures)
                failures += 1
                self._logger.warning("the loop is started anew", error=error, retry_in=round(delay, 2))
                await self._clock.sleep(delay)

    async def _term(self) -> None:
        """Work until the lead is lost or something of ours breaks."""
        serves = self.settings.other_kinds == "delete"
        self._left = await look(self.api, self._others, self._logger)
        tell(self._left, self._logger, served=serves)
        core = self.core = Core(
            self.api,
            self._kinds,
            self._providers,
            settings=self.settings.loop,
            clock=self._clock,
            fence=self._elector.fence if self._elector is not None else lambda: 0,
            audit=self._audit,
            metrics=self.metrics,
            gate=self._elector if isinstance(self._elector, Shards) else None,
            retired=[left.kind for left in self._left] if serves else [],
        )
        if isinstance(self._elector, Shards):
            self._elector.gained = core.take_over
        self.metrics.leader.set(1)
        try:
            await core.start(before_work=lambda: self._feed(core))
            self._settled.set()
            await self._until_over(core)
            if core.crashed.is_set():
                raise Internal("a task of the loop ended; the log says why")
        finally:
            self._settled.clear()
            self.metrics.leader.set(0)
            await core.stop()
            if self.source is not None:
                await self.source.stop()
                self.source = None
            self.core = None

    async def _feed(self, core: Core) -> None:
        if self.settings.source == "informer":
            core.follow_primaries()
            await asyncio.gather(*(informer.synced.wait() for informer in core.sources.values()))
            return
        await core.sweep()  # the whole state at once; kopf then brings what happens to it
        core.primaries_synced = lambda _kind: True
        core.sweep_regularly()
        self.source = KopfSource(
            core.types,
            self._credentials,
            core.engine.feed,
            restarted=core.sweep_soon,
            logger=self._logger,
            namespace=self.settings.namespace,
            answers=core.answers,
            clock=self._clock,
        )
        self.source.start()

    async def _until_over(self, core: Core) -> None:
        waits: list[Coroutine[Any, Any, Any]] = [core.crashed.wait()]
        if self._elector is not None:
            waits.append(self._elector.keep())
        tasks = [asyncio.create_task(wait) for wait in waits]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # Set-up

    def _make_elector(self) -> Elector | Shards | None:
        if not self.settings.leader_election:
            return None
        namespace = self.settings.lease_namespace or self._credentials.namespace
        if self.settings.shards:
            seconds = self.settings.lease_seconds
            name, count = self.settings.lease_name, self.settings.shards
            return Shards(self.api, namespace, name, count=count, ttl=seconds, clock=self._clock)
        locks = LeaseLocks(self.api, namespace, self._clock)
        seconds = self.settings.lease_seconds
        return Elector(locks, self.settings.lease_name, identity(), ttl=seconds, clock=self._clock)

    def _make_webhook(self) -> Webhook | None:
        listen = self.settings.webhook
        if listen.port is None or listen.certificate is not None:
            return None
        return Webhook(
            self.api,
            {kind.name: kind for kind in self._kinds},
            namespace=self.settings.lease_namespace or self._credentials.namespace,
            service=self.settings.webhook_service,
            registration=self.settings.webhook_registration,
            files=self.settings.webhook_files,
            host=listen.host,
            clock=self._clock,
            logger=self._logger,
        )

    def _make_server(self) -> Server:
        listen = self.settings.webhook
        if self._webhook is not None:
            listen = replace(listen, certificate=self._webhook.certificate, key=self._webhook.key)
        return Server(
            registry=self.metrics.registry,
            kinds={kind.name: kind for kind in self._kinds},
            providers=self._providers,
            live=self.wrong,
            ready=self.unready,
            plain=self.settings.plain,
            webhook=listen,
            clock=self._clock,
        )

    def _gauges(self) -> None:
        follow = self.metrics.follow
        follow("chandlery_queue_depth", "Objects that wait for a worker.", lambda: sum(self._depth().values()))
        follow("chandlery_queue_oldest_seconds", "How long the first of them has waited.", self._oldest)
        follow("chandlery_objects", "Objects in the store.", lambda: len(self.core.engine.store) if self.core else 0)
        follow("chandlery_last_event_age_seconds", "Since the quietest watch was heard.", self._age)
        follow("chandlery_switched_off_objects", "Objects of switched-off kinds with our finalizer.", self._of_others)
        follow("chandlery_shards", "Shards that this replica works on.", self._held)
        follow("chandlery_kopf_restarts", "Times that kopf had to be started again.", self._restarts)

    def _depth(self) -> dict[str, int]:
        return self.core.engine.queue.depth() if self.core else {}

    def _oldest(self) -> float:
        return self.core.engine.queue.oldest() if self.core else 0.0

    def _age(self) -> float:
        """Seconds since the quietest watch was heard: informers' and kopf's."""
        now = self._clock.monotonic()
        own = silence(self.core.informers, now) if self.core else 0.0
        return max(own, self.source.silence(now) if self.source else 0.0)

    def _held(self) -> float:
        return float(len(self._elector.held)) if isinstance(self._elector, Shards) else 0.0

    def _of_others(self) -> float:
        core = self.core
        return float(core.held() if core is not None and core.retired else sum(left.objects for left in self._left))

    def _restarts(self) -> float:
        return float(self.source.restarts) if self.source else 0.0
