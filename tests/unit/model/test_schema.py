from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import Field

from chandlery.model.base import CelRule, CommonStatus, Model, Names, Resource
from chandlery.model.rules import extra, fixed, map_list
from chandlery.model.scalars import Size
from chandlery.model.schema import SchemaError, structural_schema


class Part(Model):
    """A part."""

    cel_rules: ClassVar[tuple[CelRule, ...]] = (CelRule("has(self.size)", "size it"),)

    name: Annotated[str, Field(max_length=5, description="Its name.")]
    size: Annotated[Size | None, Field(description="Its size.", json_schema_extra=extra(fixed("stays")))] = None
    flags: Annotated[dict[str, str], Field(description="Flags.")] = Field(default_factory=dict)


class Spec(Model):
    """What is wanted."""

    cel_rules: ClassVar[tuple[CelRule, ...]] = (CelRule("true", "outer"),)

    part: Annotated[Part, Field(description="The part, described here.")] = Part(name="a")
    parts: Annotated[tuple[Part, ...], Field(max_length=3, json_schema_extra=map_list("name"))] = ()
    mode: Annotated[Literal["one"], Field(description="Mode.")] = "one"
    count: Annotated[int, Field(ge=1, le=9)] = 1
    big: Annotated[int, Field(ge=0)] = 0


class Thing(Resource[Spec, CommonStatus]):
    """A thing for tests.

    With a second paragraph that explain does not need.
    """

    names: ClassVar[Names] = Names("test.example.com", "Thing", "things", "thing")


class Child(Spec):
    """Adds a rule to those of its base."""

    cel_rules: ClassVar[tuple[CelRule, ...]] = (CelRule("true", "inner"),)


class ChildThing(Resource[Child, CommonStatus]):
    names: ClassVar[Names] = Names("test.example.com", "ChildThing", "childthings", "childthing")


@pytest.fixture(name="spec")
def fixture_spec() -> dict:
    return structural_schema(Thing)["properties"]["spec"]["properties"]


def test_the_first_paragraph_describes() -> None:
    assert structural_schema(Thing)["description"] == "A thing for tests."


def test_references_are_resolved_and_rules_add_up(spec) -> None:
    part = spec["part"]
    assert part["description"] == "The part, described here."
    assert part["default"] == {"name": "a"}
    assert [r["message"] for r in part["x-kubernetes-validations"]] == ["size it"]
    size = part["properties"]["size"]
    assert size["type"] == "string"
    assert [r["message"] for r in size["x-kubernetes-validations"]] == [Size.message, "stays"]
    assert "default" not in size
    assert "nullable" not in size


def test_rules_of_bases_come_first() -> None:
    rules = structural_schema(ChildThing)["properties"]["spec"]["x-kubernetes-validations"]
    assert [r["message"] for r in rules] == ["outer", "inner"]


def test_lists_maps_and_integers(spec) -> None:
    assert spec["parts"]["x-kubernetes-list-map-keys"] == ["name"]
    assert "default" not in spec["parts"]
    assert spec["part"]["properties"]["flags"] == {
        "type": "object",
        "description": "Flags.",
        "additionalProperties": {"type": "string"},
    }
    assert (spec["count"]["format"], spec["big"]["format"]) == ("int32", "int64")
    assert spec["mode"]["enum"] == ["one"]


def test_nothing_in_status_has_a_default() -> None:
    def walk(node: dict) -> None:
        assert "default" not in node
        for child in node.get("properties", {}).values():
            walk(child)
        if "items" in node:
            walk(node["items"])

    status = structural_schema(Thing)["properties"]["status"]
    assert status.pop("default") == {"observedGeneration": -1, "phase": "Pending"}  # of an object that is new
    walk(status)


def test_a_union_is_refused_by_path() -> None:
    class Odd(Model):
        value: int | str

    class OddThing(Resource[Odd, CommonStatus]):
        names: ClassVar[Names] = Names("test.example.com", "OddThing", "oddthings", "oddthing")

    with pytest.raises(SchemaError, match=r"^spec\.value: a union of 2 types"):
        structural_schema(OddThing)
