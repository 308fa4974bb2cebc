"""The contract between the control plane and its store: a log of revisions with compare-and-swap by key."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field

from chandlery.controlplane.types import Obj

Make = Callable[[int], bytes]
"""Makes the value for the revision that it will have (objects carry their own revision)."""

Publish = Callable[[list["Change"]], None]
"""Takes changes in the order of their revisions, once they are durable."""


class StoreError(Exception):
    """The store could not do it: full, closed or unreachable. Nothing was written.

    `code` and `reason` are those of the answer to the request that asked for it.
    """

    def __init__(self, message: str, code: int = 507, reason: str = "InsufficientStorage") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


class Conflict(Exception):  # noqa: N818 - the word of optimistic concurrency
    """The key is not at the expected revision."""


@dataclass(slots=True)
class Change:
    """One committed write."""

    rev: int
    key: str
    """`group/plural/name` or `group/plural/namespace/name`; no part contains a slash, the group may be empty."""
    value: bytes
    """The object at this revision; for a deletion its last state, with the deletion's revision."""
    deleted: bool = False
    obj: Obj | None = field(default=None, repr=False)
    """The parsed value, when the writer is in this process."""
    tag: object = field(default=None, repr=False)
    """Whatever the writer wants to tell the reader in this process (the Resource that the value was made by)."""


class Store(ABC):
    """A store of `key -> value` where each write gets the next revision of one counter.

    Reads are not part of it: the cache holds every live value in memory, filled by `open` and kept up by `publish`.
    """

    revision: int = 0
    """The last committed revision."""
    shared: bool = False
    """Whether others write to it too: then a read that must be current waits for `synced` first."""
    compacted: int = 0
    """Revisions up to and including this one are no longer known one by one."""

    @abstractmethod
    async def open(self, publish: Publish) -> Iterable[Change]:
        """Take the store into use; answers what it holds, in the order of revisions.

        That is: every live value, and for revisions after `compacted` every change. Raises StoreError in plain words.
        """

    @abstractmethod
    async def txn(
        self,
        key: str,
        expect: int,
        make: Make,
        *,
        deleted: bool = False,
        obj: Obj | None = None,
        tag: object = None,
    ) -> int:
        """Write `make(rev)` if the key is at revision `expect` (0: absent); answers the new revision.

        Returns once the write is durable and published. Raises Conflict or StoreError; then nothing was written.
        """

    @abstractmethod
    async def compact(self, rev: int) -> None:
        """Forget the history up to `rev` (live values stay)."""

    @abstractmethod
    async def close(self) -> None:
        """Finish what is under way and release the store."""

    def turn(self, name: str) -> AbstractAsyncContextManager[None]:
        """For what looks at several objects before it writes one: nobody else is at `name` meanwhile, all is in step.

        Only stores that are shared need it: here this process alone decides. Raises StoreError.
        """
        del name
        return nullcontext()

    async def synced(self) -> None:  # noqa: B027 - stores that nobody else writes to are always in step
        """Return when everything that was committed before the call has been published (stores that are shared)."""


class LocalStore(Store):
    """What stores that only this process writes to have in common: revisions are given out here."""

    def __init__(self) -> None:
        self._latest: dict[str, int] = {}
        self._busy: dict[str, asyncio.Future[None] | None] = {}
        """Keys with a write under way, and what those wait for that want to write next."""
        self._assigned = 0

    def _remember(self, change: Change) -> None:
        if change.deleted:
            self._latest.pop(change.key, None)
        else:
            self._latest[change.key] = change.rev

    async def _free(self, key: str) -> None:
        """Wait until the write of a key that is under way has ended."""
        waiting = self._busy[key]
        if waiting is None:
            waiting = self._busy[key] = asyncio.get_running_loop().create_future()
        await asyncio.wait([waiting])

    def _let_go(self, key: str) -> None:
        waiting = self._busy.pop(key, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)
