"""The Kubernetes libraries: quantity, ip, cidr, url, semver, format.

Source: "Common Expression Language in Kubernetes" in the Kubernetes documentation.
"""

from __future__ import annotations

import ipaddress
import re
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import parse_qs, quote, unquote

from chandlery.controlplane import metadata
from chandlery.controlplane.cel.decls import Functions
from chandlery.controlplane.cel.errors import CelError
from chandlery.controlplane.cel.ipwords import address_problem
from chandlery.controlplane.cel.operators import no_overload
from chandlery.controlplane.cel.types import (
    BOOL,
    CIDR,
    DOUBLE,
    FORMAT,
    INT,
    IP,
    QUANTITY,
    SEMVER,
    STRING,
    URL,
    list_of,
    map_of,
    optional_of,
)  # fmt: skip
from chandlery.controlplane.cel.values import (
    NONE,
    CIDRValue,
    FormatValue,
    IPValue,
    Optional,
    QuantityValue,
    SemverValue,
    URLValue,
)  # fmt: skip
from chandlery.controlplane.schema.formats import string_format
from chandlery.controlplane.schema.gotext import quote as quoted
from chandlery.controlplane.schema.gourl import UrlError, parse_request_uri
from chandlery.controlplane.schema.names import dns1035_errors

_SUFFIXES: dict[str, Decimal] = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1), "k": Decimal(10**3),
    "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12), "P": Decimal(10**15), "E": Decimal(10**18),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40), "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}  # fmt: skip
_QUANTITY = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:([eE][+-]?[0-9]+)|([numkMGTPE]|[KMGTPE]i)?)")
_QUANTITY_FORM = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eEinumkKMGTP]*[-+]?[0-9]*")
_NO_QUANTITY = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
_SEMVER = re.compile(
    r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(?:-((?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)(?:\.(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*))*))?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)


def add_kubernetes(f: Functions) -> None:
    _add_quantity(f)
    _add_network(f)
    _add_url(f)
    _add_semver(f)
    _add_format(f)


# -- quantity


def parse_quantity(text: str) -> Decimal | None:
    """The exact value of a quantity, rounded up to nanos; None when the text is none."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        return None
    try:
        number = Decimal(match[1] + (match[2] or ""))
    except InvalidOperation:
        return None
    return number * _SUFFIXES[match[3] or ""]


def _quantity(text: str) -> QuantityValue:
    value = parse_quantity(text)
    if value is None:
        known = _QUANTITY_FORM.fullmatch(text)
        raise CelError("unable to parse quantity's suffix" if known else _NO_QUANTITY)
    return QuantityValue(value)


def _whole(quantity: QuantityValue) -> bool:
    return quantity.value == quantity.value.to_integral_value() and -(1 << 63) <= quantity.value < 1 << 63


def _as_integer(quantity: QuantityValue) -> int:
    if not _whole(quantity):
        raise CelError("cannot convert value to integer")
    return int(quantity.value)


def _add_quantity(f: Functions) -> None:
    f.add("quantity", "string_to_quantity", (STRING,), QUANTITY, _quantity)
    f.add("isQuantity", "is_quantity_string", (STRING,), BOOL, lambda text: parse_quantity(text) is not None)
    f.add("sign", "quantity_sign", (QUANTITY,), INT, lambda q: (q.value > 0) - (q.value < 0))
    two = (QUANTITY, QUANTITY)
    f.member("isGreaterThan", "quantity_is_greater_than", two, BOOL, lambda a, b: a.value > b.value)
    f.member("isLessThan", "quantity_is_less_than", two, BOOL, lambda a, b: a.value < b.value)
    f.member("compareTo", "quantity_compare_to", two, INT, lambda a, b: (a.value > b.value) - (a.value < b.value))
    f.member("asApproximateFloat", "quantity_get_float", (QUANTITY,), DOUBLE, lambda q: float(q.value))
    f.member("asInteger", "quantity_get_int", (QUANTITY,), INT, _as_integer)
    f.member("isInteger", "quantity_is_integer", (QUANTITY,), BOOL, _whole)
    f.member("add", "quantity_add", two, QUANTITY, lambda a, b: QuantityValue(a.value + b.value))
    f.member("add", "quantity_add_int", (QUANTITY, INT), QUANTITY, lambda a, b: QuantityValue(a.value + b))
    f.member("sub", "quantity_sub", two, QUANTITY, lambda a, b: QuantityValue(a.value - b.value))
    f.member("sub", "quantity_sub_int", (QUANTITY, INT), QUANTITY, lambda a, b: QuantityValue(a.value - b))


# -- ip and cidr


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    if "%" in text:
        raise CelError(f"IP address {quoted(text)} with zone value is not allowed")
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        detail = address_problem(text)
        raise CelError(f"IP Address {quoted(text)} parse error during conversion from string: {detail}") from None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        raise CelError(f"IPv4-mapped IPv6 address {quoted(text)} is not allowed")
    return address


def _prefix(text: str) -> CIDRValue:
    def refuse(why: str) -> CelError:
        said = "network address parse error during conversion from string: "
        return CelError(f"{said}{said}netip.ParsePrefix({quoted(text)}): {why}")

    host, slash, bits = text.rpartition("/")
    if not slash:
        raise refuse("no '/'")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise refuse(address_problem(host)) from None
    if "%" in host:
        raise refuse("IPv6 zones cannot be present in a prefix")
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        said = "network address parse error during conversion from string: "
        raise CelError(f"{said}IPv4-mapped IPv6 address {quoted(text)} is not allowed")
    if not bits.isascii() or not bits.isdigit() or (len(bits) > 1 and bits[0] == "0"):
        raise refuse(f"bad bits after slash: {quoted(bits)}")
    if int(bits) > address.max_prefixlen:
        raise refuse("prefix length out of range")
    return CIDRValue(address, int(bits))


def _valid(parse: Any) -> Any:
    def call(text: str) -> bool:
        try:
            parse(text)
        except CelError:
            return False
        return True

    return call


def _contains_address(cidr: CIDRValue, address: Any) -> bool:
    try:
        other = address.address if isinstance(address, IPValue) else _address(address)
    except CelError:
        raise no_overload() from None
    return other.version == cidr.address.version and other in cidr.network()


def _contains_network(cidr: CIDRValue, other: Any) -> bool:
    inner = other if isinstance(other, CIDRValue) else _prefix(other)
    if inner.address.version != cidr.address.version or inner.bits < cidr.bits:
        return False
    return inner.address in cidr.network()


def _masked(cidr: CIDRValue) -> CIDRValue:
    return CIDRValue(cidr.network().network_address, cidr.bits)


def _global_unicast(value: IPValue) -> bool:
    address = value.address
    if address.is_unspecified or address.is_loopback or address.is_multicast or address.is_link_local:
        return False
    return str(address) != "255.255.255.255"


def _link_local_multicast(value: IPValue) -> bool:
    address = value.address
    if address.version == 4:
        return address in ipaddress.ip_network("224.0.0.0/24")
    return address.is_multicast and address.packed[1] & 0x0F == 2


def _add_network(f: Functions) -> None:
    f.add("ip", "string_to_ip", (STRING,), IP, lambda text: IPValue(_address(text)))
    f.add("isIP", "is_ip", (STRING,), BOOL, _valid(_address))
    f.add("ip.isCanonical", "ip_is_canonical", (STRING,), BOOL, lambda text: str(_address(text)) == text)
    f.member("family", "ip_family", (IP,), INT, lambda value: value.address.version)
    f.member("isUnspecified", "ip_is_unspecified", (IP,), BOOL, lambda value: value.address.is_unspecified)
    f.member("isLoopback", "ip_is_loopback", (IP,), BOOL, lambda value: value.address.is_loopback)
    f.member("isLinkLocalMulticast", "ip_is_link_local_multicast", (IP,), BOOL, _link_local_multicast)
    f.member("isLinkLocalUnicast", "ip_is_link_local_unicast", (IP,), BOOL, lambda value: value.address.is_link_local)
    f.member("isGlobalUnicast", "ip_is_global_unicast", (IP,), BOOL, _global_unicast)
    f.add("string", "ip_to_string", (IP,), STRING, lambda value: str(value.address))
    f.add("cidr", "string_to_cidr", (STRING,), CIDR, _prefix)
    f.add("isCIDR", "is_cidr", (STRING,), BOOL, _valid(_prefix))
    f.member("containsIP", "cidr_contains_ip_string", (CIDR, STRING), BOOL, _contains_address)
    f.member("containsIP", "cidr_contains_ip_ip", (CIDR, IP), BOOL, _contains_address)
    f.member("containsCIDR", "cidr_contains_cidr_string", (CIDR, STRING), BOOL, _contains_network)
    f.member("containsCIDR", "cidr_contains_cidr", (CIDR, CIDR), BOOL, _contains_network)
    f.member("ip", "cidr_ip", (CIDR,), IP, lambda value: IPValue(value.address))
    f.member("prefixLength", "cidr_prefix_length", (CIDR,), INT, lambda value: value.bits)
    f.member("masked", "cidr_masked", (CIDR,), CIDR, _masked)
    f.add("string", "cidr_to_string", (CIDR,), STRING, lambda value: f"{value.address}/{value.bits}")


# -- url


def _url(text: str) -> URLValue:
    try:
        parse_request_uri(text)
        return URLValue(parse_request_uri(text.partition("#")[0]), text)
    except UrlError as error:
        raise CelError(f"URL parse error during conversion from string: parse {quoted(text)}: {error}") from None


_ENCODED_PATH = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@\[\]/%]*")


def _escaped_path(value: URLValue) -> str:
    raw = value.url.raw_path
    if _ENCODED_PATH.fullmatch(raw) and unquote(raw) == value.url.path:
        return raw
    return quote(value.url.path, safe="/$&+,;=:@~")


def _add_url(f: Functions) -> None:
    f.add("url", "string_to_url", (STRING,), URL, _url)
    f.add("isURL", "is_url_string", (STRING,), BOOL, _valid(_url))
    f.member("getScheme", "url_get_scheme", (URL,), STRING, lambda value: value.url.scheme)
    f.member("getHost", "url_get_host", (URL,), STRING, lambda value: value.url.host)
    f.member("getHostname", "url_get_hostname", (URL,), STRING, lambda value: value.url.hostname)
    f.member("getPort", "url_get_port", (URL,), STRING, lambda value: value.url.port)
    f.member("getEscapedPath", "url_get_escaped_path", (URL,), STRING, _escaped_path)
    f.member(
        "getQuery", "url_get_query", (URL,), map_of(STRING, list_of(STRING)),
        lambda value: parse_qs(value.url.query, keep_blank_values=True),
    )  # fmt: skip


# -- semver


def _semver(text: str, normalize: bool = False) -> SemverValue:
    body = text
    if normalize:
        parts = body.removeprefix("v").split(".", 2)
        parts = [_without_zeros(part) for part in parts]
        if len(parts) < 3 and re.search(r"[+-]", parts[-1]):
            raise CelError("short version cannot contain PreRelease/Build meta data")
        body = ".".join(parts + ["0"] * (3 - len(parts)))
    match = _SEMVER.fullmatch(body)
    if match is None:
        raise CelError(_semver_problem(body))
    pre = tuple(match[4].split(".")) if match[4] else ()
    return SemverValue(int(match[1]), int(match[2]), int(match[3]), pre)


def _without_zeros(part: str) -> str:
    if len(part) < 2:
        return part
    rest = part.lstrip("0")
    return rest if rest[:1].isdigit() else f"0{rest}"


def _semver_problem(text: str) -> str:
    if not text:
        return "Version string empty"
    parts = text.split(".", 2)
    if len(parts) != 3:
        return "No Major.Minor.Patch elements found"
    for name, part in zip(("major", "minor"), parts, strict=False):
        if not part.isdigit():
            return f"Invalid character(s) found in {name} number {quoted(part)}"
        if len(part) > 1 and part[0] == "0":
            return f"{name.capitalize()} number must not contain leading zeroes {quoted(part)}"
    return f"Invalid character(s) found in patch number {quoted(parts[2])}"


def _add_semver(f: Functions) -> None:
    two = (SEMVER, SEMVER)
    f.add("semver", "string_to_semver", (STRING,), SEMVER, _semver)
    f.add("semver", "string_bool_to_semver", (STRING, BOOL), SEMVER, _semver)
    f.add("isSemver", "is_semver_string", (STRING,), BOOL, _valid(_semver))
    f.add("isSemver", "is_semver_string_bool", (STRING, BOOL), BOOL, _is_semver_normalized)
    f.member("isGreaterThan", "semver_is_greater_than", two, BOOL, lambda a, b: a.key > b.key)
    f.member("isLessThan", "semver_is_less_than", two, BOOL, lambda a, b: a.key < b.key)
    f.member("compareTo", "semver_compare_to", two, INT, lambda a, b: (a.key > b.key) - (a.key < b.key))
    for name in ("major", "minor", "patch"):
        f.member(name, f"semver_{name}", (SEMVER,), INT, _semver_part(name))


def _is_semver_normalized(text: str, normalize: bool) -> bool:
    try:
        _semver(text, normalize)
    except CelError:
        return False
    return True


def _semver_part(name: str) -> Any:
    return lambda value: getattr(value, name)


# -- format


def _prefix_of(check: Any) -> Any:
    """Rules for a name that something will be appended to: a dash at the end is allowed."""

    def call(text: str) -> list[str]:
        masked = text[:-2] + "a" if len(text) > 1 and text.endswith("-") else text
        return check(masked)  # type: ignore[no-any-return]

    return call


def _by_schema_format(name: str, message: str) -> Any:
    check = string_format(name)
    assert check is not None
    return lambda text: [] if check(text) else [message]


def _uri(text: str) -> list[str]:
    try:
        parse_request_uri(text)
    except UrlError as error:
        return [f"parse {quoted(text)}: {error}"]
    return []


FORMATS: dict[str, FormatValue] = {
    name: FormatValue(name, check)
    for name, check in {
        "dns1123Label": metadata.label_errors,
        "dns1123Subdomain": metadata.subdomain_errors,
        "dns1035Label": dns1035_errors,
        "qualifiedName": metadata.qualified_name_errors,
        "dns1123LabelPrefix": _prefix_of(metadata.label_errors),
        "dns1123SubdomainPrefix": _prefix_of(metadata.subdomain_errors),
        "dns1035LabelPrefix": _prefix_of(dns1035_errors),
        "labelValue": metadata.label_value_errors,
        "uri": _uri,
        "uuid": _by_schema_format("uuid", "does not match the UUID format"),
        "byte": _by_schema_format("byte", "invalid base64"),
        "date": _by_schema_format("date", "invalid date"),
        "datetime": _by_schema_format("datetime", "invalid datetime"),
    }.items()
}


def _validate(form: FormatValue, text: str) -> Optional:
    problems = form.check(text)
    return Optional(problems) if problems else NONE


def _named(name: str) -> Optional:
    found = FORMATS.get(name)
    return NONE if found is None else Optional(found)


def _constant(value: FormatValue) -> Any:
    return lambda: value


def _add_format(f: Functions) -> None:
    for name, value in FORMATS.items():
        f.add(f"format.{name}", f"format.{name}", (), FORMAT, _constant(value))
    f.member("validate", "format-validate", (FORMAT, STRING), optional_of(list_of(STRING)), _validate)
    f.add("format.named", "format-named", (STRING,), optional_of(FORMAT), _named)
