"""Label and field selectors: parsing as clients write them, matching, and the real server's complaints.

Source: apimachinery `pkg/labels/selector.go` and `pkg/fields/selector.go` (behaviour; the code is ours).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache

from chandlery.controlplane.codec.gotext import go_quote
from chandlery.controlplane.errors import bad_request
from chandlery.controlplane.metadata import label_value_errors, qualified_name_errors

Labels = Mapping[str, str]
Requirement = Callable[[Labels], bool]


class LabelSelector:
    """A parsed label selector; `text` names it."""

    __slots__ = ("requirements", "text")

    def __init__(self, text: str, requirements: tuple[Requirement, ...]) -> None:
        self.text = text
        self.requirements = requirements

    def matches(self, labels: Labels) -> bool:
        return all(requirement(labels) for requirement in self.requirements)


_SYMBOLS = "=!(),<>"
_OPERATORS = {"=", "==", "!=", "in", "notin", "gt", "lt", ">", "<"}


def _tokens(text: str) -> list[tuple[str, str]]:
    """(kind, literal): kind is the symbol itself, `id` for words, `end` at the end."""
    out: list[tuple[str, str]] = []
    i, n = 0, len(text)
    while i < n:
        char = text[i]
        if char in " \t\r\n":
            i += 1
        elif char in _SYMBOLS:
            pair = text[i : i + 2]
            if pair in ("==", "!="):
                out.append((pair, pair))
                i += 2
            elif char in "=!(),<>":
                out.append((char, char))
                i += 1
        else:
            j = i
            while j < n and text[j] not in " \t\r\n" and text[j] not in _SYMBOLS:
                j += 1
            word = text[i:j]
            out.append((word if word in ("in", "notin") else "id", word))
            i = j
    out.append(("end", ""))
    return out


_VALUE_CONTEXT = {"in": "id", "notin": "id"}


class _Parser:
    """Recursive descent over the tokens, with upstream's words for what is wrong."""

    def __init__(self, text: str) -> None:
        self.tokens = _tokens(text)
        self.position = 0

    def peek(self, *, values: bool = False) -> tuple[str, str]:
        kind, literal = self.tokens[self.position]
        return (_VALUE_CONTEXT.get(kind, kind), literal) if values else (kind, literal)

    def take(self, *, values: bool = False) -> tuple[str, str]:
        token = self.peek(values=values)
        if self.position < len(self.tokens) - 1:
            self.position += 1
        return token

    def parse(self) -> list[Requirement]:
        requirements: list[Requirement] = []
        while True:
            kind, literal = self.peek()
            if kind in ("id", "!", "in", "notin"):
                try:
                    requirements.append(self.requirement())
                except ValueError as error:
                    raise bad_request(f"unable to parse requirement: {error}") from None
                kind, literal = self.take()
                if kind == "end":
                    return requirements
                if kind != ",":
                    raise bad_request(f"found '{literal}', expected: ',' or 'end of string'")
                after, literal2 = self.peek()
                if after not in ("id", "!", "in", "notin"):
                    raise bad_request(f"found '{literal2}', expected: identifier after ','")
            elif kind == "end":
                return requirements
            else:
                raise bad_request(f"found '{literal}', expected: !, identifier, or 'end of string'")

    def requirement(self) -> Requirement:
        negated = self.peek()[0] == "!"
        if negated:
            self.take()
        kind, key = self.take(values=True)
        if kind != "id":
            raise ValueError(f"found '{key}', expected: identifier")
        problems = qualified_name_errors(key)
        if problems:
            raise ValueError(f"<nil>: Invalid value: {go_quote(key)}: {'; '.join(problems)}")
        after, _ = self.peek()
        if negated:
            return lambda labels: key not in labels
        if after in ("end", ","):
            return lambda labels: key in labels
        operator, literal = self.take()
        if operator not in _OPERATORS:
            raise ValueError(f"found '{literal}', expected: in, notin, =, ==, !=, gt, lt")
        values = sorted(set(self.value_set())) if operator in ("in", "notin") else [self.exact_value()]
        return _compile(key, operator, values)

    def value_set(self) -> list[str]:
        kind, literal = self.take(values=True)
        if kind != "(":
            raise ValueError(f"found '{literal}' expected: '('")
        values: list[str] = []
        kind, literal = self.peek(values=True)
        if kind not in ("id", ",", ")"):
            raise ValueError(f"found '{literal}', expected: ',', ')' or identifier")
        while True:
            kind, literal = self.take(values=True)
            if kind == "id":
                values.append(literal)
                after, literal = self.peek(values=True)
                if after == ",":
                    continue
                if after != ")":
                    raise ValueError(f"found '{literal}', expected: ',' or ')'")
            elif kind == ",":
                if not values:
                    values.append("")
                after, literal = self.peek(values=True)
                if after == ")":
                    values.append("")
                elif after == ",":
                    self.take()
                    values.append("")
            elif kind == ")":
                return values or [""]
            else:
                raise ValueError(f"found '{literal}', expected: ',', or identifier")

    def exact_value(self) -> str:
        kind, literal = self.peek(values=True)
        if kind in ("end", ","):
            return ""
        if kind != "id":
            self.take(values=True)
            raise ValueError(f"found '{literal}', expected: identifier")
        return self.take(values=True)[1]


def _is_integer(text: str) -> bool:
    return re.fullmatch(r"[+-]?[0-9]+", text) is not None and -(1 << 63) <= int(text) < 1 << 63


def _value_problems(key: str, operator: str, values: list[str]) -> list[str]:
    problems = []
    if operator in ("gt", "lt", ">", "<") and not _is_integer(values[0]):
        why = "for 'Gt', 'Lt' operators, the value must be an integer"
        problems.append(f"values[0]: Invalid value: {go_quote(values[0])}: {why}")
    for index, value in enumerate(values):
        wrong = label_value_errors(value)
        if wrong:
            problems.append(f"values[{index}][{key}]: Invalid value: {go_quote(value)}: {'; '.join(wrong)}")
    return problems


def _compile(key: str, operator: str, values: list[str]) -> Requirement:
    problems = _value_problems(key, operator, values)
    if problems:
        raise ValueError(problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]")
    if operator in ("gt", "lt", ">", "<"):
        bound = int(values[0])
        above = operator in ("gt", ">")

        def compare(labels: Labels) -> bool:
            value = labels.get(key)
            if value is None or not _is_integer(value):
                return False
            return int(value) > bound if above else int(value) < bound

        return compare
    if operator in ("=", "=="):
        wanted = values[0]
        return lambda labels: labels.get(key) == wanted
    chosen = frozenset(values)
    if operator == "in":
        return lambda labels: labels.get(key) in chosen
    return lambda labels: labels.get(key) not in chosen


@lru_cache(maxsize=1024)
def parse_labels(text: str) -> LabelSelector:
    """Parse a `labelSelector` parameter; raises ApiError 400."""
    return LabelSelector(text, tuple(_Parser(text).parse()))


class FieldSelector:
    """A parsed field selector: (field, is equal, value) that all must hold."""

    __slots__ = ("terms", "text")

    def __init__(self, text: str, terms: tuple[tuple[str, bool, str], ...]) -> None:
        self.text = text
        self.terms = terms

    def matches(self, fields: Mapping[str, str]) -> bool:
        return all((fields.get(field, "") == value) is equal for field, equal, value in self.terms)

    def exact(self, field: str) -> str | None:
        """The value that a field must have, when the selector says so."""
        for name, equal, value in self.terms:
            if name == field and equal:
                return value
        return None


def _split_terms(text: str) -> list[str]:
    terms: list[str] = []
    term, i = "", 0
    while i < len(text):
        if text[i] == "\\" and i + 1 < len(text):
            term += text[i : i + 2]
            i += 2
            continue
        if text[i] == ",":
            terms.append(term)
            term = ""
        else:
            term += text[i]
        i += 1
    terms.append(term)
    return terms


def _unescape(value: str) -> str:
    out, i = "", 0
    while i < len(value):
        char = value[i]
        if char == "\\":
            if i + 1 >= len(value) or value[i + 1] not in "\\,=":
                raise bad_request(f"invalid field selector: invalid escape sequence: {value[i : i + 2]}")
            out += value[i + 1]
            i += 2
            continue
        if char in ",=":
            raise bad_request(f"invalid field selector: unescaped character in value: {ord(char)}")
        out += char
        i += 1
    return out


@lru_cache(maxsize=1024)
def parse_fields(text: str) -> FieldSelector:
    """Parse a `fieldSelector` parameter; raises ApiError 400."""
    terms: list[tuple[str, bool, str]] = []
    for part in sorted(_split_terms(text)):
        if part == "":
            continue
        for i in range(len(part)):
            if part[i] == "\\":
                continue
            found = next((op for op in ("!=", "==", "=") if part.startswith(op, i)), None)
            if found is not None:
                terms.append((part[:i], found != "!=", _unescape(part[i + len(found) :])))
                break
        else:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
    return FieldSelector(text, tuple(terms))
