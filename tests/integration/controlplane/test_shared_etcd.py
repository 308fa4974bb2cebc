"""Two control planes on one etcd: what one writes, the other serves."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from chandlery.testing import RunningControlPlane, start_control_plane

from .conftest import Client

CMS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
def pair(etcd, tmp_path) -> Iterator[tuple[RunningControlPlane, RunningControlPlane]]:
    options = {
        "store": "etcd",
        "etcd_servers": (etcd,),
        "etcd_prefix": f"/pair-{tmp_path.name}",
        "service_cluster_ip_range": "10.9.0.0/26",
        "tls_folder": tmp_path / "pki",
    }
    with (
        start_control_plane(tmp_path / "one", **options) as one,
        start_control_plane(tmp_path / "other", **options) as other,
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


def at_once(clients: tuple[Client, Client], path: str, bodies: list[Any]) -> list[tuple[int, Any]]:
    """All bodies posted at the same time, by turns to the one and the other."""
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(lambda n: clients[n % 2]("POST", path, bodies[n]), range(len(bodies))))


def test_what_both_hand_out_is_handed_out_once(clients):
    services = [
        {"metadata": {"name": f"s{n}"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}} for n in range(24)
    ]
    made = at_once(clients, "/api/v1/namespaces/default/services", services)
    assert {status for status, _ in made} == {201}
    assert len({service["spec"]["clusterIP"] for _, service in made}) == 24
    assert len({service["spec"]["ports"][0]["nodePort"] for _, service in made}) == 24
    quota = {"metadata": {"name": "q"}, "spec": {"hard": {"count/secrets": "9"}}}
    assert clients[0]("POST", "/api/v1/namespaces/default/resourcequotas", quota)[0] == 201
    secrets = [{"metadata": {"name": f"s{n}"}} for n in range(24)]
    made = at_once(clients, "/api/v1/namespaces/default/secrets", secrets)
    assert sorted(status for status, _ in made) == [201] * 9 + [403] * 15


def test_one_of_them_runs_the_controllers_and_the_other_takes_over(pair, clients):
    one, other = clients
    root = f"{CMS}/kube-root-ca.crt"
    wait_for(lambda: other("GET", root)[0] == 200)
    _, before = one("GET", root)
    for number in range(15):
        assert clients[number % 2]("POST", CMS, {"metadata": {"name": f"t{number}"}})[0] == 201
    assert one("GET", root)[1] == other("GET", root)[1] == before
    status, token = one("POST", "/api/v1/namespaces/default/serviceaccounts/default/token", {"spec": {}})
    assert status == 201
    bearer = {"Authorization": f"Bearer {token['status']['token']}"}
    for client in clients:  # they have one CA and one key for tokens, as they were given one folder
        client.context = ssl.create_default_context(cafile=pair[0].settings.tls_folder / "ca.crt")
        assert client("GET", "/api", headers=bearer)[0] == 200
    pair[0].stop()
    other = Client(pair[1].kubeconfig)
    assert other("POST", "/api/v1/namespaces", {"metadata": {"name": "later"}})[0] == 201
    wait_for(lambda: other("GET", "/api/v1/namespaces/later/serviceaccounts/default")[0] == 200)


def wait_for(done: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
