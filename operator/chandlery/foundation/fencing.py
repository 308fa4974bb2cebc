"""Whether the work under way may still change anything: asked right before a write leaves, wherever it goes.

A process can stand still between any two lines and wake up when somebody else has long taken its work over. Whoever
starts the work says how to find out; clients of API servers and engines ask, and need to know nothing more.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Final

_FENCE: Final[ContextVar[Callable[[], object] | None]] = ContextVar("chandlery_fence", default=None)


def ask() -> None:
    """Nothing, while this task may write.

    Raises:
        Fenced: somebody else does its work now.
    """
    check = _FENCE.get()
    if check is not None:
        check()


class fenced:  # noqa: N801 - reads as a block
    """A block whose work, and the tasks that it starts, may write as long as this check doesn't raise Fenced."""

    __slots__ = ("_check", "_token")

    def __init__(self, check: Callable[[], object]) -> None:
        self._check = check

    def __enter__(self) -> None:
        self._token: Token[Callable[[], object] | None] = _FENCE.set(self._check)

    def __exit__(self, *_: object) -> None:
        _FENCE.reset(self._token)
