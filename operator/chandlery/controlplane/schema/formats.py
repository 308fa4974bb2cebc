"""String formats of custom resource schemas: which there are, and what each accepts.

Source: the list in the API documentation of CustomResourceDefinition's `format`. A format that isn't in the list is
ignored. Names are compared without dashes ("date-time" is "datetime").
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Callable
from datetime import date

from chandlery.controlplane.schema.goduration import parse_spoken_duration
from chandlery.controlplane.schema.gourl import UrlError, parse_request_uri

Check = Callable[[str], bool]

_HEX = "[0-9a-fA-F]"
_UUID = re.compile(rf"{_HEX}{{8}}-?{_HEX}{{4}}-?{_HEX}{{4}}-?{_HEX}{{4}}-?{_HEX}{{12}}")
_UUID3 = re.compile(rf"{_HEX}{{8}}-?{_HEX}{{4}}-?3{_HEX}{{3}}-?{_HEX}{{4}}-?{_HEX}{{12}}")
_UUID4 = re.compile(rf"{_HEX}{{8}}-?{_HEX}{{4}}-?4{_HEX}{{3}}-?[89abAB]{_HEX}{{3}}-?{_HEX}{{12}}")
_UUID5 = re.compile(rf"{_HEX}{{8}}-?{_HEX}{{4}}-?5{_HEX}{{3}}-?[89abAB]{_HEX}{{3}}-?{_HEX}{{12}}")
_CARD = re.compile(
    r"(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}"
    r"|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35[0-9]{3})[0-9]{11})"
)
_BYTE_VALUE = r"\s*(?:0|[1-9][0-9]?|1[0-9][0-9]?|2[0-4][0-9]|25[0-5])\s*"
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]+"
_ADDRESS = rf"(?:{_ATOM}(?:\.{_ATOM})*|\"(?:[^\"\\\r\n]|\\.)*\")@(?:{_ATOM}(?:\.{_ATOM})*|\[[^\[\]\\]*\])"
_PHRASE = rf"(?:(?:{_ATOM}|\"(?:[^\"\\\r\n]|\\.)*\")(?:[ .]+(?:{_ATOM}|\"(?:[^\"\\\r\n]|\\.)*\"))*)"


def _pattern(pattern: str) -> Check:
    compiled = re.compile(pattern)
    return lambda text: compiled.fullmatch(text) is not None


def _name_char(char: str) -> bool:
    """ASCII letters and digits, letters and symbols of any script."""
    if char.isascii() and char.isalnum():
        return True
    return unicodedata.category(char)[0] in "LS"


def _hostname(text: str) -> bool:
    """RFC 1034 with the reference's liberties: symbols; in a single label one dash, after its first character."""
    labels = text.split(".")
    if len(text.encode()) > 255 or any(not label or len(label.encode()) > 63 for label in labels):
        return False
    if len(labels) == 1:
        rest = text[1:].removeprefix("-")
        return _name_char(text[0]) and len(rest) <= 62 and all(map(_name_char, rest))
    *parts, top = labels
    for label in parts:
        if not (_name_char(label[0]) and _name_char(label[-1])):
            return False
        if not all(char == "-" or _name_char(char) for char in label):
            return False
    return len(top) >= 2 and all(unicodedata.category(char)[0] == "L" for char in top)


def _uri(text: str) -> bool:
    try:
        parse_request_uri(text)
    except UrlError:
        return False
    return True


def sloppy_ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address, IPv4 octets with leading zeros allowed, zones not; None when it isn't one."""
    if "%" in text:
        return None
    if ":" not in text:
        text = ".".join(part.lstrip("0") or ("0" if part else "") for part in text.split("."))
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _cidr(text: str) -> bool:
    address, slash, bits = text.partition("/")
    ip = sloppy_ip(address)
    if ip is None or not slash or not bits.isascii() or not bits.isdigit():
        return False
    return int(bits) <= ip.max_prefixlen


def _mac(text: str) -> bool:
    for separator, width in ((":", 2), ("-", 2), (".", 4)):
        if separator in text:
            groups = text.split(separator)
            octets = len(groups) * width // 2
            hexadecimal = all(re.fullmatch(rf"{_HEX}{{{width}}}", group) for group in groups)
            return octets in (6, 8, 20) and hexadecimal
    return False


def _isbn10(text: str) -> bool:
    digits = re.sub(r"[\s-]+", "", text)
    if re.fullmatch(r"[0-9]{9}[0-9X]", digits) is None:
        return False
    total = sum((position + 1) * int(char) for position, char in enumerate(digits[:9]))
    total += 100 if digits[9] == "X" else 10 * int(digits[9])
    return total % 11 == 0


def _isbn13(text: str) -> bool:
    digits = re.sub(r"[\s-]+", "", text)
    if re.fullmatch(r"[0-9]{13}", digits) is None:
        return False
    total = sum((1, 3)[position % 2] * int(char) for position, char in enumerate(digits[:12]))
    return (int(digits[12]) - (10 - total % 10) % 10) % 10 == 0


def _card(text: str) -> bool:
    digits = re.sub(r"[^0-9]+", "", text)
    if _CARD.fullmatch(digits) is None:
        return False
    total = 0
    for position, char in enumerate(reversed(digits)):
        value = int(char) * (2 if position % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _date(text: str) -> bool:
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text) is None:
        return False
    try:
        date(max(int(text[:4]), 1) if text[:4] != "0000" else 4, int(text[5:7]), int(text[8:]))
    except ValueError:
        return False
    return True


def _datetime(text: str) -> bool:
    lowered = text.lower()
    parts = lowered.split("t")
    if len(text) < 4 or len(parts) < 2 or not _date(parts[0]):
        return False
    match = re.fullmatch(r"([0-9]{2}):([0-9]{2}):([0-9]{2})(?:[^\n][0-9]+)?(?:z|[+-][0-9]{2}:[0-9]{2})", parts[1])
    return match is not None and match[1] <= "23" and match[2] <= "59" and match[3] <= "59"


def _duration(text: str) -> bool:
    return parse_spoken_duration(text) is not None


def _ipv4(text: str) -> bool:
    return "." in text and sloppy_ip(text) is not None


def _ipv6(text: str) -> bool:
    if ":" not in text or "%" in text:
        return False
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _base64(text: str) -> bool:
    return (
        re.fullmatch(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})", text)
        is not None
    )


_SHORT_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?")
_LONG_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")

_FORMATS: dict[str, Check] = {
    "bsonobjectid": _pattern(r"[0-9a-fA-F]{24}"),
    "uri": _uri,
    "email": _pattern(rf"\s*(?:{_ADDRESS}|{_PHRASE}?\s*<{_ADDRESS}>)\s*"),
    "hostname": _hostname,
    "ipv4": _ipv4,
    "ipv6": _ipv6,
    "cidr": _cidr,
    "mac": _mac,
    "uuid": lambda text: _UUID.fullmatch(text) is not None,
    "uuid3": lambda text: _UUID3.fullmatch(text) is not None,
    "uuid4": lambda text: _UUID4.fullmatch(text) is not None,
    "uuid5": lambda text: _UUID5.fullmatch(text) is not None,
    "isbn": lambda text: _isbn10(text) or _isbn13(text),
    "isbn10": _isbn10,
    "isbn13": _isbn13,
    "creditcard": _card,
    "ssn": lambda text: len(text) == 11 and re.fullmatch(r"[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}", text) is not None,
    "hexcolor": _pattern(r"#?(?:[0-9a-fA-F]{3}|[0-9a-fA-F]{6})"),
    "rgbcolor": _pattern(rf"rgb\({_BYTE_VALUE},{_BYTE_VALUE},{_BYTE_VALUE}\)"),
    "byte": _base64,
    "password": lambda _text: True,
    "date": _date,
    "duration": _duration,
    "datetime": _datetime,
    "k8sshortname": lambda text: len(text) <= 63 and _SHORT_NAME.fullmatch(text) is not None,
    "k8slongname": lambda text: len(text) <= 253 and _LONG_NAME.fullmatch(text) is not None,
}


def string_format(name: str) -> Check | None:
    """What a string of this format must satisfy; None for a format that isn't known."""
    return _FORMATS.get(name.replace("-", ""))


def effective_format(schema_type: str, name: str) -> str:
    """The format as far as it counts for this type: unknown ones become ""."""
    if not name:
        return ""
    if schema_type in ("", "string"):
        return name if string_format(name) is not None else ""
    if schema_type == "integer":
        return name if name in ("int32", "int64") else ""
    if schema_type == "number":
        return name if name in ("float", "double") else ""
    return ""
