"""CRDs: their defaults, and the rules that keep broken ones out."""

from copy import deepcopy
from typing import Any

import pytest

from chandlery.controlplane.crd import (
    crd_warnings,
    default_crd,
    prepare_crd_create,
    prepare_crd_update,
    validate_crd_create,
    validate_crd_update,
)

Obj = dict[str, Any]


def crd(schema: Obj | None = None, **spec: Any) -> Obj:
    version: Obj = {"name": "v1", "served": True, "storage": True}
    version["schema"] = {"openAPIV3Schema": schema or {"type": "object"}}
    body: Obj = {
        "metadata": {"name": "ships.sea.example"},
        "spec": {
            "group": "sea.example",
            "scope": "Namespaced",
            "names": {"plural": "ships", "kind": "Ship"},
            "versions": [version],
            **spec,
        },
    }
    default_crd(body)
    prepare_crd_create(body)
    return body


def field(schema: Obj) -> Obj:
    return {"type": "object", "properties": {"f": schema}}


def said(obj: Obj) -> list[str]:
    return [f"{e.path}: {e.detail}" for e in validate_crd_create(obj)]


F = "spec.validation.openAPIV3Schema.properties[f]"


def test_names_conversion_and_stored_versions_are_filled_in() -> None:
    made = crd()
    assert made["spec"]["names"] == {"plural": "ships", "kind": "Ship", "singular": "ship", "listKind": "ShipList"}
    assert made["spec"]["conversion"] == {"strategy": "None"}
    assert made["status"]["storedVersions"] == ["v1"]
    assert said(made) == []


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        (
            {"type": "array", "items": {}},
            f"{F}.items.type: Required value: must not be empty for specified array items",
        ),
        ({}, f"{F}.type: Required value: must not be empty for specified object fields"),
        ({"type": "null"}, f"{F}.type: Forbidden: type cannot be set to null, use nullable as an alternative"),
        (
            {"type": "object", "additionalProperties": {"type": "string", "$ref": "#/x"}},
            f"{F}.additionalProperties.$ref: Forbidden: $ref is not supported",
        ),
        (
            {"type": "object", "properties": {"g": {"type": "integer"}}, "default": {"g": 1, "h": 2}},
            f'{F}.default: Invalid value: {{"g":1,"h":2}}: must not have unknown fields',
        ),
        (
            {"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "set"},
            (
                f"{F}.items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with "
                "x-kubernetes-list-type=set"
            ),
        ),
        (
            {"type": "integer", "default": 3, "x-kubernetes-validations": [{"rule": "self > 5"}]},
            f"{F}.default: Invalid value: 3: failed rule: self > 5",
        ),
        (
            {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 5", "optionalOldSelf": True}]},
            (
                f"{F}.x-kubernetes-validations[0].optionalOldSelf: Invalid value: true: may not be set if oldSelf is "
                "not used in rule"
            ),
        ),
        (
            {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 5\n", "messageExpression": "self"}]},
            (
                f'{F}.x-kubernetes-validations[0].messageExpression: Invalid value: {{"Rule":"self \\u003e 5\\n",'
                '"Message":"","MessageExpression":"self","Reason":null,"FieldPath":"","OptionalOldSelf":null}: '
                "messageExpression must evaluate to a string"
            ),
        ),
    ],
)
def test_schemas_that_are_refused(schema: Obj, problem: str) -> None:
    assert problem in said(crd(field(schema)))


@pytest.mark.parametrize(
    ("inner", "place", "problem"),
    [
        (
            {"metadata": {"type": "object", "properties": {"name": {"type": "string", "default": "a/b"}}}},
            'properties[metadata].properties[name].default: Invalid value: "a/b"',
            "metadata.name: Invalid value: \"a/b\": may not contain '/'",
        ),
        (
            {"metadata": {"type": "object", "properties": {"name": {"type": "string", "default": 1}}}},
            "properties[metadata].properties[name].default: Invalid value: 1",
            "metadata: Invalid value: ",
        ),
        (
            {"kind": {"type": "string", "default": "a.b"}},
            'properties[kind].default: Invalid value: "a.b"',
            'kind: Invalid value: "a.b": may have mixed case, but should otherwise match: ',
        ),
    ],
)
def test_defaults_inside_embedded_metadata_are_checked_as_metadata(inner: Obj, place: str, problem: str) -> None:
    embedded = {"type": "object", "x-kubernetes-embedded-resource": True, "properties": inner}
    [error] = said(crd(field(embedded)))
    assert error.startswith(f"{F}.{place}: must result in valid metadata: {problem}"), error


def test_errors_stand_where_versions_differ() -> None:
    two = crd()
    second = {"name": "v2", "served": True, "storage": False, "schema": {"openAPIV3Schema": field({"type": "odd"})}}
    two["spec"]["versions"].append(second)
    assert said(two) == [
        (
            'spec.versions[1].schema.openAPIV3Schema.properties[f].type: Unsupported value: "odd": supported values: '
            '"array", "boolean", "integer", "number", "object", "string"'
        )
    ]


@pytest.mark.parametrize(
    ("client", "problems"),
    [
        ({}, ["spec.conversion.webhookClientConfig: Required value: exactly one of url or service is required"]),
        (
            {"url": "http://h/x?q"},
            [
                (
                    "spec.conversion.webhookClientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL "
                    "scheme; desired format: https://host[/path]"
                ),
                (
                    'spec.conversion.webhookClientConfig.url: Invalid value: "q": query parameters are not permitted '
                    "in the URL"
                ),
            ],
        ),
        ({"service": {"name": "s", "namespace": "n", "path": "/a//b"}},
         ['spec.conversion.webhookClientConfig.service.path: Invalid value: "/a//b": segment[1] may not be empty']),
    ],
)  # fmt: skip
def test_conversion_webhooks(client: Obj, problems: list[str]) -> None:
    webhook = {"clientConfig": client, "conversionReviewVersions": ["v1"]}
    assert said(crd(conversion={"strategy": "Webhook", "webhook": webhook})) == problems


def test_a_storage_version_is_never_forgotten() -> None:
    old = crd()
    new = deepcopy(old)
    new["spec"]["versions"] = [{**old["spec"]["versions"][0], "name": "v2"}]
    prepare_crd_update(new, old)
    assert new["status"]["storedVersions"] == ["v1", "v2"]
    problems = [f"{e.path}: {e.detail}" for e in validate_crd_update(new, old)]
    assert len(problems) == 1
    assert problems[0].startswith('status.storedVersions[0]: Invalid value: "v1": missing from spec.versions; v1 was')


def test_names_that_objects_are_stored_by_do_not_change() -> None:
    old = crd()
    old["status"]["conditions"] = [{"type": "Established", "status": "True"}]
    new = deepcopy(old)
    new["spec"]["names"]["kind"] = "Boat"
    new["spec"]["scope"] = "Cluster"
    assert [f"{e.path}: {e.detail}" for e in validate_crd_update(new, old)] == [
        'spec.scope: Invalid value: "Cluster": field is immutable',
        'spec.names.kind: Invalid value: "Boat": field is immutable',
    ]


def test_an_old_schema_that_would_be_refused_today_can_still_be_changed() -> None:
    old = crd(field({"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "set"}))
    new = deepcopy(old)
    new["spec"]["names"]["shortNames"] = ["sh"]
    assert validate_crd_create(old) != []
    assert validate_crd_update(new, old) == []


def test_only_the_schemas_that_change_must_be_cheap() -> None:
    def costly(text: str) -> Obj:
        rule = {"rule": "self.all(x, self.all(y, x != y))", "message": text}
        return field({"type": "array", "items": {"type": "string"}, "x-kubernetes-validations": [rule]})

    old = crd(costly("a"))
    assert any("estimated rule cost exceeds budget" in error for error in said(old))
    new = deepcopy(old)
    second = {"name": "v2", "served": True, "storage": False, "schema": {"openAPIV3Schema": costly("b")}}
    new["spec"]["versions"].append(second)
    found = [e.path for e in validate_crd_update(new, old) if "estimated rule cost exceeds" in e.detail]
    assert found == ["spec.versions[1].schema.openAPIV3Schema.properties[f].x-kubernetes-validations[0].rule"]


def test_unknown_formats_are_warned_of_once() -> None:
    old = crd(field({"type": "string", "format": "nonsense"}))
    assert crd_warnings(old) == ['unrecognized format "nonsense"']
    assert crd_warnings(old, old) == []


def test_community_groups_need_their_approval() -> None:
    made = crd(group="sea.k8s.io")
    made["metadata"]["name"] = "ships.sea.k8s.io"
    assert len(validate_crd_create(made)) == 1
    made["metadata"]["annotations"] = {"api-approved.kubernetes.io": "https://github.com/kubernetes/x/pull/1"}
    assert validate_crd_create(made) == []
