"""Facts that a kind's status can't hold are found, wherever they are."""

from __future__ import annotations

from typing import Annotated, ClassVar

import pytest
from pydantic import Field

from chandlery.driver.facts import misfit, unknown_facts
from chandlery.model.base import CommonStatus, LooseModel, Model, Names, Resource


class Node(LooseModel):
    """One."""

    name: Annotated[str, Field(description="Name.")]


class OddStatus(CommonStatus):
    """Status."""

    replicas: Annotated[int | None, Field(description="How many.")] = None
    nodes: Annotated[tuple[Node, ...], Field(description="Each.")] = ()
    sizes: Annotated[dict[str, Node], Field(default_factory=dict, description="By name.")]


class OddSpec(Model):
    """Spec."""


class Odd(Resource[OddSpec, OddStatus]):
    """A kind."""

    names: ClassVar[Names] = Names("test.example.com", "Odd", "odds", "odd")


@pytest.mark.parametrize(
    ("facts", "lost"),
    [
        ({"replicas": 3, "nodes": [{"name": "a"}], "sizes": {"x": {"name": "b"}}}, []),
        ({"replica": 3}, ["replica"]),
        ({"replica": None}, []),
        ({"nodes": [{"name": "a", "port": 1}, {"port": 2}]}, ["nodes[].port"]),
        ({"sizes": {"x": {"nome": "b"}}, "z": {}}, ["sizes.*.nome", "z"]),
    ],
)
def test_what_status_has_no_field_for_is_named(facts, lost):
    assert unknown_facts(Odd, facts) == lost


def test_a_value_of_another_type_is_named():
    assert misfit(Odd, {"replicas": 3, "nodes": None}) == ""
    assert misfit(Odd, {"replicas": "3"}) == "status.replicas: Input should be a valid integer"
    assert misfit(Odd, {"nodes": [{"name": 1}]}).startswith("status.nodes.0.name: ")
