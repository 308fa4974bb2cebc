"""One thread that does what it is given, in order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import Any


class Writer(Executor):
    """An executor of one thread with a cheap way in: `post` makes no future, for which the thread would need the
    interpreter's lock twice more, and its queue is not written in Python.
    """

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        take = self._jobs.get
        while (job := take()) is not None:
            job()
            del job  # it holds what was written until the next one comes

    def post(self, job: Callable[[], object]) -> None:
        """Do this, which never raises, after all that was given before."""
        self._jobs.put(job)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()

        def job() -> None:
            try:
                done.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - whoever waits is told
                done.set_exception(error)

        self._jobs.put(job)
        return done

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._jobs.put(None)
        if wait:
            self._thread.join()
