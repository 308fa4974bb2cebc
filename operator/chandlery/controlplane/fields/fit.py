"""Whether a configuration fits its type, with the words for what doesn't.

Source: structured-merge-diff (semantics and texts).
"""

from __future__ import annotations

from typing import Any

from chandlery.controlplane.codec.gotext import go_literal, go_type, go_value
from chandlery.controlplane.fields.schema import ATOMIC, Type
from chandlery.controlplane.fields.sets import path_text
from chandlery.controlplane.fields.walk import TypedError, element_of, form_of


def validate(t: Type, value: Any) -> None:
    """Raise TypedError when a configuration doesn't fit its type (unknown fields, wrong forms, repeated elements)."""
    if _fits(t, value):
        return
    errors: list[str] = []
    _validate(t, value, "", errors)
    if errors:
        raise TypedError(errors)


def _fits(t: Type, value: Any) -> bool:
    """Whether a value surely fits; the slower walk finds the words when it may not."""
    kind = type(value)
    if kind is str:
        return t.scalar in ("string", "untyped")
    if kind is dict:
        if not t.is_map:
            return False
        fields, elem = t.fields, t.elem
        for key, child in value.items():
            known = fields.get(key) or elem
            if known is None or not _fits(known, child):
                return False
        return True
    if kind is list:
        if not t.is_list:
            return False
        if t.list_kind != ATOMIC:
            try:
                if len({element_of(t, item) for item in value}) != len(value):
                    return False
            except ValueError:
                return False
        item_type = t.item
        return all(_fits(item_type, item) for item in value)
    if value is None:
        return True
    if kind is bool:
        return t.scalar in ("boolean", "untyped")
    return t.scalar in ("numeric", "untyped")


def _at(path: str, text: str) -> str:
    return f"{path}: {text}" if path else text


def _validate(t: Type, value: Any, path: str, errors: list[str]) -> None:
    form = form_of(t, value)
    if value is None:
        return
    if form == "map":
        if type(value) is not dict:
            errors.append(_at(path, f"expected map, got &{{{go_value(value)}}}"))
            return
        for key, child in value.items():
            known = t.fields.get(key) or t.elem
            if known is None:
                errors.append(_at(f"{path}.{key}", "field not declared in schema"))
                return
            _validate(known, child, f"{path}.{key}", errors)
    elif form == "list":
        if type(value) is not list:
            errors.append(_at(path, f"expected list, got &{{{go_value(value)}}}"))
            return
        seen: set[str] = set()
        for position, item in enumerate(value):
            if t.list_kind == ATOMIC:
                below = f"{path}[{position}]"
            else:
                try:
                    element = element_of(t, item)
                except ValueError as error:
                    errors.append(_at(path, f"element {position}: {error}"))
                    return
                below = path + _element_text(element)
                if element in seen:
                    errors.append(_at(path, f"duplicate entries for key {_element_text(element)}"))
                seen.add(element)
            _validate(t.item, item, below, errors)
    else:
        _validate_scalar(t.scalar, value, path, errors)


def _element_text(element: str) -> str:
    return path_text((element,))


def _validate_scalar(kind: str, value: Any, path: str, errors: list[str]) -> None:
    number = type(value) in (int, float)
    if kind == "numeric":
        if not number:
            errors.append(_at(path, f"expected numeric (int or float), got {go_type(value)}"))
    elif kind == "string":
        if type(value) is not str:
            errors.append(_at(path, f"expected string, got &value.valueUnstructured{{Value:{go_literal(value)}}}"))
    elif kind == "boolean":
        if type(value) is not bool:
            errors.append(_at(path, f"expected boolean, got &{{{go_value(value)}}}"))
    elif not number and type(value) not in (str, bool):
        errors.append(_at(path, f"expected any scalar, got &{{{go_value(value)}}}"))
