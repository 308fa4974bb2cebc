"""Whether the work under way may still change anything: asked right before a write leaves, wherever it goes.

A process can stand still between any two lines and wake up when somebody else has long taken its work over. Whoever
starts the work says how to find out; clients of API servers and engines ask, and need to know nothing more.
"""

from __future__ import annotations

import types
from collections.abc import Awaitable, Callable
from contextvars import ContextVar, Token
from functools import cache, wraps
from typing import Any, Final

_FENCE: Final[ContextVar[Callable[[], object] | None]] = ContextVar("chandlery_fence", default=None)


def ask() -> None:
    """Nothing, while this task may write.

    Raises:
        Fenced: somebody else does its work now.
    """
    check = _FENCE.get()
    if check is not None:
        check()


@cache
def asking(base: type[Any], *methods: str) -> type[Any]:
    """A client's class, such as a library's connection, whose coroutine methods of these names ask first."""

    def asks(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @wraps(method)
        async def asked(*words: Any, **more: Any) -> Any:
            ask()
            return await method(*words, **more)

        return asked

    changed = {name: asks(getattr(base, name)) for name in methods}
    return types.new_class(base.__name__, (base,), exec_body=lambda namespace: namespace.update(changed))


class fenced:  # noqa: N801 - reads as a block
    """A block whose work, and the tasks that it starts, may write as long as this check doesn't raise Fenced."""

    __slots__ = ("_check", "_token")

    def __init__(self, check: Callable[[], object]) -> None:
        self._check = check

    def __enter__(self) -> None:
        self._token: Token[Callable[[], object] | None] = _FENCE.set(self._check)

    def __exit__(self, *_: object) -> None:
        _FENCE.reset(self._token)
