"""Text to tokens. Source: the CEL language definition, "Syntax"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from chandlery.controlplane.cel.values import UInt

RESERVED = frozenset(
    "as break const continue else for function if import let loop package namespace return var void while".split()
)
_TOKEN = re.compile(
    r"""(?:[ \t\r\n\f]+|//[^\n]*)*
    (?:
      (?P<quoted>(?P<prefix>[bB]?[rR]?|[rR][bB])(?='|"))
    | (?P<ident>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<float>[0-9]+(?:\.[0-9]+(?:[eE][+-]?[0-9]+)?|[eE][+-]?[0-9]+)|\.[0-9]+(?:[eE][+-]?[0-9]+)?)
    | (?P<integer>(?:0[xX][0-9A-Fa-f]+|[0-9]+))(?P<unsigned>[uU])?
    | (?P<operator>==|!=|<=|>=|&&|\|\||[\[\]{}().,\-!?:+*/%<>])
    | (?P<end>\Z)
    )""",
    re.VERBOSE,
)
_PLAIN = re.compile(r"""'(?!'')([^'\\\r\n]*)'|"(?!"")([^"\\\r\n]*)\"""")
"""A string on one line without escapes: the usual case."""
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
    """Text that is no token, up to `end`."""

    def __init__(self, offset: int, message: str, end: int) -> None:
        super().__init__(message)
        self.offset = offset
        self.end = end


def tokenize(source: str) -> tuple[list[Token], list[tuple[int, str]]]:
    """All tokens and an EOF, and what was skipped because it is no token (offset and message)."""
    tokens: list[Token] = []
    problems: list[tuple[int, str]] = []
    at = 0
    while not tokens or tokens[-1].kind != "EOF":
        try:
            at = _token(source, at, tokens)
        except LexError as error:
            problems.append((error.offset, str(error)))
            at = error.end
    return tokens, problems


def _unrecognized(source: str, start: int, end: int) -> LexError:
    """The text up to and with the character that doesn't fit."""
    return LexError(start, f"Syntax error: token recognition error at: '{source[start:end]}'", end)


def _token(source: str, at: int, tokens: list[Token]) -> int:
    """Append the next token; the position behind it. Raises LexError."""
    match = _TOKEN.match(source, at)
    if match is None:
        blank = _BLANK.match(source, at)
        start = blank.end() if blank else at
        half = source[start] in "=&|"  # the first half of an operator: the other half was expected
        raise _unrecognized(source, start, min(start + (2 if half else 1), len(source)))
    kind = match.lastgroup
    at = match.end()
    if kind == "end":
        token = Token("EOF", "<EOF>", len(source))
    elif kind == "quoted":
        token = _string(source, match.start("quoted"), match["prefix"].lower(), at)
        at = token.offset + len(token.text)
    elif kind == "ident":
        text, start = match["ident"], match.start("ident")
        if text in _WORDS:
            token = Token("LITERAL", text, start, _WORDS[text])
        else:
            token = Token("in" if text == "in" else "IDENT", text, start)
    elif kind == "operator":
        text = match["operator"]
        token = Token(text, text, match.start("operator"))
    elif kind == "float":
        token = Token("LITERAL", match["float"], match.start("float"), float(match["float"]))
    else:
        token = _integer(match)
    tokens.append(token)
    return at


_BLANK = re.compile(r"(?:[ \t\r\n\f]+|//[^\n]*)*")
_WORDS = {"true": True, "false": False, "null": None}


def _integer(match: re.Match[str]) -> Token:
    digits, start = match["integer"], match.start("integer")
    number = int(digits, 16 if digits[:2] in ("0x", "0X") else 10)
    if not match["unsigned"]:
        return Token("LITERAL", digits, start, number)
    if number >= 1 << 64:
        raise LexError(start, "invalid uint literal", match.end())
    return Token("LITERAL", digits + match["unsigned"], start, UInt(number))


def _string(source: str, at: int, prefix: str, start: int) -> Token:
    """The string literal at `at`, whose opening quote stands at `start`."""
    if not prefix and (plain := _PLAIN.match(source, start)):
        return Token("LITERAL", plain.group(), at, plain[1] if plain[1] is not None else plain[2])
    quote = source[start]
    closing = quote * 3 if source.startswith(quote * 3, start) else quote
    raw = "r" in prefix
    position = start + len(closing)
    while True:
        if position >= len(source) or (len(closing) == 1 and source[position] in "\r\n"):
            raise _unrecognized(source, at, min(position + 1, len(source)))
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
        value = _unescape(body, as_bytes=as_bytes, at=at, source=source, start=start + len(closing))
    return Token("LITERAL", text, at, value)


def _unescape(body: str, *, as_bytes: bool, at: int, source: str, start: int) -> Any:
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
                raise LexError(at, "invalid unicode code point", start + len(body) + 1)
            add(chr(code))
            position += 1 + match.end()
        else:
            raise _unrecognized(source, at, min(start + position + 2, len(source)))
    return bytes(data) if as_bytes else "".join(out)
