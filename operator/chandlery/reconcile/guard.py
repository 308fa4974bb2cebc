"""The last look before a write leaves: what a pass does, drivers included, reaches the API server only while we may.

A process can stand still between any two lines (SIGSTOP, a suspended machine, a stalled disk) and wake up long after
somebody else has taken over. So the fence is asked once more when a connection is at hand and the bytes are about to
go, by our own clock, which went on meanwhile. Clients of engines ask in the same way (`foundation.fencing`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Final, Protocol, TypeVar

import aiohttp

from chandlery.foundation.errors import Fenced
from chandlery.foundation.fencing import ask, fenced
from chandlery.reconcile.api import Key

PRESENT: Final[ContextVar[Key | None]] = ContextVar("chandlery_present_key", default=None)
"""The object that this task makes a pass over."""
_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class Gate(Protocol):
    """Says which objects are ours to work on."""

    def enter(self, key: Key) -> bool:
        """Whether a pass may begin; `leave` is called after it."""
        ...

    def leave(self, key: Key) -> None: ...


T = TypeVar("T")


def guarded(
    reconcile: Callable[[Key], Awaitable[T]], fence: Callable[[], object], gate: Gate | None, elsewhere: T
) -> Callable[[Key], Awaitable[T]]:
    """Passes whose writes ask the fence, over objects that the gate lets through; `elsewhere` for all others."""

    async def run(key: Key) -> T:
        if gate is not None and not gate.enter(key):
            return elsewhere
        present = PRESENT.set(key)
        try:
            with fenced(fence):
                return await reconcile(key)
        finally:
            PRESENT.reset(present)
            if gate is not None:
                gate.leave(key)

    return run


class GuardedRequest(aiohttp.ClientRequest):
    """A request that asks the fence of its pass before it writes, and once more right before the bytes go.

    Head and body leave in one piece, so that nothing half sent is finished by somebody who may no longer.

    Raises:
        Fenced: from `send`, when we may not write any more; nothing has left then.
    """

    def _ask(self) -> None:
        if self.method not in _READS:
            ask()

    async def send(self, conn: Any) -> aiohttp.ClientResponse:
        self._ask()
        return await super().send(conn)

    async def write_bytes(self, writer: Any, conn: Any, content_length: int | None = None) -> None:
        try:
            self._ask()
        except Fenced as error:
            if conn.protocol is not None:
                conn.protocol.set_exception(error)  # whoever waits for the answer gets it
            conn.close()
            return
        await super().write_bytes(writer, conn, content_length)
