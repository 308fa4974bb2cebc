"""matchConditions: CEL expressions that say whether a webhook wants to see a request."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chandlery.controlplane.types import ApiError, Obj, RequestContext

if TYPE_CHECKING:
    from chandlery.controlplane.admission.webhooks.config import Webhook
    from chandlery.controlplane.auth.authz import Authorizer

Program = Callable[[Obj], Any]


@dataclass(frozen=True, slots=True, eq=False)
class Condition:
    """One matchCondition; `program` raises ValueError when the expression can't be evaluated."""

    name: str
    expression: str
    program: Program


def compile_conditions(conditions: Iterable[Obj]) -> tuple[Condition, ...]:
    return tuple(
        Condition(condition["name"], condition["expression"], _program(condition["expression"]))
        for condition in conditions
    )


def _program(expression: str) -> Program:
    """Compiled at the first use: an expression that can't be compiled concerns its own webhook only."""
    compiled: list[Program] = []

    def run(variables: Obj) -> Any:
        if not compiled:
            compiled.append(_compile(expression))
        return compiled[0](variables)

    return run


def _compile(expression: str) -> Program:
    from chandlery.controlplane.auth.cellib import AUTHORIZER, RESOURCE_CHECK, authorizer_functions
    from chandlery.controlplane.cel import DYN, CelError, compile_expression

    kinds = {
        "object": DYN,
        "oldObject": DYN,
        "request": DYN,
        "authorizer": AUTHORIZER,
        "authorizer.requestResource": RESOURCE_CHECK,
    }
    program = compile_expression(expression, kinds, functions=authorizer_functions())

    def run(variables: Obj) -> Any:
        try:
            return program.evaluate(variables)
        except CelError as error:
            raise ValueError(str(error)) from error

    return run


def evaluate(webhook: Webhook, ctx: RequestContext, request: Obj, authorizer: Authorizer | None) -> bool:
    """Whether all conditions hold. An error means no with failurePolicy Ignore, and ApiError 403 with Fail.

    A condition that is false decides, even when another one has an error.
    """
    from chandlery.controlplane.auth.cellib import AuthorizerValue, ResourceCheck

    asker = AuthorizerValue(authorizer, ctx.user)
    variables = {
        "object": request["object"],
        "oldObject": request["oldObject"],
        "request": request,
        "authorizer": asker,
        "authorizer.requestResource": ResourceCheck(
            asker, ctx.resource.group, ctx.resource.plural, ctx.subresource, ctx.namespace, request.get("name", "")
        ),
    }
    errors: list[str] = []
    for condition in webhook.conditions:
        try:
            if condition.program(variables) is not True:
                return False
        except ValueError as error:
            errors.append(f"expression '{condition.expression}' resulted in error: {error}")
    if not errors:
        return True
    if not webhook.fail:
        return False
    name = request.get("name", "")
    text = errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]"
    details: Obj = {"name": name, "group": ctx.resource.group, "kind": ctx.resource.plural}
    message = f"{ctx.resource.group_resource} {json.dumps(name)} is forbidden: {text}"
    raise ApiError(403, "Forbidden", message, {key: value for key, value in details.items() if value})
