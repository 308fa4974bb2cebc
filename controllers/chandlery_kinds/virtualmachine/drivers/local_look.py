"""What a machine is doing, asked of QEMU, of its network and of the guest's agent. Changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from chandlery.foundation.clock import ambient
from chandlery.foundation.errors import ChandleryError
from chandlery.providers.local import Instance, ProcessState
from chandlery_kinds.virtualmachine.command import ForwardArgs
from chandlery_kinds.virtualmachine.power import Ended
from chandlery_kinds.virtualmachine.qmp import Connection, Qmp, ask_agent, parse_usernet

HOST = "127.0.0.1"
ACCEPT_SECONDS = 0.03
ENDED = {"shutdown": Ended.SHUTDOWN, "guest-panicked": Ended.CRASHED, "internal-error": Ended.CRASHED}
_OPEN = frozenset({"ESTABLISHED", "CLOSE_WAIT", "FIN_WAIT_1", "FIN_WAIT_2"})


@dataclass(slots=True)
class Look:
    """One look at a machine."""

    state: ProcessState
    status: str = ""
    """QEMU's own word: running, paused, shutdown, guest-panicked, io-error ...; "" when it can't be asked."""
    version: str = ""
    forwards: Sequence[Connection] = ()
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Block nodes by name, as query-named-block-nodes has them."""
    accepting: frozenset[str] = frozenset()
    """Forwards that the guest itself accepts connections on, by name."""
    agent: dict[str, Any] | None = None
    """hostname, os_name, addresses; None when no agent answers."""
    error: str = ""

    @property
    def up(self) -> bool:
        return self.state.running


async def look(instance: Instance, state: ProcessState, forwards: Sequence[ForwardArgs], *, agent: bool) -> Look:
    """Ask QEMU everything in one conversation."""
    found = Look(state)
    if not state.running:
        return found
    try:
        async with await Qmp.connect(instance.run_dir / "qmp.sock") as qmp:
            found.version = qmp.version
            found.status = (await qmp.execute("query-status"))["status"]
            nodes = await qmp.execute("query-named-block-nodes", flat=True)
            found.nodes = {node["node-name"]: node for node in nodes if node.get("node-name")}
            tcp = [forward for forward in forwards if forward.protocol == "TCP"]
            async with contextlib.AsyncExitStack() as stack:
                if found.status == "running":
                    await asyncio.gather(*(_knock(forward.host_port, stack) for forward in tcp))
                    if tcp:
                        await ambient().sleep(ACCEPT_SECONDS)
                table = parse_usernet(await qmp.monitor("info usernet"))
            found.forwards = [line for line in table if line.state == "HOST_FORWARD"]
            found.accepting = accepting(tcp, table)
            if agent and found.status == "running":
                channels = await qmp.execute("query-chardev")
                if any(c["label"] == "agent" and c["frontend-open"] for c in channels):
                    found.agent = await _agent(instance)
    except ChandleryError as error:
        found.error = error.message
    return found


def accepting(forwards: Sequence[ForwardArgs], table: Sequence[Connection]) -> frozenset[str]:
    """The forwards with a connection that the guest has answered.

    The host's end of a forward accepts anything as soon as QEMU runs, so only the state of the guest's end counts.
    """
    answered = {(line.port, line.guest_port) for line in table if line.protocol == "TCP" and line.state in _OPEN}
    return frozenset(f.name for f in forwards if (f.host_port, f.guest_port) in answered)


async def _knock(port: int, stack: contextlib.AsyncExitStack) -> None:
    try:
        async with ambient().timeout(0.5):
            _, writer = await asyncio.open_connection(HOST, port)
    except (OSError, TimeoutError):
        return
    stack.callback(writer.close)


async def _agent(instance: Instance) -> dict[str, Any] | None:
    path = instance.run_dir / "agent.sock"
    try:
        name = await ask_agent(path, "guest-get-host-name")
    except ChandleryError:
        return None
    found: dict[str, Any] = {"hostname": name.get("host-name")}
    with contextlib.suppress(ChandleryError):
        found["os_name"] = (await ask_agent(path, "guest-get-osinfo")).get("pretty-name")
    with contextlib.suppress(ChandleryError):
        interfaces = await ask_agent(path, "guest-network-get-interfaces")
        found["addresses"] = sorted(
            address["ip-address"]
            for interface in interfaces
            for address in interface.get("ip-addresses", ())
            if interface.get("name") != "lo"
        )
    return found


def booted(instance: Instance, since: int, mark: bytes) -> bool:
    """Whether a line that begins with `mark` came over the console after that many bytes of its log."""
    try:
        with (instance.log_dir / "console.log").open("rb") as file:
            file.seek(since)
            text = file.read(1 << 20)
    except OSError:
        return False
    return text.startswith(mark) or b"\n" + mark in text
