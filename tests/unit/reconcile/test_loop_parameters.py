"""Classes and configurations that were admitted although nobody reads their parameters: told, and nobody is harmed."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Annotated, ClassVar

import pytest
from pydantic import Field

from chandlery.driver.parameters import Parameters
from chandlery.providers.memory.provider import MemoryProvider
from chandlery.reconcile.api import PROVIDER_CONFIGS, RESOURCE_CLASSES
from chandlery_kinds import KINDS


class Site(Parameters):
    """What the provider of these tests takes."""

    rack: Annotated[int, Field(ge=1, description="Which.")] = 1


class Sited(MemoryProvider):
    """The simulated world with a parameter."""

    parameters: ClassVar[type[Site]] = Site
    seen: ClassVar[list[object]] = []

    async def open(self, setup):
        self.seen.append(setup.settings)
        return await super().open(setup)


async def change(stage, where, name, **parameters):
    await stage.api.merge_patch(where, "", name, {"spec": {"parameters": parameters}})
    await stage.clock.advance(2)


async def stalled(stage):
    found = await stage.condition("Cache", "one", "Stalled")
    return found["status"], found["reason"], found["message"]


async def test_nothing_is_made_by_a_misspelt_class_and_it_goes_on_when_that_is_put_right(stage):
    await stage.add_class("poor", "Cache", parameters={"unsuported": ["memory"]})
    await stage.start()
    await stage.apply("Cache", spec={"className": "poor"})
    await stage.clock.advance(1)
    state, reason, message = await stalled(stage)
    assert (state, reason) == ("True", "InvalidParameters")
    assert message.startswith(
        "ResourceClass poor, spec.parameters.unsuported: the driver memory of Cache has no such parameter: "
        "did you mean unsupported?"
    )
    assert stage.world.calls == []
    assert not (await stage.get("Cache"))["metadata"].get("finalizers")
    ready = (await stage.api.get(RESOURCE_CLASSES, "", "poor"))["status"]["conditions"][0]
    assert (ready["status"], ready["reason"]) == ("False", "InvalidParameters")
    await change(stage, RESOURCE_CLASSES, "poor", unsuported=None)
    await stage.ready("Cache")


async def test_what_runs_is_kept_running_by_the_parameters_that_are_known(stage):
    await stage.add_class("poor", "Cache")
    await stage.start()
    await stage.apply("Cache", spec={"className": "poor", "memory": "64Mi"})
    name = (await stage.ready("Cache"))["externalName"]
    await change(stage, RESOURCE_CLASSES, "poor", note="mine")
    assert (await stalled(stage))[:2] == ("True", "InvalidParameters")
    assert (await stage.condition("Cache", "one", "Ready"))["status"] == "True"
    writes = len(stage.writes())
    await stage.clock.advance(600)
    assert len(stage.writes()) == writes, "what is known is not told again"
    await stage.world.remove("instance", name)
    await stage.clock.advance(120)
    assert "instance" in stage.world.exists(name), "what broke is repaired"
    assert (await stage.condition("Cache", "one", "Ready"))["status"] == "True"
    await stage.delete("Cache")
    await stage.until(lambda obj: obj is None, "Cache", limit=10)
    assert stage.world.everything() == []


async def test_with_a_bad_value_nothing_is_touched_and_deletion_ends_by_retaining(stage):
    await stage.add_class("poor", "Cache")
    await stage.start()
    await stage.apply("Cache", spec={"className": "poor", "memory": "64Mi"})
    name = (await stage.ready("Cache"))["externalName"]
    calls = len(stage.world.calls)
    await change(stage, RESOURCE_CLASSES, "poor", unsupported="memory")
    state, reason, message = await stalled(stage)
    assert (state, reason) == ("True", "InvalidParameters")
    assert "spec.parameters.unsupported: must be a list" in message
    assert (await stage.condition("Cache", "one", "Ready"))["status"] == "Unknown"
    assert (await stage.status("Cache"))["endpoint"]["port"], "what was known last is kept"
    await stage.clock.advance(300)
    assert len(stage.world.calls) == calls
    await stage.delete("Cache")
    await stage.until(lambda obj: obj is None, "Cache", limit=7200)
    assert "instance" in stage.world.exists(name)
    assert [what for what, _, _ in stage.audit] == ["retained"]
    assert "Retained" in {reason for reason, _ in await stage.events()}


async def test_nobody_moves_to_a_class_that_is_misspelt(stage):
    await stage.start()
    await stage.add_config("far")
    await stage.add_class("far", "Cache", providerConfigRef={"name": "far"}, parameters={"note": "x"})
    await stage.apply("Cache", spec={"memory": "64Mi"})
    name = (await stage.ready("Cache"))["externalName"]
    await stage.apply("Cache", spec={"memory": "64Mi", "className": "far"})
    await stage.clock.advance(5)
    assert (await stalled(stage))[:2] == ("True", "InvalidParameters")
    assert "instance" in stage.world.exists(name)


async def test_a_configuration_says_it_to_the_objects_of_its_classes(stage):
    stage.provider = Sited(stage.world)
    Sited.seen.clear()
    await stage.start()
    await stage.add_config("site")
    await stage.add_class("sited", "Cache", providerConfigRef={"name": "site"})
    await change(stage, PROVIDER_CONFIGS, "site", rack=0)
    await stage.apply("Cache", spec={"memory": "64Mi", "className": "sited"})
    await stage.clock.advance(5)
    assert (await stalled(stage))[:2] == ("True", "InvalidParameters")
    assert "ProviderConfig site, spec.parameters.rack: must be 1 or more (got 0)" in (await stalled(stage))[2]
    ready = (await stage.api.get(PROVIDER_CONFIGS, "", "site"))["status"]["conditions"][0]
    assert (ready["status"], ready["reason"]) == ("False", "InvalidParameters")
    await change(stage, PROVIDER_CONFIGS, "site", rack=7)
    await stage.ready("Cache")
    assert Sited.seen[-1] == Site(rack=7)


def _reads(tree: ast.AST) -> list[str]:
    """Where something is looked up by a name that nobody declared: `parameters.get("x")`, `parameters["x"]`."""
    found = []
    for node in ast.walk(tree):
        target = None
        if isinstance(node, ast.Subscript) and not isinstance(node.slice, ast.Slice):
            target = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
            target = node.func.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr":
            target = node.args[0]
        name = getattr(target, "attr", getattr(target, "id", ""))
        if name == "parameters":
            found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_no_driver_reads_what_is_not_declared(kind):
    """Drivers get a typed model, so that the type checker knows each name; none goes around it."""
    folder = Path(inspect.getfile(kind.model)).parent
    for path in folder.rglob("*.py"):
        assert _reads(ast.parse(path.read_text())) == [], path


def test_the_look_for_undeclared_reads_finds_one():
    assert _reads(ast.parse("ctx.parameters.get('x')\nparameters['y']\ngetattr(ctx.parameters, name)\na.b['c']")) == [
        "ctx.parameters.get('x')",
        "parameters['y']",
        "getattr(ctx.parameters, name)",
    ]
