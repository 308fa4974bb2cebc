"""Evaluating MutatingAdmissionPolicies: changes in CEL that need no webhook.

Source: `admissionregistration.k8s.io/v1` of the Kubernetes API reference, MutatingAdmissionPolicy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chandlery.controlplane.admission import review as reviews
from chandlery.controlplane.admission.common import forbid
from chandlery.controlplane.admission.compiled import Compiled, with_bindings
from chandlery.controlplane.admission.conditions import (
    POLICY_NAMES,
    Condition,
    compile_conditions,
    conditions_hold,
    variables_of,
)
from chandlery.controlplane.admission.matching import GROUP, Match, exempt
from chandlery.controlplane.admission.policies.config import Binding, Expression, composed, match_of, names_used
from chandlery.controlplane.admission.policies.params import namespace_of, params_of
from chandlery.controlplane.fields.applied import AtomicError, merged
from chandlery.controlplane.patch import PatchFailedError, explained_json_patch
from chandlery.controlplane.types import ApiError, Obj, RequestContext, Resource

if TYPE_CHECKING:
    from chandlery.controlplane.auth.authz import Authorizer
    from chandlery.controlplane.types import LocalApi


@dataclass(frozen=True, slots=True, eq=False)
class MutatingPolicy:
    name: str
    match: Match
    param_kind: Obj | None
    conditions: tuple[Condition, ...]
    condition_needs: tuple[str, ...]
    variables: Mapping[str, Expression]
    mutations: tuple[tuple[str, Expression], ...]
    """(patchType, expression)"""
    fail: bool
    reinvoke: bool
    bindings: tuple[Binding, ...]

    @classmethod
    def of(cls, policy: Obj, bindings: tuple[Binding, ...]) -> MutatingPolicy:
        from chandlery.controlplane.admission.policies.mutationlib import mutation_functions  # loads all of CEL

        spec = policy["spec"]
        conditions = spec.get("matchConditions") or ()
        mutations = []
        for one in spec.get("mutations") or ():
            field = "jsonPatch" if one["patchType"] == "JSONPatch" else "applyConfiguration"
            expression = (one.get(field) or {}).get("expression", "")
            mutations.append((one["patchType"], Expression.of(expression, mutation_functions)))
        return cls(
            policy["metadata"]["name"],
            match_of(spec.get("matchConstraints") or {}),
            spec.get("paramKind"),
            compile_conditions(conditions, POLICY_NAMES),
            names_used(conditions),
            {variable["name"]: Expression.of(variable["expression"]) for variable in spec.get("variables") or ()},
            tuple(mutations),
            spec.get("failurePolicy", "Fail") == "Fail",
            spec.get("reinvocationPolicy") == "IfNeeded",
            bindings,
        )


class MutatingPolicies:
    """All MutatingAdmissionPolicies that have bindings."""

    def __init__(self, api: LocalApi, *, authorizer: Authorizer | None = None) -> None:
        self._api = api
        self._authorizer = authorizer
        plurals = ("mutatingadmissionpolicies", "mutatingadmissionpolicybindings")
        self.compiled: Compiled[MutatingPolicy] = Compiled(
            api, GROUP, plurals, lambda p, b: with_bindings(p, b, MutatingPolicy.of, Binding.of), plurals[1]
        )

    async def mutate(
        self, ctx: RequestContext, obj: Obj, old: Obj | None, *, again: frozenset[str] | None = None
    ) -> tuple[Obj, frozenset[str], frozenset[str]]:
        """The object after all policies; those asked that may be asked again; those of them that should be.

        `again` limits a second round to these policies. Raises ApiError.
        """
        asked: set[str] = set()
        repeat: set[str] = set()
        for policy in () if exempt(ctx) else self.compiled.current():
            if again is not None and policy.name not in again:
                continue
            target = policy.match.target(self._api, ctx, obj, old)
            if target is None:
                continue
            before = obj
            for binding in policy.bindings:
                if binding.match is None or binding.match.target(self._api, ctx, obj, old) is not None:
                    obj = await self._run(ctx, policy, binding, target, obj, old)
            if obj != before:
                repeat |= asked
            if policy.reinvoke:
                asked.add(policy.name)
        return obj, frozenset(asked), frozenset(repeat)

    async def _run(
        self, ctx: RequestContext, policy: MutatingPolicy, binding: Binding, target: Resource, obj: Obj, old: Obj | None
    ) -> Obj:
        """The object after one policy with one binding; as it was when something fails that may be ignored."""
        try:
            out = obj
            for param in params_of(self._api, ctx, policy.param_kind, binding.param):
                out = await self._with_param(ctx, policy, target, out, old, param)
        except ValueError as error:
            if not policy.fail:
                return obj
            text = f"policy '{policy.name}' with binding '{binding.name}' denied request: {error}"
            raise forbid(ctx, obj, text) from error
        return out

    async def _with_param(
        self,
        ctx: RequestContext,
        policy: MutatingPolicy,
        target: Resource,
        obj: Obj,
        old: Obj | None,
        param: Obj | None,
    ) -> Obj:
        from chandlery.controlplane.admission.policies.mutationlib import as_json

        convert = ctx.resource.strategy if target is not ctx.resource else None
        seen = obj if convert is None else await convert.to_storage(obj)
        before = old if convert is None or old is None else await convert.to_storage(old)
        variables = self._variables(ctx, target, seen, before, param)
        composed(policy, policy.condition_needs, variables)
        if not conditions_hold(policy.conditions, variables):
            return obj
        out = seen
        for number, (kind, expression) in enumerate(policy.mutations):
            if number:
                variables = self._variables(ctx, target, out, before, param)
            composed(policy, expression.needs, variables)
            out = _changed(target, out, kind, as_json(expression.program(variables)))
        if out is seen:
            return obj
        if convert is not None:
            out = await convert.from_storage(out)
        if not ctx.subresource:  # what a policy wrote goes through the same door as what a client writes
            try:
                ctx.resource.strategy.decode(out)
                ctx.resource.strategy.default(out)
            except ApiError as error:
                raise ValueError(error.message) from error
        return out

    def _variables(
        self, ctx: RequestContext, target: Resource, obj: Obj, old: Obj | None, param: Obj | None
    ) -> dict[str, Any]:
        kind = reviews.kind_of(ctx, obj, old)
        request = reviews.attributes(ctx, target, obj, old, kind=kind, request_kind=kind)
        variables = variables_of(ctx, request, self._authorizer)
        variables["params"] = param
        variables["namespaceObject"] = namespace_of(self._api, ctx)
        variables["variables"] = {}
        return variables


def _changed(resource: Resource, obj: Obj, kind: str, value: Any) -> Obj:
    """The object after one mutation. Raises ValueError."""
    if kind == "JSONPatch":
        if not isinstance(value, list):
            raise ValueError("type mismatch: JSONPatchType.expression should evaluate to array")
        try:
            return explained_json_patch(obj, value)
        except (PatchFailedError, ApiError) as error:
            raise ValueError(f"JSON Patch: {getattr(error, 'message', error)}") from error
    if not isinstance(value, dict):
        raise ValueError("must evaluate to Object but got another type")  # noqa: TRY004 - one kind of failure
    try:
        return merged(resource, obj, {"apiVersion": obj["apiVersion"], "kind": obj["kind"], **value})
    except AtomicError as error:
        raise ValueError(f"error applying patch: invalid ApplyConfiguration: {error}") from error
