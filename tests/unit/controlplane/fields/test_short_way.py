"""The short way of ownership says what the long way says, whoever writes what."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest

from chandlery.controlplane.fields import manager as managers
from chandlery.controlplane.fields import on_write
from chandlery.controlplane.fields.sets import covers, union
from chandlery.controlplane.types import Obj, Resource

_VALUES: dict[str, list[Any]] = {
    "engine": ["a", "b"],
    "size": [1, 2, 3],
    "tags": [["x"], ["x", "y"], []],
    "atom": [["p"], ["p", "q"]],
    "opts": [{"k": "1"}, {"k": "2"}, {"k": "1", "l": "2"}],
    "users": [[{"name": "u", "role": "r"}], [{"name": "u", "role": "s"}], [{"name": "u"}, {"name": "v"}]],
    "any": [{"deep": {"er": 1}}, {"deep": {"er": 2}}],
}


def _next(rng: random.Random, live: Obj) -> Obj:
    new = copy.deepcopy(live)
    for key in rng.sample(list(_VALUES), rng.choice([0, 1, 1, 2])):
        if rng.random() < 0.2:
            new["spec"].pop(key, None)
        else:
            new["spec"][key] = copy.deepcopy(rng.choice(_VALUES[key]))
    if rng.random() < 0.3:
        new["metadata"]["labels"] = {"l": rng.choice("12")}
    if rng.random() < 0.4:
        new["status"] = {"ready": rng.random() < 0.5}
    return new


@pytest.mark.parametrize("seed", range(40))
def test_both_ways_say_the_same(claim: Resource, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    rng = random.Random(seed)
    live: Obj = {"apiVersion": "x.example/v1", "kind": "Claim", "metadata": {"name": "x"}, "spec": {"size": 1}}
    on_write(claim, None, live, manager="first", subresource="", now="2026-01-02T03:04:00Z")
    short = managers._still_theirs
    taken = 0

    def counted(*arguments: Any) -> Any:
        nonlocal taken
        found = short(*arguments)
        taken += found is not None
        return found

    for step in range(60):
        new = _next(rng, live)
        how: Obj = {
            "manager": rng.choice(["first", "first", "second"]),
            "subresource": rng.choice(["", "", "status"]),
            "now": f"2026-01-02T03:05:{step // 2:02}Z",
        }
        other = copy.deepcopy(new)
        before = copy.deepcopy(live)
        monkeypatch.setattr(managers, "_still_theirs", counted)
        on_write(claim, live, new, **how)
        monkeypatch.setattr(managers, "_still_theirs", lambda *_: None)
        on_write(claim, live, other, **how)
        assert new == other
        assert live == before
        live = new
    assert taken


@pytest.mark.parametrize(
    ("whole", "part", "is_in"),
    [
        ({"f:a": {}}, {"f:a": {}}, True),
        ({"f:a": {}}, {"f:b": {}}, False),
        ({"f:a": {".": {}, "f:b": {}}}, {"f:a": {}}, True),
        ({"f:a": {"f:b": {}}}, {"f:a": {}}, False),
        ({"f:a": {}}, {"f:a": {"f:b": {}}}, False),
        ({"f:a": {".": {}, "f:b": {}}}, {"f:a": {".": {}, "f:b": {}}}, True),
        ({"f:a": {"f:b": {}}}, {"f:a": {".": {}, "f:b": {}}}, False),
        ({}, {}, True),
    ],
)
def test_what_covers_what(whole: Obj, part: Obj, is_in: bool) -> None:
    assert covers(whole, part) is is_in
    assert (union(whole, part) == whole) is is_in
