"""What every call carries: until when, for whom it logs, which clock and which clients it uses.

A `Context` is frozen and cheap to copy; `child` narrows it (an earlier deadline, more words on the log lines) and can
never widen the deadline. It comes first in every signature that waits for something outside of the process.
"""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, Protocol, Self, TypeVar

from chandlery.foundation.clock import SYSTEM, Clock
from chandlery.foundation.errors import Internal, Timeout

__all__ = ["Context", "Logger"]

T = TypeVar("T")


class Logger(Protocol):
    """The part of a structlog logger that the project uses."""

    def bind(self, **values: Any) -> "Logger": ...
    def debug(self, event: str, **values: Any) -> Any: ...
    def info(self, event: str, **values: Any) -> Any: ...
    def warning(self, event: str, **values: Any) -> Any: ...
    def error(self, event: str, **values: Any) -> Any: ...
    def exception(self, event: str, **values: Any) -> Any: ...


class _LazyLogger:
    """Stands for the real logger until the first line: importing structlog costs more than this whole module."""

    __slots__ = ("_real", "_values")

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        self._values = dict(values or {})
        self._real: Any = None

    def bind(self, **values: Any) -> "_LazyLogger":
        return _LazyLogger({**self._values, **values})

    def __getattr__(self, name: str) -> Any:
        if self._real is None:
            from chandlery.foundation.logging import get_logger

            self._real = get_logger().bind(**self._values)
        return getattr(self._real, name)


_NO_CLIENTS: Final[Mapping[Any, Any]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Deadline, logger, trace, clock, clients.

    Attributes:
        clock: the only source of time.
        deadline: on the clock's monotonic scale, None for no limit.
        logger: bound to the object that is worked on.
        trace_id: 32 hexadecimal digits; the same one in logs, traces and events of one pass.
        clients: whatever was registered, by name or by type; see `client`.
        fencing_token: the token of the lock under which this work is done; None when no lock is needed.
        dry_run: look and plan, change nothing.
    """

    clock: Clock = SYSTEM
    deadline: float | None = None
    logger: Logger = field(default_factory=_LazyLogger, repr=False, compare=False)
    trace_id: str = field(default_factory=lambda: os.urandom(16).hex())
    clients: Mapping[Any, Any] = field(default_factory=lambda: _NO_CLIENTS, repr=False, compare=False)
    fencing_token: int | None = None
    dry_run: bool = False

    def child(
        self,
        *,
        timeout: float | None = None,
        clients: Mapping[Any, Any] | None = None,
        fencing_token: int | None = None,
        dry_run: bool | None = None,
        **bind: Any,
    ) -> Self:
        """A narrower context.

        Args:
            timeout: seconds from now; the parent's deadline stays if it is earlier.
            clients: added to, or put in place of, the parent's.
            fencing_token: a token of a newer lock.
            dry_run: on, or off again.
            **bind: words for every log line (kind, namespace, name, uid, driver ...); the trace id joins them.
        """
        deadline = self.deadline
        if timeout is not None:
            mine = self.clock.monotonic() + timeout
            deadline = mine if deadline is None else min(deadline, mine)
        return replace(
            self,
            deadline=deadline,
            logger=self.logger.bind(**{"trace_id": self.trace_id, **bind}) if bind else self.logger,
            clients=MappingProxyType({**self.clients, **clients}) if clients else self.clients,
            fencing_token=self.fencing_token if fencing_token is None else fencing_token,
            dry_run=self.dry_run if dry_run is None else dry_run,
        )

    def remaining(self) -> float | None:
        """Seconds until the deadline, never below zero; None when there is none."""
        return None if self.deadline is None else max(0.0, self.deadline - self.clock.monotonic())

    def check(self, doing: str = "this") -> None:
        """Raise Timeout when the deadline has passed; for loops that do work without waiting."""
        if self.deadline is not None and self.clock.monotonic() >= self.deadline:
            raise Timeout(f"the time allowed for {doing} is used up")

    def now(self) -> datetime:
        return self.clock.now()

    async def sleep(self, seconds: float, doing: str = "this") -> None:
        """Wait, but not past the deadline: then Timeout, at the deadline."""
        left = self.remaining()
        if left is not None and left < seconds:
            await self.clock.sleep(left)
            raise Timeout(f"the time allowed for {doing} is used up")
        await self.clock.sleep(seconds)

    @asynccontextmanager
    async def limit(self, doing: str = "this", *, timeout: float | None = None) -> AsyncIterator[Self]:
        """A block that ends with Timeout at the deadline, or `timeout` seconds from now if that is earlier."""
        inner = self.child(timeout=timeout)
        left = inner.remaining()
        scope = inner.clock.timeout(left)
        try:
            async with scope:
                yield inner
        except Timeout:
            raise
        except TimeoutError as error:
            # Asked of the block itself, not of the clock: event loops wake up to a millisecond early.
            if left is None or not scope.expired():
                raise  # somebody else's timeout, inside the block
            raise Timeout(f"the time allowed for {doing} is used up ({left:g} s)") from error

    def client(self, key: type[T] | str) -> Any:
        """The client registered under this type or name.

        Raises:
            Internal: nothing is registered, which is a fault in the composition root.
        """
        try:
            return self.clients[key]
        except KeyError:
            name = key if isinstance(key, str) else key.__name__
            known = ", ".join(sorted(k if isinstance(k, str) else k.__name__ for k in self.clients)) or "none"
            raise Internal(f"no client {name} in the context (there are: {known})") from None
