"""Declarations of functions: overloads by argument types, each with what computes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from chandlery.controlplane.cel.types import Type

Implementation = Callable[..., Any]


@dataclass(slots=True, eq=False)
class Overload:
    id: str
    args: tuple[Type, ...]
    result: Type
    call: Implementation
    """Takes the receiver (of a member) and the arguments, already of the declared types."""
    member: bool = False
    params: tuple[str, ...] = ()
    """Names of type parameters that occur in `args` and `result`."""


@dataclass(frozen=True, slots=True)
class Message:
    """A type whose values are made by `Name{field: value}`; they are maps that hold the fields that were given."""

    type: Type
    field: Callable[[str], Type | None]
    """The type of a field, DYN when anything goes; None when there is no such field."""


@dataclass(slots=True, eq=False)
class Function:
    name: str
    overloads: list[Overload] = field(default_factory=list)


class Functions:
    """All functions that an environment knows, by name."""

    def __init__(self, base: Functions | None = None) -> None:
        self.known: dict[str, Function] = {}
        self.message: Callable[[str], Message | None] = lambda _name: None
        """The message type of this name, for `Name{field: value}`."""
        for name, function in (base.known if base is not None else {}).items():
            self.known[name] = Function(name, list(function.overloads))

    def find(self, name: str) -> Function | None:
        return self.known.get(name)

    def add(
        self,
        name: str,
        overload_id: str,
        args: Sequence[Type],
        result: Type,
        call: Implementation,
        *,
        member: bool = False,
    ) -> None:
        function = self.known.get(name)
        if function is None:
            function = self.known[name] = Function(name)
        params = tuple(sorted({p for t in (*args, result) for p in _params(t)}))
        function.overloads.append(Overload(overload_id, tuple(args), result, call, member, params))

    def member(self, name: str, overload_id: str, args: Sequence[Type], result: Type, call: Implementation) -> None:
        self.add(name, overload_id, args, result, call, member=True)


def _params(kind: Type) -> set[str]:
    if kind.kind == "param":
        return {kind.name}
    return {name for inner in kind.params for name in _params(inner)}
