"""Claims on devices, their templates, classes and slices, by the rules of kube-apiserver 1.36."""

from __future__ import annotations

import copy
from typing import Any

import builtin_rules
import pytest
from builtin_rules import RESOURCES, context

from chandlery.controlplane.types import Obj

EXACT = {"name": "r", "exactly": {"deviceClassName": "gpu"}}
POOL = {"name": "p", "resourceSliceCount": 1}


def made(plural: str, spec: Any) -> Obj:
    return builtin_rules.made(plural, {"spec": spec})


def told(errors: list[Any]) -> list[str]:
    return [f"{error.path}: {error.detail}" for error in errors]


def refused(plural: str, spec: Any) -> list[str]:
    return told(RESOURCES[plural].strategy.validate_create(context(plural), made(plural, spec)))


def claim(*requests: Obj, **devices: Any) -> Obj:
    return {"devices": {"requests": list(requests), **devices}}


def selecting(expression: str) -> Obj:
    return {"selectors": [{"cel": {"expression": expression}}]}


FIRST = "spec.devices.requests[0]"
REFERENCE = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"


@pytest.mark.parametrize(
    ("spec", "want"),
    [
        (claim(EXACT), []),
        (claim({"name": "r"}), [f"{FIRST}: Required value: exactly one of `exactly` or `firstAvailable` is required"]),
        (claim({"name": "r", "exactly": {}}), [f"{FIRST}.exactly.deviceClassName: Required value"]),
        (
            claim({"name": "r", "exactly": {"deviceClassName": "g", "allocationMode": "All", "count": 2}}),
            [f"{FIRST}.exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'"],
        ),
        (
            claim({"name": "r", "exactly": {"deviceClassName": "g", "allocationMode": "Odd"}}),
            [
                f'{FIRST}.exactly.allocationMode: Unsupported value: "Odd": supported values: "All", "ExactCount"',
            ],
        ),
        (claim(EXACT, EXACT), ['spec.devices.requests[1].name: Duplicate value: "r"']),
        (
            claim(EXACT, constraints=[{"requests": ["x"], "matchAttribute": "a"}]),
            [
                f'spec.devices.constraints[0].requests[0]: Invalid value: "x": {REFERENCE}',
                'spec.devices.constraints[0].matchAttribute: Invalid value: "a": must include a domain',
            ],
        ),
        (
            claim(EXACT, config=[{"opaque": {"driver": "a.b", "parameters": [1]}}]),
            [
                (
                    'spec.devices.config[0].opaque.parameters: Invalid value: "<value omitted>": '
                    "must be a valid JSON object"
                ),
            ],
        ),
        (
            claim({"name": "r", "exactly": {"deviceClassName": "g", **selecting("device.driver")}}),
            [
                (f'{FIRST}.exactly.selectors[0].cel.expression: Invalid value: "device.driver": must evaluate to bool '
                "or the unknown type, not string"),
            ],
        ),
        (
            claim({"name": "r", "firstAvailable": [{"name": "a", "deviceClassName": "g"}]}, config=[
                {"requests": ["r/a"], "opaque": {"driver": "a.b", "parameters": {}}}]),
            [],
        ),
    ],
)  # fmt: skip
def test_claims(spec, want):
    assert refused("resourceclaims", spec) == want
    assert refused("resourceclaimtemplates", {"spec": spec}) == [one.replace("spec.", "spec.spec.", 1) for one in want]


def test_a_request_asks_for_one_device_unless_it_says_otherwise():
    assert made("resourceclaims", claim(EXACT))["spec"]["devices"]["requests"][0]["exactly"] == {
        "deviceClassName": "gpu",
        "allocationMode": "ExactCount",
        "count": 1,
    }


def test_a_claim_is_kept_as_it_is_and_its_status_names_its_requests():
    strategy, old = RESOURCES["resourceclaims"].strategy, made("resourceclaims", claim(EXACT))
    new = copy.deepcopy(old)
    new["spec"]["devices"]["requests"][0]["name"] = "s"
    found = told(strategy.validate_update(context("resourceclaims", "update"), new, old))
    assert len(found) == 1
    assert found[0].endswith(": field is immutable")
    result = {"request": "x", "driver": "a.b", "pool": "p", "device": "d0"}
    status = {
        "allocation": {"devices": {"results": [result]}},
        "reservedFor": [{"resource": "pods", "name": "a", "uid": "u1"}, {"resource": "pods", "name": "b", "uid": "u1"}],
    }
    assert told(
        strategy.validate_update(context("resourceclaims", "update", "status"), old | {"status": status}, old)
    ) == [
        'status.reservedFor[1].uid: Duplicate value: "u1"',
        f'status.allocation.devices.results[0].request: Invalid value: "x": {REFERENCE}',
    ]
    lonely = {"reservedFor": status["reservedFor"][:1]}
    assert told(
        strategy.validate_update(context("resourceclaims", "update", "status"), old | {"status": lonely}, old)
    ) == ["status.reservedFor: Forbidden: may not be specified when `allocated` is not set"]


@pytest.mark.parametrize(
    ("spec", "want"),
    [
        (selecting('device.driver == "a.b" && device.attributes["a.b"].size > 3'), []),
        (selecting('device.capacity["a.b"].memory.isGreaterThan(quantity("1Gi"))'), []),
        ({"extendedResourceName": "gpu"}, [
            'spec.extendedResourceName: Invalid value: "gpu": must be a valid extended resource name']),
        ({"selectors": [{}]}, ["spec.selectors[0].cel: Required value"]),
    ],
)  # fmt: skip
def test_classes(spec, want):
    assert refused("deviceclasses", spec) == want


def test_an_expression_that_names_what_devices_do_not_have_is_told():
    found = refused("deviceclasses", selecting("device.colour == 'red'"))
    assert len(found) == 1
    assert "compilation failed: " in found[0]
    assert "undefined field 'colour'" in found[0]


def slice_(**spec: Any) -> Obj:
    return {"driver": "a.b", "pool": POOL, "nodeName": "n", **spec}


PLACES = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"


@pytest.mark.parametrize(
    ("spec", "want"),
    [
        (
            slice_(devices=[{"name": "d", "attributes": {"a": {"int": 3}}, "capacity": {"memory": {"value": "1Gi"}}}]),
            [],
        ),
        ({"driver": "a.b", "pool": POOL}, [f"spec: Required value: {PLACES}"]),
        (slice_(allNodes=True), [
            f'spec: Invalid value: "{{`nodeName`, `allNodes`}}": {PLACES}, but multiple fields are set']),
        (slice_(pool={"name": "p"}), [
            "spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero"]),
        (slice_(devices=[{"name": "d0", "attributes": {"a": {}}}]), [
            "spec.devices[0].attributes[a]: Required value: exactly one value must be specified"]),
        (slice_(devices=[{"name": "d0", "attributes": {"a": {"version": "1.2"}}}]), [
            ('spec.devices[0].attributes[a].version: Invalid value: "1.2": must be a string compatible with semver.org '
            "spec 2.0.0")]),
        (slice_(devices=[{"name": "d0", "taints": [{"key": "k", "effect": "Odd"}]}]), [
            ('spec.devices[0].taints[0].effect: Unsupported value: "Odd": supported values: "NoExecute", "NoSchedule", '
            '"None"')]),
        (slice_(devices=[{"name": "d0", "bindingConditions": ["a.b/c"]}]), [
            ("spec.devices[0].bindingFailureConditions: Invalid value: null: bindingFailureConditions are required to "
            "use bindingConditions")]),
        (slice_(devices=[{"name": "d0", "nodeName": "n"}]), [
            ("spec.devices[0]: Invalid value: null: `nodeName`, `nodeSelector` and `allNodes` can only be set if "
            "`perDeviceNodeSelection` is set to true in the ResourceSlice spec")]),
    ],
)  # fmt: skip
def test_slices(spec, want):
    assert refused("resourceslices", spec) == want


def test_a_slice_keeps_its_pool_and_taints_say_since_when():
    taint = {"key": "k", "effect": "NoSchedule"}
    old = made("resourceslices", slice_(devices=[{"name": "d0", "taints": [taint]}]))
    assert old["spec"]["devices"][0]["taints"][0]["timeAdded"].endswith("Z")
    new = copy.deepcopy(old)
    new["spec"]["pool"]["name"] = "q"
    assert told(
        RESOURCES["resourceslices"].strategy.validate_update(context("resourceslices", "update"), new, old)
    ) == ['spec.pool.name: Invalid value: "q": field is immutable']


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ({}, "pending"),
        ({"allocation": {}}, "allocated"),
        ({"allocation": {}, "reservedFor": [{"resource": "pods", "name": "a", "uid": "u"}]}, "allocated,reserved"),
    ],
)
def test_the_table_tells_a_claims_state(status, state):
    obj = made("resourceclaims", claim(EXACT)) | {"status": status}
    assert RESOURCES["resourceclaims"].strategy.table_cells(obj)[1] == state
