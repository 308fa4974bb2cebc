"""CEL rules in a CRD's schema: do they compile, and may they cost what they cost."""

from __future__ import annotations

from typing import Any

from chandlery.controlplane.cel.cost import estimate
from chandlery.controlplane.cel.declared import REQUEST_BYTES, Declared, declare, escape
from chandlery.controlplane.cel.errors import CompileError
from chandlery.controlplane.cel.program import check_constants
from chandlery.controlplane.cel.sizes import MOST
from chandlery.controlplane.cel.types import BOOL, STRING
from chandlery.controlplane.crd.internal import rule_text
from chandlery.controlplane.schema import Node, errors
from chandlery.controlplane.schema.rules import check_rule, schema_key
from chandlery.controlplane.types import FieldError, Obj

_PER_RULE = 10_000_000
_PER_CRD = 100_000_000
_SHOWN = 4


class _Total:
    """The sum of all rules' costs, and the largest of them."""

    def __init__(self) -> None:
        self.sum = 0
        self.expensive: list[tuple[int, str]] = []

    def add(self, path: str, cost: int) -> None:
        self.sum = min(self.sum + cost, MOST)
        if cost >= _PER_CRD // 100:
            self.expensive.append((cost, path))
            self.expensive.sort(key=lambda entry: -entry[0])
            del self.expensive[_SHOWN:]


class CelContext:
    """What rules at one place of a schema need: the type there, and how often the place can occur in an object."""

    def __init__(self, schema: Obj, total: _Total, *, root: bool, parent: CelContext | None = None) -> None:
        self.schema = schema
        self.total = total
        self.root = root
        self.parent = parent
        self.cardinality: int | None = 1
        """None when nothing bounds it."""
        self._declared: tuple[Declared | None] | None = None
        self._accessor: tuple[str, str] = ("", "")

    def _child(self, schema: Any, kind: str, name: str = "") -> CelContext:
        child = CelContext(schema if isinstance(schema, dict) else {}, self.total, root=False, parent=self)
        child._accessor = (kind, name)
        factor = _most_elements(self.schema)
        if self.cardinality is None or factor is None:
            child.cardinality = None
        else:
            child.cardinality = min(self.cardinality * factor, MOST)
        return child

    def property(self, name: str, schema: Obj) -> CelContext:
        return self._child(schema, "property", name)

    def items(self, schema: Obj) -> CelContext:
        return self._child(schema, "items")

    def additional(self, schema: Obj) -> CelContext:
        return self._child(schema, "items")

    def declared(self) -> Declared | None:
        if self._declared is None:
            self._declared = (self._find(),)
        return self._declared[0]

    def _find(self) -> Declared | None:
        if self.parent is not None and (above := self.parent.known()) is not None:
            kind, name = self._accessor
            found = above.item if kind == "items" else above.fields.get(escape(name) or "")
            if found is not None:
                return found
        node = Node(self.schema)
        return declare(node, resource=self.root or node.embedded)

    def is_resource(self) -> bool:
        """Whether values here are whole objects, with type and object meta."""
        return self.root or bool(self.schema.get("x-kubernetes-embedded-resource"))

    def known(self) -> Declared | None:
        """The declaration if a rule here or above has needed it already."""
        return self._declared[0] if self._declared is not None else None

    def total_errors(self, path: str) -> list[FieldError]:
        """Errors when all rules together cost too much."""
        if self.total.sum <= _PER_CRD:
            return []
        detail = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
        found = [errors.forbidden(at, detail) for _, at in self.total.expensive]
        name = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema"
        return [*found, errors.forbidden(path, _too_expensive(name, self.total.sum, _PER_CRD))]


def root_context(schema: Obj) -> CelContext:
    return CelContext(schema, _Total(), root=True)


def _most_elements(schema: Obj) -> int | None:
    """How many children a value of this schema can have of each kind."""
    if schema.get("type") == "object" and schema.get("additionalProperties") is not None:
        limit = schema.get("maxProperties")
    elif schema.get("type") == "array":
        limit = schema.get("maxItems")
    else:
        return 1
    return max(limit, 0) if limit is not None else None


def _too_expensive(name: str, cost: int, limit: int) -> str:
    factor = cost / limit
    if factor > 100:
        shown = "more than 100x"
    elif factor < 1.5:
        shown = f"{factor:f}x"
    else:
        shown = f"{factor:.1f}x"
    return (
        f"{name} exceeds budget by factor of {shown} (try simplifying the rule, or adding maxItems, maxProperties, and "
        "maxLength where arrays, maps, and strings are declared)"
    )


def check_rules(schema: Obj, path: str, context: CelContext, uncorrelatable: str, limit_cost: bool) -> list[FieldError]:
    """Errors of the rules at one place. `uncorrelatable` is the path above which old values can't be found."""
    declared = context.declared()
    rules_at = errors.child(path, "x-kubernetes-validations")
    if declared is None:
        detail = (
            "internal error: failed to construct type information for x-kubernetes-validations rules: unable to "
            "convert structural schema to CEL declarations"
        )
        return [errors.internal(rules_at, detail)]
    key = schema_key(schema, resource=context.is_resource())
    found: list[FieldError] = []
    occurrences = context.cardinality if context.cardinality is not None else REQUEST_BYTES // (declared.least + 1)
    for position, rule in enumerate(schema["x-kubernetes-validations"]):
        at = errors.index(rules_at, position)
        rule_at = errors.child(at, "rule")
        try:
            checked = check_rule(key, rule, declared)
            if checked.type == BOOL:
                check_constants(checked.expr)
        except CompileError as error:
            context.total.add(rule_at, 0)
            found.append(errors.invalid_raw(rule_at, rule_text(rule), error.detail))
            if rule.get("optionalOldSelf") is not None:
                found.append(_unused_optional(rule, at))
            continue
        if checked.type != BOOL:
            found.append(errors.invalid_raw(rule_at, rule_text(rule), "cel expression must evaluate to a bool"))
            if rule.get("optionalOldSelf") is not None:
                found.append(_unused_optional(rule, at))
            continue
        cost = min(estimate(checked.expr, declared) * occurrences, MOST)
        if limit_cost and cost > _PER_RULE:
            found.append(errors.forbidden(rule_at, _too_expensive("estimated rule cost", cost, _PER_RULE)))
        context.total.add(rule_at, cost)
        if rule.get("messageExpression"):
            found += _message_errors(rule, at, key, declared, context, limit_cost)
        if "oldSelf" in checked.names:
            if uncorrelatable:
                detail = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {uncorrelatable}"
                found.append(errors.invalid(rule_at, rule["rule"], detail))
        elif rule.get("optionalOldSelf") is not None:
            found.append(_unused_optional(rule, at))
    return found


def _unused_optional(rule: Obj, at: str) -> FieldError:
    detail = "may not be set if oldSelf is not used in rule"
    return errors.invalid(errors.child(at, "optionalOldSelf"), rule["optionalOldSelf"], detail)


def _message_errors(
    rule: Obj, at: str, key: bytes, declared: Declared, context: CelContext, limit_cost: bool
) -> list[FieldError]:
    message_at = errors.child(at, "messageExpression")
    try:
        message = check_rule(key, rule, declared, message=True)
        if message.type == STRING:
            check_constants(message.expr)
    except CompileError as error:
        detail = f"messageExpression {error.detail.removeprefix('program ')}"
        return [errors.invalid_raw(message_at, rule_text(rule), detail)]
    if message.type != STRING:
        return [errors.invalid_raw(message_at, rule_text(rule), "messageExpression must evaluate to a string")]
    cost = estimate(message.expr, declared)
    context.total.add(message_at, cost)
    if limit_cost and cost > _PER_RULE:
        detail = _too_expensive("estimated messageExpression cost", cost, _PER_RULE)
        return [errors.forbidden(message_at, detail)]
    return []
