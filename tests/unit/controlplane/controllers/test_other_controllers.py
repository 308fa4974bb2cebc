"""Quota status, aggregated roles, events that expire, volumes in use, addresses of Services."""

import asyncio
from typing import Any

import pytest

from chandlery.controlplane.controllers.addresses import AddressController
from chandlery.controlplane.controllers.eventttl import EventTtlController

RBAC = "rbac.authorization.k8s.io"


async def test_a_quota_is_counted_when_it_is_made_changed_and_when_objects_go(world: Any) -> None:
    for number in range(3):
        await world.create("secrets", f"s{number}")
    hard = {"count/secrets": "5", "services": "2"}
    quota = await world.create("resourcequotas", "q", spec={"hard": hard})
    await world.until(lambda: _used(world) == {"count/secrets": "3", "services": "0"})
    await world.delete("secrets", "s1")
    await world.until(lambda: _used(world) == {"count/secrets": "2", "services": "0"})
    await world.change("resourcequotas", quota, spec={"hard": {"count/secrets": "9"}}, status={})
    await world.until(lambda: _used(world) == {"count/secrets": "2"})
    assert world.get("resourcequotas", "q")["status"]["hard"] == {"count/secrets": "9"}


def _used(world: Any) -> Any:
    return (world.get("resourcequotas", "q").get("status") or {}).get("used")


async def test_aggregated_roles_follow_their_parts(world: Any) -> None:
    rule = {"verbs": ["get"], "apiGroups": ["g.example"], "resources": ["ships"]}
    labels = {"rbac.authorization.k8s.io/aggregate-to-view": "true"}
    await world.create("clusterroles", "ships", "", RBAC, metadata={"labels": labels}, rules=[rule])
    for name in ("view", "edit", "admin"):
        await world.until(lambda name=name: rule in world.get("clusterroles", name, "", RBAC)["rules"])
    await world.delete("clusterroles", "ships", "", RBAC)
    for name in ("view", "edit", "admin"):
        await world.until(lambda name=name: rule not in world.get("clusterroles", name, "", RBAC)["rules"])


async def test_the_seeded_roles_are_what_aggregation_makes_of_them(world: Any) -> None:
    versions = {name: world.get("clusterroles", name, "", RBAC)["metadata"] for name in ("view", "edit", "admin")}
    assert all("generation" not in meta for meta in versions.values())
    managers = {entry["manager"] for meta in versions.values() for entry in meta["managedFields"]}
    assert managers == {"kube-apiserver"}, "the controller had nothing to correct"


async def test_events_expire_after_their_last_change(world: Any) -> None:
    controller = EventTtlController(world.api, ttl=0.05)
    events = world.api.resource("", "events")

    async def follow() -> None:
        async for kind, resource, obj, old in world.api.watch_all():
            controller.observe(kind, resource, obj, old)

    task = asyncio.create_task(follow())
    await asyncio.sleep(0)
    controller.start()
    try:
        ref = {"kind": "Pod", "namespace": "default", "name": "p"}
        assert events is not None
        await world.create("events", "e", involvedObject=ref, reason="R", message="m", type="Normal")
        await world.create("configmaps", "c")
        await world.until(lambda: not world.get("events", "e"))
        assert world.get("configmaps", "c")
    finally:
        task.cancel()
        await controller.stop()


@pytest.fixture
async def claim(world: Any) -> Any:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return await world.create("persistentvolumeclaims", "data", spec=spec)


async def test_a_claim_in_use_stays_until_its_pod_goes(world: Any, claim: Any) -> None:
    assert claim["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
    volume = {"name": "v", "persistentVolumeClaim": {"claimName": "data"}}
    spec = {"containers": [{"name": "c", "image": "i"}], "volumes": [volume]}
    await world.create("pods", "p", spec=spec)
    await world.delete("persistentvolumeclaims", "data")
    await world.settled()
    assert world.get("persistentvolumeclaims", "data")
    await world.delete("pods", "p")
    await world.until(lambda: not world.get("persistentvolumeclaims", "data"))


async def test_an_unused_claim_goes_at_once(world: Any, claim: Any) -> None:
    await world.delete("persistentvolumeclaims", "data")
    await world.until(lambda: not world.get("persistentvolumeclaims", "data"))


async def test_the_systems_namespaces_come_back(world):
    before = world.get("namespaces", "kube-node-lease", "")["metadata"]["uid"]
    await world.delete("namespaces", "kube-node-lease", "")
    found = await world.until(
        lambda: (now := world.get("namespaces", "kube-node-lease", "")) and now["metadata"]["uid"] != before
    )
    assert found


async def test_addresses_of_services_are_left_alone_when_the_server_starts_again(world):
    address, group = "10.96.0.9", "networking.k8s.io"
    spec = {"clusterIP": address, "clusterIPs": [address], "ports": [{"port": 80, "protocol": "TCP"}]}
    await world.create("services", "told", spec=spec)
    made = await world.until(lambda: world.get("ipaddresses", address, namespace="", group=group))
    controller = AddressController(world.api)
    controller.resync()
    await controller.sync(address)
    again = world.get("ipaddresses", address, namespace="", group=group)
    assert again["metadata"]["uid"] == made["metadata"]["uid"]
