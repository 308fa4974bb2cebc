"""Virtual machines as real QEMU processes: what a client of the guest sees."""

import aiohttp
import pytest
from local_harness import Harness, shared_cache

from chandlery.providers.local import pids
from chandlery.providers.local.engines.apt import available
from chandlery_kinds.virtualmachine.drivers.local import VirtualMachineDriver
from chandlery_kinds.virtualmachine.model import VirtualMachine

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


@pytest.fixture
async def local(tmp_path):
    made = Harness(tmp_path / "data", VirtualMachineDriver(), VirtualMachine, shared_cache())
    yield made
    await made.close()


async def page(port):
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/") as answer:
        return answer.status, await answer.text()


async def test_a_guest_serves_through_its_forward_and_goes_away_whole(local):
    obj = local.object(**TINY)
    seen = await local.converge(obj, 240)
    port = int(seen.binding.entries["http-port"])
    assert await page(port) == (200, "hello from demo\n")
    assert seen.endpoint.port == port
    assert seen.facts["powerState"] == "Running"
    assert seen.facts["forwards"][0]["accepting"] is True
    pid = local.instance(obj).process("qemu").state().pid
    await local.delete(obj)
    assert pids.start_time(pid) is None
    assert not local.instance(obj).root.exists()
