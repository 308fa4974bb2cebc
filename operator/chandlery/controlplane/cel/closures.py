"""The closures that an expression is made of: one for each operation, with its operands built in.

A frame is a list: the budget, then one place for each variable and each macro variable. `&&`, `||`, `all` and `exists`
absorb errors where the other operand decides, as the language says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chandlery.controlplane.cel import operators as op
from chandlery.controlplane.cel.decls import Overload
from chandlery.controlplane.cel.errors import CelCostError, CelError
from chandlery.controlplane.cel.lists_lib import sort_by
from chandlery.controlplane.cel.types import Type
from chandlery.controlplane.cel.values import (
    NONE,
    CIDRValue,
    Duration,
    FormatValue,
    IPValue,
    Optional,
    QuantityValue,
    SemverValue,
    Timestamp,
    TypeValue,
    UInt,
    URLValue,
    is_list,
)  # fmt: skip

Frame = list[Any]
Run = Callable[[Frame], Any]

ABSENT: Any = object()
_KINDS: dict[str, type] = {
    "bool": bool, "int": int, "uint": UInt, "double": float, "string": str, "bytes": bytes, "map": dict,
    "timestamp": Timestamp, "duration": Duration, "type": TypeValue, "null": type(None),
}  # fmt: skip
_CLASSES: dict[str, type] = {
    "kubernetes.Quantity": QuantityValue, "net.IP": IPValue, "net.CIDR": CIDRValue, "kubernetes.URL": URLValue,
    "kubernetes.Semver": SemverValue, "kubernetes.NamedFormat": FormatValue, "optional_type": Optional,
}  # fmt: skip


def register_class(name: str, known: type) -> None:
    """Values of the opaque type `name` are instances of this class."""
    _CLASSES[name] = known


def fits(kind: Type, value: Any) -> bool:
    """Whether a value is of a declared type, as far as choosing an overload needs."""
    wanted = _KINDS.get(kind.kind)
    if wanted is not None:
        return type(value) is wanted
    if kind.kind == "list":
        return is_list(value) and (not value or kind.params[0].kind == "list" or fits(kind.params[0], value[0]))
    if kind.kind in ("dyn", "param"):
        return True
    known = _CLASSES.get(kind.name)
    return type(value) is known if known is not None else type(value) is dict


def has_field(operand: Run, field: str, *, nullable: bool) -> Run:
    def has(frame: Frame) -> bool:
        value = operand(frame)
        if type(value) is not dict:
            raise op.no_overload()
        return (field in value) if nullable else value.get(field) is not None

    return has


def select_key(operand: Run, field: str) -> Run:
    def select(frame: Frame) -> Any:
        value = operand(frame)
        if type(value) is dict:
            found = value.get(field, ABSENT)
            if found is not ABSENT:
                return found
            raise CelError(f"no such key: {field}")
        if type(value) is Optional:
            if value.present and type(value.value) is dict and field in value.value:
                return Optional(value.value[field])
            return NONE
        raise op.no_overload()

    return select


def logic(left: Run, right: Run, *, decides: bool) -> Run:
    """`&&` (decided by False) and `||` (decided by True): an error counts only when the other side doesn't decide."""
    other = not decides

    def run(frame: Frame) -> bool:
        try:
            first: object = left(frame)
        except CelCostError:
            raise
        except CelError as problem:
            return _decide(right, frame, problem, decides)
        if first is other:
            second: object = right(frame)
            if second is decides:
                return decides
            if second is other:
                return other
            raise op.no_overload()
        if first is decides:
            return decides
        return _decide(right, frame, op.no_overload(), decides)

    return run


def _decide(right: Run, frame: Frame, error: CelError, decides: bool) -> bool:
    """The left side failed: the right one may still decide."""
    try:
        value: object = right(frame)
        if value is decides:
            return decides
    except CelCostError:
        raise
    except CelError:
        pass
    raise error


def conditional(condition: Run, if_true: Run, if_false: Run) -> Run:
    def run(frame: Frame) -> Any:
        value = condition(frame)
        if value is True:
            return if_true(frame)
        if value is False:
            return if_false(frame)
        raise op.no_overload()

    return run


def or_else(left: Run, right: Run, *, unwrap: bool) -> Run:
    def run(frame: Frame) -> Any:
        value = left(frame)
        if type(value) is not Optional:
            raise op.no_overload()
        if value.present:
            return value.value if unwrap else value
        return right(frame)

    return run


def direct(call: Callable[..., Any], args: list[Run]) -> Run:
    if len(args) == 1:
        only = args[0]
        return lambda frame: call(only(frame))
    if len(args) == 2:
        first, second = args
        return lambda frame: call(first(frame), second(frame))
    return lambda frame: call(*[arg(frame) for arg in args])


def dispatch(overloads: list[Overload], args: list[Run]) -> Run:
    def run(frame: Frame) -> Any:
        values = [arg(frame) for arg in args]
        for overload in overloads:
            if len(overload.args) == len(values) and all(map(fits, overload.args, values)):
                return overload.call(*values)
        raise op.no_overload()

    return run


# -- loops: `each` yields after it put the variables into the frame


def _spend(frame: Frame, weight: int) -> None:
    frame[0] -= weight
    if frame[0] < 0:
        raise CelCostError("operation cancelled: actual cost limit exceeded")


def each_item(source: Run, place: int, weight: int) -> Callable[[Frame], Any]:
    def each(frame: Frame) -> Any:
        values = source(frame)
        if type(values) is not dict and not is_list(values):
            raise op.no_overload()
        for value in values:
            _spend(frame, weight)
            frame[place] = value
            yield value

    return each


def each_pair(source: Run, first: int, second: int, weight: int) -> Callable[[Frame], Any]:
    def each(frame: Frame) -> Any:
        values = source(frame)
        if type(values) is not dict and not is_list(values):
            raise op.no_overload()
        for key, value in values.items() if type(values) is dict else enumerate(values):
            _spend(frame, weight)
            frame[first], frame[second] = key, value
            yield value

    return each


def quantifier(each: Callable[[Frame], Any], body: Run, *, decides: bool) -> Run:
    def run(frame: Frame) -> bool:
        error: CelError | None = None
        for _ in each(frame):
            try:
                result: object = body(frame)
                if result is decides:
                    return decides
                if type(result) is not bool:
                    error = error or op.no_overload()
            except CelCostError:
                raise
            except CelError as problem:
                error = error or problem
        if error is not None:
            raise error
        return not decides

    return run


def exists_one(each: Callable[[Frame], Any], body: Run) -> Run:
    def run(frame: Frame) -> bool:
        return sum(_true(body(frame)) for _ in each(frame)) == 1

    return run


def _true(value: Any) -> bool:
    if type(value) is not bool:
        raise op.no_overload()
    return value


def filtered(each: Callable[[Frame], Any], body: Run) -> Run:
    return lambda frame: [value for value in each(frame) if _true(body(frame))]


def transform(each: Callable[[Frame], Any], body: Run, condition: Run | None) -> Run:
    if condition is None:
        return lambda frame: [body(frame) for _ in each(frame)]
    return lambda frame: [body(frame) for _ in each(frame) if _true(condition(frame))]


def sorted_by(each: Callable[[Frame], Any], body: Run) -> Run:
    def run(frame: Frame) -> list[Any]:
        items, keys = [], []
        for value in each(frame):
            items.append(value)
            keys.append(body(frame))
        return sort_by(items, keys)

    return run


def transform_map(each: Callable[[Frame], Any], body: Run, condition: Run | None, place: int, *, entries: bool) -> Run:
    def run(frame: Frame) -> dict[Any, Any]:
        out: dict[Any, Any] = {}
        for _ in each(frame):
            if condition is not None and not _true(condition(frame)):
                continue
            value = body(frame)
            for key, member in value.items() if entries else ((frame[place], value),):
                if key in out:
                    raise CelError(f"insert failed: key {op.show_key(key)} already exists")
                out[key] = member
        return out

    return run
