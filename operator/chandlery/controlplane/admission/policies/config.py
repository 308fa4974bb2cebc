"""Policies and their bindings, compiled.

Source: `admissionregistration.k8s.io/v1` of the Kubernetes API reference, ValidatingAdmissionPolicy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from chandlery.controlplane.admission.compiled import Compiled, with_bindings
from chandlery.controlplane.admission.conditions import (
    POLICY_NAMES,
    Condition,
    Program,
    compile_conditions,
    lazy_program,
)
from chandlery.controlplane.admission.matching import GROUP, Match
from chandlery.controlplane.types import Obj

if TYPE_CHECKING:
    from chandlery.controlplane.cel import Functions
    from chandlery.controlplane.types import LocalApi

_USED = re.compile(r"\bvariables\s*\.\s*([A-Za-z_][A-Za-z0-9_]*)")
_LONGEST_MESSAGE = 5 * 1024


@dataclass(frozen=True, slots=True, eq=False)
class Expression:
    """A CEL expression and the composed variables that it needs."""

    text: str
    program: Program
    needs: tuple[str, ...]

    @classmethod
    def of(cls, text: str, functions: Callable[[], Functions] | None = None) -> Expression:
        program = lazy_program(text, POLICY_NAMES, functions)
        return cls(text, program, tuple(dict.fromkeys(_USED.findall(text))))


@dataclass(frozen=True, slots=True, eq=False)
class Validation:
    check: Expression
    message: str
    message_expression: Expression | None
    reason: str

    @classmethod
    def of(cls, validation: Obj) -> Validation:
        text = validation.get("messageExpression")
        return cls(
            Expression.of(validation["expression"]),
            validation.get("message") or "",
            Expression.of(text) if text else None,
            validation.get("reason") or "",
        )


@dataclass(frozen=True, slots=True, eq=False)
class Binding:
    name: str
    match: Match | None
    """None: everything that the policy matches."""
    param: Obj | None
    """paramRef."""
    actions: tuple[str, ...]

    @classmethod
    def of(cls, binding: Obj) -> Binding:
        spec = binding["spec"]
        return cls(
            binding["metadata"]["name"],
            match_of(spec["matchResources"]) if spec.get("matchResources") else None,
            spec.get("paramRef"),
            tuple(spec.get("validationActions") or ()),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    name: str
    match: Match
    param_kind: Obj | None
    conditions: tuple[Condition, ...]
    condition_needs: tuple[str, ...]
    variables: Mapping[str, Expression]
    validations: tuple[Validation, ...]
    fail: bool
    bindings: tuple[Binding, ...]

    @classmethod
    def of(cls, policy: Obj, bindings: tuple[Binding, ...]) -> Policy:
        spec = policy["spec"]
        conditions = spec.get("matchConditions") or ()
        return cls(
            policy["metadata"]["name"],
            match_of(spec.get("matchConstraints") or {}),
            spec.get("paramKind"),
            compile_conditions(conditions, POLICY_NAMES),
            names_used(conditions),
            {variable["name"]: Expression.of(variable["expression"]) for variable in spec.get("variables") or ()},
            tuple(Validation.of(validation) for validation in spec.get("validations") or ()),
            spec.get("failurePolicy", "Fail") == "Fail",
            bindings,
        )


def names_used(conditions: Iterable[Obj]) -> tuple[str, ...]:
    """The composed variables that conditions need."""
    return tuple(dict.fromkeys(name for one in conditions for name in _USED.findall(one["expression"])))


def match_of(resources: Obj) -> Match:
    """The `Match` of a MatchResources."""
    return Match.of(
        resources, rules=resources.get("resourceRules"), excluded=resources.get("excludeResourceRules") or ()
    )


class Composing(Protocol):
    """What has composed variables."""

    @property
    def variables(self) -> Mapping[str, Expression]:
        """The variables by name."""


def composed(policy: Composing, needs: tuple[str, ...], variables: dict[str, Any]) -> None:
    """Evaluate the composed variables that an expression needs, in place. Raises ValueError."""
    known: dict[str, Any] = variables["variables"]
    for name in needs:
        if name in known:
            continue
        expression = policy.variables.get(name)
        if expression is None:
            raise ValueError(f"undefined variable variables.{name}")
        composed(policy, expression.needs, variables)
        try:
            known[name] = expression.program(variables)
        except ValueError as error:
            raise ValueError(f"composited variable {name!r} fails to evaluate: {error}") from error


def message_of(policy: Policy, validation: Validation, variables: dict[str, Any]) -> str:
    """What a failed validation says; an unusable messageExpression falls back to the fixed message."""
    if validation.message_expression is not None:
        try:
            composed(policy, validation.message_expression.needs, variables)
            text = validation.message_expression.program(variables)
        except ValueError:
            text = None
        if isinstance(text, str) and text.strip() and "\n" not in text and len(text) <= _LONGEST_MESSAGE:
            return text
    return validation.message.strip() or f"failed expression: {validation.check.text.strip()}"


def bound_policies(api: LocalApi) -> Compiled[Policy]:
    """All ValidatingAdmissionPolicies that have bindings."""
    plurals = ("validatingadmissionpolicies", "validatingadmissionpolicybindings")
    return Compiled(api, GROUP, plurals, lambda p, b: with_bindings(p, b, Policy.of, Binding.of), plurals[1])
