"""Drives a local driver as the loop does, without an API server, until the object is ready."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

from chandlery.driver.parameters import parameters_of
from chandlery.driver.protocol import DriverContext, Observation, Plan
from chandlery.foundation.context import Context
from chandlery.foundation.errors import ChandleryError
from chandlery.providers.local import LocalProvider, pids


class Secrets:
    """What the API server would answer."""

    def __init__(self) -> None:
        self.secrets: dict[tuple[str, str], dict[str, bytes]] = {}
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}

    async def get(self, group: str, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        return self.objects.get((kind, namespace, name))

    async def list(self, group: str, kind: str, namespace: str, labels: Any = None) -> list[dict[str, Any]]:
        wanted = dict(labels or {}).items()
        return [
            obj
            for (k, ns, _), obj in self.objects.items()
            if (k, ns) == (kind, namespace) and wanted <= (obj["metadata"].get("labels") or {}).items()
        ]

    async def secret(self, namespace: str, name: str) -> dict[str, bytes] | None:
        return self.secrets.get((namespace, name))


class Harness:
    """One driver on one data directory."""

    def __init__(self, root: Any, driver: Any, model: Any, cache: Any = None) -> None:
        self.cache = cache
        self.root = root
        self.driver = driver
        self.model = model
        self.reader = Secrets()
        self.events: list[tuple[str, str, str]] = []
        self.plans: list[tuple[str, str]] = []
        self.made: list[Any] = []
        # a part of the range by chance: what runs beside these tests looks for free ports at the same moment
        first = 20000 + 500 * random.randrange(23)
        self.port_range = (first, first + 499)
        self.provider = LocalProvider(root, cache_dir=cache, port_range=self.port_range)
        self.provider.open()

    @property
    def ctx(self) -> DriverContext:
        return DriverContext(
            Context(),
            self.reader,
            self.provider,
            parameters_of(self.driver)(),
            event=lambda *event: self.events.append(event),
        )

    def object(self, uid: str = "", /, **spec: Any) -> Any:
        names = self.model.names
        obj = self.model.model_validate(
            {
                "apiVersion": names.api_version,
                "kind": names.kind,
                "metadata": {"name": "demo", "namespace": "default", "uid": uid or str(uuid.uuid4())},
                "spec": spec,
                "status": {},
            }
        )
        self.made.append(obj)
        return obj

    def changed(self, obj: Any, **spec: Any) -> Any:
        """The same object with another spec."""
        dumped = obj.model_dump(by_alias=True, exclude_none=True, mode="json")
        dumped["spec"] = {**dumped["spec"], **spec}
        return self.model.model_validate(dumped)

    async def restart_operator(self) -> None:
        """A new operator that knows nothing but what is on disk."""
        self.provider.close()
        self.provider = LocalProvider(self.root, cache_dir=self.cache, port_range=self.port_range)
        self.provider.open()

    async def converge(self, obj: Any, seconds: float = 120.0) -> Observation:
        """Until it is ready and nothing is different."""
        loop = asyncio.get_running_loop()
        deadline, problem = loop.time() + seconds, "nothing was seen"
        self.plans = []
        while loop.time() < deadline:
            pause = 0.02
            try:
                observed = await self.driver.observe(self.ctx, obj)
                if not observed.exists:
                    await self.driver.create(self.ctx, obj)
                    continue
                if observed.differences:
                    self.plans += [(change.field, change.disruption.label) for change in observed.differences]
                    await self.driver.update(self.ctx, obj, replace(observed, plan=Plan(observed.differences)))
                    continue
                if observed.ready:
                    return observed
                problem, pause = f"{observed.reason}: {observed.message}", observed.poll_after or pause
            except ChandleryError as error:
                if error.retry_after is None:
                    raise
                problem, pause = error.condition_message(), min(error.retry_after, 0.1)
            await asyncio.sleep(min(pause, 0.2))
        raise AssertionError(f"not ready after {seconds:.0f} s: {problem}")

    async def delete(self, obj: Any) -> None:
        async def gone() -> bool:
            return bool(await self.driver.delete(self.ctx, obj))

        await until(gone, 60.0)

    async def close(self) -> None:
        """End whatever a test left running."""
        for instance in self.provider.instances():
            with contextlib.suppress(ChandleryError):
                await instance.stop_all()
        await self.provider.background.close()
        self.provider.close()

    def instance(self, obj: Any) -> Any:
        return self.provider.instance(f"{obj.kind.lower()}-{obj.metadata.uid}")


def shared_cache() -> Path:
    """Where engines and images are kept between tests and runs: they are downloaded once."""
    named = os.environ.get("CHANDLERY_LOCAL_CACHE_DIR")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "chandlery"


async def kill(pid: int) -> None:
    """End a process as the kernel does when memory runs out, and wait for its end.

    A signal only begins it: a process with much memory, or on a busy machine, still answers for some milliseconds.
    """
    started = pids.start_time(pid)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not pids.is_same(pid, started), 30.0)


async def until(check: Any, seconds: float = 60.0) -> Any:
    """Wait for a condition (a function, async or not); fail when it doesn't come true in time."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        found = check()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        assert asyncio.get_running_loop().time() < deadline, "the condition did not come true"
        await asyncio.sleep(0.01)
