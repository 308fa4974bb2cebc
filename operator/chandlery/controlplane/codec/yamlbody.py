"""YAML as the API server reads and writes it.

Reading follows the YAML 1.1 dialect of Go's yaml.v2 (`yes`, `on`, `y` are booleans, keys become strings), with its
messages; writing sorts keys and quotes what another reader could take for something else.
"""

from __future__ import annotations

import re
from math import inf, isinf
from typing import Any, Final

import yaml
from yaml.events import (
    AliasEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from chandlery.controlplane.codec.gojson import MAX_DEPTH, JsonError, check_depth
from chandlery.controlplane.codec.gotext import go_float

_Loader: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: type = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_MAX_NODES: Final = 1_000_000
"""Nodes after aliases are followed: a small document can't grow without bound."""


_ALIAS: Final = re.compile(r"\*\w")


class YamlError(ValueError):
    """A text that isn't YAML, or YAML that has no JSON form; the message is Go's, from `yaml: ` on."""


def loads(raw: bytes) -> tuple[Any, list[str]]:
    """Decode one document: (value, lines about keys set twice: `line 7: key "a" already set in map`).

    Raises YamlError.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise YamlError("yaml: invalid leading UTF-8 octet") from None
    try:
        value, twice = _Reader(text).document()
        if _ALIAS.search(text):
            check_depth(value)
        return value, twice
    except JsonError:
        raise YamlError("yaml: exceeded max depth") from None
    except yaml.MarkedYAMLError as error:
        raise YamlError("yaml: " + _where(error) + (error.problem or "unknown problem parsing YAML content")) from None
    except yaml.reader.ReaderError:
        raise YamlError("yaml: control characters are not allowed") from None
    except RecursionError:
        raise YamlError("yaml: exceeded max depth of 10000") from None


def _where(error: yaml.MarkedYAMLError) -> str:
    """The line that Go names: of the context when it isn't the first line, else of the problem; scanners count on."""
    for mark in (error.context_mark, error.problem_mark):
        if mark is not None and mark.line:
            line = mark.line + (1 if isinstance(error, yaml.scanner.ScannerError) else 0)
            return f"line {line}: "
    return ""


class _Reader:
    def __init__(self, text: str) -> None:
        self.loader = _Loader(text)
        self.anchors: dict[str, tuple[Any, int]] = {}
        """Name -> (value, nodes it stands for)."""
        self.open: list[str] = []
        self.depth = 0
        self.twice: list[str] = []
        self.nodes = 0

    def document(self) -> tuple[Any, list[str]]:
        loader = self.loader
        try:
            loader.get_event()  # stream start
            if not loader.check_event(yaml.DocumentStartEvent):
                return None, []
            loader.get_event()
            value = self.value(loader.get_event())
        finally:
            loader.dispose()
        return value, self.twice

    def value(self, event: Any) -> Any:
        before = self.nodes
        self.count(1)
        anchor = event.anchor
        if isinstance(event, AliasEvent):
            if anchor in self.open:
                raise YamlError(f"yaml: anchor '{anchor}' value contains itself")
            if anchor not in self.anchors:
                raise YamlError(f"yaml: unknown anchor '{anchor}' referenced")
            value, size = self.anchors[anchor]
            self.count(size)
            return value
        if anchor:
            self.open.append(anchor)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise YamlError("yaml: exceeded max depth")
        match event:
            case ScalarEvent():
                value = _scalar(event)
            case MappingStartEvent():
                value = self.mapping()
            case SequenceStartEvent():
                value = []
                while not isinstance(item := self.loader.get_event(), SequenceEndEvent):
                    value.append(self.value(item))
            case _:
                raise YamlError("yaml: unknown node")
        self.depth -= 1
        if anchor:
            self.open.pop()
            self.anchors[anchor] = (value, self.nodes - before)
        return value

    def count(self, nodes: int) -> None:
        self.nodes += nodes
        if self.nodes > _MAX_NODES:
            raise YamlError("yaml: document contains excessive aliasing")

    def mapping(self) -> dict[str, Any]:
        out: dict[str, Any] = {}
        merged: list[dict[str, Any]] = []
        seen: set[str] = set()
        while not isinstance(event := self.loader.get_event(), MappingEndEvent):
            merge = isinstance(event, ScalarEvent) and event.value == "<<" and event.implicit[0]
            line = event.start_mark.line + 1
            key = self.value(event)
            value = self.value(self.loader.get_event())
            if merge:
                merged.extend(
                    item for item in (value if isinstance(value, list) else [value]) if isinstance(item, dict)
                )
                continue
            name = _key(key)
            if name in seen:
                self.twice.append(f'line {line}: key "{name}" already set in map')
            seen.add(name)
            out[name] = value
        for other in merged:
            for name, value in other.items():
                out.setdefault(name, value)
        return out


def _key(key: Any) -> str:
    match key:
        case str():
            return key
        case bool():
            return "true" if key else "false"
        case None:
            return "null"
        case int():
            return str(key)
        case float():
            return go_float(key)
        case _:
            raise YamlError("yaml: invalid map key: " + str(key))


_TRUE: Final = frozenset("y Y yes Yes YES true True TRUE on On ON".split())
_FALSE: Final = frozenset("n N no No NO false False FALSE off Off OFF".split())
_NULL: Final = frozenset(["", "~", "null", "Null", "NULL"])
_INTEGER: Final = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO]?[0-7_]*|[1-9][0-9_]*)\Z")
_FLOAT: Final = re.compile(r"[-+]?[0-9]*\.?[0-9]+(?:[eE][-+][0-9]+)?\Z|[-+]?[0-9]+\.(?:[eE][-+][0-9]+)?\Z")


def _scalar(event: Any) -> Any:
    text: str = event.value
    tag = event.tag
    if tag is None or tag == "!":
        return _plain(text) if event.implicit[0] and not event.style else text
    short = tag.removeprefix("tag:yaml.org,2002:")
    if short == "str":
        return text
    if short == "binary":
        return text.replace("\n", "").replace(" ", "")
    value = _plain(text)
    if short == "float" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def _plain(text: str) -> Any:
    if text in _NULL:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if text[0] not in "+-.0123456789":
        return text
    digits = text.replace("_", "")
    if _INTEGER.match(text) and digits.lstrip("+-"):
        return _number(digits)
    if _FLOAT.match(digits):
        value = float(digits)
        return text if isinf(value) else _whole(value)
    if digits.lower() in (".nan", ".inf", "+.inf", "-.inf"):
        name = "NaN" if "n" in digits.lower().removesuffix("inf") else f"{'-' if digits[0] == '-' else '+'}Inf"
        raise YamlError(f"json: unsupported value: {name}")
    return text


def _whole(value: float) -> float | int:
    return int(value) if abs(value) < 1 << 63 and value.is_integer() else value


def _number(digits: str) -> int | float | str:
    sign = -1 if digits[0] == "-" else 1
    body = digits.lstrip("+-").lower()
    if len(body) > 80:  # no 64-bit number, whatever the base
        value = float(digits) if body.isdecimal() else inf
        return digits if isinf(value) else value
    try:
        if body.startswith("0x"):
            value = int(body, 16)
        elif body.startswith("0b"):
            value = int(body, 2)
        elif body.startswith("0o") or (len(body) > 1 and body[0] == "0"):
            value = int(body.replace("o", "", 1), 8)
        else:
            value = int(body)
    except ValueError:
        return digits
    value *= sign
    return value if -(1 << 63) <= value < (1 << 63) else float(value)


# --- writing -------------------------------------------------------------------------------------------


class _Writer(_Dumper):  # type: ignore[misc]
    """Block style without aliases; strings quoted as Go's writer does."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_TIME_LIKE: Final = re.compile(r"\d{4}-\d{1,2}-\d{1,2}(?:$|[Tt\s])")
_BASE60: Final = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?\Z")


def _represent_text(dumper: Any, text: str) -> Any:
    style = None
    if "\n" in text:
        style = "|"
    elif text in _NULL | _TRUE | _FALSE or _ambiguous(text):
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _ambiguous(text: str) -> bool:
    try:
        value = _plain(text)
    except YamlError:
        return True
    return not isinstance(value, str) or bool(_TIME_LIKE.match(text) or _BASE60.match(text)) or text in ("<<", "=")


def _represent_float(dumper: Any, value: float) -> Any:
    return dumper.represent_scalar("tag:yaml.org,2002:float", go_float(value))


_Writer.add_representer(str, _represent_text)
_Writer.add_representer(float, _represent_float)


def dumps(obj: Any) -> bytes:
    """One document: keys sorted, two spaces, lists not indented, long lines folded at 80 columns."""
    out: bytes = yaml.dump(
        obj,
        Dumper=_Writer,
        default_flow_style=False,
        sort_keys=True,
        allow_unicode=True,
        encoding="utf-8",
    )
    return out
