"""Evaluating ValidatingAdmissionPolicies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chandlery.controlplane.admission import review as reviews
from chandlery.controlplane.admission.common import forbid
from chandlery.controlplane.admission.conditions import Variables, conditions_hold, variables_of
from chandlery.controlplane.admission.matching import exempt
from chandlery.controlplane.admission.policies.config import Binding, Policy, bound_policies, composed, message_of
from chandlery.controlplane.admission.policies.params import namespace_of, params_of
from chandlery.controlplane.types import ApiError, Obj, RequestContext, Resource

if TYPE_CHECKING:
    from chandlery.controlplane.auth.authz import Authorizer
    from chandlery.controlplane.types import LocalApi

_CODES = {"Unauthorized": 401, "Forbidden": 403, "RequestEntityTooLarge": 413, "Invalid": 422}


@dataclass(frozen=True, slots=True)
class _Denial:
    policy: str
    binding: str
    message: str
    reason: str


class Policies:
    def __init__(self, api: LocalApi, *, authorizer: Authorizer | None = None) -> None:
        self._api = api
        self._authorizer = authorizer
        self.compiled = bound_policies(api)

    async def validate(self, ctx: RequestContext, obj: Obj | None, old: Obj | None) -> None:
        """Raise the ApiError of the first denial; add the warnings of bindings that only warn."""
        if exempt(ctx):
            return
        for policy in self.compiled.current():
            target = policy.match.target(self._api, ctx, obj, old)
            if target is None:
                continue
            seen, before = obj, old
            if target is not ctx.resource:
                strategy = ctx.resource.strategy
                seen = None if obj is None else await strategy.to_storage(obj)
                before = None if old is None else await strategy.to_storage(old)
            for binding in policy.bindings:
                if binding.match is not None and binding.match.target(self._api, ctx, obj, old) is None:
                    continue
                for denial in self._evaluate(ctx, policy, binding, target, seen, before):
                    _act(ctx, binding, denial, obj or old)

    def _evaluate(
        self,
        ctx: RequestContext,
        policy: Policy,
        binding: Binding,
        target: Resource,
        obj: Obj | None,
        old: Obj | None,
    ) -> Iterator[_Denial]:
        kind = reviews.kind_of(ctx, obj, old)
        request = reviews.attributes(ctx, target, obj, old, kind=kind, request_kind=reviews.kind_of(ctx, obj, old))
        try:
            params = params_of(self._api, ctx, policy.param_kind, binding.param)
        except ValueError as error:
            if policy.fail:
                yield _Denial(policy.name, binding.name, f"failed to configure binding: {error}", "")
            return
        for param in params:
            variables = variables_of(ctx, request, self._authorizer)
            variables["params"] = param
            variables["namespaceObject"] = namespace_of(self._api, ctx)
            variables["variables"] = {}
            yield from _checked(policy, binding, variables)


def _checked(policy: Policy, binding: Binding, variables: Variables) -> Iterator[_Denial]:
    try:
        composed(policy, policy.condition_needs, variables)
        if not conditions_hold(policy.conditions, variables):
            return
    except ValueError as error:
        if policy.fail:
            yield _Denial(policy.name, binding.name, str(error), "")
        return
    for validation in policy.validations:
        expression = validation.check
        try:
            composed(policy, expression.needs, variables)
            good = expression.program(variables) is True
        except ValueError as error:
            if policy.fail:
                text = f"expression '{expression.text.strip()}' resulted in error: {error}"
                yield _Denial(policy.name, binding.name, text, validation.reason)
            continue
        if not good:
            text = message_of(policy, validation, variables)
            yield _Denial(policy.name, binding.name, text, validation.reason)


def _act(ctx: RequestContext, binding: Binding, denial: _Denial, obj: Obj | None) -> None:
    where = f"ValidatingAdmissionPolicy '{denial.policy}' with binding '{denial.binding}'"
    if "Warn" in binding.actions:
        ctx.warnings.append(f"Validation failed for {where}: {denial.message}")
    if "Deny" not in binding.actions:
        return
    message = f"{where} denied request: {denial.message}"
    refused = forbid(ctx, obj, message, causes=[{"message": message}])
    reason = denial.reason or "Invalid"
    raise ApiError(_CODES.get(reason, 422), reason, refused.message, refused.details)
