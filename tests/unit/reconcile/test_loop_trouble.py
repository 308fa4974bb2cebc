"""What can go wrong around an object, and what its conditions say meanwhile."""

from __future__ import annotations

import dataclasses

import pytest

from chandlery.driver.plan import APPROVE_ANNOTATION
from chandlery.foundation.errors import Fenced, PermissionDenied, Unavailable
from chandlery.reconcile.api import FINALIZER, RESOURCE_CLASSES, SECRETS


async def test_an_invalid_spec_stalls_naming_the_field(stage):
    await stage.start()
    await stage.apply("Cache", spec={"memory": "lots"})
    await stage.clock.advance(2)
    stalled = await stage.condition("Cache", "one", "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "InvalidSpec")
    assert stalled["message"].startswith("spec.memory: must be a size in bytes")
    assert FINALIZER not in (await stage.get("Cache"))["metadata"].get("finalizers", [])
    await stage.apply("Cache", spec={"memory": "64Mi"})
    await stage.ready("Cache")


async def test_without_a_class_it_waits_and_says_so(stage):
    await stage.api.delete(RESOURCE_CLASSES, "", "cache-default")
    await stage.start()
    await stage.apply("Cache")
    await stage.clock.advance(1)
    stalled = await stage.condition("Cache", "one", "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "ClassNotFound")
    assert (await stage.status("Cache"))["phase"] == "Failed"
    await stage.add_class("later", "Cache", default=True)
    await stage.ready("Cache", limit=5)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"driver": "acme"}, "DriverNotFound"),
        ({"kind": "Queue"}, "ClassMismatch"),
        ({"providerConfigRef": {"name": "nowhere"}}, "ProviderNotFound"),
    ],
)
async def test_a_class_that_leads_nowhere(stage, spec, reason):
    await stage.add_class("odd", **{"kind": "Cache", **spec})
    await stage.start()
    await stage.apply("Cache", spec={"className": "odd"})
    await stage.clock.advance(1)
    stalled = await stage.condition("Cache", "one", "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", reason), stalled
    assert stage.world.everything() == []


async def test_the_first_class_stays_when_the_default_moves(stage):
    await stage.start()
    await stage.apply("Cache")
    await stage.ready("Cache")
    await stage.clock.advance(10)
    await stage.add_class("newer", "Cache", default=True)
    await stage.clock.advance(120)
    assert (await stage.ready("Cache"))["className"] == "cache-default"
    await stage.apply("Cache", name="two")
    assert (await stage.ready("Cache", "two"))["className"] == "newer"


async def test_not_supported_names_field_and_driver_before_anything_is_made(stage):
    await stage.add_class("poor", "Cache", parameters={"unsupported": ["memory"]})
    await stage.start()
    await stage.apply("Cache", spec={"className": "poor", "memory": "64Mi"})
    await stage.clock.advance(1)
    stalled = await stage.condition("Cache", "one", "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "NotSupported")
    assert "spec.memory" in stalled["message"]
    assert "memory" in stalled["message"]
    assert stage.world.calls == []
    assert not (await stage.get("Cache"))["metadata"].get("finalizers")


async def test_a_deletion_policy_that_the_class_forbids(stage):
    await stage.add_class("strict", "Cache", deletionPolicies=["Retain"])
    await stage.start()
    await stage.apply("Cache", spec={"className": "strict"})
    await stage.clock.advance(1)
    stalled = await stage.condition("Cache", "one", "Stalled")
    assert "spec.deletionPolicy" in stalled["message"]


async def test_a_provider_that_is_away_leaves_ready_unknown(stage):
    await stage.start()
    await stage.apply("Cache")
    await stage.ready("Cache")
    stage.world.down = Unavailable("the provider is away", retry_after=1.0)
    await stage.clock.advance(70)
    ready, reconciling = [await stage.condition("Cache", "one", name) for name in ("Ready", "Reconciling")]
    assert (ready["status"], ready["reason"]) == ("Unknown", "Unavailable")
    assert (reconciling["status"], reconciling["reason"]) == ("True", "Unavailable")
    assert (await stage.status("Cache"))["endpoint"]["port"], "what was known last is kept"
    writes = len(stage.writes())
    await stage.clock.advance(600)
    assert len(stage.writes()) == writes, "repeating the same failure writes nothing"
    stage.world.heal()
    await stage.ready("Cache", limit=400)


async def test_a_failing_update_does_not_lie(stage, specs):
    await stage.start()
    await stage.apply("Cache")
    await stage.ready("Cache")
    stage.world.fail(Unavailable("not now", retry_after=5.0), times=1, verb="configure")
    await stage.apply("Cache", spec={"memory": "1Gi"})
    await stage.clock.advance(1)
    assert (await stage.condition("Cache", "one", "Ready"))["status"] == "True"
    assert (await stage.condition("Cache", "one", "Reconciling"))["reason"] == "Unavailable"
    assert (await stage.status("Cache"))["drift"][0]["field"] == "spec.memory"
    assert "drift" not in await stage.ready("Cache")


async def test_paused_changes_nothing_and_still_looks(stage):
    await stage.start()
    await stage.apply("Cache")
    name = (await stage.ready("Cache"))["externalName"]
    await stage.apply("Cache", spec={"memory": "1Gi", "paused": True})
    await stage.clock.advance(120)
    status = await stage.status("Cache")
    assert status["phase"] == "Paused"
    assert status["drift"][0] == {"field": "spec.memory", "desired": "1Gi", "actual": "64Mi", "disruption": "none"}
    assert stage.world.part("instance", name).data["settings"]["memory"] == "64Mi"
    assert (await stage.condition("Cache", "one", "Ready"))["status"] == "True"
    await stage.api.delete(SECRETS, "shop", "one")
    await stage.clock.advance(120)
    assert await stage.secret() is None
    await stage.apply("Cache", spec={"memory": "1Gi", "paused": False})
    await stage.ready("Cache")
    assert stage.world.part("instance", name).data["settings"]["memory"] == "1Gi"


async def test_a_paused_object_is_never_made(stage):
    await stage.start()
    await stage.apply("Cache", spec={"paused": True})
    await stage.clock.advance(120)
    assert stage.world.everything() == []
    assert (await stage.condition("Cache", "one", "Ready"))["status"] == "False"
    await stage.delete("Cache")
    await stage.until(lambda obj: obj is None, "Cache", limit=2)


async def test_data_loss_needs_approval_of_that_very_change(stage):
    await stage.start()
    await stage.apply("Database")
    name = (await stage.ready("Database"))["externalName"]
    await stage.apply("Database", spec={"instances": 1, "initialization": {"encoding": "LATIN1"}})
    await stage.clock.advance(5)
    stalled = await stage.condition("Database", "one", "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "ApprovalRequired"), stalled
    assert (await stage.condition("Database", "one", "Ready"))["status"] == "True"
    token = stalled["message"].partition(f"{APPROVE_ANNOTATION}=")[2]
    assert f"kubectl annotate --overwrite database one -n shop {APPROVE_ANNOTATION}={token}" in stalled["message"]
    await stage.annotate("Database", "one", approve="00000000")
    await stage.clock.advance(5)
    assert stage.world.part("instance", name).data["incarnation"] == 1
    await stage.annotate("Database", "one", approve=token)
    await stage.ready("Database")
    assert stage.world.part("instance", name).data["incarnation"] == 2


async def test_a_restart_waits_for_the_window(stage):
    window = {"days": ["Fri"], "start": "03:00", "duration": "2h", "timeZone": "UTC"}
    await stage.start()  # the fake clock begins on Thursday, 2026-01-01, at midnight
    await stage.apply("Cache", spec={"memory": "64Mi", "maintenanceWindow": window})
    await stage.ready("Cache")
    await stage.apply("Cache", spec={"memory": "128Mi", "version": "9", "maintenanceWindow": window})
    await stage.clock.advance(60)
    status = await stage.status("Cache")
    settings = stage.world.part("instance", status["externalName"]).data["settings"]
    assert settings["memory"] == "128Mi", "what disturbs nobody never waits"
    assert "version" not in settings
    reconciling = await stage.condition("Cache", "one", "Reconciling")
    assert (reconciling["status"], reconciling["reason"]) == ("True", "AwaitingMaintenanceWindow")
    assert "2026-01-02T03:00:00Z" in reconciling["message"]
    await stage.clock.advance(26.9 * 3600)
    assert "version" not in settings
    await stage.clock.advance(600)
    assert stage.world.part("instance", status["externalName"]).data["settings"]["version"] == "9"
    await stage.ready("Cache")


async def test_moving_to_another_provider_needs_approval_and_leaves_nothing_behind(stage):
    await stage.add_config("elsewhere")
    await stage.add_class("far", "Cache", providerConfigRef={"name": "elsewhere"})
    await stage.start()
    await stage.apply("Cache")
    name = (await stage.ready("Cache"))["externalName"]
    await stage.apply("Cache", spec={"memory": "64Mi", "className": "far"})
    await stage.clock.advance(5)
    stalled = await stage.condition("Cache", "one", "Stalled")
    assert stalled["reason"] == "ApprovalRequired"
    assert stage.world.exists(name)
    token = stalled["message"].partition(f"{APPROVE_ANNOTATION}=")[2]
    await stage.annotate("Cache", "one", approve=token)
    assert (await stage.ready("Cache"))["className"] == "far"
    assert stage.world.everything() == []
    far = stage.provider.worlds["elsewhere"]
    assert "instance" in far.exists(name)
    await stage.delete("Cache")
    await stage.until(lambda obj: obj is None, "Cache")
    assert far.everything() == []


async def test_protection_holds_a_move_too(stage):
    await stage.add_config("elsewhere")
    await stage.add_class("far", "Cache", providerConfigRef={"name": "elsewhere"})
    await stage.start()
    await stage.apply("Cache", spec={"deletionProtection": True})
    await stage.ready("Cache")
    await stage.apply("Cache", spec={"deletionProtection": True, "className": "far"})
    await stage.clock.advance(5)
    assert (await stage.condition("Cache", "one", "Stalled"))["reason"] == "DeletionProtected"


async def test_adopting_what_does_not_exist_makes_nothing(stage):
    await stage.start()
    await stage.apply("Cache", spec={"adopt": {"externalName": "old-cache"}})
    await stage.clock.advance(5)
    reconciling = await stage.condition("Cache", "one", "Reconciling")
    assert reconciling["reason"] == "NotFound"
    assert "spec.adopt.externalName" in reconciling["message"]
    assert stage.world.everything() == []
    await stage.world.make("volume", "old-cache", {})
    await stage.world.make("address", "old-cache", {})
    await stage.world.make("user", "old-cache", {"username": "u", "password": "p"})
    await stage.world.start("old-cache", {"settings": {"engine": "valkey"}})
    assert (await stage.ready("Cache", limit=90))["externalName"] == "old-cache"


async def test_a_replica_that_lost_the_lead_writes_nothing(stage):
    core = await stage.start()

    def lost() -> int:
        raise Fenced("this replica does not lead")

    stage.fence = lost
    before = len(stage.writes())
    await stage.apply("Cache")
    await stage.clock.advance(30)
    assert [w for w in stage.writes()[before:] if w[0] != "create"] == []
    assert stage.world.calls == []
    assert core.engine.queue.scheduled() == 1, "it stays due"


async def test_a_driver_that_throws_is_our_fault_and_tried_again(stage):
    await stage.start()

    async def broken(call, when):
        raise KeyError("oops")

    stage.world.hook = broken
    await stage.apply("Cache")
    await stage.clock.advance(2)
    reconciling = await stage.condition("Cache", "one", "Reconciling")
    assert (reconciling["status"], reconciling["reason"]) == ("True", "Internal")
    assert "oops" not in reconciling["message"]
    stage.world.heal()
    await stage.ready("Cache", limit=400)


async def test_permission_denied_is_told_and_recovers(stage):
    await stage.start()
    stage.world.down = PermissionDenied("the role may not create caches", retry_after=20.0)
    await stage.apply("Cache")
    await stage.clock.advance(1)
    reconciling = await stage.condition("Cache", "one", "Reconciling")
    assert reconciling["reason"] == "PermissionDenied"
    assert "the role may not create caches" in reconciling["message"]
    stage.world.heal()
    await stage.ready("Cache", limit=60)


async def test_a_deadline_ends_a_hanging_driver(stage):
    stage.settings = dataclasses.replace(stage.settings)
    await stage.start()

    async def hang(call, when):
        await stage.clock.sleep(10_000)

    stage.world.hook = hang
    await stage.apply("Cache")
    await stage.clock.advance(16)
    reconciling = await stage.condition("Cache", "one", "Reconciling")
    assert reconciling["reason"] == "Timeout"
    stage.world.heal()
    await stage.ready("Cache", limit=60)


async def test_before_anything_is_made_no_class_is_kept(stage):
    """The first default can't do it; whoever makes a better one the default need not touch the object."""
    await stage.api.delete(RESOURCE_CLASSES, "", "cache-default")
    await stage.add_class("poor", "Cache", default=True, parameters={"unsupported": ["memory"]})
    await stage.start()
    await stage.apply("Cache")
    await stage.clock.advance(2)
    assert (await stage.condition("Cache", "one", "Stalled"))["reason"] == "NotSupported"
    await stage.add_class("rich", "Cache", default=True)
    assert (await stage.ready("Cache", limit=5))["className"] == "rich"


async def test_a_note_that_was_taken_off_is_written_again_for_the_same_class(stage):
    await stage.start()
    await stage.apply("Cache")
    name = (await stage.ready("Cache"))["externalName"]
    await stage.clock.advance(5)
    await stage.add_class("newer", "Cache", default=True)
    live = await stage.get("Cache")
    live["metadata"] |= {"annotations": {}, "finalizers": []}
    await stage.api.replace(stage.types["Cache"], live)
    await stage.clock.advance(2)
    live = await stage.get("Cache")
    assert FINALIZER in live["metadata"]["finalizers"]
    assert '"class":"cache-default"' in live["metadata"]["annotations"]["chandlery.dev/made-by"]
    assert stage.world.exists(name)


async def test_a_manifest_copied_from_another_object_makes_a_resource_of_its_own(stage):
    await stage.start()
    await stage.apply("Cache")
    first = (await stage.ready("Cache"))["externalName"]
    copied = (await stage.get("Cache"))["metadata"]
    await stage.api.delete(RESOURCE_CLASSES, "", "cache-default")
    await stage.add_class("other", "Cache", default=True)
    marks = {"annotations": copied["annotations"], "finalizers": copied["finalizers"]}
    await stage.apply("Cache", name="two", **marks)
    status = await stage.ready("Cache", "two")
    assert status["className"] == "other"
    assert status["externalName"] != first


async def test_a_fact_that_status_cannot_hold_is_warned_of_once(stage, monkeypatch):
    from chandlery.reconcile.loop import Loop

    warned = []

    class Log:
        def warning(self, event, **words):
            warned.append((event, words))

        def __getattr__(self, name):
            return lambda *_args, **_words: None

    monkeypatch.setattr(Loop, "_logger", lambda _self, _job: Log())
    core = await stage.start()
    driver = core.drivers.get(stage.kinds["Cache"], "memory")

    class Talkative(type(driver.inner)):
        def facts(self, obj, instance, *, ready):
            return {**super().facts(obj, instance, ready=ready), "gossip": "heard"}

    driver.inner = Talkative()
    for name in ("one", "two"):
        await stage.apply("Cache", name)
        await stage.ready("Cache", name)
    await stage.clock.advance(600)
    assert warned == [
        ("status has no such field: the driver's fact is lost", {"fact": "gossip", "driver": "memory"}),
    ]


@pytest.mark.parametrize("change", [{"paused": True}, {"version": "9"}], ids=["paused", "refused"])
async def test_a_finalizer_that_was_taken_off_comes_back_also_when_nothing_may_be_changed(stage, specs, change):
    parameters = {"unsupported": ["version"]}
    await stage.add_class("poor", "Cache", parameters=parameters)
    await stage.start()
    await stage.apply("Cache", spec={**specs["Cache"], "className": "poor"})
    await stage.ready("Cache")
    await stage.apply("Cache", spec={**specs["Cache"], "className": "poor", **change})
    await stage.clock.advance(1)
    await stage.api.merge_patch(stage.types["Cache"], "shop", "one", {"metadata": {"finalizers": None}})
    await stage.clock.advance(1)
    assert (await stage.get("Cache"))["metadata"]["finalizers"] == ["chandlery.dev/external-resource"]
    await stage.delete("Cache")
    await stage.until(lambda obj: obj is None, "Cache")
    assert stage.world.everything() == []
