"""What an object refers to wakes it at once: by name, and by label over all objects of a kind."""

from __future__ import annotations

import pytest

from chandlery.reconcile.api import SECRETS

SELECTING = {
    "listeners": [{"name": "web", "protocol": "TCP", "port": 8080, "pool": "app"}],
    "pools": [
        {"name": "app", "targets": [{"name": "web", "machines": {"matchLabels": {"app": "web"}}, "port": 80}]},
    ],
}


@pytest.fixture
async def seen(stage):
    """The machines that the load balancer's driver found, pass by pass; no drift interval ends within the test."""
    core = await stage.start()
    passes: list[list[str]] = []
    driver = core.drivers.get(stage.kinds["LoadBalancer"], "memory")

    class Looking(type(driver.inner)):
        async def observe(self, ctx, obj):
            found = await ctx.reader.list("compute.chandlery.dev", "VirtualMachine", "shop", {"app": "web"})
            passes.append(
                sorted(f"{vm['metadata']['name']} {vm.get('status', {}).get('phase', '')}".strip() for vm in found)
            )
            return await super().observe(ctx, obj)

    driver.inner = Looking()
    await stage.apply("LoadBalancer", "front", spec=SELECTING)
    await stage.ready("LoadBalancer", "front")
    await stage.clock.settle()
    passes.clear()
    return passes


async def test_a_machine_that_appears_changes_and_goes_is_seen_at_once(stage, seen, specs):
    vm = specs["VirtualMachine"]
    began = stage.clock.monotonic()
    await stage.apply("VirtualMachine", "vm", spec=vm, labels={"app": "web"})
    await stage.clock.settle()
    assert seen[-1] == ["vm"]
    await stage.ready("VirtualMachine", "vm")
    await stage.clock.settle()
    assert seen[-1] == ["vm Ready"]
    assert stage.clock.monotonic() - began < 2.0, "seen at once, long before the next look"

    await stage.apply("VirtualMachine", "vm", spec=vm, labels={"app": "other"})
    await stage.clock.settle()
    assert seen[-1] == []
    await stage.apply("VirtualMachine", "vm", spec=vm, labels={"app": "web"})
    await stage.clock.settle()
    assert seen[-1] == ["vm Ready"]

    await stage.delete("VirtualMachine", "vm")
    await stage.until(lambda obj: obj is None, "VirtualMachine", "vm", limit=2.0)
    await stage.clock.settle()
    assert seen[-1] == []


async def test_a_machine_that_fails_is_seen_at_once(stage, seen, specs):
    await stage.apply("VirtualMachine", "vm", spec=specs["VirtualMachine"], labels={"app": "web"})
    name = (await stage.ready("VirtualMachine", "vm"))["externalName"]
    await stage.clock.settle()
    stage.world.start_time = 30.0
    stage.world.break_instance(name)
    await stage.clock.settle()
    assert seen[-1] == ["vm Degraded"]


async def test_machines_of_other_namespaces_and_no_selector_wake_nobody(stage, seen, specs):
    where = stage.types["VirtualMachine"]
    await stage.api.create(where, {"metadata": {"name": "vm", "namespace": "far"}, "spec": specs["VirtualMachine"]})
    await stage.clock.settle()
    assert seen == []
    await stage.apply("LoadBalancer", "front", spec=specs["LoadBalancer"])
    await stage.ready("LoadBalancer", "front")
    await stage.clock.settle()
    seen.clear()
    await stage.apply("VirtualMachine", "vm", spec=specs["VirtualMachine"], labels={"app": "web"})
    await stage.clock.settle()
    assert seen == [], "its pools select no machines any more"


async def test_a_secret_that_a_spec_names_wakes_its_object(stage, specs):
    core = await stage.start()
    users = [{"name": "app", "passwordSecret": {"name": "app-password"}}]
    await stage.apply("Cache", spec={**specs["Cache"], "users": users})
    await stage.ready("Cache")
    await stage.clock.settle()
    passes = core.engine.passes
    secret = {"metadata": {"name": "app-password", "namespace": "shop"}, "data": {"password": "eA=="}}
    await stage.api.create(SECRETS, secret)
    await stage.clock.settle()
    assert core.engine.passes > passes
    passes = core.engine.passes
    await stage.api.merge_patch(SECRETS, "shop", "app-password", {"data": {"password": "eQ=="}})
    await stage.clock.settle()
    assert core.engine.passes > passes
