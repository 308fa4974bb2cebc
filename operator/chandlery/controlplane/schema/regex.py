r"""RE2 patterns: syntax checked and refused as the reference server does, matched by RE2 itself.

Patterns come from whoever may write a CRD or a policy, texts from whoever may write an object: matching must take time
in proportion to the text, which RE2 guarantees and Python's `re` doesn't. Where RE2 has no build (musl), the pattern is
rewritten for `re`, whose dialect differs (`$`, `\\z`, `\\pL`, POSIX classes, `\\Q..\\E`, flag groups), and texts
longer than `LONGEST` never match. Matching is a search, not a full match. Source: RE2's syntax page.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Protocol

_POSIX = {
    "alnum": "0-9A-Za-z", "alpha": "A-Za-z", "ascii": r"\x00-\x7F", "blank": r"\t ", "cntrl": r"\x00-\x1F\x7F",
    "digit": "0-9", "graph": "!-~", "lower": "a-z", "print": " -~", "punct": r"!-/:-@\[-`{-~", "space": r"\t\n\v\f\r ",
    "upper": "A-Z", "word": "0-9A-Za-z_", "xdigit": "0-9A-Fa-f",
}  # fmt: skip
_PERL = {"d": "0-9", "s": r"\t\n\f\r ", "w": "0-9A-Za-z_"}
_ESCAPES = {"a": r"\x07", "f": r"\x0c", "n": r"\n", "r": r"\r", "t": r"\t", "v": r"\x0b"}
_MAX_REPEAT = 1000
_CATEGORIES = frozenset(
    [
        "L",
        "Lu",
        "Ll",
        "Lt",
        "Lm",
        "Lo",
        "M",
        "Mn",
        "Mc",
        "Me",
        "N",
        "Nd",
        "Nl",
        "No",
        "P",
        "Pc",
        "Pd",
        "Ps",
        "Pe",
        "Pi",
        "Pf",
        "Po",
        "S",
        "Sm",
        "Sc",
        "Sk",
        "So",
        "Z",
        "Zs",
        "Zl",
        "Zp",
        "C",
        "Cc",
        "Cf",
        "Co",
        "Cs",
    ]
)
_SCRIPTS = {"Greek": "GREEK", "Latin": "LATIN", "Cyrillic": "CYRILLIC", "Han": "CJK", "Hebrew": "HEBREW"}


class RegexError(ValueError):
    """A pattern that RE2 refuses; the text is its own ("missing closing ): `((`")."""


LONGEST = 2048
"""The longest text that a pattern is tried on where there is no RE2. It keeps most patterns quick; one that was made to
be slow (`(a+)+$`) can be that on a short text too, so there only people who are trusted should make CRDs."""


class Pattern(Protocol):
    """What is used of a compiled pattern."""

    def search(self, text: str, /) -> Any:
        """The first match (with `group` and `start`), or None."""

    def finditer(self, text: str, /) -> Iterator[Any]:
        """All matches, first to last."""


@lru_cache(maxsize=1024)
def compile_re2(pattern: str) -> Pattern:
    """The compiled pattern. Raises RegexError with RE2's wording in Go."""
    translated = _Translator(pattern).run()
    re2 = _re2()
    if re2 is not None:
        try:
            return _Linear(re2.compile(pattern, _options()))
        except (re2.error, UnicodeEncodeError) as error:
            raise RegexError(f"invalid or unsupported Perl syntax: `{pattern}`") from error
    try:
        return _Bounded(re.compile(translated))
    except (re.error, OverflowError, RecursionError) as error:
        raise RegexError(f"invalid or unsupported Perl syntax: `{pattern}`") from error


@lru_cache(maxsize=1)
def _re2() -> Any:
    """The module, imported by the first pattern; None where it has no build."""
    try:
        import re2
    except ImportError:
        return None
    return re2


@lru_cache(maxsize=1)
def _options() -> Any:
    options = _re2().Options()
    options.log_errors = False
    return options


def _whole(text: str) -> str:
    """Text without halves of surrogate pairs, which JSON can spell and UTF-8 can't."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class _Linear:
    """A pattern of RE2's."""

    __slots__ = ("_compiled",)

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled

    def search(self, text: str) -> Any:
        try:
            return self._compiled.search(text)
        except UnicodeEncodeError:
            return self._compiled.search(_whole(text))

    def finditer(self, text: str) -> Iterator[Any]:
        try:
            text.encode()
        except UnicodeEncodeError:
            text = _whole(text)
        return self._compiled.finditer(text)  # type: ignore[no-any-return]


class _Bounded:
    """A pattern of `re`'s, for texts that are short enough."""

    __slots__ = ("_compiled",)

    def __init__(self, compiled: re.Pattern[str]) -> None:
        self._compiled = compiled

    def search(self, text: str) -> Any:
        return self._compiled.search(text) if len(text) <= LONGEST else None

    def finditer(self, text: str) -> Iterator[Any]:
        return self._compiled.finditer(text) if len(text) <= LONGEST else iter(())


@lru_cache(maxsize=64)
def _category(name: str) -> str:
    """A Unicode general category or script as the inside of a character class."""
    ranges: list[str] = []
    start = previous = -2
    for code in range(0x110000):
        char = chr(code)
        if name in _SCRIPTS:
            inside = unicodedata.name(char, "").startswith(_SCRIPTS[name])
        else:
            inside = unicodedata.category(char).startswith(name)
        if not inside:
            continue
        if code != previous + 1:
            if start >= 0:
                ranges.append(_range(start, previous))
            start = code
        previous = code
    if start >= 0:
        ranges.append(_range(start, previous))
    return "".join(ranges)


def _range(low: int, high: int) -> str:
    return f"\\U{low:08x}" if low == high else f"\\U{low:08x}-\\U{high:08x}"


class _Translator:
    """One pass over a pattern: checks RE2's grammar and writes Python's."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.out: list[str] = []
        self.flags: list[frozenset[str]] = [frozenset()]
        self.wraps: list[list[str]] = [[]]
        """For each open group the case groups that a bare `(?i)` opened inside it."""
        self.names: set[str] = set()

    def run(self) -> str:
        text = self.pattern
        depth = 0
        atom = False  # whether something stands before a repetition operator
        while self.at < len(text):
            char = text[self.at]
            if char == "(":
                if self._open():
                    depth += 1
                atom = False
            elif char == ")":
                if depth == 0:
                    raise RegexError(f"unexpected ): `{text}`")
                depth -= 1
                self.flags.pop()
                self.out.append(")" * len(self.wraps.pop()) + ")")
                self.at += 1
                atom = True
            elif char in "*+?" or (char == "{" and self._repeat_ahead()):
                atom = self._repeat(atom)
            elif char == "|":
                # A flag holds until the end of its group, across alternatives.
                self.out.append(")" * len(self.wraps[-1]) + "|" + "".join(self.wraps[-1]))
                self.at += 1
                atom = False
            elif char == "[":
                self.out.append(self._class())
                atom = True
            elif char == "\\":
                self._escape()
                atom = True
            else:
                self._plain(char)
                atom = True
        if depth:
            raise RegexError(f"missing closing ): `{text}`")
        return "".join(self.out) + ")" * len(self.wraps[0])

    def _plain(self, char: str) -> None:
        flags = self.flags[-1]
        if char == "^":
            self.out.append("(?m:^)" if "m" in flags else r"\A")
        elif char == "$":
            self.out.append("(?m:$)" if "m" in flags else r"\Z")
        elif char == ".":
            self.out.append("(?s:.)" if "s" in flags else r"[^\n]")
        else:
            self.out.append(self._literal(char))
        self.at += 1

    def _literal(self, char: str) -> str:
        return re.escape(char)

    def _open(self) -> bool:
        """At "(": writes the group. True when a group was opened, False for a bare flag setting."""
        text, start = self.pattern, self.at
        if text.startswith("(?P<", start) or (
            text.startswith("(?<", start) and text[start + 3 : start + 4] not in "=!"
        ):
            offset = 4 if text.startswith("(?P<", start) else 3
            end = text.find(">", start)
            if end < 0:
                raise RegexError(f"invalid named capture: `{text[start:]}`")
            name = text[start + offset : end]
            if not re.fullmatch(r"\w+", name):
                raise RegexError(f"invalid named capture: `{text[start : end + 1]}`")
            if name in self.names:
                raise RegexError(f"duplicate capture group name: `{name}`")
            self.names.add(name)
            self.out.append("(")
            self.at = end + 1
        elif text.startswith("(?", start):
            return self._flag_group(start)
        else:
            self.out.append("(")
            self.at += 1
        self.flags.append(self.flags[-1])
        self.wraps.append([])
        return True

    def _flag_group(self, start: int) -> bool:
        text = self.pattern
        flags = set(self.flags[-1])
        sign, seen = True, False
        position = start + 2
        while position < len(text):
            char = text[position]
            position += 1
            if char in "imsU":
                (flags.add if sign else flags.discard)(char)
                seen = True
            elif char == "-":
                if not sign:
                    break
                sign, seen = False, False
            elif char in ":)":
                if not sign and not seen:
                    break
                self.at = position
                if char == ")":
                    if ("i" in flags) != ("i" in self.flags[-1]):
                        self.wraps[-1].append("(?i:" if "i" in flags else "(?-i:")
                        self.out.append(self.wraps[-1][-1])
                    self.flags[-1] = frozenset(flags)
                    return False
                self.flags.append(frozenset(flags))
                self.wraps.append([])
                self.out.append("(?i:" if "i" in flags else "(?-i:")
                return True
            else:
                break
        if position >= len(text) and text[start:].find(")") < 0:
            raise RegexError(f"missing closing ): `{text}`")
        raise RegexError(f"invalid or unsupported Perl syntax: `{text[start:position]}`")

    def _repeat_ahead(self) -> bool:
        return re.match(r"\{\d+(,\d*)?\}", self.pattern[self.at :]) is not None

    def _repeat(self, atom: bool) -> bool:
        text = self.pattern
        match = re.match(r"(?:[*+?]|\{(\d+)(?:,(\d*))?\})\??", text[self.at :])
        assert match is not None
        operator = match.group()
        if not atom:
            after = self.at > 0 and text[self.at - 1] in "*+?}"
            if after:
                previous = re.search(r"(?:[*+?]|\{\d+(?:,\d*)?\})\??$", text[: self.at])
                shown = (previous.group() if previous else "") + operator
                raise RegexError(f"invalid nested repetition operator: `{shown}`")
            raise RegexError(f"missing argument to repetition operator: `{operator}`")
        low, high = match.group(1), match.group(2)
        if low is not None and (int(low) > _MAX_REPEAT or (high and (int(high) > _MAX_REPEAT or int(high) < int(low)))):
            raise RegexError(f"invalid repeat count: `{operator}`")
        self.at += len(operator)
        lazy = operator.endswith("?") and len(operator) > 1
        if "U" in self.flags[-1]:
            operator = operator[:-1] if lazy else operator + "?"
        self.out.append(operator)
        return False

    def _escape(self) -> None:
        text = self.pattern
        if self.at + 1 >= len(text):
            raise RegexError("trailing backslash at end of expression: ``")
        char = text[self.at + 1]
        if char == "Q":
            end = text.find("\\E", self.at + 2)
            literal = text[self.at + 2 :] if end < 0 else text[self.at + 2 : end]
            self.out.append("".join(self._literal(c) for c in literal))
            self.at = len(text) if end < 0 else end + 2
        elif char in "AzbB":
            self.out.append({"A": r"\A", "z": r"\Z", "b": r"(?a:\b)", "B": r"(?a:\B)"}[char])
            self.at += 2
        elif char == "C":
            self.out.append("(?s:.)")
            self.at += 2
        elif char in "dswDSWpP":
            inside, negated = self._class_escape()
            self.out.append(f"[{'^' if negated else ''}{inside}]")
        else:
            self.out.append(self._single_escape())

    def _class_escape(self) -> tuple[str, bool]:
        r"""At a backslash of \\d \\s \\w \\p and their opposites: the class's inside, and whether it is negated."""
        text = self.pattern
        char = text[self.at + 1]
        if char in "dswDSW":
            self.at += 2
            return _PERL[char.lower()], char.isupper()
        match = re.match(r"\\[pP](\^?)(?:\{(\^?)([^}]*)\}|(.))", text[self.at :], re.DOTALL)
        if match is None:
            raise RegexError(f"invalid character class range: `{text[self.at :]}`")
        name = match.group(3) if match.group(3) is not None else match.group(4)
        if name not in _CATEGORIES and name not in _SCRIPTS and name != "Any":
            raise RegexError(f"invalid character class range: `{match.group()}`")
        self.at += len(match.group())
        inside = r"\x00-\U0010ffff" if name == "Any" else _category(name)
        return inside, (char == "P") != bool(match.group(2))

    def _single_escape(self) -> str:
        text = self.pattern
        char = text[self.at + 1]
        if match := re.match(r"\\x(?:([0-9A-Fa-f]{2})|\{([0-9A-Fa-f]+)\})", text[self.at :]):
            code = int(match.group(1) or match.group(2), 16)
            if code <= 0x10FFFF:
                self.at += len(match.group())
                return f"\\U{code:08x}"
        if match := re.match(r"\\(0[0-7]{0,2}|[1-7][0-7]{1,2})", text[self.at :]):
            self.at += len(match.group())
            return f"\\U{int(match.group(1), 8):08x}"
        if char in _ESCAPES:
            self.at += 2
            return _ESCAPES[char]
        if ord(char) < 0x80 and not char.isalnum():
            self.at += 2
            return re.escape(char)
        raise RegexError(f"invalid escape sequence: `\\{char}`")

    def _class(self) -> str:
        """At "[": the whole character class."""
        text, start = self.pattern, self.at
        self.at += 1
        negated = text[self.at : self.at + 1] == "^"
        if negated:
            self.at += 1
        inside: list[str] = []
        outside: list[str] = []  # negated members, such as \D inside a class
        first = True
        while True:
            if self.at >= len(text):
                raise RegexError(f"missing closing ]: `{text[start:]}`")
            char = text[self.at]
            if char == "]" and not first:
                self.at += 1
                break
            first = False
            if match := re.match(r"\[:(\^?)(\w+):\]", text[self.at :]):
                name = match.group(2)
                if name not in _POSIX:
                    raise RegexError(f"invalid character class range: `{match.group()}`")
                (outside if match.group(1) else inside).append(_POSIX[name])
                self.at += len(match.group())
                continue
            if char == "\\" and text[self.at + 1 : self.at + 2] and text[self.at + 1] in "dswDSWpP":
                members, opposite = self._class_escape()
                (outside if opposite else inside).append(members)
                continue
            inside.append(self._class_range(start))
        body = "".join(inside)
        if not outside:
            return f"[{'^' if negated else ''}{body}]"
        parts = [f"[^{members}]" for members in outside] + ([f"[{body}]" if body else ""] if body else [])
        union = "|".join(parts)
        return f"(?:(?!{union})(?s:.))" if negated else f"(?:{union})"

    def _class_range(self, start: int) -> str:
        low_at = self.at
        low = self._class_char(start)
        text = self.pattern
        if text[self.at : self.at + 1] == "-" and text[self.at + 1 : self.at + 2] not in ("", "]"):
            self.at += 1
            high = self._class_char(start)
            if _code(high) < _code(low):
                raise RegexError(f"invalid character class range: `{text[low_at : self.at]}`")
            return f"{low}-{high}"
        return low

    def _class_char(self, start: int) -> str:
        text = self.pattern
        if self.at >= len(text):
            raise RegexError(f"missing closing ]: `{text[start:]}`")
        char = text[self.at]
        if char == "\\":
            if self.at + 1 >= len(text):
                raise RegexError(f"missing closing ]: `{text[start:]}`")
            return self._single_escape()
        self.at += 1
        return f"\\U{ord(char):08x}"


def _code(escaped: str) -> int:
    """The code point of one (possibly escaped) class member as this module writes them."""
    if escaped.startswith(("\\U", "\\x")):
        return int(escaped.lower()[2:].lstrip("0") or "0", base=16)
    return ord({"\\n": "\n", "\\r": "\r", "\\t": "\t"}.get(escaped, escaped[-1]))
