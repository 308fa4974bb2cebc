"""One HAProxy of a load balancer on this machine: started, reloaded without a gap, its servers changed while it runs.

Several of them listen on the same ports; the kernel shares new connections out among those that listen (SO_REUSEPORT,
which HAProxy asks for by default). When one dies, the others get what comes after.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chandlery.driver.protocol import DriverContext
from chandlery.foundation.errors import ChandleryError, EngineFailed
from chandlery.providers.local import Instance, ProcessSpec, ProcessState, StopStep
from chandlery.providers.local.tools import run_tool
from chandlery_kinds.loadbalancer.haproxy import MARK, Surroundings, live_addable, mark_of, own_options, server_options
from chandlery_kinds.loadbalancer.model import LoadBalancer
from chandlery_kinds.loadbalancer.runtime import Runtime
from chandlery_kinds.loadbalancer.targets import Server

RELOAD_SECONDS = 10.0
DRAIN_SECONDS = 10.0
LEAST_MEGABYTES = 64
"""With less, HAProxy has room for next to no connections."""
# SIGUSR1 lets sessions end by themselves; what is left after that is ended.
# Asked again, because a master that has just started doesn't hear the first time.
STOP = (*[StopStep(signal.SIGUSR1, 0.5)] * 6, StopStep(signal.SIGTERM, 3.0), StopStep(signal.SIGKILL, 5.0))


@dataclass(slots=True)
class Seen:
    """What one HAProxy said of itself."""

    state: ProcessState
    text: str
    """The configuration that it should have."""
    rows: Sequence[Mapping[str, str]] = ()
    mark: str = ""
    version: str = ""
    problem: str = ""

    @property
    def current(self) -> bool:
        """It serves, with the configuration that it should have."""
        return bool(self.rows) and self.mark == mark_of(self.text)

    by_name: dict[tuple[str, str], Mapping[str, str]] = field(default_factory=dict)
    """Rows of servers by backend and name."""


class HaproxyProcess:
    """One of them in one pass."""

    def __init__(self, ctx: DriverContext, obj: LoadBalancer, instance: Instance, index: int) -> None:
        self.ctx = ctx
        self.spec = obj.spec
        self.instance = instance
        self.index = index
        suffix = f"-{index}" if index else ""
        self.name = f"haproxy{suffix}"
        self.config = f"haproxy{suffix}.cfg"
        self.process = instance.process(self.name)
        self.runtime = Runtime(instance.run_dir / f"admin{suffix}.sock")
        self.socket = f"unix@run/admin{suffix}.sock"

    # -- starting

    async def start(self, text: str) -> None:
        if self.process.state().restarts:
            await self._check(text)  # it says what is wrong in better words than its end does
        self.instance.write_config(self.config, text)
        engine = self.instance.engine("haproxy")
        argv = [str(engine.binary), "-W", "-db", "-f", f"config/{self.config}", *self._own_limit()]
        await self.process.start(ProcessSpec(argv, env=engine.env, cwd=self.instance.root, stop=STOP))

    def _own_limit(self) -> list[str]:
        """In megabytes, where the kernel can't be asked to hold it."""
        memory = self.instance.allowance(self.name).memory
        if memory is None or "memory" in self.instance.provider.cgroups.controllers:
            return []
        return ["-m", str(max(LEAST_MEGABYTES, memory >> 20))]

    async def _check(self, text: str) -> None:
        """HAProxy's own opinion of a configuration, before anything that runs sees it.

        Raises:
            EngineFailed: what it says is wrong.
        """
        self.instance.write_config("next.cfg", text)
        engine = self.instance.engine("haproxy")
        argv = [str(engine.binary), "-c", "-f", "config/next.cfg"]
        done = await run_tool(self.instance, argv, env=engine.env, cwd=self.instance.root, check=False)
        if done.code != 0:
            alerts = [line for line in done.output.splitlines() if "[ALERT]" in line]
            raise EngineFailed(
                f"HAProxy refuses the configuration: {' | '.join(alerts[:3]) or done.tail()}",
                field="spec",
                hint="What runs goes on as it is.",
                retry_after=None,
            )

    # -- looking

    async def look(self, text: str) -> Seen:
        """What it says of itself; `text` is the configuration that it should have."""
        seen = Seen(self.process.state(), text)
        if seen.state.running:
            try:
                seen.mark = await self.runtime.environment(MARK)
                seen.rows = await self.runtime.statistics()
                seen.version = await self.runtime.version()
                self.process.settled()
            except ChandleryError as error:
                seen.problem = error.message
        seen.by_name = {
            (row["pxname"], row["svname"]): row for row in seen.rows if row["svname"] not in ("FRONTEND", "BACKEND")
        }
        return seen

    # -- changing

    async def reload(self, text: str) -> None:
        """Hand the listeners over to a new worker, and see that it is the one that answers."""
        await self._check(text)
        self.instance.write_config(self.config, text)
        if not self.process.signal(signal.SIGUSR2):
            return  # it is gone; the next pass starts it
        clock, wanted = self.ctx.base.clock, mark_of(text)
        deadline = clock.monotonic() + RELOAD_SECONDS
        while clock.monotonic() < deadline:
            try:
                if await self.runtime.environment(MARK) == wanted:
                    return
            except ChandleryError:
                pass
            await clock.sleep(0.02)
        raise EngineFailed(
            f"HAProxy did not take the new configuration within {RELOAD_SECONDS:.0f} s: {self.process.log_tail(3)}"
        )

    async def change_all(
        self,
        steps: Sequence[tuple[Any, ...]],
        servers: Mapping[str, Sequence[Server]],
        where: Surroundings,
        text: str,
    ) -> None:
        """Change single servers where they run, and the file with them."""
        try:
            for step in steps:
                await self._change(step, servers, where)
        except EngineFailed:
            await self.reload(text)  # what can't be changed live is changed by a reload
            return
        self.instance.write_config(self.config, text)

    async def _change(
        self, step: tuple[Any, ...], servers: Mapping[str, Sequence[Server]], where: Surroundings
    ) -> None:
        what, pool_name, backend, name = step
        at = f"{backend}/{name}"
        if what == "remove":
            await self._drain(at, backend, name)
            await self._order(f"del server {at}")
            return
        pool = next(p for p in self.spec.pools if p.name == pool_name)
        server = next(s for s in servers[pool_name] if s.id == name)
        if what == "weight":
            await self._order(f"set server {at} weight {server.weight}")
            return
        if what == "move":
            await self._order(f"set server {at} addr {server.host} port {server.port}")
            return
        if not live_addable(pool):
            raise EngineFailed(f"{at} can't be added live")
        await self._order(f"add server {at} {server.address} {server_options(pool, where)} {own_options(pool, server)}")
        if pool.health_check.enabled:
            await self._order(f"enable health {at}")
        await self._order(f"enable server {at}")

    async def _drain(self, at: str, backend: str, name: str) -> None:
        """No new sessions; wait for the present ones, then take it out. Nobody is cut off within the time allowed."""
        clock = self.ctx.base.clock
        await self._order(f"set server {at} state drain")
        deadline = clock.monotonic() + DRAIN_SECONDS
        while clock.monotonic() < deadline:
            rows = await self.runtime.statistics()
            row = next((r for r in rows if r["pxname"] == backend and r["svname"] == name), None)
            if row is None or int(row.get("scur") or 0) == 0:
                break
            await clock.sleep(0.02)
        await self._order(f"set server {at} state maint")

    async def _order(self, command: str) -> None:
        """A command that must succeed; HAProxy answers nothing, or a sentence that begins with what it did."""
        answer = await self.runtime.command(command)
        if answer and not any(word in answer for word in ("registered", "deleted", "changed", "no need to change")):
            raise EngineFailed(f"HAProxy refused `{command}`: {answer}")

    async def end(self) -> None:
        """It is one too many: its sessions end by themselves first."""
        await self.process.stop()
        self.process.forget()
        (self.instance.config_dir / self.config).unlink(missing_ok=True)
