"""JSON as Go decodes it: the fast way first, the exact way when something is odd.

orjson reads a body in microseconds but is stricter than Go in a few places (invalid UTF-8, lone surrogates) and
says other things about errors; it also drops duplicate keys in silence. What this module returns and
raises is what encoding/json and sigs.k8s.io/json would. Source: Go documentation, package encoding/json.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import orjson

MAX_DEPTH: Final = 200
"""How deep objects and lists may nest: deeper than any real object, and within what can be stored again."""
_MAX_STRICT_ERRORS: Final = 100


class JsonError(ValueError):
    """A text that isn't JSON; the message is Go's."""


def loads(raw: bytes) -> Any:
    """Decode JSON. Raises JsonError with Go's message."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        check(raw)  # raises when Go would refuse it too
        value = _lenient(raw)
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH:
        check_depth(value)
    return value


def check_depth(value: Any) -> None:
    """Raise JsonError when a value nests deeper than MAX_DEPTH."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(child for child in item.values() if isinstance(child, dict | list))
            elif isinstance(item, list):
                below.extend(child for child in item if isinstance(child, dict | list))
        if not below:
            return
        level = below
    raise JsonError("exceeded max depth")


def duplicates(raw: bytes, value: Any) -> list[str]:
    """The keys that objects name twice: `duplicate field "spec.a"`, in the document's order, at most 100.

    `value` is what `loads` made of `raw`. As no key and no string can hide a colon from both counts, equal counts of
    colons mean that there is nothing to report.
    """
    if b"\\u003" not in raw and b"\\u003A" not in raw and raw.count(b":") == orjson.dumps(value).count(b":"):
        return []
    tree = _pairs(raw)
    found: list[str] = []
    _find_duplicates(tree, "", found)
    return list(dict.fromkeys(found))[:_MAX_STRICT_ERRORS]


def in_document_order(raw: bytes, errors: list[str]) -> list[str]:
    """Strict-decoding errors as a typed decoder meets them: in the order of the document, nothing below unknown fields.

    `errors` are `unknown field "path"` and `duplicate field "path"`; what the document doesn't explain goes last.
    """
    try:
        tree = _pairs(raw)
    except (ValueError, RecursionError):
        return errors
    wanted = dict.fromkeys(errors)
    found: dict[str, None] = {}

    def visit(node: Any, path: str) -> None:
        if isinstance(node, _Pairs):
            seen: set[str] = set()
            for key, child in node:
                at = f"{path}.{key}" if path else key
                unknown = f'unknown field "{at}"'
                if unknown in wanted:
                    found[unknown] = None
                    continue
                if key in seen:
                    found[f'duplicate field "{at}"'] = None
                seen.add(key)
                visit(child, at)
        elif isinstance(node, list):
            for index, child in enumerate(node):
                visit(child, f"{path}[{index}]")

    visit(tree, "")
    kept = [error for error in found if error in wanted]
    return [*kept, *(error for error in errors if error not in found and not error.startswith("duplicate field "))]


class _Pairs(list[tuple[str, Any]]):
    """An object with every key it names, in order."""


def _pairs(raw: bytes) -> Any:
    return json.loads(raw.decode("utf-8", "replace"), object_pairs_hook=_Pairs, parse_float=str, parse_int=str)


def _find_duplicates(node: Any, path: str, found: list[str]) -> None:
    if isinstance(node, _Pairs):
        seen: set[str] = set()
        for key, child in node:
            at = f"{path}.{key}" if path else key
            if key in seen:
                found.append(f'duplicate field "{at}"')
            seen.add(key)
            _find_duplicates(child, at, found)
    elif isinstance(node, list):
        for index, child in enumerate(node):
            _find_duplicates(child, f"{path}[{index}]", found)


def whole_numbers(value: Any) -> Any:
    """A value with floats that are whole numbers made integers, as Go writes them."""
    if isinstance(value, float):
        return int(value) if abs(value) < 1 << 63 and value.is_integer() else value
    if isinstance(value, dict):
        return {key: whole_numbers(child) for key, child in value.items()}
    if isinstance(value, list):
        return [whole_numbers(child) for child in value]
    return value


def _lenient(raw: bytes) -> Any:
    """Decode what Go accepts and orjson doesn't: bad UTF-8 and lone surrogates become U+FFFD."""
    try:
        value = json.loads(raw.decode("utf-8", "replace"), parse_int=_number, parse_float=_number)
        text = json.dumps(value, ensure_ascii=False)
    except RecursionError:
        raise JsonError("exceeded max depth") from None
    if _SURROGATE.search(text):
        value = json.loads(_SURROGATE.sub("\ufffd", text))
    return value


def _number(text: str) -> int | float:
    if len(text) < 20 and text.lstrip("-").isdecimal():
        whole = int(text)
        if -(1 << 63) <= whole < 1 << 63:
            return whole
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise JsonError(f"json: cannot unmarshal number {text} into Go value of type float64")
    return value


_SURROGATE: Final = re.compile("[\ud800-\udfff]")


# --- Go's messages -----------------------------------------------------------------------------------


def _char(char: str) -> str:
    if char == "'":
        return r"'\''"
    if char == '"':
        return "'\"'"
    return "'" + json.dumps(char, ensure_ascii=not char.isprintable())[1:-1] + "'"


def _bad(char: str, context: str) -> JsonError:
    return JsonError(f"invalid character {_char(char)} {context}")


_END: Final = JsonError("unexpected end of JSON input")


def check(raw: bytes) -> None:
    """Raise JsonError with the message that Go's scanner has for this text; return when Go accepts it."""
    _Scanner(raw.decode("latin-1")).document()  # it names bytes, not characters


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def space(self) -> str:
        """The next character that isn't white space, "" at the end; it isn't consumed."""
        text, at = self.text, self.at
        while at < len(text) and text[at] in " \t\r\n":
            at += 1
        self.at = at
        return text[at] if at < len(text) else ""

    def document(self) -> None:
        stack: list[str] = []
        state = "value"
        while True:
            char = self.space()
            if state == "done":
                if char:
                    raise _bad(char, "after top-level value")
                return
            if not char:
                raise JsonError(str(_END))
            self.at += 1
            if state in ("value", "first item"):
                if char == "]" and state == "first item":
                    stack.pop()
                elif char in "{[":
                    stack.append(char)
                    if len(stack) > MAX_DEPTH:
                        raise JsonError("exceeded max depth")
                    state = "first key" if char == "{" else "first item"
                    continue
                else:
                    self.scalar(char)
            elif state in ("key", "first key"):
                if char == "}" and state == "first key":
                    stack.pop()
                elif char == '"':
                    self.string()
                    char = self.space()
                    if not char:
                        raise JsonError(str(_END))
                    if char != ":":
                        raise _bad(char, "after object key")
                    self.at += 1
                    state = "value"
                    continue
                else:
                    raise _bad(char, "looking for beginning of object key string")
            else:  # after a value inside a container
                container = stack[-1]
                if char == ",":
                    state = "key" if container == "{" else "value"
                    continue
                if char != ("}" if container == "{" else "]"):
                    where = "after object key:value pair" if container == "{" else "after array element"
                    raise _bad(char, where)
                stack.pop()
            state = "after" if stack else "done"

    def scalar(self, char: str) -> None:
        if char == '"':
            self.string()
        elif char == "-" or (char.isascii() and char.isdigit()):
            self.number(char)
        elif char in "tfn":
            word = {"t": "true", "f": "false", "n": "null"}[char]
            for expected in word[1:]:
                found = self.take()
                if found != expected:
                    raise _bad(found, f"in literal {word} (expecting {_char(expected)})")
        else:
            raise _bad(char, "looking for beginning of value")

    def take(self) -> str:
        if self.at >= len(self.text):
            raise JsonError(str(_END))
        self.at += 1
        return self.text[self.at - 1]

    def string(self) -> None:
        while True:
            char = self.take()
            if char == '"':
                return
            if char == "\\":
                escape = self.take()
                if escape == "u":
                    for _ in range(4):
                        digit = self.take()
                        if digit not in "0123456789abcdefABCDEF":
                            raise _bad(digit, r"in \u hexadecimal character escape")
                elif escape not in '"\\/bfnrt':
                    raise _bad(escape, "in string escape code")
            elif char < " ":
                raise _bad(char, "in string literal")

    def peek(self) -> str:
        return self.text[self.at] if self.at < len(self.text) else ""

    def digits(self, context: str) -> None:
        char = self.take()
        if not ("0" <= char <= "9"):
            raise _bad(char, context)
        while "0" <= self.peek() <= "9" and self.peek():
            self.at += 1

    def number(self, char: str) -> None:
        if char == "-":
            char = self.take()
            if not ("0" <= char <= "9"):
                raise _bad(char, "in numeric literal")
        if char != "0":
            while self.peek() and "0" <= self.peek() <= "9":
                self.at += 1
        if self.peek() == ".":
            self.at += 1
            self.digits("after decimal point in numeric literal")
        if self.peek() and self.peek() in "eE":
            self.at += 1
            if self.peek() and self.peek() in "+-":
                self.at += 1
            self.digits("in exponent of numeric literal")


def kind_of(value: Any) -> str:
    """What Go calls a decoded value in `cannot unmarshal ... into`."""
    match value:
        case bool():
            return "bool"
        case str():
            return "string"
        case int() | float():
            return "number"
        case list():
            return "array"
        case dict():
            return "object"
        case _:
            return "null"
