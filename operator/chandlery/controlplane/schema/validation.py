"""Why a value breaks its schema: field errors in the reference server's words.

The rules and their quirks (which alternative of an `anyOf` is reported, errors without a place) follow the
OpenAPI validator that the API documents for CustomResourceDefinitions. This half is only run for values that
`chandlery.controlplane.schema.accept` refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chandlery.controlplane.schema import errors
from chandlery.controlplane.schema.accept import (
    Accept,
    compile_accept,
    enum_contains,
    in_range,
    is_int64,
    is_integral,
    is_multiple,
    over_maximum,
    type_accepts,
    under_minimum,
)  # fmt: skip
from chandlery.controlplane.schema.correlation import Correlation
from chandlery.controlplane.schema.gotext import json_text, quote, verb_v
from chandlery.controlplane.schema.node import Node
from chandlery.controlplane.types import FieldError

Make = Callable[[str], FieldError]
"""An error that still needs the path of the value that was validated (`under` of `Validator.errors`)."""


class _Result:
    """Errors by their message (each counts once), and how many checks passed."""

    __slots__ = ("count", "found")

    def __init__(self) -> None:
        self.found: dict[str, Make] = {}
        self.count = 0

    def add(self, message: str, make: Make) -> None:
        self.found.setdefault(message, make)

    def merge(self, other: _Result) -> None:
        for message, make in other.found.items():
            self.found.setdefault(message, make)
        self.count += other.count


def _at(under: str, name: str) -> str:
    name = name.removeprefix(".")
    return errors.child(under, name) if name else under


class Validator:
    """A compiled schema: `accepts` answers quickly, `errors` explains."""

    __slots__ = ("accepts", "node")

    def __init__(self, node: Node) -> None:
        self.node = node
        self.accepts: Accept = compile_accept(node)

    def errors(self, value: Any, under: str = "", correlation: Correlation | None = None) -> list[FieldError]:
        """All errors of `value`, which stands at path `under`.

        With a correlation, errors of unchanged parts are left out (ratcheting).
        """
        if self.accepts(value):
            return []
        result = _ratcheted(self.node, value, "", correlation)
        return [make(under) for make in result.found.values()]


def _ratcheted(node: Node, value: Any, path: str, correlation: Correlation | None) -> _Result:
    result = _validate(node, value, path, correlation)
    if result.found and correlation is not None and correlation.unchanged():
        tolerated = _Result()
        tolerated.count = result.count
        return tolerated
    return result


def _validate(node: Node, value: Any, path: str, correlation: Correlation | None) -> _Result:
    result = _Result()
    if value is None:
        if not node.types or node.nullable:
            result.count += 1
        else:
            _wrong_type(result, path, ",".join(node.types), "null")
        _enum(node, value, path, result)
        return result
    if node.types or node.format:
        _type(node, value, path, result)
        result.count += 1
    result.merge(_composition(node, value, path))
    result.count += 1
    kind = type(value)
    if kind is str:
        _string(node, value, path, result)
    elif kind is int or kind is float:
        _number(node, value, path, result)
        result.count += 2
    elif kind is list:
        _list(node, value, path, correlation, result)
        result.count += 2
    _enum(node, value, path, result)
    result.count += 1
    if kind is dict:
        _object(node, value, path, correlation, result)
        result.count += 1
    result.count += 1
    return result


def _wrong_type(result: _Result, path: str, wanted: str, found: str) -> None:
    message = f"{path} in body must be of type {wanted}: {quote(found)}"
    result.add(message, lambda under: errors.type_invalid(_at(under, path), found, message))


def _type(node: Node, value: Any, path: str, result: _Result) -> None:
    if type_accepts(node.types, bool(node.format), value):
        result.count += 1
        return
    kind = type(value)
    if kind is int and not is_int64(value):
        kind = float
    name = {bool: "boolean", str: "string", int: "integer", float: "number", list: "array", dict: "object"}[kind]
    if node.format and kind is not str and kind is not list:
        own = {int: "int64", float: "float64"}.get(kind, "")
        if node.format == own:  # an int64 where the format says so passes the format, not the type
            _wrong_type(result, path, ",".join(node.types), name)
        else:
            _wrong_type(result, path, node.format, own)
    else:
        _wrong_type(result, path, ",".join(node.types), name)


def _invalid(result: _Result, path: str, value: Any, rule: str) -> None:
    message = f"{path} in body {rule}"
    result.add(message, lambda under: errors.invalid(_at(under, path), value, message))


def _unplaced(result: _Result, message: str) -> None:
    result.add(message, lambda under: errors.invalid(under, "", message))


def _string(node: Node, value: str, path: str, result: _Result) -> None:
    if node.max_length is not None and len(value) > node.max_length:
        limit = node.max_length
        message = f"{path} in body should be at most {limit} chars long"
        result.add(message, lambda under: errors.too_long(_at(under, path), limit))
    elif node.min_length is not None and len(value) < node.min_length:
        _invalid(result, path, value, f"should be at least {node.min_length} chars long")
    elif node.pattern_search is not None and node.pattern_search(value) is None:
        _invalid(result, path, value, f"should match '{node.pattern}'")
    result.count += 1
    if node.format_check is not None:
        if not node.format_check(value):
            message = f"{path} in body must be of type {node.format}: {quote(value)}"
            result.add(message, lambda under: errors.type_invalid(_at(under, path), value, message))
        result.count += 1


def _number(node: Node, value: float, path: str, result: _Result) -> None:
    schema_type = node.types[0] if len(node.types) == 1 else ""
    number_format = node.format if schema_type in ("integer", "number") else ""

    def check_range(number: float, what: str) -> None:
        if not in_range(number, schema_type, number_format):
            form = f"with format {number_format}" if number_format else "(default format)"
            _unplaced(result, f"{what} value must be of type {schema_type} {form} in {path}")

    check_range(value, "Checked")
    if node.multiple_of is not None:
        factor = node.multiple_of
        check_range(factor, "MultipleOf")
        shown_factor: int | float = int(factor) if type(value) is int else factor
        if shown_factor <= 0:
            text = f"factor MultipleOf declared for {path} must be positive: {verb_v(shown_factor)}"
            result.add(text, lambda under: errors.invalid(_at(under, path), shown_factor, text))
        elif not is_multiple(value, factor):
            _invalid(result, path, value, f"should be a multiple of {verb_v(shown_factor)}")
    for bound, exclusive, breaks, what, words in (
        (node.maximum, node.exclusive_maximum, over_maximum, "Maximum boundary", "less than"),
        (node.minimum, node.exclusive_minimum, under_minimum, "Minimum boundary", "greater than"),
    ):
        if bound is None:
            continue
        check_range(bound, what)
        if breaks(value, bound, exclusive):
            shown = verb_v(int(bound) if type(value) is int else float(bound))
            _invalid(result, path, value, f"should be {words} {'' if exclusive else 'or equal to '}{shown}")


def _enum(node: Node, value: Any, path: str, result: _Result) -> None:
    if node.enum and not enum_contains(node.enum, value):
        accepted = [member if isinstance(member, str) else json_text(member) for member in node.enum]
        message = f"{path} in body should be one of [{' '.join(accepted)}]"
        result.add(message, lambda under: errors.not_supported(_at(under, path), value, accepted))


def _list(node: Node, value: list[Any], path: str, correlation: Correlation | None, result: _Result) -> None:
    if node.items is not None:
        for position, member in enumerate(value):
            part = correlation.item(position) if correlation is not None else None
            result.merge(_ratcheted(node.items, member, f"{path}[{position}]", part))
    size = len(value)
    if node.min_items is not None and size < node.min_items:
        _invalid(result, path, size, f"should have at least {node.min_items} items")
    if node.max_items is not None and size > node.max_items:
        limit = node.max_items
        message = f"{path} in body should have at most {limit} items"
        result.add(message, lambda under: errors.too_many(_at(under, path), size, limit))
    if node.unique and any(member in value[:position] for position, member in enumerate(value)):
        _invalid(result, path, "", "shouldn't contain duplicates")


def _object(node: Node, value: dict[str, Any], path: str, correlation: Correlation | None, result: _Result) -> None:
    size = len(value)
    if node.min_properties is not None and size < node.min_properties:
        _invalid(result, path, size, f"should have at least {node.min_properties} properties")
    if node.max_properties is not None and size > node.max_properties:
        limit = node.max_properties
        message = f"{path} in body should have at most {limit} properties"
        result.add(message, lambda under: errors.too_many(_at(under, path), size, limit))

    def validate_field(sub: Node, name: str, member: Any, at: str) -> None:
        part = None
        if correlation is not None and (path or name not in ("kind", "apiVersion")):
            part = correlation.field(name)
        result.merge(_ratcheted(sub, member, at, part))

    for name, member in value.items():
        if name in node.properties:
            continue
        if node.additional_allowed is False:
            text = f"{path}.{name} in body is a forbidden property"
            result.add(text, lambda under, name=name, text=text: errors.invalid(_at(under, path), name, text))  # type: ignore[misc]
        elif node.additional is not None:
            validate_field(node.additional, name, member, f"{path}.{name}")
    for name, sub in node.properties.items():
        if name in value:
            validate_field(sub, name, value[name], f"{path}.{name}" if path else name)
    for name in node.required:
        if name not in value:
            at = f"{path}.{name}"
            result.add(f"{at} in body is required", lambda under, at=at: errors.required(_at(under, at)))  # type: ignore[misc]


def _composition(node: Node, value: Any, path: str) -> _Result:
    """allOf, anyOf, oneOf and not. Parts of an alternative are never ratcheted."""
    result = _Result()
    if node.any_of:
        best: _Result | None = None
        for sub in node.any_of:
            attempt = _validate(sub, value, path, None)
            if not attempt.found:
                best = attempt
                break
            if best is None or attempt.count > best.count:
                best = attempt
        if best is not None:
            if best.found:
                _unplaced(result, f"{quote(path)} must validate at least one schema (anyOf)")
            result.merge(best)
    if node.one_of:
        _one_of(node, value, path, result)
    if node.all_of:
        passed = 0
        for sub in node.all_of:
            attempt = _validate(sub, value, path, None)
            passed += not attempt.found
            result.merge(attempt)
        if passed != len(node.all_of):
            none = "" if passed else ". None validated"
            _unplaced(result, f"{quote(path)} must validate all the schemas (allOf){none}")
    if node.negated is not None and not _validate(node.negated, value, path, None).found:
        _unplaced(result, f"{quote(path)} must not validate the schema (not)")
    result.count += 1
    return result


def _one_of(node: Node, value: Any, path: str, result: _Result) -> None:
    passed = 0
    failure: _Result | None = None
    success: _Result | None = None
    for sub in node.one_of:
        attempt = _validate(sub, value, path, None)
        if not attempt.found:
            passed += 1
            failure = None
            success = success or attempt
        elif not passed and (failure is None or attempt.count > failure.count):
            failure = attempt
    if passed == 1 and success is not None:
        result.merge(success)
        return
    found = f"Found {passed} valid alternatives" if passed else "Found none valid"
    _unplaced(result, f"{quote(path)} must validate one and only one schema (oneOf). {found}")
    if failure is not None:
        result.merge(failure)


__all__ = ["Validator", "is_integral"]
