"""What an owner's end means for its dependents."""

import time
from typing import Any

import pytest

GHOST = "11111111-2222-3333-4444-555555555555"


def owner(obj: Any, *, blocks: bool = False) -> dict[str, Any]:
    ref = {"apiVersion": "v1", "kind": "ConfigMap", "name": obj["metadata"]["name"], "uid": obj["metadata"]["uid"]}
    return {**ref, "blockOwnerDeletion": True} if blocks else ref


async def family(world: Any, *, blocks: bool = False) -> Any:
    """own <- child <- grand, and shared, which other-owner holds too."""
    own = await world.create("configmaps", "own")
    other = await world.create("configmaps", "other")
    child = await world.create("secrets", "child", metadata={"ownerReferences": [owner(own, blocks=blocks)]})
    ref = {"apiVersion": "v1", "kind": "Secret", "name": "child", "uid": child["metadata"]["uid"]}
    await world.create("configmaps", "grand", metadata={"ownerReferences": [ref]})
    await world.create("configmaps", "shared", metadata={"ownerReferences": [owner(own), owner(other)]})
    return own


@pytest.mark.parametrize("propagation", ["Background", "Foreground"])
@pytest.mark.parametrize("blocks", [False, True])
async def test_dependents_go_with_their_last_owner(world: Any, propagation: str, blocks: bool) -> None:
    await family(world, blocks=blocks)
    await world.delete("configmaps", "own", propagation=propagation)
    await world.until(lambda: not world.get("configmaps", "own"))
    await world.until(lambda: not world.get("secrets", "child") and not world.get("configmaps", "grand"))
    await world.settled()
    refs = world.get("configmaps", "shared")["metadata"]["ownerReferences"]
    assert [ref["name"] for ref in refs] == ["other"]


async def test_foreground_keeps_the_owner_while_a_blocking_dependent_is_held(world: Any) -> None:
    own = await world.create("configmaps", "own")
    meta = {"ownerReferences": [owner(own, blocks=True)], "finalizers": ["hold.example/x"]}
    await world.create("secrets", "child", metadata=meta)
    await world.delete("configmaps", "own", propagation="Foreground")
    child = await world.until(lambda: _deleting(world.get("secrets", "child")))
    await world.settled()
    assert world.get("configmaps", "own")["metadata"]["finalizers"] == ["foregroundDeletion"]
    await world.change("secrets", child, metadata={"finalizers": None})
    await world.until(lambda: not world.get("configmaps", "own"))


async def test_a_dependent_that_no_longer_blocks_lets_its_owner_go(world: Any) -> None:
    own = await world.create("configmaps", "own")
    meta = {"ownerReferences": [owner(own, blocks=True)], "finalizers": ["hold.example/x"]}
    await world.create("secrets", "child", metadata=meta)
    await world.delete("configmaps", "own", propagation="Foreground")
    child = await world.until(lambda: _deleting(world.get("secrets", "child")))
    await world.change("secrets", child, metadata={"ownerReferences": [owner(own)]})
    await world.until(lambda: not world.get("configmaps", "own"))
    assert world.get("secrets", "child")


async def test_orphans_stay_without_their_owner(world: Any) -> None:
    await family(world)
    await world.delete("configmaps", "own", propagation="Orphan")
    await world.until(lambda: not world.get("configmaps", "own"))
    assert "ownerReferences" not in world.get("secrets", "child")["metadata"]
    assert world.get("configmaps", "grand")["metadata"]["ownerReferences"][0]["name"] == "child"


async def test_an_owner_that_never_was_does_not_count(world: Any) -> None:
    ref = {"apiVersion": "v1", "kind": "ConfigMap", "name": "ghost", "uid": GHOST}
    await world.create("configmaps", "stray", metadata={"ownerReferences": [ref]})
    await world.until(lambda: not world.get("configmaps", "stray"))


async def test_a_same_named_owner_with_another_uid_is_another(world: Any) -> None:
    own = await world.create("configmaps", "own")
    await world.create("configmaps", "kept", metadata={"ownerReferences": [owner(own)]})
    ref = {"apiVersion": "v1", "kind": "ConfigMap", "name": "own", "uid": GHOST}
    await world.create("configmaps", "stray", metadata={"ownerReferences": [ref]})
    await world.until(lambda: not world.get("configmaps", "stray"))
    assert world.get("configmaps", "kept")


async def test_an_owner_of_an_unknown_kind_may_come_later(world: Any) -> None:
    ref = {"apiVersion": "g.example/v1", "kind": "Ship", "name": "s", "uid": GHOST}
    await world.create("configmaps", "cargo", metadata={"ownerReferences": [ref]})
    await world.settled()
    assert world.get("configmaps", "cargo")


async def test_circles_end(world: Any) -> None:
    one = await world.create("configmaps", "one")
    two = await world.create("configmaps", "two", metadata={"ownerReferences": [owner(one, blocks=True)]})
    await world.change("configmaps", one, metadata={"ownerReferences": [owner(two, blocks=True)]})
    await world.delete("configmaps", "one", propagation="Foreground")
    await world.until(lambda: not world.get("configmaps", "one") and not world.get("configmaps", "two"))


async def test_what_a_stopped_controller_missed_is_found_at_the_next_start(world: Any) -> None:
    await world.controllers.stop()
    own = await world.create("configmaps", "own")
    await world.create("configmaps", "child", metadata={"ownerReferences": [owner(own)]})
    await world.delete("configmaps", "own")
    await world.controllers.start()
    await world.until(lambda: not world.get("configmaps", "child"))


async def test_twenty_dependents_take_no_time(world: Any) -> None:
    own = await world.create("configmaps", "own")
    for number in range(20):
        await world.create("configmaps", f"child{number}", metadata={"ownerReferences": [owner(own)]})
    start = time.perf_counter()
    await world.delete("configmaps", "own")
    await world.until(lambda: not any(world.get("configmaps", f"child{number}") for number in range(20)))
    assert time.perf_counter() - start < 0.3


def _deleting(obj: Any) -> Any:
    return obj if obj and obj["metadata"].get("deletionTimestamp") else None


async def test_an_owner_in_another_namespace_is_told_of(world: Any) -> None:
    there = await world.create("configmaps", "there", namespace="kube-public")
    ref = owner(there)
    child = await world.create("secrets", "child", metadata={"ownerReferences": [ref]})
    [event] = await world.until(lambda: world.api.list("", "events", "default"))
    where = f"namespace: default, name: there, uid: {ref['uid']}"
    text = f'ownerRef [v1/ConfigMap, {where}] does not exist in namespace "default"'
    assert (event["reason"], event["type"], event["message"]) == ("OwnerRefInvalidNamespace", "Warning", text)
    assert event["involvedObject"]["uid"] == child["metadata"]["uid"]
    await world.create("namespaces", "wide", namespace="", metadata={"ownerReferences": [ref]})
    await world.until(lambda: len(world.api.list("", "events", "default")) == 2)
    # One that never existed is nobody's mistake about namespaces.
    await world.create("secrets", "ghostly", metadata={"ownerReferences": [{**ref, "uid": GHOST}]})
    await world.settled()
    assert len(world.api.list("", "events", "default")) == 2
