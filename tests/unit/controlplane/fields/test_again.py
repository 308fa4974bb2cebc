"""Applying the same fields again takes a short way, and comes to what the long way comes to."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest

from chandlery.controlplane.fields import apply, on_write, serverside
from chandlery.controlplane.types import ApiError, Obj, Resource

_VALUES: dict[str, list[Any]] = {
    "engine": ["a", "b", None],
    "size": [1, 2, 2.0, True],
    "tags": [["x"], ["x", "y"], ["y", "x"], []],
    "atom": [["p"], ["p", "q"], []],
    "opts": [{"k": "1"}, {"k": "2"}, {"k": "1", "l": "2"}, {}, None],
    "amap": [{"k": "1"}, {"l": "2"}],
    "users": [
        [{"name": "u", "role": "r"}],
        [{"name": "u", "role": "s", "caps": ["c"]}],
        [{"name": "v"}, {"name": "u"}],
        [{"name": "w", "role": "t"}],
    ],
    "any": [{"deep": {"er": 1}}, {"deep": {"er": [1]}}, {"deep": 5}, {"deep": [{}]}, {"other": {}}],
}


def _configuration(rng: random.Random) -> Obj:
    meta: Obj = {"name": "x"}
    if rng.random() < 0.3:
        meta["labels"] = {rng.choice("ab"): rng.choice("12")}
    if rng.random() < 0.2:
        meta["creationTimestamp"] = None
    out: Obj = {"apiVersion": "x.example/v1", "kind": "Claim", "metadata": meta}
    out["spec"] = {
        key: copy.deepcopy(rng.choice(_VALUES[key])) for key in rng.sample(list(_VALUES), rng.choice([1, 2, 4]))
    }
    if rng.random() < 0.2:
        out["status"] = {"ready": rng.random() < 0.5}
    return out


def _again(rng: random.Random, configuration: Obj) -> Obj:
    """The same fields mostly, with other values."""
    out = copy.deepcopy(configuration)
    for key in list(out["spec"]):
        if rng.random() < 0.5:
            out["spec"][key] = copy.deepcopy(rng.choice(_VALUES[key]))
    return out


def _outcome(*arguments: Any, **how: Any) -> Any:
    try:
        return apply(*arguments, **how)
    except ApiError as error:
        return error.status()


def _kinds(value: Any) -> Any:
    """A value in which 1, 1.0 and true differ, and so do other orders of keys."""
    return repr(value)


@pytest.mark.parametrize("seed", range(40))
def test_both_ways_say_the_same(claim: Resource, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    rng = random.Random(seed)
    short = serverside._again
    taken = 0
    live: Obj = {"apiVersion": "x.example/v1", "kind": "Claim", "metadata": {"name": "x"}, "spec": {"size": 1}}
    on_write(claim, None, live, manager="first", subresource="", now="2026-01-02T03:04:00Z")
    last = {who: _configuration(rng) for who in ("one", "two", "kubectl")}
    for step in range(100):
        now = f"2026-01-02T03:05:{step // 2:02}Z"
        if rng.random() < 0.15:
            new = copy.deepcopy(live)
            key = rng.choice(list(_VALUES))
            new.setdefault("spec", {})[key] = copy.deepcopy(rng.choice(_VALUES[key]))
            on_write(claim, live, new, manager="first", subresource=rng.choice(["", "status"]), now=now)
            live = new
            continue
        who = rng.choice(["one", "one", "one", "one", "two", "kubectl"])
        last[who] = _configuration(rng) if rng.random() < 0.05 else _again(rng, last[who])
        how: Obj = {
            "manager": who,
            "force": rng.random() < 0.6,
            "subresource": rng.choice([""] * 9 + ["status"]),
            "now": now,
        }
        before = copy.deepcopy((live, last[who]))

        def counted(*arguments: Any) -> Any:
            nonlocal taken
            found = short(*arguments)
            taken += found is not None
            return found

        monkeypatch.setattr(serverside, "_again", counted)
        one = _outcome(claim, live, last[who], **how)
        monkeypatch.setattr(serverside, "_again", lambda *_: None)
        other = _outcome(claim, live, last[who], **how)
        assert _kinds(one) == _kinds(other)
        assert _kinds((live, last[who])) == _kinds(before), "arguments were changed"
        if "code" not in one:
            live = one
    assert taken


def test_the_short_way_is_taken(claim: Resource, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever applies other values of the same fields never gets to the long way, whatever others own elsewhere."""
    body: Obj = {"apiVersion": "x.example/v1", "kind": "Claim", "metadata": {"name": "x"}, "spec": {"size": 1}}
    live = apply(claim, None, body, manager="one", force=False, subresource="", now="2026-01-02T03:04:00Z")
    changed = copy.deepcopy(live)
    changed["spec"]["engine"] = "a"
    changed["status"] = {"ready": True}
    on_write(claim, live, changed, manager="other", subresource="", now="2026-01-02T03:04:01Z")

    def long_way(*_: Any) -> None:
        raise AssertionError("the long way")

    monkeypatch.setattr(serverside._Attempt, "run", long_way)
    body["spec"]["size"] = 2
    out = apply(claim, changed, body, manager="one", force=False, subresource="", now="2026-01-02T03:04:02Z")
    assert out["spec"] == {"size": 2, "engine": "a"}
    entries = {entry["manager"]: entry for entry in out["metadata"]["managedFields"]}
    assert entries["one"]["time"] == "2026-01-02T03:04:02Z"
    assert entries["one"]["fieldsV1"] == {"f:spec": {"f:size": {}}}
    assert entries["other"] in changed["metadata"]["managedFields"]
    same = apply(claim, out, body, manager="one", force=False, subresource="", now="2026-01-02T03:04:09Z")
    assert same == out
