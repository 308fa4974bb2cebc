"""The life of an object: made, changed, broken, repaired, deleted; for every kind."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from chandlery.foundation.errors import Unavailable
from chandlery.model.examples import example_spec
from chandlery.providers.memory.driver import MemoryDriver
from chandlery.reconcile.api import REQUESTED_ANNOTATION
from chandlery_kinds import KINDS

ALL = [kind.name for kind in KINDS]


@pytest.mark.parametrize("kind", ALL)
async def test_becomes_ready_with_three_writes(stage, kind):
    await stage.start()
    await stage.apply(kind)
    status = await stage.ready(kind)
    assert status["phase"] == "Ready"
    assert status["driver"] == "memory"
    assert status["className"] == f"{kind.lower()}-default"
    secret = await stage.secret()
    assert secret["type"].startswith("servicebinding.io/")
    assert {"type", "provider", "host", "port", "uri"} <= set(secret["data"])
    assert status["binding"]["name"] == "one"
    writes = [w for w in stage.writes() if w[1] in {kind, "Secret"} and w[0] != "create"]
    assert [w[:2] for w in writes] == [
        ("json_patch", kind),
        ("apply", "Secret"),
        ("apply", kind),
    ], writes
    assert await stage.events() == []


@pytest.mark.parametrize("kind", ALL)
async def test_tells_of_each_step_when_they_take_their_time(stage, kind, helpers):
    stage.world.start_time = 20.0
    await stage.start()
    await stage.apply(kind)
    await stage.until(lambda obj: bool(obj and obj.get("status")), kind, limit=1.0)
    status = await stage.status(kind)
    assert status["phase"] == "Creating"
    assert helpers.conditions(await stage.get(kind)) == {"Ready": "False", "Reconciling": "True", "Stalled": "False"}
    assert [reason for reason, _ in await stage.events()] == ["Created"]
    await stage.ready(kind)


async def test_a_start_that_takes_longer_than_it_said_is_told_of(stage):
    """A look that was promised for soon finds it still starting: the wait for the first status has an end."""
    await stage.start()
    await stage.apply("Cache")
    await stage.clock.advance(0.3)
    assert not await stage.status("Cache")
    stage.world.start_time = 30.0
    await stage.world.configure(dict(stage.world.everything())["instance"], {}, restart=True)  # it begins again
    await stage.until(lambda obj: bool(obj and obj.get("status")), "Cache", limit=1.5)
    assert (await stage.status("Cache"))["phase"] == "Creating"


@pytest.mark.parametrize("kind", ALL)
async def test_deleted_without_a_trace(stage, kind):
    await stage.start()
    await stage.apply(kind)
    await stage.ready(kind)
    await stage.delete(kind)
    await stage.until(lambda obj: obj is None, kind)
    assert stage.world.everything() == []
    assert await stage.secret() is None


CHANGES = {
    "Cache": {"memory": "128Mi"},
    "Database": {"configuration": {"work_mem": "8MB"}},
    "Queue": {"maxDeliveries": 3},
    "LoadBalancer": {"replicas": 2},
    "VirtualMachine": {"cpus": 2},
}
for _kind in KINDS:  # a kind that isn't in the table: the first field that its README shows
    CHANGES.setdefault(_kind.name, dict([next(iter(example_spec(_kind.package, "Typical").items()))]))


@pytest.mark.parametrize("kind", ALL)
async def test_changed_then_broken_then_repaired(stage, kind, specs):
    await stage.start()
    await stage.apply(kind)
    before = await stage.ready(kind)
    name = before["externalName"]

    await stage.apply(kind, spec={**specs[kind], **CHANGES[kind]})
    await stage.ready(kind)
    settings = stage.world.part("instance", name).data["settings"]
    for field, value in CHANGES[kind].items():
        assert settings[field] == value

    stage.world.break_instance(name)
    await stage.until(lambda obj: obj["status"]["phase"] == "Degraded", kind, limit=5)
    assert (await stage.condition(kind, "one", "Ready"))["reason"] == "Starting"
    await stage.ready(kind)
    assert stage.world.part("instance", name).data["state"] == "running"

    stage.world.destroy("volume", name)
    await stage.until(lambda _: "volume" in stage.world.exists(name), kind, limit=5)
    assert (await stage.ready(kind))["externalName"] == name


async def test_a_lost_resource_is_made_again_and_said(stage):
    await stage.start()
    await stage.apply("Cache")
    name = (await stage.ready("Cache"))["externalName"]
    for part in stage.world.exists(name):
        stage.world.destroy(part, name)
    await stage.until(lambda _: "instance" in stage.world.exists(name), "Cache", limit=5)
    await stage.ready("Cache")
    assert [e for e in await stage.events() if e[0] == "Recreated"]


async def test_a_first_start_that_failed_is_no_loss(stage):
    stage.world.fail(Unavailable("not now", retry_after=1.0), times=3, verb="make")
    await stage.start()
    await stage.apply("Cache")
    await stage.until(lambda obj: "not now" in str((obj.get("status") or {}).get("conditions")), "Cache", limit=30)
    await stage.ready("Cache")
    assert [e for e in await stage.events() if e[0] == "Recreated"] == []


async def test_a_settled_object_costs_nothing(stage):
    """No write in an hour of looking for drift, and no pass but those looks."""
    core = await stage.start()
    await stage.apply("Cache")
    await stage.ready("Cache")
    await stage.clock.advance(400)  # its class has one user more by then
    writes, passes = len(stage.writes()), core.engine.passes
    await stage.clock.advance(3600)
    assert len(stage.writes()) == writes
    assert core.engine.passes - passes == 60  # one a minute, as the settings of this stage say


async def test_our_own_writes_cause_no_further_pass(stage):
    core = await stage.start()
    stage.world.start_time = 0.0
    await stage.apply("Cache")
    await stage.ready("Cache")
    await stage.clock.advance(5)
    assert core.engine.passes == 1


@pytest.mark.parametrize("kind", ALL)
async def test_reconcile_requested_makes_a_pass(stage, kind):
    core = await stage.start()
    await stage.apply(kind)
    await stage.ready(kind)
    await stage.clock.advance(1)
    passes, looks = core.engine.passes, len(stage.world.calls)
    await stage.api.merge_patch(
        stage.types[kind], "shop", "one", {"metadata": {"annotations": {REQUESTED_ANNOTATION: "2026-11-22T10:00:00Z"}}}
    )
    await stage.clock.advance(1)
    assert core.engine.passes == passes + 1
    assert len(stage.world.calls) > looks


async def test_a_foreign_status_write_is_repaired(stage):
    await stage.start()
    await stage.apply("Cache")
    good = await stage.ready("Cache")
    await stage.api.merge_patch(stage.types["Cache"], "shop", "one", {"status": {"phase": "Failed"}})
    await stage.clock.advance(1)
    assert await stage.status("Cache") == good


async def test_a_binding_secret_is_repaired(stage):
    from chandlery.reconcile.api import SECRETS

    await stage.start()
    await stage.apply("Cache")
    await stage.ready("Cache")
    good = await stage.secret()
    await stage.api.merge_patch(SECRETS, "shop", "one", {"data": {"host": "ZXZpbA=="}})
    await stage.clock.advance(1)
    assert (await stage.secret())["data"] == good["data"]
    await stage.api.delete(SECRETS, "shop", "one")
    await stage.clock.advance(1)
    assert (await stage.secret())["data"] == good["data"]


async def test_a_secret_of_somebody_else_is_not_touched(stage):
    from chandlery.reconcile.api import SECRETS

    await stage.api.create(SECRETS, {"metadata": {"name": "one", "namespace": "shop"}, "data": {"mine": "eA=="}})
    await stage.start()
    await stage.apply("Cache")
    await stage.clock.advance(5)
    stalled = await stage.condition("Cache", "one", "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "SecretTaken")
    assert "spec.connectionSecret.name" in stalled["message"]
    assert (await stage.secret())["data"] == {"mine": "eA=="}
    await stage.apply("Cache", spec={"memory": "64Mi", "connectionSecret": {"name": "two"}})
    await stage.ready("Cache")
    assert (await stage.secret("two"))["data"]["host"]


async def test_the_secret_follows_its_name(stage):
    await stage.start()
    await stage.apply("Cache")
    await stage.ready("Cache")
    await stage.apply("Cache", spec={"memory": "64Mi", "connectionSecret": {"name": "two"}})
    status = await stage.ready("Cache")
    assert status["binding"] == {"name": "two"}
    assert await stage.secret("one") is None
    assert await stage.secret("two") is not None


async def test_a_change_of_several_steps_goes_on_without_an_event(stage, monkeypatch):
    """Each pass does one of the changes and nothing tells the loop of it: the answers came before the events."""
    whole = MemoryDriver.update
    steps = []

    async def one_step(self, ctx, obj, observed):
        steps.append([change.field for change in observed.plan.changes])
        first = replace(observed.plan, changes=observed.plan.changes[:1])
        await whole(self, ctx, obj, replace(observed, plan=first))

    monkeypatch.setattr(MemoryDriver, "update", one_step)
    await stage.start()
    await stage.apply("Cache")
    await stage.ready("Cache")
    await stage.apply("Cache", spec={"memory": "128Mi", "evictionPolicy": "allkeys-lru", "replicas": 0})
    began = stage.clock.monotonic()
    await stage.until(
        lambda obj: obj["status"]["phase"] == "Ready" and obj["status"]["observedGeneration"] == 2, "Cache"
    )
    assert [len(fields) for fields in steps] == [3, 2, 1]
    assert stage.clock.monotonic() - began < 1.0


async def test_what_does_not_get_on_is_looked_at_ever_more_rarely(stage, monkeypatch):
    tries = []

    async def nothing(self, ctx, obj, observed):
        tries.append(stage.clock.monotonic())

    await stage.start()
    await stage.apply("Cache")
    await stage.ready("Cache")
    monkeypatch.setattr(MemoryDriver, "update", nothing)
    await stage.apply("Cache", spec={"memory": "128Mi"})
    await stage.clock.advance(300.0)
    assert 10 < len(tries) < 30
    pauses = [after - before for before, after in pairwise(tries)]
    assert pauses[0] < 0.1
    assert 15.0 <= pauses[-1] <= 45.0
