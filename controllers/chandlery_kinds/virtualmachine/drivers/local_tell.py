"""What a machine's status says, and how the loop hears of its events at once."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from chandlery.driver.protocol import Binding, Difference, Observation
from chandlery.foundation.clock import ambient
from chandlery.foundation.errors import ChandleryError
from chandlery.model.base import Endpoint
from chandlery.providers.local import Instance, downloads
from chandlery.providers.local.background import Job
from chandlery.providers.local.driver import crash_loop
from chandlery.providers.local.engines import InstallingEngine
from chandlery_kinds.virtualmachine.command import ForwardArgs
from chandlery_kinds.virtualmachine.drivers.local_disks import WantedDisk
from chandlery_kinds.virtualmachine.drivers.local_images import Image
from chandlery_kinds.virtualmachine.drivers.local_look import HOST, Look, booted
from chandlery_kinds.virtualmachine.guest import tiny
from chandlery_kinds.virtualmachine.power import Power, why_off
from chandlery_kinds.virtualmachine.qmp import Qmp

if TYPE_CHECKING:
    from chandlery_kinds.virtualmachine.drivers.local_machine import Machine

STARTING_POLL = 0.05
MOST_STARTING_POLL = 0.5
STARTING_PART = 1 / 40
"""Each look at a guest that boots costs it some time: between two of them is this part of what has gone by."""
CONSOLE_POLL = 0.02
INSTALLING_POLL = 0.5
STOPPING_POLL = 0.2
READY_POLL = 30.0
UNREADY_POLL = 1.0
LONG_BOOT = 30.0
"""Seconds after which a guest that boots is looked at less often."""
EVENTS = frozenset(
    {"SHUTDOWN", "STOP", "RESUME", "RESET", "GUEST_PANICKED", "BLOCK_IO_ERROR", "DEVICE_DELETED", "VSERPORT_CHANGE"}
)
_SERVICES = {22: "ssh", 80: "http", 8080: "http", 443: "https"}


def observation(
    machine: Machine,
    seen: Look,
    image: Image | None,
    disks: Sequence[WantedDisk],
    differences: Sequence[Difference],
    job: Job | None,
) -> Observation:
    """Everything that is known, as the loop wants it."""
    power = machine.power()
    found = _power(machine, seen)
    off_as_wanted = power is Power.OFF and found is Power.OFF
    ready = off_as_wanted or (power is Power.RUNNING and found is Power.RUNNING)
    reason, message = ("", "") if ready else _explain(machine, seen, found, job)
    if off_as_wanted:
        message = why_off(machine.spec.run_strategy, machine.ended)
    forwards = machine.forwards()
    first = next((f for f in forwards if f.protocol == "TCP"), None)
    return Observation(
        exists=True,
        ready=ready,
        reason=reason,
        message=message,
        differences=tuple(differences),
        external_name=machine.instance.name,
        endpoint=Endpoint(host=HOST, port=first.host_port) if first is not None else None,
        binding=binding(forwards),
        facts=_facts(machine, seen, found, image, disks),
        poll_after=_poll_after(machine, seen, found, ready=ready, installing=job is not None),
    )


def _power(machine: Machine, seen: Look) -> Power:
    if not seen.up or seen.status in {"shutdown", "guest-panicked", "internal-error"}:
        return Power.OFF
    if machine.record.get("halt"):
        return Power.STOPPING
    if seen.status in {"paused", "io-error", "save-vm", "restore-vm"}:
        return Power.PAUSED
    return Power.RUNNING if machine.is_ready(seen) else Power.STARTING


def _explain(machine: Machine, seen: Look, found: Power, job: Job | None) -> tuple[str, str]:
    if job is not None and job.running:
        return "InstallingEngine" if job.title.startswith("installing") else "PreparingImage", job.message
    if found is Power.STOPPING:
        return "Stopping", "the guest was asked to shut down"
    if seen.status == "io-error":
        return "DiskError", "the guest is paused: a disk could not be written, most likely for want of room"
    if found is Power.PAUSED:
        return "Paused", "the guest is paused"
    if seen.state.crashed and seen.state.restarts > 1:
        return crash_loop("QEMU", machine.process, seen.state) or ("CrashLoop", f"QEMU {seen.state.exit}")
    if found is Power.OFF:
        why = f" after it ended ({machine.ended})" if machine.ended else ""
        return "Starting", f"the machine is about to be started{why}"
    if seen.error:
        return "Starting", f"waiting for QEMU: {seen.error}"
    return "Booting", _waits_for(machine)


def _waits_for(machine: Machine) -> str:
    if machine.spec.guest_agent.required:
        return "waiting for the guest's agent to answer"
    names = ", ".join(f"{f.name} (port {f.guest_port})" for f in machine.forwards() if f.protocol == "TCP")
    return f"waiting for the guest to accept connections on {names}" if names else "waiting for the guest to boot"


def _poll_after(machine: Machine, seen: Look, found: Power, *, ready: bool, installing: bool) -> float:
    if ready:
        return READY_POLL
    if installing:
        return INSTALLING_POLL
    if found is Power.STOPPING:
        return STOPPING_POLL
    if found is Power.OFF:
        waits = max(seen.state.wait, float(machine.record.get("not_before", 0.0)) - machine.now())
        return max(STARTING_POLL, waits)
    age = machine.now() - float(machine.record.get("started_at", 0.0))
    if found is Power.STARTING and age < LONG_BOOT:
        if seen.status == "running" and machine.record.get("tells_ready") and not _booted(machine):
            return MOST_STARTING_POLL  # its console wakes us
        return min(MOST_STARTING_POLL, max(STARTING_POLL, age * STARTING_PART))
    return UNREADY_POLL


def _booted(machine: Machine) -> bool:
    return booted(machine.instance, int(machine.record.get("console_from", 0)), tiny.READY_MARK)


def _facts(
    machine: Machine, seen: Look, found: Power, image: Image | None, disks: Sequence[WantedDisk]
) -> dict[str, Any]:
    record = machine.record
    facts: dict[str, Any] = {
        "powerState": found.value,
        "node": platform.node(),
        "address": machine.address,
        "mac": machine.mac,
        "restarts": int(record.get("restarts", 0)),
        "forwards": [_forward(forward, seen) for forward in machine.forwards()],
        "disks": machine.disks.facts(seen, list(disks)),
        "snapshots": machine.snapshots.facts(seen),
    }
    if record.get("accelerator"):
        facts["accelerator"] = record["accelerator"]
    if seen.version:
        facts["version"] = seen.version
    if record.get("started_at"):
        facts["startedAt"] = rfc3339(record["started_at"])
    if found is Power.OFF and machine.ended:
        facts["exitReason"] = machine.ended.value
    if image is not None and image.checksum:
        facts["imageChecksum"] = image.checksum
    if seen.agent is not None:
        facts["guest"] = {
            "agentConnected": True,
            "hostname": seen.agent.get("hostname"),
            "osName": seen.agent.get("os_name"),
            "addresses": seen.agent.get("addresses", []),
        }
    elif seen.up:
        facts["guest"] = {"agentConnected": False}
    return facts


def _forward(forward: ForwardArgs, seen: Look) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": forward.name,
        "host": HOST,
        "hostPort": forward.host_port,
        "guestPort": forward.guest_port,
    }
    if forward.protocol == "TCP":
        found["accepting"] = forward.name in seen.accepting
    return found


def binding(forwards: Sequence[ForwardArgs]) -> Binding | None:
    """The first forward as host and port, and every one under its own name; None without forwards."""
    if not forwards:
        return None
    first = forwards[0]
    service = _SERVICES.get(first.guest_port, "tcp")
    entries = {"host": HOST, "port": str(first.host_port), "uri": f"{service}://{HOST}:{first.host_port}"}
    for forward in forwards:
        entries[f"{forward.name}-host"] = HOST
        entries[f"{forward.name}-port"] = str(forward.host_port)
    return Binding(service, "chandlery", entries)


def rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# -- events


def events_key(instance: Instance) -> tuple[str, str]:
    """Under which name the listening is known."""
    return ("vm-events", instance.name)


def console_key(instance: Instance) -> tuple[str, str]:
    """Under which name the reading of the console is known."""
    return ("vm-console", instance.name)


def watch(machine: Machine) -> None:
    """Hear QEMU's events for as long as it runs, and the guest that says when it has booted; wake the loop then."""
    provider, instance = machine.instance.provider, machine.instance
    age = machine.now() - float(machine.record.get("started_at", 0.0))
    if machine.record.get("tells_ready") and age < LONG_BOOT and not _booted(machine):

        async def read(_job: Job) -> None:
            clock = ambient()
            deadline = clock.monotonic() + LONG_BOOT
            while clock.monotonic() < deadline:
                if _booted(machine):
                    provider.notify(instance.name)
                    return
                await clock.sleep(CONSOLE_POLL)

        provider.background.start(console_key(instance), f"console of {instance.name}", read)
    key = events_key(instance)
    known = provider.background.get(key)
    if known is not None and known.running:
        return
    path, name = instance.run_dir / "events.sock", instance.name

    async def listen(_job: Job) -> None:
        try:
            async with await Qmp.connect(path) as qmp:
                async for event in qmp.events():
                    if event in EVENTS:
                        provider.notify(name)
        except ChandleryError:
            return  # the next look begins anew

    provider.background.start(key, f"events of {name}", listen)


# -- images of further disks


async def fetch_sources(machine: Machine) -> None:
    """Fetch the images that fill further disks, in the background.

    Raises:
        InstallingEngine: they are on their way.
        ChandleryError: why one can't be had.
    """
    provider = machine.instance.provider
    for disk in machine.spec.disks:
        source = disk.source
        if source is None or machine.disks.path(str(disk.name)).exists():
            continue
        checksum, url = str(source.checksum), str(source.url)
        if await asyncio.to_thread(downloads.path_of(provider.images_dir, checksum).exists):
            continue
        field = f"spec.disks[{disk.name}].source"

        async def work(job: Job, url: str = url, checksum: str = checksum, field: str = field) -> None:
            folders = provider.image_sources
            await downloads.fetch(url, checksum, provider.images_dir, field=field, tell=job.tell, folders=folders)

        job = provider.background.start(("image", checksum), f"fetching {url}", work, machine.instance.wake)
        if job.error is not None and not job.running:
            raise job.error
        raise InstallingEngine(job.message)
