"""Text values with a meaning: sizes, durations, cron schedules, times.

They stay text (what the user wrote is what is stored and compared) and give their value by a property:
`Size("1Gi").bytes`, `Duration("1h30m").seconds`. The schema carries a CEL rule with a plain message instead of a bare
pattern, because a message of `should match '^([0-9]{1,5}...'` helps nobody.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Self

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from chandlery.foundation.errors import InvalidSpec
from chandlery.foundation.validation import Cron as Schedule
from chandlery.foundation.validation import Quantity, check_timezone


class Text(str):
    """A string that must match `pattern` (RE2 syntax without backslashes, so that it is CEL and Python alike)."""

    __slots__ = ()
    pattern: ClassVar[str] = ""
    message: ClassVar[str] = ""
    longest: ClassVar[int] = 63

    @classmethod
    def parse(cls, value: str) -> Self:
        """Check and wrap.

        Raises:
            ValueError: with the sentence that admission would give.
        """
        if len(value) > cls.longest or not re.fullmatch(cls.pattern, value, re.ASCII):
            raise ValueError(cls.message)
        out = cls(value)
        out.check()
        return out

    def check(self) -> None:
        """What a pattern can't say; raises ValueError."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(
            cls.parse, core_schema.str_schema(max_length=cls.longest), serialization=core_schema.to_string_ser_schema()
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        rule = f"self.matches('^({cls.pattern})$')"
        return {
            "type": "string",
            "maxLength": cls.longest,
            "x-kubernetes-validations": [{"rule": rule, "message": cls.message}],
        }


class Size(Text):
    """A number of bytes as a Kubernetes quantity: `512Mi`, `1.5Gi`, `2G`, above zero.

    The subset of quantities that means a whole number of bytes: no `m`, no exponent, no sign.
    """

    __slots__ = ()
    pattern = "([1-9][0-9]{0,17}([.][0-9]{1,6})?|0[.][0-9]{0,5}[1-9])(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?"
    message = "must be a size in bytes above zero, such as 512Mi, 1.5Gi or 2G"
    longest = 32

    @property
    def bytes(self) -> int:
        return int(Quantity(self))


_DURATION_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


class Duration(Text):
    """A time span as Gateway API writes it (GEP-2257): `30s`, `1h30m`, `500ms`; at most four parts of five digits."""

    __slots__ = ()
    pattern = "([0-9]{1,5}(h|m|s|ms)){1,4}"
    message = "must be a duration of hours, minutes, seconds or milliseconds, such as 30s, 1h30m or 500ms"
    longest = 32

    @property
    def seconds(self) -> float:
        return sum(int(n) * _DURATION_UNITS[unit] for n, unit in re.findall(r"([0-9]+)(ms|h|m|s)", self))


def _cron_field(low_high: str, names: str = "") -> str:
    unit = f"({low_high}{'|' + names if names else ''})"
    item = f"([*]|{unit}(-{unit})?)(/[1-9][0-9]?)?"
    return f"{item}(,{item})*"


_MONTHS = "JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC"
_DAYS = "SUN|MON|TUE|WED|THU|FRI|SAT"


class Cron(Text):
    """A schedule of five fields as in cron(5), minute first; or `@daily` and the like."""

    __slots__ = ()
    pattern = "@(hourly|daily|midnight|weekly|monthly|yearly|annually)|" + " ".join(
        (
            _cron_field("[0-5]?[0-9]"),
            _cron_field("[01]?[0-9]|2[0-3]"),
            _cron_field("[12][0-9]|3[01]|0?[1-9]"),
            _cron_field("1[0-2]|0?[1-9]", _MONTHS),
            _cron_field("[0-7]", _DAYS),
        )
    )
    message = (
        "must be a cron schedule of five fields (minute hour day-of-month month day-of-week) such as '0 3 * * *', "
        "or @hourly, @daily, @weekly, @monthly, @yearly"
    )
    longest = 120

    def check(self) -> None:
        """What no pattern says: a range runs backwards, or no month has such a day."""
        try:
            Schedule(self)
        except InvalidSpec as error:
            raise ValueError(error.message) from None


class TimeOfDay(Text):
    """`HH:MM`, 24 hours."""

    __slots__ = ()
    pattern = "([01][0-9]|2[0-3]):[0-5][0-9]"
    message = "must be a time of day as HH:MM between 00:00 and 23:59"
    longest = 5


class Timestamp(Text):
    """RFC 3339 with a zone: `2026-11-22T10:00:00Z`."""

    __slots__ = ()
    pattern = (
        "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]{1,9})?"
        "(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
    )
    message = "must be a time as RFC 3339 with a zone, such as 2026-11-22T10:00:00Z"
    longest = 40


class TimeZone(Text):
    """A name of the IANA database: `Europe/Berlin`, `UTC`."""

    __slots__ = ()
    pattern = "[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}"
    message = "must be a time zone of the IANA database, such as UTC or Europe/Berlin"
    longest = 64

    def check(self) -> None:
        try:
            check_timezone(self)
        except InvalidSpec:
            raise ValueError(self.message) from None


class Cidr(Text):
    """An IP network: `10.0.0.0/8`, `2001:db8::/32`."""

    __slots__ = ()
    pattern = "[0-9a-fA-F:.]{2,45}/[0-9]{1,3}"
    message = "must be a network in CIDR notation without host bits, such as 10.0.0.0/8 or 2001:db8::/32"
    longest = 49

    def check(self) -> None:
        import ipaddress

        try:
            ipaddress.ip_network(self)
        except ValueError:
            raise ValueError(self.message) from None

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        rule = "isCIDR(self) && cidr(self).masked() == cidr(self)"
        return {
            "type": "string",
            "maxLength": cls.longest,
            "x-kubernetes-validations": [{"rule": rule, "message": cls.message}],
        }


class HostCidr(Text):
    """An IP address with the size of its network: `192.0.2.50/24`."""

    __slots__ = ()
    pattern = "[0-9a-fA-F:.]{2,45}/[0-9]{1,3}"
    message = "must be an IP address with the size of its network, such as 192.0.2.50/24"
    longest = 49

    def check(self) -> None:
        import ipaddress

        try:
            ipaddress.ip_interface(self)
        except ValueError:
            raise ValueError(self.message) from None

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {
            "type": "string",
            "maxLength": cls.longest,
            "x-kubernetes-validations": [{"rule": "isCIDR(self)", "message": cls.message}],
        }


class Address(Text):
    """An IP address, version 4 or 6."""

    __slots__ = ()
    pattern = "[0-9a-fA-F:.]{2,45}"
    message = "must be an IP address, such as 192.0.2.10 or 2001:db8::1"
    longest = 45

    def check(self) -> None:
        import ipaddress

        try:
            ipaddress.ip_address(self)
        except ValueError:
            raise ValueError(self.message) from None

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {
            "type": "string",
            "maxLength": cls.longest,
            "x-kubernetes-validations": [{"rule": "isIP(self)", "message": cls.message}],
        }


class Version(Text):
    """An engine's version, as exact as wanted: `17`, `9.1`, `8.0.2`."""

    __slots__ = ()
    pattern = "[0-9]{1,4}([.][0-9]{1,4}){0,2}"
    message = "must be a version of one to three numbers, such as 17, 9.1 or 8.0.2"
    longest = 14

    @property
    def parts(self) -> tuple[int, ...]:
        return tuple(int(p) for p in self.split("."))

    def matches(self, other: str) -> bool:
        """Whether `other`, an exact version, is one of those this text allows: `9` allows `9.1.2`."""
        return tuple(other.split("."))[: len(self.parts)] == tuple(str(p) for p in self.parts)
