"""What settings there are: sections, their rows, and how a row is described."""

import ast
import dataclasses
import importlib
import importlib.util
import inspect
import textwrap
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from chandlery.foundation.secret import Secret

T = TypeVar("T")
PREFIX: Final = "CHANDLERY_"


@dataclass(frozen=True)
class SecondsMark:
    """Marks a number of seconds that may also be written as a duration."""


Seconds = Annotated[float, SecondsMark()]
"""Seconds in the program; `30s`, `5m` or `30` in the environment."""


@dataclass(frozen=True, slots=True)
class Section:
    """The settings of one room.

    Attributes:
        name: lower case; part of the variables' names.
        title: for people.
        cls: the dataclass.
    """

    name: str
    title: str
    cls: type

    def rows(self) -> "list[Row]":
        return list(_rows(self.cls, f"{PREFIX}{self.name.upper().replace('-', '_')}_", ()))


@dataclass(frozen=True, slots=True)
class Row:
    """One setting.

    Attributes:
        path: names of the fields that lead to it.
        env: the variable.
        type: as Python knows it.
        kind: as a person reads it.
        default: `dataclasses.MISSING` when it must be given.
        doc: a sentence or two.
        secret: never shown.
    """

    path: tuple[str, ...]
    env: str
    type: Any
    kind: str
    default: Any
    doc: str
    secret: bool

    @property
    def default_text(self) -> str:
        if self.default is dataclasses.MISSING:
            return "(required)"
        return text_of(self.default)


SECTIONS: Final[dict[str, Section]] = {}


def section(name: str, *, title: str = "") -> Callable[[type[T]], type[T]]:
    """Make a dataclass known as the settings of a room."""

    def register(cls: type[T]) -> type[T]:
        if not dataclasses.is_dataclass(cls):
            raise TypeError(f"{cls.__name__} must be a dataclass: write @section above @dataclass")
        known = SECTIONS.get(name)
        if known is not None and known.cls.__qualname__ != cls.__qualname__:
            raise ValueError(f"the settings section {name!r} belongs to {known.cls.__name__} already")
        SECTIONS[name] = Section(name, title or name, cls)
        return cls

    return register


def all_sections(package: str = "chandlery") -> list[Section]:
    """Every section there is, by name: imports the module `settings` of each room (`chandlery/<room>/settings.py`)."""
    spec = importlib.util.find_spec(package)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        # Looked for as files: finding a module by name would import every room that has none.
        for path in sorted(Path(location).glob("*/settings.py")):
            importlib.import_module(f"{package}.{path.parent.name}.settings")
    return [SECTIONS[name] for name in sorted(SECTIONS)]


def section_of(cls: type) -> Section:
    for each in SECTIONS.values():
        if each.cls is cls:
            return each
    raise TypeError(f"{cls.__name__} has no @section")


def _rows(cls: type, prefix: str, path: tuple[str, ...]) -> Iterator[Row]:
    hints = typing.get_type_hints(cls, include_extras=True)
    docs = _docs(cls)
    for each in dataclasses.fields(cls):
        hint, here = hints[each.name], (*path, each.name)
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            yield from _rows(hint, f"{prefix}{each.name.upper()}_", here)
            continue
        default = each.default if each.default_factory is dataclasses.MISSING else each.default_factory()
        yield Row(
            here,
            f"{prefix}{each.name.upper()}",
            hint,
            kind_of(hint),
            default,
            docs.get(each.name, ""),
            Secret in members(hint),
        )


def _docs(cls: type) -> dict[str, str]:
    """The strings that stand below the fields."""
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        except (OSError, TypeError, SyntaxError):
            continue  # made at run time: no source, no docs
        body = tree.body if isinstance(tree, ast.ClassDef) else []
        for field, text in pairwise(body):
            is_doc = (
                isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
                and isinstance(text.value.value, str)
            )
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_doc:
                docs[field.target.id] = " ".join(ast.literal_eval(text.value).split())  # type: ignore[attr-defined]
    return docs


def members(hint: Any) -> set[Any]:
    """The plain types that a hint is made of."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is Annotated:
        return members(arguments[0])
    return set().union(*map(members, arguments)) if arguments and typing.get_origin(hint) is not Literal else {hint}


_KINDS: Final[dict[Any, str]] = {
    int: "whole number",
    float: "number",
    bool: "true or false",
    str: "text",
    Path: "path",
    Secret: "secret",
    types.NoneType: "nothing",
}


def kind_of(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        if any(isinstance(mark, SecondsMark) for mark in arguments[1:]):
            return "seconds"
        bounds = {
            word: getattr(mark, name)
            for mark in arguments[1:]
            for name, word in (("ge", "at least"), ("gt", "more than"), ("le", "at most"), ("lt", "less than"))
            if getattr(mark, name, None) is not None
        }
        return ", ".join([kind_of(arguments[0]), *(f"{word} {bound}" for word, bound in bounds.items())])
    if origin is Literal:
        return ", ".join(str(value) for value in arguments)
    if origin in {typing.Union, types.UnionType}:
        return " or ".join(kind_of(each) for each in arguments if each is not types.NoneType)
    if origin in {tuple, list, set, frozenset}:
        return f"list of {kind_of(arguments[0])}"
    return _KINDS.get(hint, getattr(hint, "__name__", str(hint)))


def text_of(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list | set | frozenset):
        return ",".join(text_of(each) for each in value)
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def flat(row: Row) -> str:
    return "_".join(row.path)
