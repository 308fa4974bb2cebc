"""ValidatingAdmissionPolicies: what they see, whom they bind, how they refuse."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from chandlery.controlplane.admission import AdmissionChain
from chandlery.controlplane.auth import Authorizer
from chandlery.controlplane.builtins import builtin_resources
from chandlery.controlplane.core import Core
from chandlery.controlplane.localapi import Local
from chandlery.controlplane.store.memory import MemoryStore
from chandlery.controlplane.types import ApiError, RequestContext, UserInfo

GROUP = "admissionregistration.k8s.io"
ROOT = UserInfo("root", groups=("system:masters",))
CONFIGMAPS = {
    "operations": ["CREATE", "UPDATE", "DELETE"],
    "apiGroups": [""],
    "apiVersions": ["v1"],
    "resources": ["configmaps"],
}


class World:
    def __init__(self, core: Core) -> None:
        self.core = core
        self.api = Local(core)

    async def create(self, plural: str, name: str, namespace: str = "", group: str = "", **body: Any) -> Any:
        meta = {"name": name, **body.pop("metadata", {})}
        if namespace:
            meta["namespace"] = namespace
        return await self.api.create(group, plural, {"metadata": meta, **body}, user=ROOT, manager="test")

    async def policy(self, *validations: dict[str, Any], match: Any = None, **spec: Any) -> None:
        match = match or {"resourceRules": [CONFIGMAPS]}
        spec = {"matchConstraints": match, "validations": list(validations), **spec}
        await self.create("validatingadmissionpolicies", "p", group=GROUP, spec=spec)

    async def bind(self, *actions: str, **spec: Any) -> None:
        spec = {"policyName": "p", "validationActions": list(actions or ("Deny",)), **spec}
        await self.create("validatingadmissionpolicybindings", "b", group=GROUP, spec=spec)

    async def config(self, name: str = "c", **body: Any) -> Any:
        return await self.create("configmaps", name, "default", **body)

    async def refused(self, name: str = "c", **body: Any) -> ApiError:
        with pytest.raises(ApiError) as caught:
            await self.config(name, **body)
        return caught.value


@pytest.fixture
async def world() -> AsyncIterator[World]:
    core = Core(MemoryStore())
    core.cache.load(await core.store.open(core.cache.publish), 0)
    core.registry.add_builtin(builtin_resources())
    world = World(core)
    core.admission = AdmissionChain(world.api, authorizer=Authorizer(world.api))
    await world.create("namespaces", "default", metadata={"labels": {"tier": "one"}})
    yield world
    await core.close()


async def test_a_policy_counts_once_it_is_bound(world: World) -> None:
    await world.policy({"expression": "has(object.data)"})
    await world.config("before")
    await world.bind()
    error = await world.refused()
    message = "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: failed expression: has(object.data)"
    assert (error.code, error.reason) == (422, "Invalid")
    assert error.message == f'configmaps "c" is forbidden: {message}'
    assert error.details is not None
    assert error.details["causes"] == [{"message": message}]
    await world.config(data={"a": "b"})


@pytest.mark.parametrize(
    ("validation", "said"),
    [
        ({"message": "needs data"}, "needs data"),
        ({"messageExpression": "'no data in ' + object.metadata.name"}, "no data in c"),
        ({"messageExpression": "'' + object.nothing", "message": "needs data"}, "needs data"),
    ],
)
async def test_messages(world: World, validation: dict[str, str], said: str) -> None:
    await world.policy({"expression": "has(object.data)", **validation})
    await world.bind()
    assert (await world.refused()).message.endswith(f"denied request: {said}")


async def test_the_reason_chooses_the_code(world: World) -> None:
    await world.policy({"expression": "false", "reason": "Forbidden"})
    await world.bind()
    error = await world.refused()
    assert (error.code, error.reason) == (403, "Forbidden")


async def test_a_binding_may_only_warn(world: World) -> None:
    await world.policy({"expression": "false", "message": "odd"})
    await world.bind("Warn", "Audit")
    resource = world.api.resource("", "configmaps")
    assert resource is not None
    ctx = RequestContext(ROOT, "create", resource, namespace="default")
    assert world.core.admission is not None
    await world.core.admission.validate(ctx, {"metadata": {"name": "c"}}, None)
    assert ctx.warnings == ["Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': odd"]


async def test_errors_follow_the_failure_policy(world: World) -> None:
    await world.policy({"expression": "object.data.a == 'b'"})
    await world.bind()
    error = await world.refused()
    assert "expression 'object.data.a == 'b'' resulted in error: no such key: data" in error.message
    policy = world.api.get(GROUP, "validatingadmissionpolicies", "", "p")
    assert policy is not None
    changed = {**policy, "spec": {**policy["spec"], "failurePolicy": "Ignore"}}
    await world.api.update(GROUP, "validatingadmissionpolicies", changed, user=ROOT, manager="test")
    await world.config()


async def test_conditions_variables_and_the_namespace(world: World) -> None:
    await world.policy(
        {"expression": "variables.tier == 'two' || variables.size <= 1", "messageExpression": "variables.tier + '!'"},
        matchConditions=[{"name": "not-free", "expression": "!object.metadata.name.startsWith('free')"}],
        variables=[
            {"name": "tier", "expression": "namespaceObject.metadata.labels.tier"},
            {"name": "data", "expression": "has(object.data) ? object.data : {}"},
            {"name": "size", "expression": "size(variables.data)"},
            {"name": "broken", "expression": "object.nothing"},
        ],
    )
    await world.bind()
    await world.config("small", data={"a": "1"})
    await world.config("free-for-all", data={"a": "1", "b": "2"})
    error = await world.refused(data={"a": "1", "b": "2"})
    assert error.message.endswith("denied request: one!")


async def test_parameters_come_from_objects(world: World) -> None:
    await world.policy(
        {"expression": "size(object.data) <= int(params.data.most)"},
        paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
        match={"resourceRules": [{**CONFIGMAPS, "resources": ["secrets"]}]},
    )
    await world.bind(paramRef={"name": "limits", "namespace": "default", "parameterNotFoundAction": "Deny"})
    with pytest.raises(ApiError, match="no params found for policy binding with `Deny` parameterNotFoundAction"):
        await world.create("secrets", "s", "default", data={"a": "YQ=="})
    await world.config("limits", data={"most": "1"})
    await world.create("secrets", "s", "default", data={"a": "YQ=="})
    with pytest.raises(ApiError, match="denied request"):
        await world.create("secrets", "t", "default", data={"a": "YQ==", "b": "YQ=="})


async def test_rules_exclusions_names_and_selectors_choose(world: World) -> None:
    match = {
        "resourceRules": [CONFIGMAPS],
        "excludeResourceRules": [{**CONFIGMAPS, "resourceNames": ["spared"]}],
        "objectSelector": {"matchLabels": {"watched": "yes"}},
        "namespaceSelector": {"matchLabels": {"tier": "one"}},
    }
    await world.policy({"expression": "false"}, match=match)
    await world.bind()
    watched = {"metadata": {"labels": {"watched": "yes"}}}
    await world.config("unlabelled")
    await world.config("spared", **watched)
    await world.create("namespaces", "elsewhere")
    await world.create("configmaps", "c", "elsewhere", metadata={"labels": {"watched": "yes"}})
    assert (await world.refused(**watched)).reason == "Invalid"


async def test_updates_and_deletions_see_both_sides(world: World) -> None:
    made = await world.config(data={"a": "1"})
    await world.policy(
        {"expression": "object == null ? oldObject.metadata.name != 'c' : object.data == oldObject.data"},
        match={"resourceRules": [{**CONFIGMAPS, "operations": ["UPDATE", "DELETE"]}]},
    )
    await world.bind()
    with pytest.raises(ApiError):
        await world.api.update("", "configmaps", {**made, "data": {"a": "2"}}, user=ROOT, manager="test")
    with pytest.raises(ApiError):
        await world.api.delete("", "configmaps", "default", "c", user=ROOT)
    await world.api.update("", "configmaps", {**made, "immutable": True}, user=ROOT, manager="test")


async def test_policies_can_always_be_repaired(world: World) -> None:
    everything = {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}
    await world.policy({"expression": "false"}, match={"resourceRules": [everything]})
    await world.bind()
    await world.refused()
    await world.api.delete(GROUP, "validatingadmissionpolicybindings", "", "b", user=ROOT)
    await world.config()


async def test_bad_policies_are_refused_with_the_place(world: World) -> None:
    with pytest.raises(ApiError) as caught:
        await world.policy(
            {"expression": "object.a =="},
            {"expression": "'text'"},
            {"expression": "params.x"},
            match={"resourceRules": []},
        )
    message = caught.value.message
    assert "spec.matchConstraints.resourceRules: Required value" in message
    assert 'spec.validations[0].expression: Invalid value: "object.a ==": compilation failed: ERROR:' in message
    assert "spec.validations[1].expression: Invalid value: \"'text'\": must evaluate to bool but got string" in message
    assert "undeclared reference to 'params'" in message
    with pytest.raises(ApiError, match=r'spec\.validationActions: Forbidden: must not contain both "Deny" and "Warn"'):
        await world.bind("Deny", "Warn")
