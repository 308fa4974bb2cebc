"""Values of expressions as Python objects.

int, float, str, bytes, bool, None, list and dict are themselves (int is 64 bits, float is double); the rest has a class
here. Objects of a schema are plain dicts.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from chandlery.controlplane.cel.errors import CelError
from chandlery.controlplane.schema.gourl import Url

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MIN_SECONDS, MAX_SECONDS = -62135596800, 253402300799


class UInt(int):
    """An unsigned 64-bit integer."""

    __slots__ = ()


class Timestamp:
    """Nanoseconds since 1970, between the years 1 and 9999; shown in the zone that it was written in."""

    __slots__ = ("nanos", "zone")

    def __init__(self, nanos: int, zone: timedelta = timedelta()) -> None:
        if not MIN_SECONDS <= nanos // 1_000_000_000 <= MAX_SECONDS:
            raise CelError("timestamp overflow")
        self.nanos = nanos
        self.zone = zone

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Timestamp) and self.nanos == other.nanos

    def __hash__(self) -> int:
        return hash(("timestamp", self.nanos))

    def datetime(self) -> datetime:
        return _EPOCH + timedelta(microseconds=self.nanos // 1000)

    @staticmethod
    def parse(text: str) -> Timestamp | None:
        """RFC 3339, to the nanosecond; None for anything else."""
        match = re.fullmatch(r"(\d{4}-\d{2}-\d{2})T(\d{2}:\d{2}:\d{2})(?:[.,](\d+))?(Z|[+-]\d{2}:\d{2})", text)
        if match is None:
            return None
        try:
            zone = "+00:00" if match[4] == "Z" else match[4]
            whole = datetime.fromisoformat(f"{match[1]}T{match[2]}{zone}")
            fraction = int((match[3] or "0")[:9].ljust(9, "0"))
            seconds = int((whole - _EPOCH) / timedelta(seconds=1))
            return Timestamp(seconds * 1_000_000_000 + fraction, whole.utcoffset() or timedelta())
        except (ValueError, OverflowError, CelError):
            return None

    def __str__(self) -> str:
        shown = self.datetime()
        try:
            shown += self.zone
        except OverflowError:
            pass  # within a day of the first or the last year
        fraction = self.nanos % 1_000_000_000
        text = shown.replace(tzinfo=None, microsecond=0).isoformat()
        text += f".{fraction:09d}".rstrip("0") if fraction else ""
        minutes = int(self.zone.total_seconds()) // 60
        hours, rest = divmod(abs(minutes), 60)
        return text + (f"{'-' if minutes < 0 else '+'}{hours:02d}:{rest:02d}" if minutes else "Z")


class Duration:
    """Nanoseconds, in 63 bits."""

    __slots__ = ("nanos",)

    def __init__(self, nanos: int) -> None:
        if not -(1 << 63) <= nanos < 1 << 63:
            raise CelError("duration overflow")
        self.nanos = nanos

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Duration) and self.nanos == other.nanos

    def __hash__(self) -> int:
        return hash(("duration", self.nanos))

    def __str__(self) -> str:
        seconds = Decimal(self.nanos) / 1_000_000_000
        text = format(seconds, "f")
        return (text.rstrip("0").rstrip(".") if "." in text else text) + "s"


class Optional:
    """A value that may be absent."""

    __slots__ = ("present", "value")

    def __init__(self, value: Any = None, *, present: bool = True) -> None:
        self.value = value
        self.present = present


NONE = Optional(present=False)


class TypeValue:
    """A type as a value: what `type(x)` gives and what `int`, `string` and so on name."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TypeValue) and self.name == other.name

    def __hash__(self) -> int:
        return hash(("type", self.name))


class SetList(list[Any]):
    """A list of type "set": order doesn't count for equality."""

    __slots__ = ()


class MapList(list[Any]):
    """A list of type "map": items are told apart by their keys, order doesn't count for equality."""

    __slots__ = ("keys",)

    def __init__(self, items: list[Any], keys: tuple[str, ...]) -> None:
        super().__init__(items)
        self.keys = keys


class IPValue:
    __slots__ = ("address",)

    def __init__(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
        self.address = address

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IPValue) and self.address == other.address

    def __hash__(self) -> int:
        return hash(self.address)


class CIDRValue:
    """An address with a prefix length; host bits are kept."""

    __slots__ = ("address", "bits")

    def __init__(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address, bits: int) -> None:
        self.address = address
        self.bits = bits

    def network(self) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
        return ipaddress.ip_network(f"{self.address}/{self.bits}", strict=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CIDRValue) and (self.address, self.bits) == (other.address, other.bits)

    def __hash__(self) -> int:
        return hash((self.address, self.bits))


class URLValue:
    __slots__ = ("text", "url")

    def __init__(self, url: Url, text: str) -> None:
        self.url = url
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, URLValue) and self.url == other.url

    def __hash__(self) -> int:
        return hash(self.text)


class QuantityValue:
    """A Kubernetes quantity as an exact decimal."""

    __slots__ = ("value",)

    def __init__(self, value: Decimal) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, QuantityValue) and self.value == other.value

    def __hash__(self) -> int:
        return hash(("quantity", self.value))


class SemverValue:
    """A semantic version; `key` orders it by precedence."""

    __slots__ = ("key", "major", "minor", "patch")

    def __init__(self, major: int, minor: int, patch: int, pre: tuple[str, ...]) -> None:
        self.major, self.minor, self.patch = major, minor, patch
        parts = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in pre)
        self.key = (major, minor, patch, 0 if pre else 1, parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SemverValue) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


class FormatValue:
    """A named string format; `check` returns what is wrong with a text."""

    __slots__ = ("check", "name")

    def __init__(self, name: str, check: Any) -> None:
        self.name = name
        self.check = check


_NAMES: dict[type, str] = {
    bool: "bool", int: "int", UInt: "uint", float: "double", str: "string", bytes: "bytes", list: "list", dict: "map",
    SetList: "list", MapList: "list", type(None): "null_type", Timestamp: "google.protobuf.Timestamp",
    Duration: "google.protobuf.Duration", Optional: "optional_type", TypeValue: "type", IPValue: "net.IP",
    CIDRValue: "net.CIDR", URLValue: "kubernetes.URL", QuantityValue: "kubernetes.Quantity",
    SemverValue: "kubernetes.Semver", FormatValue: "kubernetes.NamedFormat",
}  # fmt: skip
_NUMBERS = (int, UInt, float)
_LISTS = (list, SetList, MapList)


def type_name(value: Any) -> str:
    return _NAMES.get(type(value), type(value).__name__)


def is_list(value: Any) -> bool:
    return type(value) in _LISTS


def equal(left: Any, right: Any) -> bool:
    """CEL's equality: numbers compare across types, other types never equal one another."""
    kind, other = type(left), type(right)
    if kind is str or kind is bool or kind is bytes:
        return kind is other and bool(left == right)
    if kind in _NUMBERS:
        if kind is not other and float in (kind, other):
            return other in _NUMBERS and float(left) == float(right)
        return other in _NUMBERS and bool(left == right)
    if kind in _LISTS:
        return other in _LISTS and _equal_lists(left, right)
    if kind is dict:
        return other is dict and _equal_maps(left, right)
    if kind is Optional:
        if other is not Optional or left.present != right.present:
            return False
        return not left.present or equal(left.value, right.value)
    return kind is other and bool(left == right)


def _equal_lists(left: list[Any], right: list[Any]) -> bool:
    if len(left) != len(right):
        return False
    if type(left) is SetList:
        return all(any(equal(one, other) for other in right) for one in left) and all(
            any(equal(one, other) for one in left) for other in right
        )
    if type(left) is MapList:
        keyed = {map_key(item, left.keys): item for item in left}
        seen = set()
        for item in right:
            key = map_key(item, left.keys)
            if key not in keyed or not equal(keyed[key], item):
                return False
            seen.add(key)
        return len(seen) == len(keyed)
    return all(equal(one, other) for one, other in zip(left, right, strict=True))


def map_key(item: Any, keys: tuple[str, ...]) -> tuple[Any, ...]:
    if not isinstance(item, dict):
        return ()
    return tuple((type(item.get(name)), item.get(name)) for name in keys)


def _equal_maps(left: dict[Any, Any], right: dict[Any, Any]) -> bool:
    if len(left) != len(right):
        return False
    return all(not (key not in right or not equal(value, right[key])) for key, value in left.items())
