"""Text to tokens. Source: the CEL language definition, "Syntax"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from chandlery.controlplane.cel.values import UInt

RESERVED = frozenset(
    "as break const continue else for function if import let loop package namespace return var void while".split()
)
_OPERATORS = ("==", "!=", "<=", ">=", "&&", "||", *"[]{}().,-!?:+*/%<>")
_SPACE = re.compile(r"(?:[ \t\r\n\f]+|//[^\n]*)+")
_IDENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NUMBER = re.compile(
    r"(?P<float>(?:[0-9]+(?:\.[0-9]+(?:[eE][+-]?[0-9]+)?|[eE][+-]?[0-9]+)|\.[0-9]+(?:[eE][+-]?[0-9]+)?))"
    r"|(?P<hex>0[xX][0-9A-Fa-f]+)(?P<hu>[uU])?|(?P<int>[0-9]+)(?P<u>[uU])?"
)
_SIMPLE = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", "'": "'", '"': '"',
    "`": "`", "?": "?",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Token:
    """`kind` is the operator itself, or one of IDENT, LITERAL, EOF; `text` is what stands in the source."""

    kind: str
    text: str
    offset: int
    value: Any = None


class LexError(ValueError):
    def __init__(self, offset: int, message: str) -> None:
        super().__init__(message)
        self.offset = offset


def tokenize(source: str) -> list[Token]:
    """All tokens and an EOF. Raises LexError."""
    tokens: list[Token] = []
    at = 0
    while at < len(source):
        if match := _SPACE.match(source, at):
            at = match.end()
            continue
        if token := _string(source, at):
            tokens.append(token)
        elif match := _IDENT.match(source, at):
            text = match.group()
            if text in ("true", "false", "null"):
                tokens.append(Token("LITERAL", text, at, {"true": True, "false": False}.get(text)))
            else:
                tokens.append(Token("in" if text == "in" else "IDENT", text, at))
        elif match := _NUMBER.match(source, at):
            tokens.append(_number(match, at))
        else:
            for operator in _OPERATORS:
                if source.startswith(operator, at):
                    tokens.append(Token(operator, operator, at))
                    break
            else:
                raise LexError(at, f"Syntax error: token recognition error at: '{source[at]}'")
        at += len(tokens[-1].text)
    tokens.append(Token("EOF", "<EOF>", len(source)))
    return tokens


def _number(match: re.Match[str], at: int) -> Token:
    text = match.group()
    if match["float"]:
        return Token("LITERAL", text, at, float(text))
    digits = match["hex"] or match["int"]
    number = int(digits, 16 if match["hex"] else 10)
    if match["hu"] or match["u"]:
        if number >= 1 << 64:
            raise LexError(at, "invalid uint literal")
        return Token("LITERAL", text, at, UInt(number))
    return Token("LITERAL", text, at, number)


def _string(source: str, at: int) -> Token | None:
    match = re.compile(r"(?:[bB][rR]?|[rR][bB]?)?(?='|\")").match(source, at)
    if match is None:
        return None
    prefix = match.group().lower()
    start = match.end()
    quote = source[start]
    closing = quote * 3 if source.startswith(quote * 3, start) else quote
    raw = "r" in prefix
    position = start + len(closing)
    while True:
        if position >= len(source) or (len(closing) == 1 and source[position] in "\r\n"):
            raise LexError(at, f"Syntax error: token recognition error at: '{source[at:position]}'")
        if source.startswith(closing, position):
            break
        position += 2 if source[position] == "\\" and not raw else 1
    body = source[start + len(closing) : position]
    text = source[at : position + len(closing)]
    as_bytes = "b" in prefix
    body = body.replace("\r\n", "\n").replace("\r", "\n")
    if raw:
        value: Any = body.encode() if as_bytes else body
    else:
        value = _unescape(body, as_bytes=as_bytes, at=at)
    return Token("LITERAL", text, at, value)


def _unescape(body: str, *, as_bytes: bool, at: int) -> Any:
    out: list[str] = []
    data = bytearray()

    def add(char: str, byte: int | None = None) -> None:
        if not as_bytes:
            out.append(char)
        elif byte is not None:
            data.append(byte)
        else:
            data.extend(char.encode())

    position = 0
    while position < len(body):
        char = body[position]
        if char != "\\":
            add(char)
            position += 1
            continue
        follow = body[position + 1 : position + 2]
        if follow in _SIMPLE:
            add(_SIMPLE[follow])
            position += 2
        elif match := re.match(r"[xX]([0-9A-Fa-f]{2})|([0-3][0-7]{2})", body[position + 1 :]):
            code = int(match[1], 16) if match[1] else int(match[2], 8)
            add(chr(code), code)
            position += 1 + match.end()
        elif (match := re.match(r"u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})", body[position + 1 :])) and not as_bytes:
            code = int(match[1] or match[2], 16)
            if code > 0x10FFFF or 0xD800 <= code < 0xE000:
                raise LexError(at, "invalid unicode code point")
            add(chr(code))
            position += 1 + match.end()
        else:
            raise LexError(at, "Syntax error: unable to unescape string")
    return bytes(data) if as_bytes else "".join(out)
