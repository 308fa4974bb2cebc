"""Small makers of CEL rules and of schema extras, so that models read as lists of sentences.

Only `has()`-guarded, bounded expressions: a real kube-apiserver estimates a rule's cost from maxLength, maxItems and
maxProperties and refuses a CRD whose estimate is too high.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from chandlery.model.base import CelRule
from chandlery.model.scalars import Duration

Extra = Callable[[dict[str, Any]], None]


def extra(*rules: CelRule, **keys: Any) -> Extra:
    """`json_schema_extra` of a field: adds rules to those of its type, and `x_kubernetes_*` keys as they are."""

    def apply(schema: dict[str, Any]) -> None:
        if rules:
            schema["x-kubernetes-validations"] = [
                *schema.get("x-kubernetes-validations", ()),
                *(r.schema() for r in rules),
            ]
        schema.update({k.replace("_", "-"): v for k, v in keys.items()})

    return apply


def map_list(*keys: str, rules: Iterable[CelRule] = ()) -> Extra:
    """A list whose items are told apart by `keys`: patches and apply merge them by key; doubles are refused."""
    return extra(*rules, **{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)})


def set_list(*rules: CelRule) -> Extra:
    return extra(*rules, **{"x-kubernetes-list-type": "set"})


def atomic(*rules: CelRule) -> Extra:
    return extra(*rules, **{"x-kubernetes-list-type": "atomic"})


def not_more(left: str, right: str) -> str:
    """CEL for: one size is at most another. Holds while either is no quantity: that is another rule's error."""
    return f"(!isQuantity({left}) || !isQuantity({right}) || quantity({left}).compareTo(quantity({right})) <= 0)"


_DURATION = f".matches('^({Duration.pattern})$')"


def not_longer(left: str, right: str) -> str:
    """CEL for: one duration is at most another. Holds while either is no duration."""
    return f"(!{left}{_DURATION} || !{right}{_DURATION} || duration({left}) <= duration({right}))"


def lasts(least: str, most: str, message: str) -> CelRule:
    """A rule for a field of type Duration: within bounds, such as `1s` and `1h`; no bound when empty."""
    bounds = [f"duration(self) >= duration('{least}')"] if least else []
    bounds += [f"duration(self) <= duration('{most}')"] if most else []
    return CelRule(rule=f"!self{_DURATION} || ({' && '.join(bounds)})", message=message)


def fixed(message: str) -> CelRule:
    """A value, once set, stays. Doesn't see the field appear or vanish: use `fixed_optional` on the parent for that."""
    return CelRule(rule="self == oldSelf", message=message, reason="FieldValueForbidden")


def fixed_optional(field: str, message: str) -> CelRule:
    """For the parent: an optional field neither appears nor changes nor vanishes after creation."""
    return CelRule(
        rule=f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})",
        message=message,
        field_path=f".{field}",
        reason="FieldValueForbidden",
    )


def only_grows(message: str) -> CelRule:
    """For a field of type Size."""
    return CelRule(rule=not_more("oldSelf", "self"), message=message, reason="FieldValueForbidden")


def one_of(fields: Iterable[str], message: str) -> CelRule:
    """Exactly one of these optional fields is given."""
    total = " + ".join(f"(has(self.{f}) ? 1 : 0)" for f in fields)
    return CelRule(rule=f"{total} == 1", message=message)


def at_most_one_of(fields: Iterable[str], message: str) -> CelRule:
    total = " + ".join(f"(has(self.{f}) ? 1 : 0)" for f in fields)
    return CelRule(rule=f"{total} <= 1", message=message)


def not_itself(path: str, message: str) -> CelRule:
    """For a kind itself: the name at this path of the spec is not the object's own. Any part may be missing."""
    parts = path.split(".")
    missing = " || ".join(f"!has(self.spec.{'.'.join(parts[: n + 1])})" for n in range(len(parts)))
    rule = f"{missing} || self.spec.{path} != self.metadata.name"
    return CelRule(rule=rule, message=message, field_path=f".spec.{path}")


def only_when(field: str, condition: str, message: str) -> CelRule:
    """An optional field of self that is allowed only under a condition."""
    return CelRule(rule=f"!has(self.{field}) || ({condition})", message=message, field_path=f".{field}")


def absent(field: str, of: str = "self") -> str:
    """CEL for: an optional list or map isn't there, or is empty. Empty ones are never stored by default."""
    return f"(!has({of}.{field}) || size({of}.{field}) == 0)"


def each(field: str, item: str, condition: str, of: str = "self") -> str:
    """CEL for: the condition holds for each item of an optional list."""
    return f"(!has({of}.{field}) || {of}.{field}.all({item}, {condition}))"


def some(field: str, item: str, condition: str, of: str = "self") -> str:
    """CEL for: the condition holds for an item of an optional list."""
    return f"(has({of}.{field}) && {of}.{field}.exists({item}, {condition}))"


NOT_DOWNGRADED = CelRule(
    rule="!self.matches('^[0-9]{1,4}([.]|$)') || int(self.split('.')[0]) >= int(oldSelf.split('.')[0])",
    message="the major version can't go down: restore a backup into a new object instead",
    reason="FieldValueForbidden",
)

__all__ = [
    "NOT_DOWNGRADED",
    "absent",
    "at_most_one_of",
    "atomic",
    "each",
    "extra",
    "fixed",
    "fixed_optional",
    "lasts",
    "map_list",
    "not_itself",
    "not_longer",
    "not_more",
    "one_of",
    "only_grows",
    "only_when",
    "set_list",
    "some",
]
