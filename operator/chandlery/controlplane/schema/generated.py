"""Two predicates for a schema, written out as Python: is an object tidy, is it valid.

*Tidy*: pruning, dropping nulls and normalising numbers would change nothing. *Valid*: it satisfies the schema, and
lists of type map and set hold nothing twice. A yes is final; a no only means that the walkers must look (they also know
what to say), so what is rare in schemas or values may be answered no here.

Source text is made from the schema's structure. Everything that a schema's author chose stands in it as `repr` of a
string or a number, or not at all: patterns, enumerations and formats are objects in the function's globals.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from chandlery.controlplane.schema.accept import compile_accept
from chandlery.controlplane.schema.listtypes import plainly_unique
from chandlery.controlplane.schema.node import Node
from chandlery.controlplane.schema.pruning import META

Predicate = Callable[[Any], bool]

LARGEST = 400
"""Schemas with more nodes are left to the walkers: writing and compiling them takes a tenth of a second and more."""

_LOW, _HIGH = -(1 << 63), 1 << 63
_SCALARS = ("string", "boolean", "integer", "number")


class _Unsupported(Exception):  # noqa: N818 - never leaves this module
    """Somewhere in the schema is what this module doesn't write out."""


def size(node: Node, most: int = LARGEST) -> int:
    """The nodes of a schema, counted no further than `most`."""
    total = 1
    for sub in _below(node):
        if total > most:
            break
        total += size(sub, most)
    return total


def _below(node: Node) -> list[Node]:
    return [*node.properties.values(), *(sub for sub in (node.additional, node.items) if sub is not None)]


def predicates(node: Node) -> tuple[Predicate | None, Predicate | None]:
    """(tidy, valid) for whole objects of this schema; None where one can't be had."""
    if size(node) > LARGEST:
        return None, None
    made: list[Predicate | None] = []
    for writer in (_Tidy(), _Valid()):
        try:
            made.append(writer.compile(node))
        except (_Unsupported, RecursionError):
            made.append(None)
    return made[0], made[1]


class _Writer(ABC):
    """Functions as text, one for each object and list of the schema, and the values that they use."""

    def __init__(self) -> None:
        self.globals: dict[str, Any] = {"MISSING": object(), "__builtins__": {"type": type, "len": len, "set": set}}
        for kind in (str, int, float, bool, dict, list):
            self.globals[kind.__name__] = kind
        self.lines: list[str] = []
        self.count = 0

    def compile(self, node: Node) -> Predicate:
        name = self.root(node)
        exec(compile("\n".join(self.lines), "<schema>", "exec"), self.globals)  # noqa: S102 - see the module's text
        return self.globals[name]  # type: ignore[no-any-return]

    @abstractmethod
    def root(self, node: Node) -> str:
        """Add the function for whole objects; its name."""

    def bind(self, value: Any) -> str:
        self.count += 1
        name = f"v{self.count}"
        self.globals[name] = value
        return name

    def function(self, body: list[str]) -> str:
        """Add a function of one parameter, `v`, that answers True unless a line answers before; its name."""
        self.count += 1
        name = f"f{self.count}"
        self.lines += [f"def {name}(v):", *(f"    {line}" for line in body), "    return True"]
        return name


class _Tidy(_Writer):
    def root(self, node: Node) -> str:
        if node.preserve or node.embedded or node.additional_allowed is not None:
            raise _Unsupported
        names = self.bind(frozenset(node.properties) | META)
        body = ["if type(v) is not dict or not v.keys() <= " + names + ": return False"]
        about = node.properties.get("metadata")
        if about is not None and _below(about):
            body += ["m = v.get('metadata')", "if type(m) is not dict or None in m.values(): return False"]
            self.globals["None"] = None
        for name, sub in node.properties.items():
            if name not in META:
                body += self.member(name, sub)
        return self.function(body)

    def member(self, name: str, node: Node) -> list[str]:
        if node.type in _SCALARS or node.int_or_string:
            return [f"m = v.get({name!r}, True)", *self.scalar("m")]
        checker = self.container(node)
        return [f"m = v.get({name!r}, MISSING)", f"if m is not MISSING and not {checker}(m): return False"]

    @staticmethod
    def scalar(value: str) -> list[str]:
        return [
            f"t = type({value})",
            f"if t is not str and t is not bool and (t is not int or not {_LOW} <= {value} < {_HIGH}): return False",
        ]

    def container(self, node: Node) -> str:
        """A function for objects, lists and values of any kind."""
        if node.embedded or (node.preserve and _below(node)):
            raise _Unsupported
        if node.preserve:
            return self.bind(_ordinary)
        if node.type == "array":
            if node.items is None:
                return self.function(["if type(v) is not list or v: return False"])
            return self.function(["if type(v) is not list: return False", "for m in v:", *self.each(node.items)])
        if node.type != "object":
            return self.function(self.scalar("v"))
        body = ["if type(v) is not dict: return False"]
        if node.additional_allowed is None:
            body.append(f"if not v.keys() <= {self.bind(frozenset(node.properties))}: return False")
        elif node.properties:
            raise _Unsupported
        elif node.additional is None:  # any name, but nothing is known of what would stand below it
            body += ["for m in v.values():", *(f"    {line}" for line in self.scalar("m"))]
        else:
            body += ["for m in v.values():", *self.each(node.additional)]
        for name, sub in node.properties.items():
            body += self.member(name, sub)
        return self.function(body)

    def each(self, node: Node) -> list[str]:
        if node.type in _SCALARS or node.int_or_string:
            return [f"    {line}" for line in self.scalar("m")]
        return [f"    if not {self.container(node)}(m): return False"]


def _ordinary(value: Any) -> bool:
    """Whether nothing in a value needs normalising."""
    kind = type(value)
    if kind is dict:
        return all(_ordinary(member) for member in value.values())
    if kind is list:
        return all(_ordinary(member) for member in value)
    return kind is str or kind is bool or (kind is int and _LOW <= value < _HIGH)


class _Valid(_Writer):
    def root(self, node: Node) -> str:
        return self.container(node)

    def check(self, node: Node, value: str) -> list[str]:
        """Lines that answer False when `value` doesn't satisfy the schema."""
        if node.trivial and not node.lists:
            return []
        if not _plain(node):
            if node.lists:
                raise _Unsupported
            return [f"if not {self.bind(compile_accept(node))}({value}): return False"]
        if node.type == "string":
            return self.string(node, value)
        if node.type == "integer":
            return self.integer(node, value)
        if node.type == "boolean":
            return [f"if type({value}) is not bool: return False"]
        return [f"if not {self.container(node)}({value}): return False"]

    def string(self, node: Node, value: str) -> list[str]:
        lines = [f"if type({value}) is not str: return False"]
        if node.max_length is not None:
            lines.append(f"if len({value}) > {int(node.max_length)}: return False")
        if node.min_length is not None:
            lines.append(f"if len({value}) < {int(node.min_length)}: return False")
        if node.pattern_search is not None:
            lines.append(f"if {self.bind(node.pattern_search)}({value}) is {self.bind(None)}: return False")
        if node.format_check is not None:
            lines.append(f"if not {self.bind(node.format_check)}({value}): return False")
        if node.enum:
            known = frozenset(member for member in node.enum if type(member) is str)
            lines.append(f"if {value} not in {self.bind(known)}: return False")
        return lines

    def integer(self, node: Node, value: str) -> list[str]:
        limit = 1 << (31 if node.format == "int32" else 63)
        low, high = -limit, limit - 1
        if node.minimum is not None:
            low = max(low, int(node.minimum) + node.exclusive_minimum)
        if node.maximum is not None:
            high = min(high, int(node.maximum) - node.exclusive_maximum)
        lines = [f"if type({value}) is not int or not {low} <= {value} <= {high}: return False"]
        if node.enum:
            known = frozenset(member for member in node.enum if type(member) is int)
            lines.append(f"if {value} not in {self.bind(known)}: return False")
        return lines

    def container(self, node: Node) -> str:
        if not _plain(node) or node.type not in ("object", "array"):
            raise _Unsupported
        return self.function(self.array(node) if node.type == "array" else self.object(node))

    def array(self, node: Node) -> list[str]:
        lines = ["if type(v) is not list: return False"]
        if node.max_items is not None:
            lines.append(f"if len(v) > {int(node.max_items)}: return False")
        if node.min_items is not None:
            lines.append(f"if len(v) < {int(node.min_items)}: return False")
        items = node.items
        each = self.check(items, "m") if items is not None else []
        if each:
            lines += ["for m in v:", *(f"    {line}" for line in each)]
        if node.list_type == "set":
            if items is None or items.type not in ("string", "integer", "boolean") or not _plain(items):
                raise _Unsupported
            lines.append("if len(set(v)) != len(v): return False")
        elif node.list_type == "map":
            unique, keys = self.bind(plainly_unique), self.bind(node.list_keys)
            lines.append(f"if len(v) > 1 and not {unique}(v, {keys}): return False")
        return lines

    def object(self, node: Node) -> list[str]:
        lines = ["if type(v) is not dict: return False"]
        if node.max_properties is not None:
            lines.append(f"if len(v) > {int(node.max_properties)}: return False")
        if node.min_properties is not None:
            lines.append(f"if len(v) < {int(node.min_properties)}: return False")
        lines += [f"if {name!r} not in v: return False" for name in node.required]
        if node.additional_allowed is False:
            lines.append(f"if not v.keys() <= {self.bind(frozenset(node.properties))}: return False")
        for name, sub in node.properties.items():
            check = self.check(sub, "m")
            if check:
                lines += [f"m = v.get({name!r}, MISSING)", "if m is not MISSING:", *(f"    {line}" for line in check)]
        if node.additional is not None:
            check = self.check(node.additional, "m")
            if check and node.properties:
                known = self.bind(frozenset(node.properties))
                lines += ["for k, m in v.items():", f"    if k not in {known}:", *(f"        {line}" for line in check)]
            elif check:
                lines += ["for m in v.values():", *(f"    {line}" for line in check)]
        return lines


def _plain(node: Node) -> bool:
    """Whether this node's own constraints are those that are written out here."""
    if node.all_of or node.any_of or node.one_of or node.negated is not None:
        return False
    if node.int_or_string or len(node.types) != 1 or node.unique or node.multiple_of is not None:
        return False
    kind = node.type
    if kind == "integer":
        bounds = [bound for bound in (node.minimum, node.maximum) if bound is not None]
        limit = 1 << (31 if node.format == "int32" else 63)
        whole = all(type(bound) is int and -limit <= bound < limit for bound in bounds)
        return whole and node.format in ("", "int32", "int64") and all(type(member) is int for member in node.enum)
    if kind == "string":
        return all(type(member) is str for member in node.enum)
    return kind in ("boolean", "object", "array") and not node.enum and not node.format
