"""CEL in admission: the variables that expressions see, and matchConditions of webhooks and policies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chandlery.controlplane.types import Obj, RequestContext

if TYPE_CHECKING:
    from chandlery.controlplane.auth.authz import Authorizer
    from chandlery.controlplane.cel import Functions

Variables = dict[str, Any]
Program = Callable[[Mapping[str, Any]], Any]
"""Evaluates an expression. Raises ValueError when it can't be compiled or evaluated."""

NAMES = ("object", "oldObject", "request")
POLICY_NAMES = (*NAMES, "params", "namespaceObject", "variables")


@dataclass(frozen=True, slots=True, eq=False)
class Condition:
    """One matchCondition."""

    name: str
    expression: str
    program: Program


def compile_conditions(conditions: Iterable[Obj], names: tuple[str, ...] = NAMES) -> tuple[Condition, ...]:
    return tuple(
        Condition(condition["name"], condition["expression"], lazy_program(condition["expression"], names))
        for condition in conditions
    )


def lazy_program(
    expression: str, names: tuple[str, ...] = NAMES, functions: Callable[[], Functions] | None = None
) -> Program:
    """Compiled at the first use: an expression that can't be compiled concerns its own webhook or policy only."""
    compiled: list[Program] = []

    def run(variables: Mapping[str, Any]) -> Any:
        if not compiled:
            compiled.append(compile_program(expression, names, functions=functions() if functions else None))
        return compiled[0](variables)

    return run


def compile_program(
    expression: str, names: tuple[str, ...] = NAMES, *, result: str = "", functions: Functions | None = None
) -> Program:
    """An expression over these variables (without schemas) and the authorizer.

    `result` is the type it must have ("bool", "string"; several: "string null"); `functions` are the known ones
    when there are more than usual. Raises CompileError, a ValueError.
    """
    from chandlery.controlplane.auth.cellib import AUTHORIZER, RESOURCE_CHECK, authorizer_functions
    from chandlery.controlplane.cel import DYN, CelError, compile_expression
    from chandlery.controlplane.cel.errors import PlanError

    kinds = dict.fromkeys(names, DYN)
    kinds["authorizer"] = AUTHORIZER
    kinds["authorizer.requestResource"] = RESOURCE_CHECK
    program = compile_expression(expression, kinds, functions=functions or authorizer_functions())
    wanted = result.split()
    if wanted and program.type.kind not in wanted and str(program.type) not in wanted:
        told = wanted[0] if len(wanted) == 1 else f"one of [{result}]".replace("null", "null_type")
        raise PlanError(f"must evaluate to {told} but got {program.type}", "")

    def run(variables: Mapping[str, Any]) -> Any:
        try:
            return program.evaluate(variables)
        except CelError as error:
            raise ValueError(str(error)) from error

    return run


def variables_of(ctx: RequestContext, request: Obj, authorizer: Authorizer | None) -> Variables:
    """What expressions know about a request; `request` is that of an AdmissionReview."""
    from chandlery.controlplane.auth.cellib import AuthorizerValue, ResourceCheck

    asker = AuthorizerValue(authorizer, ctx.user)
    return {
        "object": request["object"],
        "oldObject": request["oldObject"],
        "request": {key: value for key, value in request.items() if key not in ("object", "oldObject")},
        "authorizer": asker,
        "authorizer.requestResource": ResourceCheck(
            asker, ctx.resource.group, ctx.resource.plural, ctx.subresource, ctx.namespace, request.get("name", "")
        ),
    }


def conditions_hold(conditions: Iterable[Condition], variables: Mapping[str, Any]) -> bool:
    """Whether all conditions hold; one that is false decides, even when another has an error.

    Raises ValueError with the text of the errors when nothing else decides.
    """
    errors: list[str] = []
    for condition in conditions:
        try:
            if condition.program(variables) is not True:
                return False
        except ValueError as error:
            errors.append(f"expression '{condition.expression}' resulted in error: {error}")
    if errors:
        raise ValueError(errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]")
    return True
