"""How often a guest that boots is looked at, and how its console says that it has."""

import asyncio
from types import SimpleNamespace

import pytest

from chandlery.providers.local import LocalProvider, ProcessState
from chandlery_kinds.virtualmachine.drivers import local_tell
from chandlery_kinds.virtualmachine.drivers.local_look import Look
from chandlery_kinds.virtualmachine.power import Power


@pytest.fixture
async def machine(tmp_path):
    provider = LocalProvider(tmp_path)
    provider.open()
    instance = provider.instance("virtualmachine-1")
    instance.create(kind="VirtualMachine", namespace="default", name="demo", uid="1")
    yield SimpleNamespace(instance=instance, record={"started_at": 100.0}, now=lambda: 100.0)
    await provider.background.close()
    provider.close()


def pause(machine, age):
    machine.now = lambda: 100.0 + age
    seen = Look(ProcessState(running=True), status="running")
    return local_tell._poll_after(machine, seen, Power.STARTING, ready=False, installing=False)


def test_looks_become_rarer_the_longer_it_takes(machine):
    assert [pause(machine, age) for age in (0.1, 1.0, 10.0, 25.0, 31.0)] == [0.05, 0.05, 0.25, 0.5, 1.0]


async def test_a_guest_that_says_when_it_has_booted_is_waited_for_and_wakes_the_loop(machine):
    woken = asyncio.Event()
    machine.instance.provider.notify = lambda name: woken.set() if name == "virtualmachine-1" else None
    console = machine.instance.log_dir / "console.log"
    console.write_text("READY of the start before\n")
    machine.record.update({"tells_ready": True, "console_from": console.stat().st_size})
    assert pause(machine, 0.1) == 0.5
    local_tell.watch(machine)
    await asyncio.sleep(0)
    assert not woken.is_set()
    with console.open("a") as file:
        file.write("booting\nREADY demo\n")
    await asyncio.wait_for(woken.wait(), 60)
    assert pause(machine, 0.1) == 0.05
