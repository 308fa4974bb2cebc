"""What an expression may cost at most: decides which rules a CRD may hold.

Source: the cost model of CEL in Kubernetes ("Resource use by CEL functions"): one unit for an operation, strings by a
tenth of their length, loops by the largest size that the schema allows. Estimates are part of the API: a rule that was
accepted once must stay accepted.
"""

from __future__ import annotations

import math

from chandlery.controlplane.cel.ast import Call, Comprehension, Const, Expr, Ident, ListExpr, MapExpr, Select
from chandlery.controlplane.cel.declared import Declared
from chandlery.controlplane.cel.errors import deep_stack
from chandlery.controlplane.cel.sizes import MOST, ONE, UNKNOWN, ZERO, Entries, Range, Sizes, exactly
from chandlery.controlplane.cel.types import Type

_STRING = 0.1
_PATTERN = 0.25
_LIST, _MAP = 10, 30
_FORMAT_PATTERN = 128
_SETS = {"list_sets_contains_list": 1, "list_sets_intersects_list": 1, "list_sets_equivalent_list": 2}


def _new_list(size: Range, factor: float = 1) -> tuple[Range, Range]:
    """The cost of making a list of this size, and the size."""
    return size.scaled(factor).plus(exactly(1 + _LIST)), size


def _constant(expr: Expr, otherwise: int) -> int:
    """The value of a literal that is no negative number."""
    value = expr.value if isinstance(expr, Const) else None
    return value if type(value) is int and value >= 0 else otherwise


def estimate(expr: Expr, root: Declared) -> int:
    """The most that one evaluation can cost; `root` declares `self` and `oldSelf`."""
    with deep_stack():
        return _Coster(root).cost(expr).high


class _Coster(Sizes):
    def cost(self, expr: Expr) -> Range:
        if isinstance(expr, Const):
            return ZERO
        if isinstance(expr, Ident):
            local = self.local(expr.name)
            self.paths[id(expr)] = local.path if local is not None else (expr.name,)
            return ONE
        if isinstance(expr, Select):
            return self._select(expr)
        if isinstance(expr, Call):
            return self._call(expr)
        if isinstance(expr, ListExpr):
            return self._list(expr)
        if isinstance(expr, MapExpr):
            return self._map(expr)
        assert isinstance(expr, Comprehension)
        return self._bind(expr) if expr.kind == "bind" else self._comprehension(expr)

    def _select(self, expr: Select) -> Range:
        if expr.resolved is not None:
            self.paths[id(expr)] = (expr.resolved.name,)
            return ONE
        total = self.cost(expr.operand)
        if expr.test:
            return total
        if expr.operand.type.kind in ("map", "object", "param"):
            total = total.plus(ONE)
        self.paths[id(expr)] = (*self.path(expr.operand), expr.field)
        return total

    def _list(self, expr: ListExpr) -> Range:
        total = exactly(_LIST)
        item = Range(MOST if expr.elements else 0, 0)
        for element in expr.elements:
            total = total.plus(self.cost(element))
            item = item.union(self.known_size(element))
        self.entries[id(expr)] = Entries("list", ONE, item)
        return total

    def _map(self, expr: MapExpr) -> Range:
        total = exactly(_MAP)
        start = Range(MOST if expr.entries else 0, 0)
        key_size = value_size = start
        for key, value, _ in expr.entries:
            total = total.plus(self.cost(key)).plus(self.cost(value))
            key_size = key_size.union(self.known_size(key))
            value_size = value_size.union(self.known_size(value))
        self.entries[id(expr)] = Entries("map", key_size, value_size)
        return total

    def _call(self, expr: Call) -> Range:
        if expr.function == "dyn":
            arg = expr.args[0]
            total = ONE.plus(self.cost(arg))
            self.copy_sizes(expr, arg)
            return total
        arg_costs = [self.cost(arg) for arg in expr.args]
        spent = ZERO
        for cost in arg_costs:
            spent = spent.plus(cost)
        if expr.function == "_?._":
            # An optional selection counts as one operation.
            return ONE.plus(spent)
        total = self.cost(expr.target) if expr.target is not None else ZERO
        function_cost = Range(MOST, 0)
        result: Range | None = None
        for overload in expr.overloads:
            cost, size = self._function(expr, overload.id, arg_costs, spent)
            function_cost = function_cost.union(cost)
            if size is not None:
                result = size if result is None else result.union(size)
            if overload.id in ("index_list", "index_map") and expr.args:
                entries = self.entry_sizes(expr.args[0])
                result = entries.value if entries is not None else None
                step = "@items" if overload.id == "index_list" else "@values"
                self.paths[id(expr)] = (*self.path(expr.args[0]), step)
            if result is None:
                result = self.size(expr)
        if result is not None:
            self.sizes[id(expr)] = result
        return total.plus(function_cost)

    def _function(self, expr: Call, overload: str, arg_costs: list[Range], spent: Range) -> tuple[Range, Range | None]:
        library = self._collections(expr, overload) or self._library(expr, overload)
        if library is not None:
            return library[0].plus(spent), library[1]
        args, target = expr.args, expr.target
        if overload == "string_format" and target is not None:
            return self.known_size(target).scaled(_STRING).plus(spent), None
        if overload == "string_to_bytes":
            size = self.known_size(args[0])
            return size.scaled(_STRING).plus(spent), Range(size.low, min(size.high * 4, MOST))
        if overload == "bytes_to_string":
            size = self.known_size(args[0])
            return size.scaled(_STRING).plus(spent), Range(size.low // 4, size.high)
        if overload == "strings_quote":
            size = self.known_size(args[0])
            return size.scaled(_STRING).plus(spent), Range(size.low + 2, min(size.high * 2 + 2, MOST))
        if overload in ("starts_with_string", "ends_with_string"):
            return self.known_size(args[0]).scaled(_STRING).plus(spent), None
        if overload == "in_list":
            return self.known_size(args[1]).scaled(1).plus(spent), None
        if overload == "matches_string" and target is not None:
            text = self.known_size(target).plus(ONE).scaled(_STRING)
            return text.times(self.known_size(args[0]).scaled(_PATTERN)).plus(spent), None
        if overload == "contains_string" and target is not None:
            text = self.known_size(target).scaled(_STRING)
            return text.times(self.known_size(args[0]).scaled(_STRING)).plus(spent), None
        if overload in ("logical_and", "logical_or"):
            return Range(arg_costs[0].low, arg_costs[0].plus(arg_costs[1]).high), None
        if overload == "conditional":
            entries = self.entry_sizes(args[1])
            joined = entries.union(self.entry_sizes(args[2])) if entries is not None else None
            if joined is not None:
                self.entries[id(expr)] = joined
            size = self.known_size(args[1]).union(self.known_size(args[2]))
            return arg_costs[0].plus(arg_costs[1].union(arg_costs[2])), size
        if overload in ("add_string", "add_bytes", "add_list"):
            return self._concatenation(expr, overload, spent)
        if overload in _TRAVERSING:
            left, right = self.known_size(args[0]), self.known_size(args[1])
            most = min(left.high, right.high)
            return Range(1 if most else 0, most).scaled(_STRING).plus(spent), None
        return ONE.plus(spent), None

    def _concatenation(self, expr: Call, overload: str, spent: Range) -> tuple[Range, Range | None]:
        left, right = expr.args
        size = self.known_size(left).plus(self.known_size(right))
        entries = self.entry_sizes(left)
        joined = entries.union(self.entry_sizes(right)) if entries is not None else None
        if joined is not None:
            self.entries[id(expr)] = joined
        if overload == "add_list":
            return ONE.plus(spent), size
        return size.scaled(_STRING).plus(spent), size

    # -- the extensions for lists and sets

    def _collections(self, expr: Call, overload: str) -> tuple[Range, Range | None] | None:
        args, target = expr.args, expr.target
        if overload in _SETS:
            product = self.known_size(args[0]).times(self.known_size(args[1]))
            return product.scaled(_SETS[overload]).plus(ONE), None
        if overload == "lists_range":
            return _new_list(exactly(_constant(args[0], MOST)))
        if target is None:
            return None
        if overload == "list_slice":
            last = _constant(args[1], self.known_size(target).high)
            return _new_list(exactly((last - _constant(args[0], 0)) & MOST))
        if overload == "list_reverse":
            return _new_list(self.known_size(target))
        if overload in ("list_flatten", "list_flatten_int"):
            return _new_list(self.known_size(target), _constant(args[0], MOST) if args else 1)
        if overload == "list_distinct" or (overload.startswith("list_") and expr.function == "sort"):
            size = self.known_size(target)
            text = overload in ("list_string_sort", "list_bytes_sort")
            return _new_list(size.times(size), 2 + _STRING if text else 2)
        return None

    # -- the Kubernetes libraries

    def _library(self, expr: Call, overload: str) -> tuple[Range, Range | None] | None:
        name, args, target = expr.function, expr.args, expr.target
        if name in ("isSorted", "sum", "max", "min", "indexOf", "lastIndexOf") and target is not None:
            return self._traversal(target), None
        if name == "url" and args:
            size = self.library_size(args[0])
            return size.scaled(_STRING), size
        if name in ("lowerAscii", "upperAscii", "substring", "trim") and target is not None:
            size = self.library_size(target)
            return size.scaled(_STRING), size
        if name == "replace" and target is not None:
            return self._replace(target, args)
        if name == "split" and target is not None:
            size = self.library_size(target)
            most = size.high
            if len(args) > 1 and isinstance(args[1], Const) and type(args[1].value) is int:
                most = args[1].value % (MOST + 1)
            return size.scaled(2 * _STRING), Range(0, most)
        if name == "join" and target is not None:
            return self._join(target, args)
        if name in ("find", "findAll") and target is not None:
            size = self.library_size(target)
            text = size.plus(ONE).scaled(_STRING)
            return text.times(self.library_size(args[0]).scaled(_PATTERN)), Range(0, size.high)
        if overload == "cidr_ip" or name in _NOMINAL:
            return ONE, None
        if name in ("cidr", "isIP", "isCIDR", "ip", "quantity", "isQuantity", "semver", "isSemver") and args:
            return self.library_size(args[0]).scaled(_STRING), None
        if name == "ip.isCanonical":
            return self.library_size(args[0]).scaled(2 * _STRING), None
        if name in ("containsIP", "containsCIDR") and args:
            address = Range(4, 16)
            cost = address.plus(address).scaled(_STRING)
            if name == "containsCIDR":
                cost = cost.plus(address.scaled(_STRING)).plus(ONE)
            if overload.endswith("_string"):
                cost = cost.plus(self.library_size(args[0]).scaled(_STRING))
            return cost, None
        if name == "validate" and args:
            text = self.library_size(args[0]).scaled(_STRING)
            return text.scaled(_FORMAT_PATTERN * _PATTERN), None
        if name == "_==_" and len(args) == 2 and args[0].type == args[1].type:
            return self._library_equality(args[0].type)
        return None

    def _library_equality(self, kind: Type) -> tuple[Range, Range | None] | None:
        if kind.name in ("net.IP", "net.CIDR", "kubernetes.Quantity", "kubernetes.Semver"):
            return ONE, None
        if kind.name == "kubernetes.NamedFormat":
            return Range(1, 64).scaled(_STRING), None
        if kind.name == "kubernetes.URL":
            return ONE.scaled(_STRING), None
        return None

    def _traversal(self, target: Expr) -> Range:
        item_size = self.item_size_of(target)
        if item_size is None:
            return self.library_size(target).scaled(_STRING)
        cost = ONE
        if target.type.params[0].kind in ("string", "bytes"):
            cost = cost.plus(item_size.scaled(_STRING))
        return self.library_size(target).times(cost)

    def _join(self, target: Expr, args: list[Expr]) -> tuple[Range, Range | None]:
        count = self.library_size(target)
        item_size = self.item_size_of(target)
        size = count.times(item_size) if item_size is not None else ZERO
        if args:
            separators = Range(max(count.low - 1, 0), max(count.high - 1, 0))
            size = size.plus(self.library_size(args[0]).times(separators))
        return size.scaled(_STRING), size

    def _replace(self, target: Expr, args: list[Expr]) -> tuple[Range, Range | None]:
        size, old, new = self.library_size(target), self.library_size(args[0]), self.library_size(args[1])
        most_count = most_kept = least_count = least_kept = 0
        if old.low == 0:
            most_count = min(size.high + 1, MOST)
            most_kept = size.high
        elif new.high <= old.low:
            most_kept = size.high
        else:
            most_count = math.ceil(float(size.high) / float(old.low))
        if old.high == 0:
            least_count = min(size.low + 1, MOST)
            least_kept = size.low
        elif old.high <= new.low:
            least_kept = size.low
        else:
            least_count = math.ceil(float(size.low) / float(old.high))
        result = Range(least_count, most_count).times(new).plus(Range(least_kept, most_kept))
        return size.scaled(2 * _STRING), result

    # -- macros

    def _bind(self, expr: Comprehension) -> Range:
        total = exactly(_LIST).plus(self.cost(expr.range))
        self.push(expr.var, self.path(expr.range), self.size(expr.range), self.entry_sizes(expr.range))
        total = total.plus(self.cost(expr.body))
        self.pop(expr.var)
        self.copy_sizes(expr, expr.body)
        return total

    def _comprehension(self, expr: Comprehension) -> Range:
        source = expr.range
        total = self.cost(source)
        path = self.path(source)
        entries = self.entry_sizes(source)
        container = entries.kind if entries is not None else source.type.kind
        listed = container == "list"
        if expr.var2:
            key_step = "@indices" if listed else "@keys"
            self.push(expr.var, (*path, key_step), entries.key if entries else None, None)
            value_step = "@items" if listed else "@values"
            self.push(expr.var2, (*path, value_step), entries.value if entries else None, None)
        else:
            size = (entries.value if listed else entries.key) if entries else None
            self.push(expr.var, (*path, "@items" if listed else "@keys"), size, None)
        condition = self.cost(expr.condition) if expr.condition is not None else None
        body = self.cost(expr.body)
        setup, step, finish = self._loop(expr, body, condition)
        item_size = self.size(expr.body)
        var_size = self.size(Ident(0, expr.var)) if expr.kind == "filter" else None
        self.pop(expr.var)
        if expr.var2:
            self.pop(expr.var2)
        count = self.known_size(source)
        total = total.plus(setup).plus(finish).plus(count.times(step))
        self._result_size(expr, count, item_size if expr.kind != "filter" else var_size)
        return total

    def _loop(self, expr: Comprehension, body: Range, condition: Range | None) -> tuple[Range, Range, Range]:
        """Cost before the loop, of one round (its condition included), and after."""
        kind = expr.kind.removesuffix("2")
        if kind in ("all", "exists"):
            check = exactly(2 if kind == "all" else 3)
            return ZERO, check.plus(Range(1, ONE.plus(body).high)), ONE
        if kind == "exists_one":
            return ZERO, body.plus(Range(1, 2)), exactly(2)
        if kind == "filter":
            return exactly(_LIST), body.plus(Range(1, 3 + _LIST)), ONE
        if kind in ("map", "transformList"):
            step = exactly(2 + _LIST).plus(body)
            setup = exactly(_LIST)
        elif kind == "sortBy":
            # Keys are mapped first, then the list is sorted by them.
            return exactly(_LIST).plus(exactly(_LIST)), exactly(2 + _LIST).plus(body), exactly(3)
        else:
            step = (exactly(3) if kind == "transformMap" else exactly(2)).plus(body)
            setup = exactly(_MAP)
        if condition is not None:
            step = condition.plus(step.union(ONE))
        return setup, step, ONE

    def _result_size(self, expr: Comprehension, count: Range, item: Range | None) -> None:
        kind = expr.kind.removesuffix("2")
        if kind in ("all", "exists", "exists_one"):
            self.sizes[id(expr)] = ONE
            return
        self.sizes[id(expr)] = count
        size = item or UNKNOWN
        container = "map" if kind.startswith("transformMap") else "list"
        self.entries[id(expr)] = Entries(container, Range(0, 1), ZERO.union(size))


_NOMINAL = frozenset(
    "masked prefixLength family isUnspecified isLoopback isLinkLocalMulticast isLinkLocalUnicast isGlobalUnicast "
    "format.named sign asInteger isInteger asApproximateFloat isGreaterThan isLessThan compareTo add sub major minor "
    "patch getScheme getHostname getHost getPort getEscapedPath getQuery".split()
)
_TRAVERSING = frozenset(
    ["equals", "not_equals"]
    + [
        f"{word}_{kind}"
        for word in ("less", "less_equals", "greater", "greater_equals")
        for kind in ("string", "bytes")
    ]
)
