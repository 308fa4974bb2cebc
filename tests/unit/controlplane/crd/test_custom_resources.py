"""The resources that a CRD defines: decoding, status, scale, columns, selectable fields, conversion."""

from collections.abc import Sequence
from typing import Any

import pytest

from chandlery.controlplane.crd import CustomStrategy, custom_resources
from chandlery.controlplane.crd.columns import human_duration
from chandlery.controlplane.crd.jsonpath import JSONPath, JSONPathError
from chandlery.controlplane.types import ApiError, RequestContext, Resource, UserInfo

Obj = dict[str, Any]

SCHEMA: Obj = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {"size": {"type": "integer", "default": 1}, "name": {"type": "string"}},
        },
        "status": {"type": "object", "properties": {"phase": {"type": "string"}, "ready": {"type": "integer"}}},
    },
}


def crd(**version: Any) -> Obj:
    first: Obj = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": SCHEMA}, **version}
    return {
        "metadata": {"name": "ships.sea.example", "uid": "u"},
        "spec": {
            "group": "sea.example",
            "scope": "Namespaced",
            "names": {"plural": "ships", "singular": "ship", "kind": "Ship", "listKind": "ShipList"},
            "versions": [first],
        },
    }


def strategy(resource: Resource) -> CustomStrategy:
    assert isinstance(resource.strategy, CustomStrategy)
    return resource.strategy


def context(resource: Resource, subresource: str = "") -> RequestContext:
    return RequestContext(UserInfo("u"), "update", resource, subresource=subresource)


def ship(**more: Any) -> Obj:
    return {"apiVersion": "sea.example/v1", "kind": "Ship", "metadata": {"name": "a"}, **more}


def test_a_body_is_brought_into_shape() -> None:
    [resource] = custom_resources(crd())
    body = ship(spec={"size": 2.0, "odd": 1, "name": None}, stray=1)
    body["metadata"]["odd"] = 1
    assert strategy(resource).decode(body) == [
        'unknown field "metadata.odd"',
        'unknown field "spec.odd"',
        'unknown field "stray"',
    ]
    assert body == ship(spec={"size": 2})
    assert type(body["spec"]["size"]) is int


def test_metadata_of_the_wrong_type_is_a_bad_request() -> None:
    [resource] = custom_resources(crd())
    body = ship()
    body["metadata"]["labels"] = {"a": 1}
    with pytest.raises(ApiError) as caught:
        resource.strategy.decode(body)
    assert caught.value.code == 400
    assert "cannot unmarshal number into Go struct field ObjectMeta.labels of type string" in caught.value.message


def test_status_belongs_to_its_endpoint() -> None:
    [resource] = custom_resources(crd(subresources={"status": {}}))
    old = ship(spec={"size": 1}, status={"phase": "old"})
    new = ship(spec={"size": 2}, status={"phase": "new"})
    resource.strategy.prepare_for_update(context(resource), new, old)
    assert (new["spec"], new["status"]) == ({"size": 2}, {"phase": "old"})
    new = ship(spec={"size": 2}, status={"phase": "new"})
    resource.strategy.prepare_for_update(context(resource, "status"), new, old)
    assert (new["spec"], new["status"]) == ({"size": 1}, {"phase": "new"})
    wrong = ship(spec={"size": 1}, status={"phase": 3})
    assert [e.path for e in resource.strategy.validate_update(context(resource, "status"), wrong, old)] == [
        "status.phase"
    ]


def test_scale_reads_and_writes_where_the_crd_says() -> None:
    paths = {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.ready"}
    [resource] = custom_resources(crd(subresources={"status": {}, "scale": paths}))
    scale = strategy(resource).scale
    assert scale is not None
    body = ship(spec={"size": 3}, status={"ready": 2})
    made = scale.to_scale(body)
    assert (made["spec"], made["status"]) == ({"replicas": 3}, {"replicas": 2})
    scale.set_replicas(body, 5)
    assert body["spec"]["size"] == 5
    found = resource.strategy.validate_create(context(resource), ship(spec={"size": -1}))
    assert [(e.path, e.detail) for e in found] == [
        (".spec.size", "Invalid value: -1: should be a non-negative integer")
    ]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".spec.size", [3]),
        (".spec['a.b']", ["x"]),
        (r".spec.a\.b", ["x"]),
        (".status.conditions[?(@.type=='Ready')].status", ["True"]),
        (".status.conditions[?(@.n>1)].type", ["Ready"]),
        (".status.conditions[*].type", ["New", "Ready"]),
        (".status.conditions[-1:].type", ["Ready"]),
        (".status.conditions[0,1].n", [1, 2]),
        (".spec.none.deeper", []),
        ("..n", [1, 2]),
    ],
)
def test_json_paths(path: str, found: list[Any]) -> None:
    conditions = [{"type": "New", "status": "False", "n": 1}, {"type": "Ready", "status": "True", "n": 2}]
    assert JSONPath(path).find({"spec": {"size": 3, "a.b": "x"}, "status": {"conditions": conditions}}) == found


def test_an_index_beyond_the_list_is_an_error() -> None:
    with pytest.raises(JSONPathError):
        JSONPath(".l[3]").find({"l": [1]})


def test_columns_show_values_by_their_type() -> None:
    columns = [
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
        {"name": "Text", "type": "string", "jsonPath": ".spec"},
        {"name": "Flag", "type": "boolean", "jsonPath": ".spec.size"},
        {"name": "When", "type": "date", "jsonPath": ".spec.when"},
    ]
    [resource] = custom_resources(crd(additionalPrinterColumns=columns))
    assert [c["name"] for c in resource.strategy.table_columns()] == ["Name", "Size", "Text", "Flag", "When"]
    body = ship(spec={"size": 3.0, "when": "never"})
    assert resource.strategy.table_cells(body) == ["a", 3, '{"size":3,"when":"never"}', None, "<invalid>"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (5, "5s"),
        (119, "119s"),
        (125, "2m5s"),
        (3600, "60m"),
        (3 * 3600 + 60, "3h1m"),
        (50 * 3600, "2d2h"),
        (800 * 86400, "2y70d"),
    ],
)
def test_ages(seconds: int, text: str) -> None:
    assert human_duration(seconds) == text


def test_selectable_fields_are_text() -> None:
    [resource] = custom_resources(crd(selectableFields=[{"jsonPath": ".spec.size"}, {"jsonPath": ".spec.name"}]))
    assert resource.strategy.selectable_field_names() == {"spec.size", "spec.name"}
    assert resource.strategy.selectable_fields(ship(spec={"size": 3})) == {"spec.size": "3", "spec.name": ""}


async def test_versions_become_one_another() -> None:
    made = crd()
    second = {**made["spec"]["versions"][0], "name": "v2", "storage": False, "deprecated": True}
    made["spec"]["versions"].append(second)
    _, newer = custom_resources(made)
    assert newer.deprecation == "sea.example/v2 Ship is deprecated"
    stored = await newer.strategy.to_storage(ship(apiVersion="sea.example/v2", spec={"size": 2}))
    assert stored["apiVersion"] == "sea.example/v1"
    read = await newer.strategy.from_storage(ship(spec={}))
    assert (read["apiVersion"], read["spec"]) == ("sea.example/v2", {"size": 1})


async def test_a_converter_gets_all_foreign_objects_in_one_call() -> None:
    calls: list[int] = []

    async def convert(objects: Sequence[Obj], api_version: str) -> list[Obj]:
        calls.append(len(objects))
        return [{**o, "apiVersion": api_version, "spec": {"name": "converted"}} for o in objects]

    [resource] = custom_resources(crd(), converter=convert)
    old = ship(apiVersion="sea.example/v0")
    read = await strategy(resource).many_from_storage([dict(old), ship(spec={"size": 7}), dict(old)])
    assert calls == [2]
    assert [o["spec"] for o in read] == [
        {"name": "converted", "size": 1},
        {"size": 7},
        {"name": "converted", "size": 1},
    ]
