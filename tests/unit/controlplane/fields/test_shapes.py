"""What is known of a shape is what working it out for each object says, whatever the objects hold."""

from __future__ import annotations

import copy
import random
from functools import cache
from typing import Any

import pytest

from chandlery.controlplane.builtins import builtin_resources
from chandlery.controlplane.fields import apply, on_write, shapes
from chandlery.controlplane.fields import manager as managers
from chandlery.controlplane.fields.schema import type_of
from chandlery.controlplane.types import ApiError, Obj, Resource

_NOW = "2026-01-02T03:04:00Z"
_VALUES: dict[str, list[Any]] = {
    "engine": ["a", "b", "", None, 3],
    "size": [1, 2, 1.0, True, None],
    "tags": [["x"], ["y"], ["x", "y"], ["x", "x"], [], None, "x"],
    "atom": [["p"], ["q"], [1], [{"a": 1}], {}],
    "opts": [{"k": "1"}, {"k": "2"}, {"l": ""}, {"k": None}, {}, [], None],
    "amap": [{"k": "1"}, {"l": "1"}, {"k": 1}, {}],
    "users": [
        [{"name": "u", "role": "r"}],
        [{"name": "u", "role": "s"}],
        [{"name": "v", "role": "s"}],
        [{"name": "u", "caps": ["c"]}],
        [{"name": "u", "caps": ["d"]}],
        [{"name": "u"}, {"name": "u"}],
        [{"role": "r"}],
        [None],
        {},
    ],
    "ports": [[{"port": 1}], [{"port": 1, "proto": "UDP"}], [{"port": 2, "note": "n"}], [{}]],
    "any": [{"deep": {"er": 1}}, {"deep": {"er": [2]}}, {"deep": {}}, {"deep": None}, 1, [1]],
    "strange": [1, {"a": 1}],
}


def _object(rng: random.Random) -> Obj:
    spec = {key: copy.deepcopy(rng.choice(_VALUES[key])) for key in rng.sample(list(_VALUES), rng.choice([1, 2, 3]))}
    obj: Obj = {"apiVersion": "x.example/v1", "kind": "Claim", "metadata": {"name": rng.choice("xy")}, "spec": spec}
    if rng.random() < 0.3:
        obj["metadata"]["labels"] = {rng.choice("lm"): rng.choice("12")}
    if rng.random() < 0.3:
        obj["metadata"]["ownerReferences"] = [{"uid": rng.choice("12"), "name": "o"}]
    if rng.random() < 0.3:
        obj["status"] = {"ready": rng.choice([True, False])}
    if rng.random() < 0.2:
        obj["spec"] = rng.choice([{}, None, []])
    return obj


@pytest.mark.parametrize("seed", range(20))
def test_a_creator_owns_the_same_either_way(claim: Resource, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    rng = random.Random(seed)
    short = managers._owned_by_creator
    for _ in range(100):
        new = _object(rng)
        other = copy.deepcopy(new)
        monkeypatch.setattr(managers, "_owned_by_creator", short)
        on_write(claim, None, new, manager="m", subresource="", now=_NOW)
        monkeypatch.setattr(managers, "_owned_by_creator", lambda *_: None)
        on_write(claim, None, other, manager="m", subresource="", now=_NOW)
        assert new == other
    assert type_of(claim).created


def _applied(claim: Resource, live: Obj | None, patch: Obj) -> Any:
    try:
        return apply(claim, live, patch, manager="m", force=True, subresource="", now=_NOW)
    except ApiError as error:
        return error.code, error.message


@pytest.mark.parametrize("seed", range(20))
def test_an_applier_owns_the_same_either_way(claim: Resource, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    rng = random.Random(seed)
    short = shapes.of_configuration
    live: Obj | None = None
    for _ in range(100):
        patch = _object(rng)
        before = copy.deepcopy(live), copy.deepcopy(patch)
        monkeypatch.setattr(shapes, "of_configuration", short)
        one = _applied(claim, live, patch)
        monkeypatch.setattr(shapes, "of_configuration", lambda *_: None)
        assert _applied(claim, live, patch) == one
        assert (live, patch) == before
        live = one if isinstance(one, dict) and rng.random() < 0.8 else None
    assert type_of(claim).applied


@cache
def _builtin(plural: str) -> Resource:
    return next(resource for resource in builtin_resources() if resource.plural == plural)


@pytest.mark.parametrize(
    ("plural", "bodies"),
    [
        ("configmaps", [{"data": {"a": "1"}}, {"data": {"a": "2"}}, {"data": {}}, {}]),
        ("leases", [{"spec": {}}, {"spec": {"holderIdentity": "x"}}, {}, {"spec": {"holderIdentity": "y"}}]),
        (
            "services",
            [
                {"spec": {"ports": [{"port": 1}]}, "status": {"loadBalancer": {}}},
                {"spec": {"ports": [{"port": 2, "protocol": "TCP"}]}, "status": {}},
                {"spec": {"clusterIP": "None"}},
            ],
        ),
        ("pods", [{"spec": {"containers": [{"name": "a"}]}}, {"spec": {"containers": None}}]),
    ],
)
def test_a_creator_of_built_in_types_too(monkeypatch: pytest.MonkeyPatch, plural: str, bodies: list[Obj]) -> None:
    resource, short = _builtin(plural), managers._owned_by_creator
    for body in [*bodies, *reversed(bodies)]:
        new: Obj = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": "x"}, **body}
        other = copy.deepcopy(new)
        monkeypatch.setattr(managers, "_owned_by_creator", short)
        on_write(resource, None, new, manager="m", subresource="", now=_NOW)
        monkeypatch.setattr(managers, "_owned_by_creator", lambda *_: None)
        on_write(resource, None, other, manager="m", subresource="", now=_NOW)
        assert new == other


def test_few_shapes_are_kept_and_large_ones_not(claim: Resource) -> None:
    for number in range(1000):
        obj: Obj = {"metadata": {"name": "x", "labels": {f"l{number}": ""}}}
        on_write(claim, None, obj, manager="m", subresource="", now=_NOW)
        assert f"f:l{number}" in obj["metadata"]["managedFields"][0]["fieldsV1"]["f:metadata"]["f:labels"]
    assert 0 < len(type_of(claim).created) <= 128
    large: Obj = {"metadata": {"name": "x"}, "spec": {"opts": {str(number): "" for number in range(2000)}}}
    assert shapes.of_new(type_of(claim), large, frozenset(("metadata",))) is None
