"""Virtual machines as real QEMU processes: what a client of the guest sees."""

import asyncio
import hashlib
import os
import socket
import struct
from dataclasses import replace

import aiohttp
import pytest
from local_harness import Harness, kill, shared_cache, until

from chandlery.driver.protocol import Plan
from chandlery.foundation.errors import ChandleryError, InvalidSpec
from chandlery.providers.local import pids
from chandlery.providers.local.engines.apt import available
from chandlery_kinds.virtualmachine.drivers.local import VirtualMachineDriver
from chandlery_kinds.virtualmachine.model import VirtualMachine
from chandlery_kinds.virtualmachine.power import POWER_ANNOTATION
from chandlery_kinds.virtualmachine.qmp import Qmp

pytestmark = [
    pytest.mark.engine,
    pytest.mark.slow,
    pytest.mark.skipif(bool(available()), reason=f"QEMU and the guest come from Debian packages: {available()}"),
    pytest.mark.timeout(300),
]

HELLO = '#!/bin/sh\nmkdir -p /www && echo "hello from $(hostname)" > /www/index.html\n'
TINY = {
    "memory": "96Mi",
    "image": {"name": "tiny"},
    "network": {"forwards": [{"name": "http", "guestPort": 80}]},
    "cloudInit": {"userData": HELLO},
    "shutdownTimeout": "20s",
}
BOOT = 200.0  # the first one downloads and builds


@pytest.fixture
async def local(tmp_path):
    made = Harness(tmp_path / "data", VirtualMachineDriver(), VirtualMachine, shared_cache())
    yield made
    await made.close()


def images(local):
    """The folder that images may be taken from."""
    folder = local.root / "images"
    folder.mkdir(exist_ok=True)
    return folder


async def page(port, path="/"):
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as answer:
        return answer.status, await answer.text()


async def console(local, obj, line, end=b"done\r\n"):
    """Type a line at the guest's serial console; returns what the guest says up to `end`."""
    path = local.instance(obj).run_dir / "console.sock"
    fd = os.open(path.parent, os.O_RDONLY)
    try:
        reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{fd}/console.sock")
    finally:
        os.close(fd)
    try:
        # The end is spelled so that the echo of what was typed isn't taken for it.
        writer.write(f"{line}; echo do''ne\n".encode())
        async with asyncio.timeout(30):
            return (await reader.readuntil(end)).decode(errors="replace")
    finally:
        writer.close()


async def told(local, obj, words):
    """Work on the object until the loop would tell a person this."""

    async def once():
        try:
            observed = await local.driver.observe(local.ctx, obj)
            if not observed.exists:
                await local.driver.create(local.ctx, obj)
            elif observed.differences:
                changes = Plan(observed.differences)
                await local.driver.update(local.ctx, obj, replace(observed, plan=changes))
            return words in observed.message
        except ChandleryError as error:
            return words in error.condition_message()

    await until(once, BOOT)


def annotated(obj, **annotations):
    return obj.model_copy(update={"metadata": obj.metadata.model_copy(update={"annotations": annotations})})


def pid_of(local, obj):
    local.instance(obj).reload()
    return local.instance(obj).process("qemu").state().pid


async def test_a_guest_serves_through_its_forward_and_goes_away_whole(local):
    obj = local.object(**TINY)
    seen = await local.converge(obj, BOOT)
    port = int(seen.binding.entries["http-port"])
    assert await page(port) == (200, "hello from demo\n")
    assert seen.endpoint.port == port
    assert seen.facts["powerState"] == "Running"
    assert seen.facts["forwards"][0]["accepting"] is True
    assert seen.facts["mac"].startswith("52:54:00:")

    # Another operator takes it up as it is.
    pid = pid_of(local, obj)
    await local.restart_operator()
    again = await local.converge(obj)
    assert (pid_of(local, obj), again.binding.entries["port"], local.plans) == (pid, str(port), [])

    # Made a second time, by one that didn't hear how the first ended: nothing that is known of its start changes.
    known = dict(local.instance(obj).record["vm"])
    await local.driver.create(local.ctx, obj)
    local.instance(obj).reload()
    assert (local.instance(obj).record["vm"], pid_of(local, obj)) == (known, pid)

    # A QEMU that is killed comes back on the same port, and status tells.
    await kill(pid)
    seen = await local.converge(obj, BOOT)
    assert pid_of(local, obj) != pid
    assert seen.facts["restarts"] == 1
    assert await page(port) == (200, "hello from demo\n")

    pid = pid_of(local, obj)
    await local.delete(obj)
    assert pids.start_time(pid) is None
    assert not local.instance(obj).root.exists()


async def test_changes_while_it_runs_keep_it_running(local):
    obj = local.object(**TINY, disks=[{"name": "data", "size": "64Mi"}])
    seen = await local.converge(obj, BOOT)
    pid, port = pid_of(local, obj), int(seen.binding.entries["http-port"])
    assert "vdb" in await console(local, obj, "ls /sys/block")

    # A connection that is open stays open while forwards come and go.
    async with aiohttp.ClientSession() as session:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        forwards = [{"name": "http", "guestPort": 80}, {"name": "second", "guestPort": 80}]
        forwards.append({"name": "names", "guestPort": 53, "protocol": "UDP"})
        obj = local.changed(obj, network={"forwards": forwards})
        seen = await local.converge(obj)
        assert {label for _, label in local.plans} == {"none"}
        assert [f["name"] for f in seen.facts["forwards"]] == ["http", "second", "names"]
        second = int(seen.binding.entries["second-port"])
        assert await page(second) == (200, "hello from demo\n")
        obj = local.changed(obj, network={"forwards": forwards[:1]})
        await local.converge(obj)
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get(f"http://127.0.0.1:{second}/")
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        assert b"200 OK" in await reader.readline()
        writer.close()

    # A disk grows under the guest's eyes; another is plugged in and out.
    obj = local.changed(obj, disks=[{"name": "data", "size": "96Mi"}, {"name": "more", "size": "32Mi"}])
    seen = await local.converge(obj)
    assert [(disk["name"], disk["size"], disk["attached"]) for disk in seen.facts["disks"]] == [
        ("data", str(96 << 20), True),
        ("more", str(32 << 20), True),
    ]

    async def grown():
        return str((96 << 20) // 512) in await console(local, obj, "cat /sys/block/vd*/size")

    async def plugged():
        return str((32 << 20) // 512) in await console(local, obj, "cat /sys/block/vd*/size")

    await until(grown, 20)
    await until(plugged, 20)
    obj = local.changed(obj, disks=[{"name": "data", "size": "96Mi"}])
    observed = await local.driver.observe(local.ctx, obj)
    assert [(d.field, d.disruption.label) for d in observed.differences] == [("spec.disks[more]", "data-loss")]
    await local.converge(obj)
    assert not (local.instance(obj).data_dir / "disk-more.qcow2").exists()

    # Snapshots, with memory and without, appear and vanish.
    named = [{"name": "plain"}, {"name": "running", "memory": True}]
    await console(local, obj, "echo before > /dev/vdb; sync")
    obj = local.changed(obj, snapshots={"named": named})
    seen = await local.converge(obj)
    assert [(s["name"], s["ready"]) for s in seen.facts["snapshots"]] == [("plain", True), ("running", True)]
    await console(local, obj, "echo after > /dev/vdb; sync")

    # Another machine begins with what the snapshot holds, while this one goes on.
    local.reader.objects["VirtualMachine", "default", "demo"] = {"metadata": {"uid": obj.metadata.uid}}
    restore = {"machine": {"name": "demo"}, "snapshot": "plain"}
    disks = [{"name": "data", "size": "128Mi"}]
    other = local.object(**TINY, disks=disks, restoreFrom=restore, deletionPolicy="Snapshot")
    await local.converge(other, BOOT)
    assert "before" in await console(local, other, "head -c 6 /dev/vdb")
    await local.delete(other)
    kept = local.root / "snapshots" / f"virtualmachine-{other.metadata.uid}"
    assert [path.name for path in kept.iterdir()] == ["disk-data.qcow2"]

    obj = local.changed(obj, snapshots={"named": []})
    assert (await local.converge(obj)).facts["snapshots"] == []

    # Paused and resumed.
    paused = annotated(obj, **{POWER_ANNOTATION: "Paused"})
    observed = await local.driver.observe(local.ctx, paused)
    await local.driver.update(local.ctx, paused, replace(observed, plan=Plan(observed.differences)))
    observed = await local.driver.observe(local.ctx, paused)
    assert (observed.facts["powerState"], observed.ready, observed.reason) == ("Paused", False, "Paused")
    assert (await local.converge(obj)).facts["powerState"] == "Running"
    assert pid_of(local, obj) == pid
    assert await page(port) == (200, "hello from demo\n")


async def test_power_follows_the_strategy(local):
    obj = local.object(**TINY, runStrategy="RerunOnFailure")
    await local.converge(obj, BOOT)

    # The guest's kernel panics: that is a failure, and it is started again.
    pid = pid_of(local, obj)
    await console(local, obj, "echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger", b"Kernel panic")

    async def started_again():  # the machine goes on for a moment after these words
        return (await local.converge(obj, BOOT)).facts["restarts"] == 1

    await until(started_again, BOOT)
    assert pid_of(local, obj) != pid

    # The guest switches itself off: that is no failure. The loop is woken by QEMU's own event.
    woken = asyncio.Event()
    local.provider.notify = lambda _name: woken.set()
    await local.driver.observe(local.ctx, obj)
    await console(local, obj, "poweroff -f", b"Power down")
    await asyncio.wait_for(woken.wait(), 20)
    seen = await local.converge(obj)
    assert (seen.facts["powerState"], seen.facts["exitReason"]) == ("Off", "Shutdown")
    assert pid_of(local, obj) is None

    # More memory while it is off; then on again, with it.
    obj = local.changed(obj, runStrategy="Always", memory="112Mi")
    seen = await local.converge(obj, BOOT)
    async with await Qmp.connect(local.instance(obj).run_dir / "qmp.sock") as qmp:
        assert (await qmp.execute("query-memory-size-summary"))["base-memory"] == 112 << 20

    # Less memory takes a restart, and says so; the guest is shut down in its own way.
    obj = local.changed(obj, memory="96Mi")
    seen = await local.converge(obj, BOOT)
    assert ("spec.memory", "restart") in local.plans
    assert seen.facts["powerState"] == "Running"

    # Who stops everything (`chandlery down`) presses the power button too; what ran goes on afterwards.
    log = local.instance(obj).log_dir / "console.log"
    before = log.read_bytes().count(b"Power down")
    assert await local.provider.stop_all() == 1
    assert log.read_bytes().count(b"Power down") == before + 1
    await local.converge(obj, BOOT)

    # Off by request.
    obj = local.changed(obj, runStrategy="Halted")
    seen = await local.converge(obj)
    assert (seen.facts["powerState"], seen.facts["exitReason"], seen.ready) == ("Off", "Halted", True)
    assert "Power down" in (local.instance(obj).log_dir / "console.log").read_text(errors="replace")


async def test_bad_luck_is_told_and_mended(local, tmp_path):
    # A port that somebody else has.
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        forwards = [{"name": "http", "guestPort": 80, "hostPort": port}]
        obj = local.object(**TINY | {"network": {"forwards": forwards}})
        await told(local, obj, f"port {port} is taken")
    seen = await local.converge(obj, BOOT)
    assert seen.binding.entries["port"] == str(port)
    await local.delete(obj)

    # An image that isn't what its checksum says, and one that reads other files of this machine.
    folder = images(local)
    image = folder / "disk.raw"
    image.write_bytes(b"\0" * (1 << 20))
    wrong = {"image": {"url": image.as_uri(), "checksum": "sha256:" + "0" * 64}, "rootDisk": {"size": "2Mi"}}
    with pytest.raises(InvalidSpec, match="has the checksum"):
        await local.converge(local.object(**wrong), 60)

    leaning = folder / "leaning.qcow2"
    name = b"/etc/passwd"
    header = b"QFI\xfb" + struct.pack(">IQI", 3, 512, len(name)) + struct.pack(">IQ", 16, 1 << 20)
    leaning.write_bytes(header.ljust(512, b"\0") + name)
    checksum = "sha256:" + hashlib.sha256(leaning.read_bytes()).hexdigest()
    spec = {"image": {"url": leaning.as_uri(), "checksum": checksum}, "rootDisk": {"size": "2Mi"}}
    with pytest.raises(InvalidSpec, match=r"leans on another file \(/etc/passwd\)"):
        await local.converge(local.object(**spec), 60)

    # An image from a folder that nobody allowed, also by way of a link or of dots.
    outside = tmp_path / "outside.raw"
    outside.write_bytes(b"\0" * (1 << 20))
    (folder / "link.raw").symlink_to(outside)
    for url in (outside.as_uri(), (folder / "link.raw").as_uri(), f"{folder.as_uri()}/../../outside.raw"):
        spec = {"image": {"url": url, "checksum": "sha256:" + "2" * 64}, "rootDisk": {"size": "2Mi"}}
        with pytest.raises(InvalidSpec, match=f"may name files in {folder}") as caught:
            await local.converge(local.object(**spec), 60)
        assert "CHANDLERY_LOCAL_IMAGE_DIRS" in caught.value.hint

    # A root disk smaller than its image.
    good = "sha256:" + hashlib.sha256(image.read_bytes()).hexdigest()
    small = {"image": {"url": image.as_uri(), "checksum": good}, "rootDisk": {"size": "512Ki"}}
    with pytest.raises(InvalidSpec, match="the image needs 1048576 bytes"):
        await local.converge(local.object(**small), 60)

    # An image that can't be reached.
    gone = {"image": {"url": (folder / "none").as_uri(), "checksum": "sha256:" + "1" * 64}}
    await told(local, local.object(**gone), "there is no file")

    # More memory than there is.
    await told(local, local.object(**TINY | {"memory": "900Ti"}), "Gi are available here")


@pytest.mark.parametrize("firmware", ["uefi", "uefi-secure"])
async def test_firmware_is_the_one_that_was_asked_for(local, firmware):
    disk = images(local) / "empty.raw"
    disk.write_bytes(b"\0" * (1 << 20))
    checksum = "sha256:" + hashlib.sha256(disk.read_bytes()).hexdigest()
    image = {"url": disk.as_uri(), "checksum": checksum}
    obj = local.object(image=image, firmware=firmware, memory="128Mi", shutdownTimeout="1s")
    await local.converge(obj, BOOT)
    log = local.instance(obj).log_dir / "console.log"
    await until(lambda: log.exists() and b"BdsDxe" in log.read_bytes(), 60)
    assert (local.instance(obj).data_dir / "efivars.fd").exists()
    await local.delete(obj)


async def test_a_machine_is_stopped_hard_when_it_ignores_its_button(local):
    """A guest without an operating system hears no button."""
    spec = {"image": {"kernel": None}, "memory": "64Mi", "shutdownTimeout": "1s"}
    disk = images(local) / "empty.raw"
    disk.write_bytes(b"\0" * (1 << 20))
    spec["image"] = {"url": disk.as_uri(), "checksum": "sha256:" + hashlib.sha256(disk.read_bytes()).hexdigest()}
    obj = local.object(**spec)
    await local.converge(obj, BOOT)
    pid = pid_of(local, obj)
    assert pid is not None
    await local.delete(obj)
    assert pids.start_time(pid) is None
