"""CEL rules of a schema (x-kubernetes-validations): compiled once, run for every write.

Rules stand at any level and see the value there as `self` and, where parts of old and new objects correspond, the old
value as `oldSelf`. Failures of unchanged parts are tolerated (ratcheting).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import orjson

from chandlery.controlplane.cel import CelCostError, CelError, CompileError, Program, kubernetes_functions
from chandlery.controlplane.cel.checker import Checked, check
from chandlery.controlplane.cel.declared import Declared, converter, declare, escape
from chandlery.controlplane.cel.errors import PlanError
from chandlery.controlplane.cel.parser import parse
from chandlery.controlplane.cel.types import BOOL, STRING, optional_of
from chandlery.controlplane.cel.values import NONE, Optional
from chandlery.controlplane.schema import errors
from chandlery.controlplane.schema.correlation import Correlation, list_key
from chandlery.controlplane.schema.fieldpath import FieldPathError, valid_field_path
from chandlery.controlplane.schema.node import Node
from chandlery.controlplane.types import FieldError, Obj

_LONGEST_MESSAGE = 5 * 1024
_BUDGET = 10_000_000
_OUT_OF_BUDGET = "validation failed due to running out of cost budget, no further validation rules will be run"


class CompiledRule:
    """One rule: its program, its message, where its error goes."""

    __slots__ = ("field_path", "message", "optional_old", "problem", "program", "raw", "uses_old")

    def __init__(self, key: bytes, rule: Obj, declared: Declared, node: Node) -> None:
        self.raw = rule
        self.optional_old = bool(rule.get("optionalOldSelf"))
        self.problem = ""
        self.program: Program | None = None
        self.message: Program | None = None
        self.uses_old = False
        self.field_path = _normal_path(rule.get("fieldPath") or "", node)
        try:
            self.program = compile_rule(key, rule, declared)
            self.uses_old = "oldSelf" in self.program.names
            if rule.get("messageExpression"):
                self.message = compile_rule(key, rule, declared, message=True)
        except CompileError as error:
            self.problem = error.detail

    def text(self) -> str:
        return ((self.raw.get("message") or "") or (self.raw.get("rule") or "")).strip()

    def default_message(self) -> str:
        message = self.raw.get("message") or ""
        return message.strip() if message else f"failed rule: {self.text()}"


def rule_variables(rule: Obj, declared: Declared) -> dict[str, Any]:
    """The types of `self` and `oldSelf`."""
    old = optional_of(declared.type) if rule.get("optionalOldSelf") else declared.type
    return {"self": declared.type, "oldSelf": old}


_KEPT = 4096
_checked: OrderedDict[tuple[bytes, str, bool], Checked] = OrderedDict()


def schema_key(raw: Obj, *, resource: bool) -> bytes:
    """Names a schema by its content: the same rule on the same schema is checked once."""
    return blake2b(
        orjson.dumps(raw, option=orjson.OPT_SORT_KEYS), digest_size=16, key=b"r" if resource else b""
    ).digest()


def check_rule(key: bytes, rule: Obj, declared: Declared, *, message: bool = False) -> Checked:
    """A rule, or its messageExpression, type-checked on the schema that `key` names. Raises CompileError.

    A CRD's rules are needed when it is validated and again when it is served; what was checked is kept.
    """
    source = rule.get("messageExpression" if message else "rule") or ""
    place = (key, source, bool(rule.get("optionalOldSelf")))
    known = _checked.get(place)
    if known is None:
        known = check(source, parse(source), rule_variables(rule, declared), kubernetes_functions())
        _checked[place] = known
        if len(_checked) > _KEPT:
            _checked.popitem(last=False)
    else:
        _checked.move_to_end(place)
    return known


def compile_rule(key: bytes, rule: Obj, declared: Declared, *, message: bool = False) -> Program:
    """The program of a rule, or of its messageExpression. Raises CompileError."""
    checked = check_rule(key, rule, declared, message=message)
    if checked.type != (STRING if message else BOOL):
        wanted = "messageExpression must evaluate to a string" if message else "cel expression must evaluate to a bool"
        raise PlanError(wanted, "")
    return Program(checked.expr, rule_variables(rule, declared), checked.names)


def _normal_path(text: str, node: Node) -> str:
    """`.a['b']` as the suffix of an error's path; "" when it names nothing."""
    try:
        return "." + valid_field_path(text, node.raw)[0] if text else ""
    except FieldPathError:
        return ""


def _looked_at(rules: list[CompiledRule]) -> frozenset[str] | None:
    """The fields of the value that rules and their messages look at; None when one takes it as a whole."""
    found: set[str] = set()
    for program in (program for rule in rules for program in (rule.program, rule.message) if program is not None):
        if program.fields is None:
            return None
        found |= program.fields
    return frozenset(found)


class _Place:
    """Rules of one schema level and of what is below it."""

    __slots__ = ("additional", "convert", "items", "node", "properties", "rules")

    def __init__(self, node: Node, declared: Declared | None, *, resource: bool) -> None:
        self.node = node
        self.rules: list[CompiledRule] = []
        if node.rules and declared is not None:
            key = schema_key(node.raw, resource=resource)
            self.rules = [CompiledRule(key, rule, declared, node) for rule in node.rules]
        self.convert: Callable[[Any], Any] | None = converter(node, _looked_at(self.rules)) if self.rules else None
        self.items: _Place | None = None
        self.additional: _Place | None = None
        self.properties: dict[str, _Place] = {}
        if node.items is not None and node.items.has_rules():
            self.items = _Place(node.items, declared.item if declared else None, resource=node.items.embedded)
        if node.additional is not None and node.additional.has_rules():
            inner = declared.item if declared else None
            self.additional = _Place(node.additional, inner, resource=node.additional.embedded)
        for name, sub in node.properties.items():
            if not sub.has_rules():
                continue
            escaped = escape(name)
            if escaped is None:
                found = declare(sub, resource=sub.embedded)
            else:
                found = declared.fields.get(escaped) if declared else None
            if found is not None:
                self.properties[name] = _Place(sub, found, resource=sub.embedded)


class _Run:
    """One validation: errors so far, and what may still be spent."""

    __slots__ = ("found", "left", "tolerated")

    def __init__(self, tolerated: list[FieldError]) -> None:
        self.found: list[FieldError] = []
        self.tolerated = tolerated
        self.left = _BUDGET


class Rules:
    """All rules of a schema."""

    __slots__ = ("_root",)

    def __init__(self, root: _Place) -> None:
        self._root = root

    @staticmethod
    def compile(node: Node, *, resource: bool = True) -> Rules | None:
        """The rules of a schema; None when it has none. `resource` is set for the root of an object."""
        if not node.has_rules():
            return None
        return Rules(_Place(node, declare(node, resource=resource), resource=resource))

    def validate(
        self,
        obj: Any,
        old: Any,
        correlation: Correlation | None,
        path: str = "",
        *,
        tolerated: list[FieldError] | None = None,
    ) -> list[FieldError]:
        """Errors of all rules. With a correlation, failures in unchanged parts go to `tolerated` instead."""
        run = _Run(tolerated if tolerated is not None else [])
        _validate(self._root, obj, old, correlation, None, path, run)
        return run.found

    def validate_default(self, value: Any, path: str) -> list[FieldError]:
        """Errors of a default: as an unchanged value, then as a new one."""
        found = self.validate(value, value, None, path)
        return found or self.validate(value, None, None, path)


class _StopError(Exception):
    """The budget is spent."""


def _validate(
    place: _Place,
    value: Any,
    old: Any,
    here: Correlation | None,
    above: Correlation | None,
    path: str,
    run: _Run,
) -> None:
    try:
        _walk(place, value, old, here, above, path, run)
    except _StopError:
        return


def _walk(
    place: _Place,
    value: Any,
    old: Any,
    here: Correlation | None,
    above: Correlation | None,
    path: str,
    run: _Run,
) -> None:
    if value is None:
        return
    if place.rules:
        _run(place, value, old, here, above, path, run)
    node = place.node
    if isinstance(value, list):
        if place.items is not None:
            _walk_items(place.items, node, value, old, here, above, path, run)
    elif isinstance(value, dict) and (place.properties or place.additional is not None):
        before = old if isinstance(old, dict) else {}
        for name, member in value.items():
            sub = place.properties.get(name)
            if sub is not None:
                at = errors.child(path, name)
            elif place.additional is None or name in node.properties:
                continue
            else:
                sub, at = place.additional, errors.key(path, name)
            if here is None:
                inner, nearest = None, above
            elif above is None and name in ("apiVersion", "kind"):
                inner, nearest = None, None
            else:
                inner, nearest = here.field(name), here
            _walk(sub, member, before.get(name), inner, nearest, at, run)


def _walk_items(
    place: _Place,
    node: Node,
    value: list[Any],
    old: Any,
    here: Correlation | None,
    above: Correlation | None,
    path: str,
    run: _Run,
) -> None:
    before: dict[str | None, Any] = {}
    if node.list_type == "map" and isinstance(old, list):
        for item in old:
            before.setdefault(list_key(item, node.list_keys), item)
        before.pop(None, None)
    for position, member in enumerate(value):
        old_item = before.get(list_key(member, node.list_keys)) if before else None
        inner, nearest = (here.item(position), here) if here is not None else (None, above)
        _walk(place, member, old_item, inner, nearest, errors.index(path, position), run)


def _run(
    place: _Place,
    value: Any,
    old: Any,
    here: Correlation | None,
    above: Correlation | None,
    path: str,
    run: _Run,
) -> None:
    kind = place.node.type
    convert = place.convert
    current, before = value, old
    if convert is not None:
        current, before = convert(value), convert(old) if old is not None else None
    for rule in place.rules:
        if rule.problem or rule.program is None:
            run.found.append(errors.invalid(path, kind, f"rule compile error: {rule.problem}"))
            continue
        if rule.uses_old and old is None and not rule.optional_old:
            continue
        values = {"self": current, "oldSelf": before}
        if rule.optional_old:
            values["oldSelf"] = Optional(before) if old is not None else NONE
        try:
            run.left -= 1
            if run.left <= 0:
                run.found.append(errors.invalid(path, kind, _OUT_OF_BUDGET))
                raise _StopError
            passed = rule.program.evaluate(values)
        except CelCostError as error:
            detail = f"'{error}': no further validation rules will be run due to call cost exceeds limit for rule: "
            detail += rule.text()
            run.found.append(errors.invalid(path, kind, detail))
            raise _StopError from None
        except CelError as error:
            run.found.append(errors.invalid(path, kind, _failure(str(error), rule)))
            continue
        if passed is True:
            continue
        tolerated = not rule.uses_old and _unchanged(here, above)
        (run.tolerated if tolerated else run.found).append(_broken(rule, value, kind, path, values))


def _unchanged(here: Correlation | None, above: Correlation | None) -> bool:
    nearest = here if here is not None else above
    return nearest is not None and nearest.unchanged()


def _failure(text: str, rule: CompiledRule) -> str:
    if text.startswith("no such overload"):
        return (
            f"'{text}': call arguments did not match a supported operator, function or macro signature for rule: "
            f"{rule.text()}"
        )
    return f"{text} evaluating rule: {rule.text()}"


def _broken(rule: CompiledRule, value: Any, kind: str, path: str, values: dict[str, Any]) -> FieldError:
    detail = _message(rule, values) or rule.default_message()
    at = (path + rule.field_path).removeprefix(".") if rule.field_path else path
    reason = rule.raw.get("reason")
    if reason == "FieldValueForbidden":
        return errors.forbidden(at, detail)
    if reason == "FieldValueRequired":
        return errors.required(at, detail)
    plain = kind in ("object", "array")
    if reason == "FieldValueDuplicate":
        return (
            FieldError(at or "<nil>", "FieldValueDuplicate", "Duplicate value")
            if plain
            else errors.duplicate(at, value)
        )
    if plain:
        return FieldError(at or "<nil>", "FieldValueInvalid", f"Invalid value: {detail}")
    return errors.invalid(at, value, detail)


def _message(rule: CompiledRule, values: dict[str, Any]) -> str:
    """What the messageExpression says; "" when it fails or says nothing that can be shown."""
    if rule.message is None:
        return ""
    try:
        text = rule.message.evaluate(values)
    except CelError:
        return ""
    if not isinstance(text, str):
        return ""
    text = text.strip()
    if len(text.encode()) > _LONGEST_MESSAGE or "\n" in text:
        return ""
    return text
