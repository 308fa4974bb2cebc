"""Ownership after creates, updates and patches."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chandlery.controlplane.fields import default_manager, keep_managed_fields, on_write
from chandlery.controlplane.fields.schema import type_of
from chandlery.controlplane.fields.walk import compare, field_set, merge, remove, whole
from chandlery.controlplane.types import Obj, Resource

NOW, LATER = "2026-01-02T03:04:05Z", "2026-01-02T03:04:06Z"


def make(spec: Obj, **meta: Any) -> Obj:
    return {"apiVersion": "x.example/v1", "kind": "Claim", "metadata": {"name": "x", **meta}, "spec": spec}


def write(
    resource: Resource, live: Obj | None, new: Obj, manager: str = "tool", *, sub: str = "", now: str = NOW
) -> Obj:
    """The object as it would be stored."""
    out = copy.deepcopy(new)
    before = copy.deepcopy(live)
    on_write(resource, live, out, manager=manager, subresource=sub, now=now)
    assert live == before, "the live object was changed"
    out["metadata"].setdefault("uid", "u")
    return out


def entries(obj: Obj) -> list[Obj]:
    return list(obj["metadata"].get("managedFields", []))


def test_a_creator_owns_every_level_it_made(claim: Resource) -> None:
    obj = write(claim, None, make({"size": 1, "users": [{"name": "u"}], "atom": ["x"]}, labels={"l": "1"}, uid="u"))
    assert entries(obj) == [
        {
            "manager": "tool",
            "operation": "Update",
            "apiVersion": "x.example/v1",
            "time": NOW,
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {"f:labels": {".": {}, "f:l": {}}},
                "f:spec": {
                    ".": {},
                    "f:atom": {},
                    "f:size": {},
                    "f:users": {".": {}, 'k:{"name":"u"}': {".": {}, "f:name": {}}},
                },
            },
        }
    ]


def test_only_what_changed_moves(claim: Resource) -> None:
    live = write(claim, None, make({"engine": "a", "size": 1, "opts": {"k": "v"}}))
    new = make({"engine": "b", "opts": {"k": "v", "n": "1"}})
    obj = write(claim, live, new, "other", now=LATER)
    by_manager = {entry["manager"]: entry for entry in entries(obj)}
    assert by_manager["other"]["fieldsV1"] == {"f:spec": {"f:engine": {}, "f:opts": {"f:n": {}}}}
    assert by_manager["tool"]["fieldsV1"] == {"f:spec": {".": {}, "f:opts": {".": {}, "f:k": {}}}}
    assert (by_manager["tool"]["time"], by_manager["other"]["time"]) == (NOW, LATER)


def test_a_write_that_changes_nothing_keeps_the_list(claim: Resource) -> None:
    live = write(claim, None, make({"engine": "a"}))
    obj = write(claim, live, make({"engine": "a"}), "other", now=LATER)
    assert entries(obj) == entries(live)


def test_what_is_not_this_endpoints_is_not_owned(claim: Resource) -> None:
    live = write(claim, None, {**make({"engine": "a"}), "status": {"ready": True}})
    assert "f:status" not in entries(live)[0]["fieldsV1"]
    del live["status"]
    new = {**make({"engine": "z"}, labels={"l": "1"}), "status": {"ready": True}}
    obj = write(claim, live, new, "ctl", sub="status", now=LATER)
    ctl = next(entry for entry in entries(obj) if entry["manager"] == "ctl")
    assert (ctl["subresource"], ctl["fieldsV1"]) == ("status", {"f:status": {".": {}, "f:ready": {}}})
    assert {entry["manager"] for entry in entries(obj)} == {"tool", "ctl"}


def test_without_managers_an_update_is_not_tracked(claim: Resource) -> None:
    live = make({"engine": "a"}, uid="u")
    assert entries(write(claim, live, make({"engine": "b"}))) == []
    reset = write(claim, write(claim, None, make({"engine": "a"})), make({"engine": "b"}, managedFields=[]))
    assert entries(reset) == []
    also = write(claim, write(claim, None, make({"engine": "a"})), make({"engine": "b"}, managedFields=[{}]))
    assert entries(also) == []


def test_clients_may_edit_managed_fields_but_not_break_them(claim: Resource) -> None:
    live = write(claim, None, make({"engine": "a", "size": 1}))
    mine = copy.deepcopy(entries(live))
    mine[0]["manager"] = "renamed"
    assert [
        e["manager"] for e in entries(write(claim, live, make({"engine": "a", "size": 1}, managedFields=mine)))
    ] == ["renamed"]
    for broken in (
        [{"manager": "x"}],
        [{**mine[0], "operation": "Delete"}],
        [{**mine[0], "fieldsV1": {"bad": {}}}],
        [5],
    ):
        obj = write(claim, live, make({"engine": "a", "size": 1}, managedFields=broken))
        assert entries(obj) == entries(live)


def test_the_oldest_updaters_are_merged(claim: Resource) -> None:
    obj = write(claim, None, make({"opts": {"k": "v"}}))
    for number in range(12):
        opts = {**obj["spec"]["opts"], f"k{number}": "v"}
        now = f"2026-01-02T03:05:{number:02}Z"
        obj = write(claim, obj, make({"opts": opts}), f"m{number:02}", now=now)
    managers = [entry["manager"] for entry in entries(obj)]
    assert len(managers) == 10
    assert managers[0] == "ancient-changes"
    assert managers[1:] == [f"m{number:02}" for number in range(3, 12)]
    assert entries(obj)[0]["fieldsV1"]["f:spec"]["f:opts"].keys() == {".", "f:k", "f:k0", "f:k1", "f:k2"}


def test_at_equal_times_the_text_of_the_identity_decides(claim: Resource) -> None:
    obj = write(claim, None, make({"opts": {"k": "v"}}), "a")
    obj = write(claim, obj, {**obj, "status": {"ready": True}}, "a", sub="status")
    for number in range(9):
        opts = {**obj["spec"]["opts"], f"k{number}": "v"}
        obj = write(claim, obj, {**make({"opts": opts}), "status": {"ready": True}}, f"b{number}")
    managers = [(entry["manager"], entry.get("subresource")) for entry in entries(obj)]
    assert len(managers) == 10
    assert ("ancient-changes", None) in managers
    assert not {("a", None), ("a", "status")} & set(managers)


def test_scale_moves_the_replicas_only(claim: Resource) -> None:
    live = write(claim, None, make({"engine": "a", "size": 1}))
    obj = write(claim, live, make({"engine": "a", "size": 3}), "hpa", sub="scale", now=LATER)
    assert [(e["manager"], e.get("subresource"), "time" in e) for e in entries(obj)] == [
        ("hpa", "scale", False),
        ("tool", None, True),
    ]
    assert entries(obj)[0]["fieldsV1"] == {"f:spec": {"f:size": {}}}
    assert entries(obj)[1]["fieldsV1"] == {"f:spec": {".": {}, "f:engine": {}}}
    nobody = write(claim, make({"size": 1}, uid="u"), make({"size": 2}), "hpa", sub="scale")
    assert entries(nobody) == []


def test_a_list_that_became_atomic_is_folded(claim: Resource) -> None:
    from .conftest import SCHEMA, resource  # type: ignore[import-not-found]

    live = write(claim, None, make({"tags": ["a"], "engine": "e"}))
    schema = copy.deepcopy(SCHEMA)
    schema["properties"]["spec"]["properties"]["tags"]["x-kubernetes-list-type"] = "atomic"
    obj = write(resource(schema=schema), live, make({"tags": ["a"], "engine": "f"}), "other")
    tool = next(entry for entry in entries(obj) if entry["manager"] == "tool")
    assert tool["fieldsV1"] == {"f:spec": {".": {}, "f:tags": {}}}


@pytest.mark.parametrize(
    ("agent", "manager"),
    [
        ("kubectl/v1.36 (linux)", "kubectl"),
        ("no-slash", "no-slash"),
        ("", ""),
        ("a\nb/1", "ab"),
        ("x" * 200, "x" * 128),
    ],
)
def test_the_manager_comes_from_the_user_agent(agent: str, manager: str) -> None:
    assert default_manager(agent) == manager


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(0, 3), st.sampled_from(["", "a", "b"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)),
    max_leaves=8,
)
USERS = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from("abc")}, optional={"role": st.sampled_from("xy")}), max_size=4
)
SPECS = st.fixed_dictionaries(
    {}, optional={"any": st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3), "users": USERS}
)


@settings(deadline=None)
@given(SPECS, SPECS)
def test_comparison_finds_changes_exactly_where_there_are_some(claim: Resource, a: Obj, b: Obj) -> None:
    t = type_of(claim)
    changes = compare(t, {"spec": a}, {"spec": b})
    reordered = a == b or (a.get("any") == b.get("any") and _same_users(a.get("users"), b.get("users")))
    assert bool(changes) != reordered
    back = compare(t, {"spec": b}, {"spec": a})
    assert (back.added, back.removed) == (changes.removed, changes.added)


def _same_users(a: Any, b: Any) -> bool:
    """Equal but for the order of users with different names."""
    if a is None or b is None or not a or not b:
        return bool(a == b)

    def grouped(users: list[Obj]) -> dict[str, list[Obj]]:
        out: dict[str, list[Obj]] = {}
        for user in users:
            out.setdefault(user["name"], []).append(user)
        return out

    return grouped(a) == grouped(b)


@settings(deadline=None)
@given(SPECS)
def test_merging_and_removing_undo_each_other(claim: Resource, spec: Obj) -> None:
    t = type_of(claim)
    value = {"spec": spec}
    assert merge(t, value, value) == value or len({u["name"] for u in spec.get("users", [])}) < len(
        spec.get("users", [])
    )
    assert remove(t, value, {}) == value
    assert not remove(t, value, {"f:spec": {}})
    assert whole(t, value)["f:spec"] == {} or "." in whole(t, value)["f:spec"]
    assert field_set(t, {}) == {}


def test_webhooks_can_not_break_managed_fields(claim: Resource) -> None:
    obj = write(claim, None, make({"engine": "a"}))
    before = entries(obj)
    broken = {**obj, "metadata": {**obj["metadata"], "managedFields": [{"manager": "x", "operation": "Nope"}]}}
    warning = keep_managed_fields(broken, before)
    assert warning.endswith("please fix your requests: operation must be `Apply` or `Update`")
    assert entries(broken) == before
    dropped = {**obj, "metadata": {"name": "x"}}
    assert keep_managed_fields(dropped, before) == ""
    odd = copy.deepcopy(obj)
    entries(odd)[0]["fieldsV1"] = {"f:spec": {'k:{"b": 1, "a": 2}': {".": {}}}}
    assert keep_managed_fields(odd, before) == ""
    assert entries(odd)[0]["fieldsV1"] == {"f:spec": {'k:{"a":2,"b":1}': {}}}
