"""Two control planes on one etcd: what one writes, the other serves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from chandlery.testing import RunningControlPlane, start_control_plane

from .conftest import Client

CMS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
def pair(etcd, tmp_path) -> Iterator[tuple[RunningControlPlane, RunningControlPlane]]:
    options = {"store": "etcd", "etcd_servers": (etcd,), "etcd_prefix": f"/pair-{tmp_path.name}"}
    with (
        start_control_plane(tmp_path / "one", **options) as one,
        start_control_plane(tmp_path / "other", controllers=False, **options) as other,
    ):
        yield one, other


@pytest.fixture
def clients(pair) -> tuple[Client, Client]:
    return Client(pair[0].kubeconfig), Client(pair[1].kubeconfig)


def test_writes_are_seen_at_once_on_the_other(clients):
    one, other = clients
    for number in range(20):
        status, made = one("POST", CMS, {"metadata": {"name": f"c{number}"}, "data": {"v": "1"}})
        assert status == 201
        status, found = other("GET", f"{CMS}/c{number}")
        assert (status, found) == (200, made)
        status, changed = other("PUT", f"{CMS}/c{number}", found | {"data": {"v": "2"}})
        assert status == 200
        status, refused = one("PUT", f"{CMS}/c{number}", made | {"data": {"v": "3"}})
        assert (status, refused["reason"]) == (409, "Conflict")
        assert one("GET", f"{CMS}/c{number}")[1] == changed
    _, listed = one("GET", CMS)
    assert {item["metadata"]["name"] for item in listed["items"]} >= {f"c{n}" for n in range(20)}
    assert one("DELETE", f"{CMS}/c0")[0] == 200
    assert other("GET", f"{CMS}/c0")[0] == 404


def test_a_custom_resource_made_on_one_is_served_by_the_other(clients):
    one, other = clients
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "knots.etcd.example"},
        "spec": {
            "group": "etcd.example", "scope": "Namespaced", "names": {"kind": "Knot", "plural": "knots"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"spec": {"type": "object", "properties": {
                    "n": {"type": "integer", "default": 4}}}}}}}],
        },
    }  # fmt: skip
    assert one("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)[0] == 201
    path = "/apis/etcd.example/v1/namespaces/default/knots"

    async def served() -> None:
        for _ in range(200):
            if one("GET", path)[0] == other("GET", path)[0] == 200:
                return
            await asyncio.sleep(0.05)
        raise AssertionError("the custom resource is not served by both")

    asyncio.run(served())
    status, made = other(
        "POST", path, {"apiVersion": "etcd.example/v1", "kind": "Knot", "metadata": {"name": "k"}, "spec": {}}
    )
    assert (status, made["spec"]) == (201, {"n": 4})
    status, found = one("GET", f"{path}/k")
    assert json.dumps(found, sort_keys=True) == json.dumps(made, sort_keys=True)
