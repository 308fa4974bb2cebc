"""Addresses, networks, ports, hosts, URLs."""

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

from chandlery.foundation.errors import InvalidSpec
from chandlery.foundation.validation.names import check_dns1123_subdomain

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_PORT_NAME: Final = re.compile(r"(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*")
_MAC: Final = re.compile(r"[0-9a-f]{2}([:-])[0-9a-f]{2}(\1[0-9a-f]{2}){4}", re.IGNORECASE)
_DOTTED: Final = re.compile(r"[0-9.]+")


def check_ip(value: str, *, field: str = "address") -> Address:
    """An IPv4 or IPv6 address, without a zone."""
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        address = None
    if address is None or "%" in str(value):
        raise InvalidSpec(
            "must be an IP address", field=field, value=value, hint="Write for example 10.0.0.5 or 2001:db8::5."
        )
    return address


def check_cidr(value: str, *, field: str = "cidr", host_bits: bool = False) -> Network:
    """A network, such as `10.0.0.0/8`.

    Args:
        value: address and prefix length; the length is required.
        field: named in the error.
        host_bits: let `10.0.0.5/8` pass as `10.0.0.0/8` (nothing is lost where only the network counts).
    """
    hint = "Write for example 10.0.0.0/8 or 2001:db8::/32."
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-fA-F:.]+/[0-9]{1,3}", value):
        rule = "must have a prefix length" if isinstance(value, str) and "/" not in value else "must be a CIDR network"
        raise InvalidSpec(rule, field=field, value=value, hint=hint)
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise InvalidSpec("must be a CIDR network", field=field, value=value, hint=hint) from None
    if not host_bits and network.network_address != ipaddress.ip_interface(value).ip:
        raise InvalidSpec(
            "must have no address bits beyond its prefix",
            field=field,
            value=value,
            hint=f"Write {network} for the network, or {value.partition('/')[0]}/{network.max_prefixlen} for one host.",
        )
    return network


def check_port(value: int, *, field: str = "port", privileged: bool = True) -> int:
    """A TCP or UDP port from 1 to 65535.

    Args:
        value: the number.
        field: named in the error.
        privileged: False refuses ports below 1024, which an ordinary user can't open.
    """
    low = 1 if privileged else 1024
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= 65535:
        raise InvalidSpec(
            f"must be a port number from {low} to 65535", field=field, value=value, hint="Use a number of that range."
        )
    return value


def check_port_name(value: str, *, field: str = "port.name") -> str:
    """An IANA service name: at most 15 of a-z, 0-9 and single `-`, with a letter among them."""
    if not isinstance(value, str) or len(value) > 15 or not _PORT_NAME.fullmatch(value):
        raise InvalidSpec(
            "must have at most 15 lower-case letters, digits and single '-', with a letter among them",
            field=field,
            value=value,
            hint="Write for example http or tcp-5432.",
        )
    return value


def check_host(value: str, *, field: str = "host") -> str:
    """A DNS name or an IP address."""
    if isinstance(value, str) and (":" in value or _DOTTED.fullmatch(value)):
        check_ip(value, field=field)
        return value
    return check_dns1123_subdomain(value, field=field)


def parse_endpoint(value: str, *, field: str = "endpoint", default_port: int | None = None) -> tuple[str, int]:
    """`host:port`, `[v6]:port`, or a host alone where there is a default port."""
    hint = "Write for example db.example.com:5432 or [2001:db8::5]:5432."
    match = re.fullmatch(r"(?:\[([^\]]*)\]|([^:\[\]]*))(?::([0-9]{1,5}))?", value)
    if match is None:
        raise InvalidSpec("must be host:port", field=field, value=value, hint=hint)
    six, host, port = match.groups()
    if port is None and default_port is None:
        raise InvalidSpec("must have a port", field=field, value=value, hint=hint)
    name = str(check_ip(six, field=field)) if six is not None else check_host(host, field=field)
    return name, check_port(int(port) if port is not None else default_port or 0, field=field)


def check_mac(value: str, *, field: str = "mac") -> str:
    """A unicast MAC address; returned in lower case with colons."""
    if not isinstance(value, str) or not _MAC.fullmatch(value):
        raise InvalidSpec(
            "must be a MAC address", field=field, value=value, hint="Write six pairs such as 52:54:00:12:34:56."
        )
    mac = value.lower().replace("-", ":")
    if int(mac[:2], 16) & 1:
        raise InvalidSpec(
            "must be a unicast address", field=field, value=value, hint=f"Write {int(mac[:2], 16) & 0xFE:02x}{mac[2:]}."
        )
    return mac


def check_url(value: str, *, field: str = "url", schemes: tuple[str, ...] = ("https", "http")) -> str:
    """An absolute URL with a host and no user or password in it."""
    hint = f"Write for example {schemes[0]}://example.com/path."
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise InvalidSpec("must be a URL", field=field, value=value, hint=hint) from None
    if parts.username is not None or parts.password is not None:
        # Not shown: the password would go into a status that anybody may read.
        raise InvalidSpec(
            "must hold no user name and no password", field=field, hint="Put credentials into a Secret and refer to it."
        )
    if parts.scheme not in schemes:
        raise InvalidSpec(
            f"must begin with {' or '.join(f'{s}://' for s in schemes)}", field=field, value=value, hint=hint
        )
    if re.search(r"\s", value):
        raise InvalidSpec("must hold no blanks", field=field, value=value, hint="Write a blank as %20.")
    if parts.scheme != "file":
        if not parts.hostname:
            raise InvalidSpec("must name a host", field=field, value=value, hint=hint)
        check_host(parts.hostname, field=field)
        if port is not None:
            check_port(port, field=field)
    return value
