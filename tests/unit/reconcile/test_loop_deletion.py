"""Deletions end: by deleting, or by retaining after a bounded wait that everybody can see."""

from __future__ import annotations

import json

import pytest

from chandlery.foundation.errors import Unavailable
from chandlery.reconcile.api import NAMESPACES, RESOURCE_CLASSES


async def made(stage, **spec):
    await stage.start()
    await stage.apply("Cache", spec={"memory": "64Mi", **spec})
    return (await stage.ready("Cache"))["externalName"]


async def test_retain_leaves_the_resource(stage):
    name = await made(stage, deletionPolicy="Retain")
    await stage.delete("Cache")
    await stage.until(lambda obj: obj is None, "Cache", limit=5)
    assert "instance" in stage.world.exists(name)
    assert ("Retained", f"{name} stays with its data, as spec.deletionPolicy says.") in await stage.events()


async def test_snapshot_takes_one_first(stage):
    name = await made(stage, deletionPolicy="Snapshot")
    await stage.delete("Cache")
    await stage.until(lambda obj: obj is None, "Cache", limit=5)
    assert stage.world.exists(name) == ["snapshot"]


async def test_paused_never_blocks_deletion(stage):
    await made(stage)
    await stage.apply("Cache", spec={"memory": "64Mi", "paused": True})
    await stage.clock.advance(2)
    await stage.delete("Cache")
    await stage.until(lambda obj: obj is None, "Cache", limit=5)
    assert stage.world.everything() == []


async def test_slow_deletion_is_waited_for(stage):
    stage.world.stop_time = 20.0
    await made(stage)
    await stage.delete("Cache")
    await stage.clock.advance(5)
    status = await stage.status("Cache")
    assert status["phase"] == "Deleting"
    assert (await stage.condition("Cache", "one", "Ready"))["status"] == "False"
    await stage.until(lambda obj: obj is None, "Cache", limit=30)
    assert stage.world.everything() == []


async def test_protection_is_kept_and_can_be_lifted(stage):
    name = await made(stage, deletionProtection=True)
    await stage.delete("Cache")
    await stage.clock.advance(3600 * 24)
    stalled = await stage.condition("Cache", "one", "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "DeletionProtected")
    assert "Set spec.deletionProtection to false" in stalled["message"]
    assert "instance" in stage.world.exists(name)
    await stage.apply("Cache", spec={"memory": "64Mi", "deletionProtection": False})
    await stage.until(lambda obj: obj is None, "Cache", limit=5)
    assert stage.world.everything() == []


async def test_a_provider_that_is_away_is_waited_for(stage):
    await made(stage)
    stage.world.down = Unavailable("away", retry_after=10.0)
    await stage.delete("Cache")
    await stage.clock.advance(3600)
    assert (await stage.condition("Cache", "one", "Reconciling"))["reason"] == "Unavailable"
    stage.world.heal()
    await stage.until(lambda obj: obj is None, "Cache", limit=30)
    assert stage.world.everything() == []


async def uid_of(stage):
    return (await stage.get("Cache"))["metadata"]["uid"]


async def lose_class(stage):
    await stage.api.delete(RESOURCE_CLASSES, "", "cache-default")


async def lose_driver(stage):
    note = {"class": "cache-default", "driver": "acme", "uid": await uid_of(stage)}
    patch = {"metadata": {"annotations": {"chandlery.dev/made-by": json.dumps(note)}}}
    await stage.api.merge_patch(stage.types["Cache"], "shop", "one", patch)


async def lose_provider(stage):
    await stage.kill()
    del_patch = {"spec": {"providerConfigRef": {"name": "gone"}}}
    await stage.api.merge_patch(RESOURCE_CLASSES, "", "cache-default", del_patch)
    note = {"class": "cache-default", "driver": "memory", "providerConfig": "gone", "uid": await uid_of(stage)}
    patch = {"metadata": {"annotations": {"chandlery.dev/made-by": json.dumps(note)}}}
    await stage.api.merge_patch(stage.types["Cache"], "shop", "one", patch)
    await stage.start()


@pytest.mark.parametrize(
    ("lose", "reason"),
    [(lose_driver, "DriverNotFound"), (lose_provider, "ProviderNotFound")],
)
async def test_what_is_missing_is_waited_for_and_then_the_resource_is_retained(stage, lose, reason):
    name = await made(stage)
    await lose(stage)
    await stage.delete("Cache")
    await stage.clock.advance(60)
    stalled = await stage.condition("Cache", "one", "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", reason)
    assert "the object is let go and the resource retained" in stalled["message"]
    assert stage.audit == []
    await stage.until(lambda obj: obj is None, "Cache", limit=600)
    assert "instance" in stage.world.exists(name)
    [(what, key, why)] = stage.audit
    assert (what, key.name) == ("retained", "one")
    assert name in why
    assert [e for e in await stage.events() if e[0] == "Retained"]


async def test_a_missing_class_is_waited_for_and_then_the_resource_is_retained(stage):
    name = await made(stage)
    await lose_class(stage)
    await stage.clock.advance(1)
    await stage.delete("Cache")
    await stage.clock.advance(60)
    assert (await stage.condition("Cache", "one", "Stalled"))["reason"] == "ClassNotFound"
    await stage.until(lambda obj: obj is None, "Cache", limit=600)
    assert "instance" in stage.world.exists(name)
    assert stage.audit[0][0] == "retained"


async def test_a_class_that_comes_back_in_time_lets_the_deletion_go_on(stage):
    await made(stage)
    await lose_class(stage)
    await stage.clock.advance(1)
    await stage.delete("Cache")
    await stage.clock.advance(60)
    await stage.add_class("cache-default", "Cache")
    await stage.until(lambda obj: obj is None, "Cache", limit=5)
    assert stage.world.everything() == []
    assert stage.audit == []


async def test_a_namespace_is_never_wedged(stage):
    name = await made(stage, deletionProtection=True)
    await stage.api.json_patch(
        NAMESPACES, "", "shop", [{"op": "add", "path": "/metadata/finalizers", "value": ["kubernetes"]}]
    )
    await stage.api.delete(NAMESPACES, "", "shop")
    await stage.delete("Cache")
    await stage.clock.advance(200)
    assert (await stage.condition("Cache", "one", "Stalled"))["reason"] == "DeletionProtected"
    await stage.until(lambda obj: obj is None, "Cache", limit=200)
    assert "instance" in stage.world.exists(name)
    assert stage.audit[0][0] == "retained"


async def test_what_was_never_made_goes_at_once(stage):
    await stage.api.delete(RESOURCE_CLASSES, "", "cache-default")
    await stage.start()
    await stage.apply("Cache")
    await stage.clock.advance(5)
    await stage.delete("Cache")
    await stage.until(lambda obj: obj is None, "Cache", limit=1)


async def test_what_is_to_be_retained_waits_for_nothing_that_is_missing(stage):
    name = await made(stage, deletionPolicy="Retain")
    await lose_class(stage)
    await stage.clock.advance(1)
    await stage.delete("Cache")
    await stage.until(lambda obj: obj is None, "Cache", limit=1)
    assert "instance" in stage.world.exists(name)
