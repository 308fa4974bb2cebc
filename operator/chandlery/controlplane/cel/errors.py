"""Errors of expressions: at compile time with a place in the text, at run time with a message."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

_FRAMES = 20_000
"""Room for the deepest expression that the parser lets through, a dozen calls for each level of it."""


@contextmanager
def deep_stack() -> Iterator[None]:
    """Room for walks over expressions, which nest deeper than Python lets functions call one another by default."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, _FRAMES))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


class CelError(Exception):
    """An expression failed while it was evaluated."""


class CelCostError(CelError):
    """An expression was stopped because it cost too much."""


class CompileError(ValueError):
    """An expression that doesn't parse or type-check; the text shows every problem with its place."""

    def __init__(self, source: str, problems: list[tuple[int, str]]) -> None:
        self.problems = sorted(set(problems), key=lambda problem: problem[0])
        super().__init__("\n".join(render(source, offset, message) for offset, message in self.problems))

    @property
    def detail(self) -> str:
        """The text with what failed in front."""
        return f"compilation failed: {self}"


class PlanError(CompileError):
    """A type-checked expression that can't be used: a constant that always fails, the wrong type of result."""

    def __init__(self, text: str, stage: str = "program instantiation failed: ") -> None:
        super().__init__("", [])
        self.args = (text,)
        self._stage = stage

    @property
    def detail(self) -> str:
        return f"{self._stage}{self}"


def render(source: str, offset: int, message: str) -> str:
    """One problem as `ERROR: <input>:line:column: message`, the line, and a mark below the place."""
    if offset < 0:
        return f"ERROR: <input>:1:1: {message}"
    before = source[:offset]
    line_number = before.count("\n") + 1
    column = offset - (before.rfind("\n") + 1)
    line = source.split("\n")[line_number - 1].replace("\t", " ")
    marks = "".join("．" if unicodedata.east_asian_width(char) in "FW" else "." for char in line[:column])
    wide = line[column : column + 1] and unicodedata.east_asian_width(line[column]) in "FW"
    return f"ERROR: <input>:{line_number}:{column + 1}: {message}\n | {line}\n | {marks}{'＾' if wide else '^'}"
