"""The one place that knows kopf: it brings the events of our own kinds, and nothing else of it is used.

kopf runs in a thread with an event loop of its own, because on its way out it cancels every task of its loop. Its
handlers only hand the object over; they never work and never write, so nothing of kopf's is stored on users' objects.
What kopf does not notice (deletions during a gap) the regular full lists do.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final, cast

import aiohttp

from chandlery.foundation.clock import SYSTEM, Clock
from chandlery.foundation.context import Logger
from chandlery.reconcile.answers import Answers
from chandlery.reconcile.api import GROUP, Obj, ResourceType
from chandlery.reconcile.client import Connector, proxy_for
from chandlery.reconcile.credentials import Credentials
from chandlery.reconcile.kopf_import import kopf
from chandlery.reconcile.leader import identity

Feed = Callable[[str, str | None, Obj], None]
"""(kind, event type or None for an object from a list, object)."""

_RESTART: Final = (0.5, 30.0)
_GATHER: Final = (0.005, 0.08, 0.5)
"""Seconds of the first look for answers that are under way, of the longest pause between looks (each is a thread's
wake-up, so they double), and of all together."""
_CHANGE: Final = b'{"type":"MODIFIED"'
_VERSION: Final = re.compile(rb'"resourceVersion":"(\w+)"')


class NullDiffBase(kopf.DiffBaseStorage):
    """Remembers no last state: no decision of ours hangs on a difference between two events."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> Any:
        return None

    def store(self, **_: Any) -> None:
        return


class NullProgress(kopf.ProgressStorage):
    """Remembers no progress: our queue does."""

    def fetch(self, **_: Any) -> Any:
        return None

    def store(self, **_: Any) -> None:
        return

    def purge(self, **_: Any) -> None:
        return

    def touch(self, **_: Any) -> None:
        return

    def clear(self, *, essence: Any) -> Any:
        return essence


def endless_backoff() -> Iterator[float]:
    """Delays between repetitions of a failed request: a kopf that gives up would end the process."""
    yield from (0.1, 0.25, 0.5, 1, 2, 4, 8)
    while True:
        yield 15.0


class _Endless(Iterable[float]):
    def __iter__(self) -> Iterator[float]:
        return endless_backoff()


def settings() -> kopf.OperatorSettings:
    """Kopf's settings as they must be for a shell that only brings events."""
    made = kopf.OperatorSettings()
    made.scanning.disabled = True  # our kinds are fixed: no watch over CRDs and namespaces
    made.peering.standalone = True  # a Lease elects the leader
    made.posting.enabled = False  # events have a recorder that aggregates
    made.persistence.finalizer = f"{GROUP}/kopf"  # never set: no handler of ours asks for one
    made.persistence.diffbase_storage = NullDiffBase()
    made.persistence.progress_storage = NullProgress()
    made.queueing.worker_limit = None  # handlers only enqueue; the work is bounded in our queue
    made.queueing.idle_timeout = 1.0
    made.watching.server_timeout = 290
    made.watching.client_timeout = 330
    made.watching.connect_timeout = 10
    made.watching.reconnect_backoff = 0.05
    made.networking.request_timeout = 30
    made.networking.connect_timeout = 5
    made.networking.error_backoffs = _Endless()
    made.process.ultimate_exiting_timeout = 60
    return made


class _News:
    """A watch without the echoes of our own writes: half of all events, and each costs kopf half a millisecond.

    An echo says nothing: its object came as the answer to the write. Everything else of the stream is as it was.
    """

    def __init__(self, stream: aiohttp.StreamReader, answers: Answers, heard: Callable[[], None]) -> None:
        self._stream = stream
        self._answers = answers
        self._heard = heard

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def iter_chunked(self, _size: int) -> AsyncIterator[bytes]:
        rest = b""
        while chunk := await self._stream.readany():
            self._heard()
            await self._answered()
            *lines, rest = (rest + chunk).split(b"\n")
            told = [line for line in lines if not self._is_echo(line)]
            if told:
                yield b"\n".join(told) + b"\n"
        if rest:
            yield rest

    async def _answered(self) -> None:
        """Wait for the answers to what is under way, for a moment: they take another way than events."""
        waiting = self._answers.under_way()
        step, longest, altogether = _GATHER
        until = SYSTEM.monotonic() + altogether  # kopf's thread has no other clock
        while waiting and SYSTEM.monotonic() < until:
            await SYSTEM.sleep(step)
            step = min(longest, step * 2)
            waiting &= self._answers.under_way()

    def _is_echo(self, line: bytes) -> bool:
        if not line.startswith(_CHANGE):
            return False
        found = _VERSION.findall(line)
        # a label may be called so too: then it is not told apart here
        return len(found) == 1 and found[0].decode() in self._answers


def watching(answers: Answers, heard: Callable[[str], None]) -> type[aiohttp.ClientResponse]:
    """Responses whose watches leave out echoes; `heard` is told the plural of a kind when its watch gives a sign."""

    class Response(aiohttp.ClientResponse):
        async def start(self, connection: Any) -> aiohttp.ClientResponse:
            started = await super().start(connection)
            if self.url.query.get("watch"):
                sign = partial(heard, self.url.name)
                sign()
                self.content = cast("aiohttp.StreamReader", _News(self.content, answers, sign))
            return started

    return Response


def registry(
    types: Mapping[str, ResourceType],
    credentials: Credentials,
    feed: Feed,
    sessions: list[aiohttp.ClientSession],
    answers: Answers,
    heard: Callable[[str], None] = lambda _plural: None,
) -> kopf.OperatorRegistry:
    """Handlers for all kinds, made by a loop; `sessions` collects what is opened, for whoever closes it."""
    made = kopf.OperatorRegistry()

    async def nothing(**_: Any) -> None:
        """Never called: `taker` leaves nothing to handle."""

    def taker(kind: str) -> Callable[..., bool]:
        def take(*, event: Any, **_: Any) -> bool:
            feed(kind, event["type"], event["object"])
            return False

        return take

    async def login(**_: Any) -> kopf.AiohttpSession:
        token = await credentials.token()
        session = aiohttp.ClientSession(
            connector=Connector(limit=0, ssl=credentials.tls if credentials.tls is not None else True),
            headers={"Authorization": f"Bearer {token}"} if token else {},
            proxy=proxy_for(credentials.server),
            response_class=watching(answers, heard),
        )
        sessions.append(session)
        return kopf.AiohttpSession(server=credentials.server, aiohttp_session=session)

    kopf.on.login(registry=made, id="login")(login)
    for name, where in types.items():
        # a filter is asked once for each event, in order; a handler would cost three times as much for doing the same
        kopf.on.event(
            where.group, where.version, where.plural, registry=made, id=f"feed-{where.plural}", when=taker(name)
        )(nothing)
    return made


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


class KopfSource:
    """kopf in its thread. Restarted when it ends by itself, with `restarted` called each time.

    Args:
        types: the kinds to follow, by name.
        credentials: of the API server.
        feed: called in the loop that called `start`.
        restarted: called there when kopf had to be started again: events may have been lost.
        logger: for what happens to kopf itself.
        answers: which events are nothing but echoes of writes of ours.
        clock: for the age of the last sign of each watch.
        namespace: the only one to follow; "" for all.
    """

    def __init__(
        self,
        types: Mapping[str, ResourceType],
        credentials: Credentials,
        feed: Feed,
        *,
        restarted: Callable[[], None],
        logger: Logger,
        namespace: str = "",
        answers: Answers | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self._clock = clock
        self._heard: dict[str, float] = {}
        self._types = types
        self._answers = answers or Answers()
        self._credentials = credentials
        self._feed = feed
        self._restarted = restarted
        self._namespace = namespace
        self._logger = logger
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._inner: asyncio.AbstractEventLoop | None = None
        self._flag: asyncio.Event | None = None
        self._handed: deque[tuple[str, str | None, Obj]] = deque()
        self._waking = False
        self.restarts = 0
        self.events = 0

    @property
    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    @property
    def ended(self) -> bool:
        """The thread is gone although nobody asked for it."""
        return self._thread is not None and not self._thread.is_alive() and not self._stop.is_set()

    @property
    def ready(self) -> bool:
        """Kopf has logged in and follows."""
        return self._ready.is_set()

    def silence(self, now: float) -> float:
        """Seconds since the quietest of kopf's watches gave a sign: an event, a bookmark, a new connection.

        Args:
            now: on the clock's monotonic scale.
        """
        return max((now - heard for heard in list(self._heard.values())), default=0.0)

    def _hear(self, plural: str) -> None:
        self._heard[plural] = self._clock.monotonic()

    def start(self) -> None:
        """Run kopf; returns at once."""
        for where in self._types.values():
            self._hear(where.plural)  # from now on: a watch that never comes about is silent too
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="kopf", daemon=True)
        self._thread.start()

    async def stop(self, timeout: float = 10.0) -> None:
        """Ask kopf to end, and wait for it."""
        self._stop.set()
        inner, flag = self._inner, self._flag
        if inner is not None and flag is not None:
            with contextlib.suppress(RuntimeError):  # the loop may have closed meanwhile
                inner.call_soon_threadsafe(flag.set)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, timeout)

    def _run(self) -> None:
        delay = _RESTART[0]
        while not self._stop.is_set():
            try:
                with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                    runner.run(self._operate())
            except BaseException:
                self._logger.exception("kopf ended")
            if self._stop.wait(delay):
                return
            delay = min(_RESTART[1], delay * 2)
            self.restarts += 1
            self._call(self._restarted)

    async def _operate(self) -> None:
        self._inner = asyncio.get_running_loop()
        self._flag = asyncio.Event()
        if self._stop.is_set():
            return
        sessions: list[aiohttp.ClientSession] = []
        try:
            await kopf.operator(
                registry=registry(self._types, self._credentials, self._hand, sessions, self._answers, self._hear),
                settings=settings(),
                # its own one asks for the user's name, which a container's user needn't have
                identity=cast("Any", identity()),
                clusterwide=not self._namespace,
                namespaces=[self._namespace] if self._namespace else [],
                standalone=True,
                stop_flag=self._flag,
                ready_flag=self._ready,
            )
        finally:
            for session in sessions:
                await session.close()
            await SYSTEM.sleep(0.05)  # transports that were cut off are let go in later turns of the loop

    def _hand(self, kind: str, event: str | None, obj: Obj) -> None:
        """From kopf's thread to ours: many events, one wake-up."""
        self.events += 1
        self._handed.append((kind, event, obj))
        if not self._waking:
            self._waking = True
            self._call(self._take)

    def _take(self) -> None:
        self._waking = False  # first: what comes from now on wakes us again
        while self._handed:
            self._feed(*self._handed.popleft())

    def _call(self, function: Callable[..., None], *args: Any) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(function, *args)
