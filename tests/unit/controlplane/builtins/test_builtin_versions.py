"""Kinds that are served in two versions: one object, two shapes, nothing lost; and events' own rules."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from chandlery.controlplane.builtins import builtin_resources
from chandlery.controlplane.types import Obj, RequestContext, Resource, UserInfo


def resource(group: str, version: str, kind: str) -> Resource:
    return next(r for r in builtin_resources() if (r.group, r.version, r.kind) == (group, version, kind))


def context(resource: Resource, verb: str) -> RequestContext:
    return RequestContext(user=UserInfo("ann"), verb=verb, resource=resource)


AUTOSCALER: Obj = {
    "apiVersion": "autoscaling/v2",
    "kind": "HorizontalPodAutoscaler",
    "metadata": {"name": "a"},
    "spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
        "minReplicas": 1,
        "maxReplicas": 3,
        "metrics": [
            {
                "type": "Resource",
                "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}},
            },
            {
                "type": "Pods",
                "pods": {"metric": {"name": "hits"}, "target": {"type": "AverageValue", "averageValue": "100m"}},
            },
        ],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 10, "selectPolicy": "Max", "policies": []}},
    },
    "status": {
        "currentReplicas": 2,
        "desiredReplicas": 2,
        "conditions": [{"type": "AbleToScale", "status": "True"}],
    },
}


async def test_an_autoscaler_comes_back_whole_from_its_older_version() -> None:
    older = resource("autoscaling", "v1", "HorizontalPodAutoscaler").strategy
    seen = await older.from_storage(copy.deepcopy(AUTOSCALER))
    assert seen["apiVersion"] == "autoscaling/v1"
    assert seen["spec"]["targetCPUUtilizationPercentage"] == 60
    assert "metrics" not in seen["spec"]
    assert "autoscaling.alpha.kubernetes.io/metrics" in seen["metadata"]["annotations"]
    back = await older.to_storage(seen)
    for metric in back["spec"]["metrics"]:
        assert metric in AUTOSCALER["spec"]["metrics"]
    assert len(back["spec"]["metrics"]) == 2
    assert back["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 10
    assert back["status"]["conditions"][0]["type"] == "AbleToScale"
    assert not back["metadata"].get("annotations")


async def test_an_older_autoscaler_is_kept_as_the_newer() -> None:
    older = resource("autoscaling", "v1", "HorizontalPodAutoscaler").strategy
    kept = await older.to_storage(
        {
            "apiVersion": "autoscaling/v1",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "a"},
            "spec": {
                "scaleTargetRef": {"kind": "Deployment", "name": "d"},
                "maxReplicas": 3,
                "targetCPUUtilizationPercentage": 50,
            },
        }
    )
    assert kept["apiVersion"] == "autoscaling/v2"
    assert kept["spec"]["metrics"] == [
        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}
    ]


async def test_an_event_has_other_words_in_each_api() -> None:
    core: Obj = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "e", "namespace": "n"},
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "n"},
        "message": "hello",
        "source": {"component": "c"},
        "count": 3,
        "reportingComponent": "x.example/c",
        "reportingInstance": "i",
    }
    newer = resource("events.k8s.io", "v1", "Event").strategy
    seen = await newer.from_storage(copy.deepcopy(core))
    assert (seen["apiVersion"], seen["note"], seen["regarding"]["name"]) == ("events.k8s.io/v1", "hello", "p")
    assert (seen["deprecatedCount"], seen["reportingController"]) == (3, "x.example/c")
    assert await newer.to_storage(seen) == core


def event(**fields: Any) -> Obj:
    made: Obj = {
        "metadata": {"name": "e", "namespace": "n"},
        "eventTime": "2020-01-01T00:00:00.000000Z",
        "regarding": {"kind": "Pod", "name": "p", "namespace": "n"},
        "action": "Did",
        "reason": "Because",
        "type": "Normal",
        "reportingController": "x.example/c",
        "reportingInstance": "i",
    }
    return {key: value for key, value in {**made, **fields}.items() if value is not None}


@pytest.mark.parametrize(
    ("fields", "want"),
    [
        ({}, []),
        ({"regarding": {"kind": "Node", "name": "x", "namespace": "elsewhere"}}, []),
        ({"eventTime": None}, ["eventTime: Required value"]),
        ({"type": "Odd"}, ['type: Invalid value: "": has invalid value: Odd']),
        ({"reason": "r" * 129}, ['reason: Invalid value: "": can have at most 128 characters']),
        ({"series": {"count": 1}}, ["series.count", "series.lastObservedTime: Required value"]),
        ({"deprecatedCount": 1}, ['count: Invalid value: "": needs to be unset']),
        ({"action": None, "reportingInstance": None}, ["reportingInstance: Required value", "action: Required value"]),
    ],
)
def test_events_of_the_newer_api_say_what_happened(fields: dict[str, Any], want: list[str]) -> None:
    newer = resource("events.k8s.io", "v1", "Event")
    errors = newer.strategy.validate_create(context(newer, "create"), event(**fields))
    told = [f"{error.path}: {error.detail}" for error in errors]
    assert len(told) == len(want)
    assert all(one.startswith(start) for one, start in zip(told, want, strict=True)), told


def test_what_an_event_says_does_not_change_but_its_series_does() -> None:
    newer = resource("events.k8s.io", "v1", "Event")
    again = {"count": 2, "lastObservedTime": "2020-01-01T00:00:00.000000Z"}
    update = newer.strategy.validate_update
    assert update(context(newer, "update"), event(series=again), event()) == []
    errors = update(context(newer, "update"), event(note="b", type="Warning"), event(note="a"))
    assert [(error.path, error.detail) for error in errors] == [
        ("message", 'Invalid value: "b": field is immutable'),
        ("type", 'Invalid value: "Warning": field is immutable'),
    ]


def test_an_old_event_is_about_its_own_namespace() -> None:
    core = resource("", "v1", "Event")
    body: Obj = {"metadata": {"name": "e", "namespace": "n"}, "involvedObject": {"namespace": "other"}}
    errors = core.strategy.validate_create(context(core, "create"), body)
    assert [(e.path, e.detail) for e in errors] == [
        ("involvedObject.namespace", 'Invalid value: "other": does not match event.namespace')
    ]
