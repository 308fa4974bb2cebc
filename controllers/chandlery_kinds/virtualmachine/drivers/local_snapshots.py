"""Snapshots inside of the disks' own files: of all disks at one moment, with the running memory if asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from chandlery.driver.protocol import Difference, Disruption
from chandlery.foundation.errors import ChandleryError, FailedPrecondition, Timeout, Unavailable
from chandlery.providers.local.engines import Engine
from chandlery.providers.local.tools import run_tool
from chandlery_kinds.virtualmachine.command import node_name
from chandlery_kinds.virtualmachine.drivers.local_look import Look
from chandlery_kinds.virtualmachine.qmp import Qmp, ask_agent

if TYPE_CHECKING:
    from chandlery_kinds.virtualmachine.drivers.local_machine import Machine

MEMORY_SECONDS = 90.0


class Snapshots:
    """The snapshots of one machine in one pass."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.instance = machine.instance

    @property
    def _known(self) -> dict[str, dict[str, Any]]:
        """What is on record by name: {at, memory}; while the machine runs QEMU is asked."""
        found: dict[str, dict[str, Any]] = self.machine.record.get("snapshots", {})
        return found

    def _here(self, look: Look) -> set[str]:
        disks = [
            look.nodes[node_name(name)] for name in self.machine.disks.names_here() if node_name(name) in look.nodes
        ]
        if not disks:
            return set(self._known)
        return {snapshot["name"] for disk in disks for snapshot in disk.get("image", {}).get("snapshots", ())}

    def differences(self, look: Look) -> list[Difference]:
        wanted = {str(snapshot.name): snapshot for snapshot in self.machine.spec.snapshots.named}
        here = self._here(look)
        found = []
        for name, snapshot in wanted.items():
            if name in here or not self.machine.disks.names_here():
                continue
            if snapshot.memory and look.status != "running":
                continue  # there is no memory to keep; taken once the machine runs
            found.append(Difference(f"spec.snapshots.named[{name}]", "taken", "absent", payload=("snapshot", name)))
        for name in sorted(here - set(wanted)):
            field = f"spec.snapshots.named[{name}]"
            found.append(Difference(field, "absent", "there", Disruption.NONE, payload=("snapshot-drop", name)))
        return found

    def facts(self, look: Look) -> list[dict[str, Any]]:
        from chandlery_kinds.virtualmachine.drivers.local_tell import rfc3339

        here = self._here(look)
        found: list[dict[str, Any]] = []
        for snapshot in self.machine.spec.snapshots.named:
            name = str(snapshot.name)
            known = self._known.get(name)
            if name in here:
                at = {"createdAt": rfc3339(known["at"])} if known else {}
                found.append({"name": name, "ready": True, **at})
            elif not self.machine.disks.names_here():
                found.append({"name": name, "ready": False, "message": "the machine has no disk to keep it on"})
            elif snapshot.memory:
                found.append({"name": name, "ready": False, "message": "taken once the machine runs"})
            else:
                found.append({"name": name, "ready": False})
        return found

    async def change(self, look: Look, what: str, name: str, engine: Callable[[], Engine]) -> None:
        if what == "snapshot":
            await self._take(look, name, engine)
            self.machine.record.setdefault("snapshots", {})[name] = {"at": self.machine.now()}
        else:
            await self._drop(look, name, engine)
            self.machine.record.get("snapshots", {}).pop(name, None)
        self.machine.save()

    async def _take(self, look: Look, name: str, engine: Callable[[], Engine]) -> None:
        spec = next(s for s in self.machine.spec.snapshots.named if str(s.name) == name)
        disks = [disk for disk in self.machine.disks.names_here() if node_name(disk) in look.nodes]
        if not look.up:
            await self._offline("-c", name, engine)
            return
        if not disks:
            raise FailedPrecondition("the machine has no disk to keep a snapshot on", retry_after=None)
        nodes = [node_name(disk) for disk in disks]
        async with await self.machine.qmp() as qmp:
            if spec.memory:
                await self._with_memory(qmp, name, nodes)
                return
            async with self._quiet(look):
                actions = [
                    {"type": "blockdev-snapshot-internal-sync", "data": {"device": node, "name": name}}
                    for node in nodes
                ]
                await qmp.execute("transaction", seconds=60.0, actions=actions)

    @contextlib.asynccontextmanager
    async def _quiet(self, look: Look) -> Any:
        """Have the guest finish its writes first, where it has an agent; without one it is as after a power cut."""
        path = self.instance.run_dir / "agent.sock"
        frozen = False
        if look.agent is not None:
            with contextlib.suppress(ChandleryError):
                await ask_agent(path, "guest-fsfreeze-freeze", seconds=10.0)
                frozen = True
        try:
            yield
        finally:
            if frozen:
                with contextlib.suppress(ChandleryError):
                    await ask_agent(path, "guest-fsfreeze-thaw", seconds=10.0)

    async def _with_memory(self, qmp: Qmp, name: str, nodes: list[str]) -> None:
        job = f"snapshot-{node_name(name)}"
        await qmp.execute("snapshot-save", job_id=job, tag=name, vmstate=nodes[0], devices=nodes)
        clock = self.machine.ctx.base.clock
        deadline = clock.monotonic() + MEMORY_SECONDS
        while clock.monotonic() < deadline:
            state = next((j for j in await qmp.execute("query-jobs") if j["id"] == job), None)
            if state is None:
                return
            if state["status"] == "concluded":
                await qmp.execute("job-dismiss", id=job)
                if state.get("error"):
                    raise Unavailable(f"the snapshot {name} failed: {state['error']}", retry_after=30.0)
                return
            await clock.sleep(0.05)
        raise Timeout(f"the snapshot {name} was not finished in {MEMORY_SECONDS:.0f} s")

    async def _drop(self, look: Look, name: str, engine: Callable[[], Engine]) -> None:
        if not look.up:
            await self._offline("-d", name, engine)
            return
        async with await self.machine.qmp() as qmp:
            for disk in self.machine.disks.names_here():
                node = look.nodes.get(node_name(disk), {})
                if any(snapshot["name"] == name for snapshot in node.get("image", {}).get("snapshots", ())):
                    await qmp.execute("blockdev-snapshot-delete-internal-sync", device=node_name(disk), name=name)

    async def _offline(self, option: str, name: str, engine: Callable[[], Engine]) -> None:
        found = engine()
        for disk in self.machine.disks.names_here():
            argv = [str(found.tool("qemu-img")), "snapshot", "-q", option, name, str(self.machine.disks.path(disk))]
            done = await run_tool(self.instance, argv, env=found.env, check=False)
            if done.code != 0 and option == "-c":
                raise Unavailable(f"the snapshot {name} failed: {done.tail()}")
