"""Waiting for conditions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


async def eventually(check: Callable[[], Any], seconds: float = 90.0) -> Any:
    """Until the check, which may be a coroutine function, gives something true without raising; gives that."""
    loop = asyncio.get_running_loop()
    ends, problem, found = loop.time() + seconds, None, None
    while True:
        try:
            found = check()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            problem = None
        except Exception as error:
            problem = error
        if loop.time() > ends:
            raise AssertionError(f"not within {seconds} s (last: {found!r})") from problem
        await asyncio.sleep(0.02)
