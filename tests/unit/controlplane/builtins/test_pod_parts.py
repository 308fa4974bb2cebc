"""The endpoints of a pod's parts: ephemeral containers and resources."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from chandlery.controlplane.builtins import builtin_resources
from chandlery.controlplane.types import RequestContext, UserInfo

PODS = next(r for r in builtin_resources() if (r.group, r.plural) == ("", "pods"))


def pod(**container: Any) -> dict[str, Any]:
    obj = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "default", "labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i", **container}]},
        "status": {"phase": "Pending"},
    }
    PODS.strategy.decode(obj)
    PODS.strategy.default(obj)
    return obj


def updated(old: dict[str, Any], subresource: str, change: Any) -> tuple[dict[str, Any], list[str]]:
    """The pod that an update through the endpoint would leave, and what is wrong with it."""
    ctx = RequestContext(UserInfo("admin"), "update", PODS, "default", "p", subresource)
    obj = copy.deepcopy(old)
    change(obj)
    PODS.strategy.default(obj)
    PODS.strategy.prepare_for_update(ctx, obj, old)
    found = PODS.strategy.validate_update(ctx, obj, old)
    return obj, [f"{error.path}: {error.detail.splitlines()[0]}" for error in found]


def with_ephemeral(*added: dict[str, Any]) -> Any:
    def change(obj: dict[str, Any]) -> None:
        obj["spec"]["ephemeralContainers"] = list(added)
        obj["spec"]["containers"][0]["image"] = "changed on the way"
        obj["metadata"]["labels"] = {}

    return change


def test_ephemeral_containers_are_added_and_nothing_else_changes():
    obj, wrong = updated(
        pod(), "ephemeralcontainers", with_ephemeral({"name": "d", "image": "j", "targetContainerName": "c"})
    )
    assert wrong == []
    assert [one["name"] for one in obj["spec"]["ephemeralContainers"]] == ["d"]
    assert obj["spec"]["containers"][0]["image"] == "i"
    assert obj["metadata"]["labels"] == {"a": "b"}


@pytest.mark.parametrize(
    ("added", "wrong"),
    [
        ({"name": "c", "image": "j"}, 'spec.ephemeralContainers[0].name: Duplicate value: "c"'),
        ({"name": "d"}, "spec.ephemeralContainers[0].image: Required value"),
        (
            {"name": "d", "image": "j", "targetContainerName": "x"},
            'spec.ephemeralContainers[0].targetContainerName: Not found: "x"',
        ),
        (
            {"name": "d", "image": "j", "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}},
            "spec.ephemeralContainers[0].resources: Forbidden: cannot be set for an Ephemeral Container",
        ),
    ],
)
def test_what_an_ephemeral_container_can_not_be(added, wrong):
    assert wrong in updated(pod(), "ephemeralcontainers", with_ephemeral(added))[1]


def test_ephemeral_containers_stay_as_they_are():
    old, _ = updated(pod(), "ephemeralcontainers", with_ephemeral({"name": "d", "image": "j"}))
    where = "spec.ephemeralContainers: Forbidden: existing ephemeral containers"
    assert updated(old, "ephemeralcontainers", with_ephemeral())[1] == [f'{where} "d" may not be removed']
    changed = with_ephemeral({"name": "d", "image": "k"})
    assert updated(old, "ephemeralcontainers", changed)[1] == [f'{where} "d" may not be changed']


def resources(**found: dict[str, str]) -> Any:
    def change(obj: dict[str, Any]) -> None:
        obj["spec"]["containers"][0] |= {"resources": found, "image": "changed on the way"}

    return change


def test_resources_change_within_a_class():
    old = pod(resources={"requests": {"cpu": "1"}, "limits": {"cpu": "2"}})
    obj, wrong = updated(old, "resize", resources(requests={"cpu": "1500m"}, limits={"cpu": "2"}))
    assert wrong == []
    assert obj["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "1500m"}
    assert obj["spec"]["containers"][0]["image"] == "i"
    assert updated(old, "resize", resources(requests={"cpu": "1"}))[1] == [
        "spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed"
    ]
    assert updated(old, "resize", resources(requests={"cpu": "1", "example.com/x": "1"}, limits={"cpu": "2"}))[1][
        -1
    ] == ("spec: Forbidden: only cpu and memory resources are mutable")
    assert updated(pod(), "resize", resources(requests={"cpu": "1"}))[1] == [
        'spec: Invalid value: "BestEffort": Pod QOS Class may not change as a result of resizing'
    ]
