"""Server-side apply: merging, ownership, conflicts, removal."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chandlery.controlplane.fields import apply
from chandlery.controlplane.types import ApiError, Obj, Resource

NOW, LATER = "2026-01-02T03:04:05Z", "2026-01-02T03:04:06Z"


def patch_of(spec: Obj | None = None, **more: Any) -> Obj:
    out: Obj = {"apiVersion": "x.example/v1", "kind": "Claim", "metadata": {"name": "x"}, **more}
    if spec is not None:
        out["spec"] = spec
    return out


def put(
    resource: Resource,
    live: Obj | None,
    body: Obj,
    manager: str = "one",
    *,
    force: bool = False,
    now: str = NOW,
    sub: str = "",
) -> Obj:
    """Apply, and mark the object as stored."""
    before = copy.deepcopy((live, body))
    out = apply(resource, live, body, manager=manager, force=force, subresource=sub, now=now)
    assert (live, body) == before, "arguments were changed"
    out["metadata"].setdefault("uid", "u")
    return out


def owners(obj: Obj) -> dict[str, Any]:
    return {entry["manager"]: entry["fieldsV1"] for entry in obj["metadata"].get("managedFields", [])}


def refused(resource: Resource, live: Obj | None, body: Obj, manager: str = "two") -> ApiError:
    with pytest.raises(ApiError) as caught:
        put(resource, live, body, manager)
    return caught.value


def test_appliers_own_leaves_and_share_equal_values(claim: Resource) -> None:
    live = put(claim, None, patch_of({"engine": "a", "size": 2, "opts": {"k": "v"}}))
    assert owners(live) == {"one": {"f:spec": {"f:engine": {}, "f:opts": {"f:k": {}}, "f:size": {}}}}
    live = put(claim, live, patch_of({"engine": "a"}), "two", now=LATER)
    assert owners(live)["two"] == {"f:spec": {"f:engine": {}}}
    assert "time" not in live["metadata"]["managedFields"][0]  # two changed nothing
    error = refused(claim, live, patch_of({"engine": "b"}), "two")
    assert (error.code, error.message) == (409, 'Apply failed with 1 conflict: conflict with "one": .spec.engine')
    assert error.details == {
        "causes": [{"reason": "FieldManagerConflict", "message": 'conflict with "one"', "field": ".spec.engine"}]
    }
    live = put(claim, live, patch_of({"engine": "b"}), "two", force=True)
    assert owners(live) == {
        "one": {"f:spec": {"f:opts": {"f:k": {}}, "f:size": {}}},
        "two": {"f:spec": {"f:engine": {}}},
    }


def test_several_conflicts_are_told_by_manager(claim: Resource) -> None:
    live = put(claim, None, patch_of({"engine": "a", "users": [{"name": "u", "role": "r"}]}))
    live = put(claim, live, patch_of({"size": 1}), "three")
    error = refused(claim, live, patch_of({"engine": "b", "size": 2, "users": [{"name": "u", "role": "q"}]}))
    assert error.message == (
        'Apply failed with 3 conflicts: conflicts with "one":\n- .spec.engine\n- .spec.users[name="u"].role\n'
        'conflicts with "three":\n- .spec.size'
    )


def test_what_is_applied_no_more_goes_unless_others_own_it(claim: Resource) -> None:
    live = put(claim, None, patch_of({"engine": "a", "size": 2, "opts": {"x": "1"}, "tags": ["t", "s"]}))
    live = put(claim, live, patch_of({"opts": {"y": "2"}, "tags": ["t"]}), "two")
    live = put(claim, live, patch_of({"engine": "a"}))
    assert live["spec"] == {"engine": "a", "opts": {"y": "2"}, "tags": ["t"]}


def test_lists_keep_their_order_and_merge_by_key(claim: Resource) -> None:
    live = put(claim, None, patch_of({"users": [{"name": "a", "role": "r"}, {"name": "b"}], "tags": ["x", "y"]}))
    live = put(claim, live, patch_of({"users": [{"name": "c"}, {"name": "b", "caps": ["w"]}], "tags": ["z"]}), "two")
    assert live["spec"]["tags"] == ["x", "y", "z"]
    assert live["spec"]["users"] == [{"name": "a", "role": "r"}, {"name": "c"}, {"name": "b", "caps": ["w"]}]
    live = put(claim, live, patch_of({"users": [{"name": "b"}]}))
    assert live["spec"]["users"] == [{"name": "c"}, {"name": "b", "caps": ["w"]}]


def test_keys_have_defaults(claim: Resource) -> None:
    live = put(claim, None, patch_of({"ports": [{"port": 1}, {"port": 1, "proto": "UDP"}]}))
    ports = owners(live)["one"]["f:spec"]["f:ports"]
    assert ports == {
        'k:{"port":1,"proto":"TCP"}': {".": {}, "f:port": {}},
        'k:{"port":1,"proto":"UDP"}': {".": {}, "f:port": {}, "f:proto": {}},
    }


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"users": [{"name": "d"}, {"name": "d"}]}, '.spec.users: duplicate entries for key [name="d"]'),
        (
            {"users": [{"role": "x"}]},
            (
                '.spec.users: element 0: associative list with keys has an element that omits all key fields ["name"] '
                "(and doesn't have default values for any key fields)"
            ),
        ),
        ({"tags": ["q", "q"]}, '.spec.tags: duplicate entries for key [="q"]'),
        ({"zz": 1}, ".spec.zz: field not declared in schema"),
        ({"size": "x"}, ".spec.size: expected numeric (int or float), got string"),
        ({"users": {}}, ".spec.users: expected list, got &{map[]}"),
        ({"opts": [1]}, ".spec.opts: expected map, got &{[1]}"),
        ({"engine": 5}, ".spec.engine: expected string, got &value.valueUnstructured{Value:5}"),
    ],
)
def test_patches_that_do_not_fit(claim: Resource, spec: Obj, why: str) -> None:
    error = refused(claim, None, patch_of(spec))
    assert (error.code, error.reason) == (500, "")
    assert error.message == f"failed to create typed patch object (/x; x.example/v1, Kind=Claim): {why}"


def test_other_types_and_managed_fields_in_the_patch_are_refused(claim: Resource) -> None:
    assert refused(claim, None, {"kind": "Claim"}).message == "invalid object type: /, Kind=Claim"
    error = refused(claim, None, patch_of(metadata={"managedFields": []}))
    assert (error.code, error.message) == (400, "metadata.managedFields must be nil")


def test_an_object_without_owners_gets_one_before_the_first_apply(claim: Resource) -> None:
    live = {**patch_of({"engine": "a", "size": 1}), "metadata": {"name": "x", "uid": "u", "labels": {"l": "1"}}}
    out = put(claim, live, patch_of({"engine": "a"}))
    assert owners(out) == {
        "before-first-apply": {
            "f:metadata": {"f:labels": {".": {}, "f:l": {}}},
            "f:spec": {".": {}, "f:engine": {}, "f:size": {}},
        },
        "one": {"f:spec": {"f:engine": {}}},
    }


def test_status_belongs_to_its_endpoint(claim: Resource) -> None:
    live = put(claim, None, patch_of({"engine": "a"}, status={"ready": True}))
    assert owners(live) == {"one": {"f:spec": {"f:engine": {}}}}
    live = put(claim, live, patch_of({"engine": "z"}, status={"ready": True}), "ctl", sub="status")
    assert owners(live)["ctl"] == {"f:status": {"f:ready": {}}}
    error = refused(claim, live, patch_of({"engine": "q"}))
    assert 'conflict with "one": .spec.engine' in error.message


def test_kubectl_takes_over_what_it_applied_client_side(claim: Resource) -> None:
    applied = '{"apiVersion":"x.example/v1","kind":"Claim","metadata":{"name":"x"},"spec":{"engine":"a"}}'
    annotation = {"kubectl.kubernetes.io/last-applied-configuration": applied}
    live = put(
        claim, None, patch_of({"engine": "a", "size": 1}, metadata={"name": "x", "annotations": annotation}), "csa"
    )
    out = put(claim, live, patch_of({"engine": "b"}), "kubectl")
    assert out["spec"] == {"engine": "b", "size": 1}
    kept = out["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"]
    assert kept == '{"apiVersion":"x.example/v1","kind":"Claim","metadata":{"name":"x"},"spec":{"engine":"b"}}\n'
    error = refused(claim, live, patch_of({"engine": "b", "size": 2}), "kubectl")
    assert error.message == 'Apply failed with 1 conflict: conflict with "csa": .spec.size'


WORDS = st.sampled_from("a b c d".split())
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "engine": WORDS,
        "size": st.integers(0, 3),
        "tags": st.lists(WORDS, unique=True, max_size=3),
        "atom": st.lists(WORDS, max_size=3),
        "opts": st.dictionaries(WORDS, WORDS, max_size=3),
        "amap": st.dictionaries(WORDS, WORDS, max_size=2),
        "users": st.lists(
            st.fixed_dictionaries(
                {"name": WORDS}, optional={"role": WORDS, "caps": st.lists(WORDS, unique=True, max_size=2)}
            ),
            unique_by=lambda user: user["name"],
            max_size=3,
        ),
        "any": st.dictionaries(
            WORDS, st.one_of(WORDS, st.lists(WORDS, max_size=2), st.dictionaries(WORDS, WORDS)), max_size=2
        ),
    },
)


@settings(deadline=None)
@given(SPECS, SPECS, st.booleans())
def test_apply_is_idempotent(claim: Resource, first: Obj, second: Obj, force: bool) -> None:
    live = put(claim, None, patch_of(first))
    try:
        once = put(claim, live, patch_of(second), "two", force=force)
    except ApiError as error:
        if force or error.code != 409:
            raise
        return
    twice = put(claim, once, patch_of(second), "two", force=force, now=LATER)
    assert twice == once


@settings(deadline=None)
@given(SPECS, SPECS)
def test_the_last_applied_is_what_there_is(claim: Resource, first: Obj, second: Obj) -> None:
    """One applier alone: after applying B over A nothing of A is left that is not in B."""
    fresh = put(claim, None, patch_of(second))
    over = put(claim, put(claim, None, patch_of(first)), patch_of(second))
    assert owners(over).get("one") == owners(fresh).get("one")

    def bare(value: Any) -> Any:  # empty containers may stay behind, and elements that stayed keep their places
        if isinstance(value, dict):
            return {key: found for key, child in value.items() if (found := bare(child)) not in ({}, [], None)}
        if isinstance(value, list):
            return sorted(map(bare, value), key=lambda item: json.dumps(item, sort_keys=True))
        return value

    assert bare(over.get("spec") or {}) == bare(fresh.get("spec") or {})


@settings(deadline=None)
@given(SPECS, SPECS)
def test_force_always_wins_and_leaves_one_owner(claim: Resource, first: Obj, second: Obj) -> None:
    live = put(claim, None, patch_of(first))
    out = put(claim, live, patch_of(second), "two", force=True)
    for key, value in second.items():
        if key in ("engine", "size", "atom", "amap"):
            assert out["spec"][key] == value
            if first.get(key, value) != value:
                assert f"f:{key}" not in owners(out).get("one", {}).get("f:spec", {})
