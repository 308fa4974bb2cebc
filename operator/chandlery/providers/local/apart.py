"""Long work in a process of its own, so that the memory that it takes goes back to the system when it ends.

Installing an engine and building a guest read whole packages. Done inside the operator it left some megabytes behind
for as long as that lives, in pieces that no allocator can give back.

    python -m chandlery.providers.local.apart MODULE:FUNCTION [WORD]...

calls `await FUNCTION(tell, *WORDS)`. On standard output a line that begins with + is progress, one with ! the error.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from chandlery.foundation import errors
from chandlery.foundation.errors import ChandleryError, EngineFailed

Tell = Callable[[str], None]


async def run(function: str, *words: str, tell: Tell = lambda _: None) -> None:
    """Call a function in another process; cancelled, the process ends with what it started.

    Args:
        function: `module:name` of a coroutine function that takes `tell` and the words.
        words: no secrets, as other users see them.
        tell: called with each progress.

    Raises:
        ChandleryError: what the function raised.
        EngineFailed: the process ended without saying why.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", __name__, function, *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    noise = asyncio.ensure_future(process.stderr.read())
    problem: ChandleryError | None = None
    try:
        async for line in process.stdout:
            text = line.decode(errors="replace").rstrip("\n")
            if text.startswith("+"):
                tell(text[1:])
            elif text.startswith("!"):
                problem = unpacked(json.loads(text[1:]))
        code = await process.wait()
        words_of_error = (await noise).decode(errors="replace").strip().splitlines()
    finally:
        noise.cancel()
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if problem is not None:
        raise problem
    if code != 0:
        why = words_of_error[-1] if words_of_error else f"exit code {code}" if code > 0 else f"signal {-code}"
        raise EngineFailed(f"it was not done to its end: {why}", hint="It is tried again by itself.")


def packed(error: ChandleryError) -> dict[str, Any]:
    """An error as JSON can say it."""
    return {
        "class": type(error).__name__,
        "message": error.message,
        "field": error.field,
        "value": None if error.value is None else str(error.value),
        "hint": error.hint,
        "retry_after": error.retry_after,
    }


def unpacked(said: dict[str, Any]) -> ChandleryError:
    """The error that was packed."""
    found = getattr(errors, said["class"], None)
    kind: type[ChandleryError] = (
        found if isinstance(found, type) and issubclass(found, ChandleryError) else EngineFailed
    )
    rest = {name: said[name] for name in ("field", "value", "hint", "retry_after")}
    return kind(said["message"], **rest)


def _say(mark: str, text: str) -> None:
    sys.stdout.write(f"{mark}{' '.join(text.split())}\n")
    sys.stdout.flush()


def main(argv: list[str]) -> int:
    module, _, name = argv[0].partition(":")
    function = getattr(importlib.import_module(module), name)
    try:
        asyncio.run(function(lambda text: _say("+", text), *argv[1:]))
    except ChandleryError as error:
        _say("!", json.dumps(packed(error)))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
