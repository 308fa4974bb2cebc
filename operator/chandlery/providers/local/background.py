"""Long work that several may wait for: a download, an installation. Started once, looked at by many.

A verb of a driver has seconds; fetching an engine or an image may take minutes. So the verb starts the job, and later
passes look at it. A job that failed is started again by whoever asks next, after a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from chandlery.foundation.clock import ambient
from chandlery.foundation.errors import ChandleryError, as_error

RETRY_SECONDS = 10.0


@dataclass(slots=True)
class Job:
    """One piece of work under way, or its end."""

    title: str
    """What a condition says of it: "installing qemu 7.2"."""
    progress: str = ""
    """How far it is: "12 of 31 packages"."""
    error: ChandleryError | None = None
    done: bool = False
    result: Any = None
    task: asyncio.Task[None] | None = None
    ended_at: float = 0.0
    wakes: list[Callable[[], None]] = field(default_factory=list)

    @property
    def running(self) -> bool:
        return self.task is not None and not self.task.done()

    @property
    def message(self) -> str:
        return f"{self.title}: {self.progress}" if self.progress else self.title

    def tell(self, progress: str) -> None:
        self.progress = progress


class Background:
    """The jobs of one process, by key."""

    def __init__(self) -> None:
        self._jobs: dict[Hashable, Job] = {}

    def get(self, key: Hashable) -> Job | None:
        return self._jobs.get(key)

    def start(
        self,
        key: Hashable,
        title: str,
        work: Callable[[Job], Awaitable[Any]],
        wake: Callable[[], None] | None = None,
    ) -> Job:
        """The job of this key: the one under way, one that failed a moment ago, or a new one.

        `wake` is called once when the job ends, however it ends.
        """
        loop = asyncio.get_running_loop()
        job = self._jobs.get(key)
        fresh = job is not None and job.error is not None and ambient().monotonic() - job.ended_at < RETRY_SECONDS
        if job is None or not (job.running or fresh):
            job = Job(title)
            self._jobs[key] = job
            job.task = loop.create_task(self._run(job, work), name=title)
        if wake is not None and job.running and wake not in job.wakes:
            job.wakes.append(wake)
        return job

    async def wait(self, job: Job) -> Any:
        """Until the job ends. Giving up waiting doesn't end the job.

        Raises:
            ChandleryError: why it failed.
        """
        if job.task is not None:
            await asyncio.shield(job.task)
        if job.error is not None:
            raise job.error
        return job.result

    def forget(self, key: Hashable) -> None:
        """Drop the memory of a job that ended, so that the next who asks starts it anew."""
        job = self._jobs.get(key)
        if job is not None and not job.running:
            del self._jobs[key]

    async def end(self, key: Hashable) -> None:
        """End the job of this key, if one is under way, and wait until it has; drop the memory of it."""
        job = self._jobs.pop(key, None)
        if job is not None and job.task is not None and not job.task.done():
            job.task.cancel()
            await asyncio.gather(job.task, return_exceptions=True)

    def cancel(self) -> list[asyncio.Task[None]]:
        """End all jobs; what they have done so far stays and is gone on with next time."""
        tasks = [job.task for job in self._jobs.values() if job.task is not None and not job.task.done()]
        for task in tasks:
            task.cancel()
        self._jobs.clear()
        return tasks

    async def close(self) -> None:
        """End all jobs and wait until they have."""
        await asyncio.gather(*self.cancel(), return_exceptions=True)

    @staticmethod
    async def _run(job: Job, work: Callable[[Job], Awaitable[Any]]) -> None:
        try:
            job.result = await work(job)
            job.done = True
        except Exception as error:  # noqa: BLE001 - whoever waits is told
            job.error = as_error(error)
        finally:
            job.ended_at = ambient().monotonic()
            for wake in job.wakes:
                wake()
            job.wakes.clear()
