"""JSONPath as printer columns and selectable fields use it.

Source: kubectl's JSONPath documentation: children, escaped dots, quoted names, indexes, slices, unions, wildcards,
recursive descent and filters with one comparison.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from chandlery.controlplane.schema.gotext import json_text, verb_v

Step = Callable[[list[Any]], list[Any]]
"""From the values found so far to the values one step further down."""


class JSONPathError(ValueError):
    """A path that can't be read, or a step that doesn't fit the data."""


class JSONPath:
    """A parsed path; `find` returns all values that it names in a document, none for missing fields."""

    __slots__ = ("_steps",)

    def __init__(self, text: str) -> None:
        self._steps = _Parser(text).steps()

    def find(self, document: Any) -> list[Any]:
        """Raises JSONPathError when an index or a comparison doesn't fit the data."""
        values = [document]
        for step in self._steps:
            values = step(values)
            if not values:
                break
        return values


def as_text(value: Any) -> str:
    """A value as a column of type string prints it."""
    if value is None:
        return "<no value>"
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return verb_v(value)
    return json_text(value)


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def steps(self) -> list[Step]:
        text = self.text
        steps: list[Step] = []
        if text[:1] in ("@", "$"):
            self.at = 1
        while self.at < len(text):
            char = text[self.at]
            if text.startswith("..", self.at):
                self.at += 2
                steps.append(_descend)
                if self.at < len(text) and text[self.at] not in ".[":
                    steps.append(self._name())
            elif char == ".":
                self.at += 1
                if self.at < len(text) and text[self.at] not in ".[":
                    steps.append(self._name())
            elif char == "[":
                steps.append(self._bracket())
            elif char.isalnum() or char in "_-*\\":
                steps.append(self._name())
            else:
                raise JSONPathError(f"unrecognized character in action: {char!r}")
        return steps

    def _name(self) -> Step:
        text = self.text
        name: list[str] = []
        while self.at < len(text):
            char = text[self.at]
            if char == "\\" and self.at + 1 < len(text):
                name.append(text[self.at + 1])
                self.at += 2
                continue
            if char in ".[] \t'\"(){},":
                break
            name.append(char)
            self.at += 1
        if not name:
            raise JSONPathError(f"a field name is missing at position {self.at} of {text!r}")
        found = "".join(name)
        return _wildcard if found == "*" else _field(found)

    def _bracket(self) -> Step:
        text = self.text
        end = self._closing(self.at)
        inside = text[self.at + 1 : end].strip()
        self.at = end + 1
        if inside.startswith("?"):
            body = inside[1:].strip()
            if not (body.startswith("(") and body.endswith(")")):
                raise JSONPathError(f"unterminated filter: {inside!r}")
            return _filter(body[1:-1].strip())
        if inside == "*":
            return _wildcard
        parts = _split(inside)
        if all(_QUOTED.fullmatch(part) for part in parts):
            names = [_unquote(part) for part in parts]
            return _field(names[0]) if len(names) == 1 else _union([_field(name) for name in names])
        steps = []
        for part in parts:
            match = _SLICE.fullmatch(part)
            if match is None:
                raise JSONPathError(f"invalid array index {part}")
            steps.append(_slice(match))
        return steps[0] if len(steps) == 1 else _union(steps)

    def _closing(self, start: int) -> int:
        """The position of the bracket that closes the one at `start`."""
        depth, quote = 0, ""
        for position in range(start, len(self.text)):
            char = self.text[position]
            if quote:
                if char == quote and self.text[position - 1] != "\\":
                    quote = ""
            elif char in "'\"":
                quote = char
            elif char == "[":
                depth += 1
            elif char == "]":
                depth -= 1
                if not depth:
                    return position
        raise JSONPathError("unterminated array")


_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
_SLICE = re.compile(r"(-?\d+)|(-?\d*)?:(-?\d*)(?::(-?\d+))?")
_COMPARE = re.compile(r"(==|!=|<=|>=|<|>)")


def _split(text: str) -> list[str]:
    return [part.strip() for part in re.findall(r"(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[^,'\"])+", text)] or [""]


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1])


def _field(name: str) -> Step:
    def step(values: list[Any]) -> list[Any]:
        return [value[name] for value in values if isinstance(value, dict) and name in value]

    return step


def _wildcard(values: list[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if isinstance(value, dict):
            found.extend(value[name] for name in sorted(value))
        elif isinstance(value, list):
            found.extend(value)
    return found


def _descend(values: list[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        found.append(value)
        members = _wildcard([value])
        if members:
            found.extend(_descend(members))
    return found


def _union(steps: list[Step]) -> Step:
    return lambda values: [found for step in steps for found in step(values)]


def _slice(match: re.Match[str]) -> Step:
    def step(values: list[Any]) -> list[Any]:
        found: list[Any] = []
        for value in values:
            if value is None:
                continue
            if not isinstance(value, list):
                raise JSONPathError(f"{type(value).__name__} is not array or slice")
            if match[1] is not None:
                position = int(match[1])
                if not -len(value) <= position < len(value):
                    raise JSONPathError(f"array index out of bounds: index {position}, length {len(value)}")
                found.append(value[position])
            else:
                low = int(match[2]) if match[2] else None
                high = int(match[3]) if match[3] else None
                stride = int(match[4]) if match[4] else None
                if stride is not None and stride <= 0:
                    raise JSONPathError("step must be > 0")
                found.extend(value[low:high:stride])
        return found

    return step


def _operand(text: str) -> Callable[[Any], list[Any]]:
    if _QUOTED.fullmatch(text):
        literal: Any = _unquote(text)
    elif re.fullmatch(r"-?\d+", text):
        literal = int(text)
    elif re.fullmatch(r"-?\d*\.\d+(?:[eE][-+]?\d+)?", text):
        literal = float(text)
    elif text in ("true", "false"):
        literal = text == "true"
    else:
        return JSONPath(text).find
    return lambda _item: [literal]


def _filter(text: str) -> Step:
    parts = _COMPARE.split(text, maxsplit=1) if not _QUOTED.fullmatch(text) else [text]
    left = _operand(parts[0].strip())
    operator, right = (parts[1], _operand(parts[2].strip())) if len(parts) == 3 else ("", None)

    def passes(item: Any) -> bool:
        found = left(item)
        if right is None:
            return bool(found)
        other = right(item)
        if not found or not other:
            return False
        if len(found) > 1 or len(other) > 1:
            raise JSONPathError("can only compare one element at a time")
        return _compare(found[0], operator, other[0])

    def step(values: list[Any]) -> list[Any]:
        kept: list[Any] = []
        for value in values:
            if value is None:
                continue
            if not isinstance(value, list | dict):
                raise JSONPathError(f"{json_text(value)} is not array or slice and cannot be filtered")
            kept.extend(item for item in (value if isinstance(value, list) else [value]) if passes(item))
        return kept

    return step


def _compare(left: Any, operator: str, right: Any) -> bool:
    if type(left) is not type(right):
        raise JSONPathError("incompatible types for comparison")
    if operator == "==":
        return bool(left == right)
    if operator == "!=":
        return bool(left != right)
    if isinstance(left, bool | dict | list) or left is None:
        raise JSONPathError("invalid type for comparison")
    if operator == "<":
        return bool(left < right)
    if operator == "<=":
        return bool(left <= right)
    if operator == ">":
        return bool(left > right)
    return bool(left >= right)
