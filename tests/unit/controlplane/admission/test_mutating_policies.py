"""MutatingAdmissionPolicies: what they change, and when they refuse."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from chandlery.controlplane.admission import AdmissionChain
from chandlery.controlplane.admission.conditions import compile_program
from chandlery.controlplane.admission.policies.mutationlib import mutation_functions
from chandlery.controlplane.auth import Authorizer
from chandlery.controlplane.builtins import builtin_resources
from chandlery.controlplane.core import Core
from chandlery.controlplane.localapi import Local
from chandlery.controlplane.store.memory import MemoryStore
from chandlery.controlplane.types import ApiError, Obj, UserInfo

GROUP = "admissionregistration.k8s.io"
ROOT = UserInfo("root", groups=("system:masters",))
RULE = {"operations": ["CREATE"], "apiGroups": ["", "apps"], "apiVersions": ["v1"]}
DEPLOYMENT = {
    "selector": {"matchLabels": {"a": "b"}},
    "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
}


def apply(expression: str) -> Obj:
    return {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}


def json_patch(expression: str) -> Obj:
    return {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}


class World:
    def __init__(self, core: Core) -> None:
        self.api = Local(core)

    async def create(self, plural: str, name: str, namespace: str = "", group: str = "", **body: Any) -> Obj:
        meta = {"name": name, **({"namespace": namespace} if namespace else {})}
        made: Obj = await self.api.create(group, plural, {"metadata": meta, **body}, user=ROOT, manager="test")
        return made

    async def policy(self, *mutations: Obj, name: str = "p", bind: Obj | None = None, **spec: Any) -> None:
        rules = {"resourceRules": [{**RULE, "resources": ["configmaps", "deployments"]}]}
        spec = {"matchConstraints": rules, "mutations": list(mutations), "reinvocationPolicy": "Never", **spec}
        await self.create("mutatingadmissionpolicies", name, group=GROUP, spec=spec)
        await self.create(
            "mutatingadmissionpolicybindings", name, group=GROUP, spec={"policyName": name, **(bind or {})}
        )

    async def config(self, name: str = "c", **data: str) -> Obj:
        return await self.create("configmaps", name, "default", data=data)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    core = Core(MemoryStore())
    core.cache.load(await core.store.open(core.cache.publish), 0)
    core.registry.add_builtin(builtin_resources())
    world = World(core)
    core.admission = AdmissionChain(world.api, authorizer=Authorizer(world.api))
    await world.create("namespaces", "default")
    yield world
    await core.close()


async def test_an_apply_configuration_is_merged_by_the_keys_of_its_lists(world: World) -> None:
    await world.policy(
        apply(
            "Object{spec: Object.spec{replicas: 7, template: Object.spec.template{spec: Object.spec.template.spec{"
            'containers: [Object.spec.template.spec.containers{name: "side", image: "x"}]}}}}'
        )
    )
    made = await world.create("deployments", "d", "default", "apps", spec=DEPLOYMENT)
    assert made["spec"]["replicas"] == 7
    containers = made["spec"]["template"]["spec"]["containers"]
    assert [(one["name"], one["imagePullPolicy"]) for one in containers] == [("c", "Always"), ("side", "Always")]


async def test_mutations_see_what_those_before_them_left(world: World) -> None:
    await world.policy(
        json_patch('[JSONPatch{op: "add", path: "/data/" + jsonpatch.escapeKey("x.y"), value: variables.greeting}]'),
        apply('Object{data: {"count": string(size(object.data))}}'),
        variables=[{"name": "greeting", "expression": "'hello ' + object.metadata.name"}],
    )
    assert (await world.config(a="1"))["data"] == {"a": "1", "x.y": "hello c", "count": "2"}


async def test_conditions_and_parameters_choose(world: World) -> None:
    await world.config("settings", color="red")
    await world.policy(
        apply('Object{data: {"color": params.data.color}}'),
        paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
        matchConditions=[{"name": "only", "expression": "object.metadata.name.startsWith('p')"}],
        bind={"paramRef": {"name": "settings", "namespace": "default", "parameterNotFoundAction": "Deny"}},
    )
    assert (await world.config("painted", a="1"))["data"] == {"a": "1", "color": "red"}
    assert (await world.config("other", a="1"))["data"] == {"a": "1"}


async def test_a_policy_that_asks_for_it_looks_again(world: World) -> None:
    await world.policy(
        apply('has(object.data.b) ? Object{data: {"seen": "b"}} : Object{}'),
        name="first",
        reinvocationPolicy="IfNeeded",
    )
    await world.policy(apply('Object{data: {"b": "2"}}'), name="second")
    assert (await world.config(a="1"))["data"] == {"a": "1", "b": "2", "seen": "b"}


@pytest.mark.parametrize(
    ("mutation", "why"),
    [
        (json_patch('[JSONPatch{op: "remove", path: "/nope"}]'), "Unable to remove nonexistent key: nope"),
        (apply("Object{wrong: 1}"), "invalid ApplyConfiguration: .wrong: field not declared in schema"),
        (apply('Object{data: {"a": object.nothing}}'), "no such key: nothing"),
    ],
)
async def test_a_failure_refuses_or_is_ignored(world: World, mutation: Obj, why: str) -> None:
    await world.policy(mutation)
    with pytest.raises(ApiError, match="policy 'p' with binding 'p' denied request: ") as caught:
        await world.config(a="1")
    assert why in caught.value.message
    await world.api.delete(GROUP, "mutatingadmissionpolicies", "", "p", user=ROOT)
    await world.api.delete(GROUP, "mutatingadmissionpolicybindings", "", "p", user=ROOT)
    await world.policy(mutation, name="q", failurePolicy="Ignore")
    assert (await world.config(a="1"))["data"] == {"a": "1"}


async def test_what_is_owned_as_one_piece_is_not_touched(world: World) -> None:
    await world.policy(apply('Object{spec: Object.spec{selector: Object.spec.selector{matchLabels: {"x": "y"}}}}'))
    with pytest.raises(ApiError, match=r"may not mutate atomic arrays, maps or structs: \.spec\.selector"):
        await world.create("deployments", "d", "default", "apps", spec=DEPLOYMENT)


@pytest.mark.parametrize(
    ("spec", "want"),
    [
        ({"mutations": []}, "spec.mutations: Required value: mutations must contain at least one item"),
        ({"mutations": [apply("1")]}, "must evaluate to Object"),
        ({"mutations": [json_patch("'x'")]}, "must evaluate to list(JSONPatch)"),
        (
            {"mutations": [json_patch("[JSONPatch{op: 1}]")]},
            "expected type of field 'op' is 'string'",
        ),
        ({"mutations": [json_patch("[JSONPatch{wrong: 1}]")]}, "undefined field 'wrong'"),
        ({"mutations": [{"patchType": "X"}]}, 'Unsupported value: "X"'),
        ({"mutations": [{"patchType": "JSONPatch"}]}, "jsonPatch: Required value"),
        ({"reinvocationPolicy": ""}, "spec.reinvocationPolicy: Required value"),
        ({"matchConstraints": None}, "spec.matchConstraints: Required value"),
    ],
)
async def test_policies_that_could_never_work_are_refused(world: World, spec: Obj, want: str) -> None:
    with pytest.raises(ApiError) as caught:
        await world.policy(*spec.pop("mutations", [apply("Object{}")]), **spec)
    assert want in caught.value.message


async def test_keys_are_escaped_for_paths() -> None:
    program = compile_program('jsonpatch.escapeKey("a/b~c")', functions=mutation_functions())
    assert program({}) == "a~1b~0c"
