"""Words for field errors and the small rules that many kinds share.

Source: observed error texts of kube-apiserver 1.36, the Kubernetes documentation of names, labels and ports.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from chandlery.controlplane.builtins import internal, quantity
from chandlery.controlplane.metadata import (
    label_errors,
    label_value_errors,
    qualified_name_errors,
    subdomain_errors,
    validate_annotations,
    validate_labels,
)
from chandlery.controlplane.types import FieldError, Obj

Errors = list[FieldError]

NON_NEGATIVE = "must be greater than or equal to 0"
POSITIVE = "must be greater than zero"
IMMUTABLE = "field is immutable"
_LABEL_KEY = "[A-Za-z0-9]"


def quote(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else internal.compact(internal.plain(value))


def required(path: str, detail: str = "") -> FieldError:
    return FieldError(path, "FieldValueRequired", f"Required value: {detail}" if detail else "Required value")


def invalid(path: str, value: Any, detail: str) -> FieldError:
    return FieldError(path, "FieldValueInvalid", f"Invalid value: {quote(value)}: {detail}")


def invalid_struct(path: str, definition: str, value: Obj | None, detail: str) -> FieldError:
    return FieldError(path, "FieldValueInvalid", f"Invalid value: {internal.shown(definition, value)}: {detail}")


def forbidden(path: str, detail: str) -> FieldError:
    return FieldError(path, "FieldValueForbidden", f"Forbidden: {detail}")


def duplicate(path: str, value: Any) -> FieldError:
    return FieldError(path, "FieldValueDuplicate", f"Duplicate value: {quote(value)}")


def unsupported(path: str, value: Any, supported: Sequence[str]) -> FieldError:
    listed = ", ".join(json.dumps(one) for one in supported)
    return FieldError(path, "FieldValueNotSupported", f"Unsupported value: {quote(value)}: supported values: {listed}")


def too_long(path: str, limit: int) -> FieldError:
    return FieldError(path, "FieldValueTooLong", f"Too long: may not be more than {limit} bytes")


def too_many(path: str, count: int, limit: int) -> FieldError:
    return FieldError(path, "FieldValueTooMany", f"Too many: {count}: must have at most {limit} items")


def one_of(path: str, value: Any, supported: Sequence[str], *, need: bool = False) -> Errors:
    """An enumeration; when `need`, the empty value is missing rather than unsupported."""
    if need and not value:
        return [required(path)]
    return [] if value in supported else [unsupported(path, value, supported)]


def non_negative(path: str, value: int | None) -> Errors:
    return [invalid(path, value, NON_NEGATIVE)] if value is not None and value < 0 else []


def each(path: str, value: str, problems: Iterable[str]) -> Errors:
    return [invalid(path, value, problem) for problem in problems]


def dns_label(path: str, value: str) -> Errors:
    return each(path, value, label_errors_plain(value))


def dns_subdomain(path: str, value: str) -> Errors:
    return each(path, value, subdomain_errors(value))


def qualified_name(path: str, value: str) -> Errors:
    return each(path, value, qualified_name_errors(value))


LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LABEL_1035_TEXT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    "'[a-z]([-a-z0-9]*[a-z0-9])?')"
)


def label_errors_plain(value: str) -> list[str]:
    return label_errors(value)


def dns_1035_errors(value: str) -> list[str]:
    errors = []
    if len(value.encode()) > 63:
        errors.append("must be no more than 63 characters")
    if not _LABEL_1035.fullmatch(value):
        errors.append(LABEL_1035_TEXT)
    return errors


_WILDCARD = re.compile(r"\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
WILDCARD_TEXT = (
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of "
    "lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', "
    "regex used "
    r"for validation is '\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)


def wildcard_errors(value: str) -> list[str]:
    errors = []
    if len(value.encode()) > 253:
        errors.append("must be no more than 253 characters")
    if not _WILDCARD.fullmatch(value):
        errors.append(WILDCARD_TEXT)
    return errors


PORT_RANGE = "must be between 1 and 65535, inclusive"


def port_number(path: str, value: int) -> Errors:
    return [] if 1 <= value <= 65535 else [invalid(path, value, PORT_RANGE)]


def port_name_errors(name: str) -> list[str]:
    """An IANA service name: at most 15 letters, digits and single hyphens, with a letter."""
    errors = []
    if len(name) > 15:
        errors.append("must be no more than 15 characters")
    if not re.fullmatch(r"[-a-z0-9]+", name):
        errors.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search(r"[a-z]", name):
        errors.append("must contain at least one letter (a-z)")
    if "--" in name:
        errors.append("must not contain consecutive hyphens")
    if name[:1] == "-" or name[-1:] == "-":
        errors.append("must not begin or end with a hyphen")
    return errors


def port_name(path: str, name: str) -> Errors:
    return each(path, name, port_name_errors(name))


def port_or_name(path: str, value: Any) -> Errors:
    if isinstance(value, str):
        return port_name(path, value)
    return port_number(path, value)


IP_TEXT = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
CIDR_TEXT = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"


_OCTETS = re.compile(r"[0-9]{1,8}(\.[0-9]{1,8}){3}")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_ip(text: str) -> Address | None:
    """An address as the API reads it: octets may have leading zeros, which is refused where it matters."""
    if _OCTETS.fullmatch(text):
        text = ".".join(str(int(octet)) for octet in text.split("."))
    try:
        return None if "%" in text else ipaddress.ip_address(text)
    except ValueError:
        return None


def _leading_zeros(text: str) -> bool:
    return bool(_OCTETS.fullmatch(text)) and any(len(octet) > 1 and octet[0] == "0" for octet in text.split("."))


def _mapped(address: Address) -> bool:
    return isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None


def ip_address(path: str, text: str) -> Errors:
    address = parse_ip(text)
    if address is None:
        return [invalid(path, text, IP_TEXT)]
    if _leading_zeros(text):
        return [invalid(path, text, "must not have leading 0s")]
    return [invalid(path, text, "must not be an IPv4-mapped IPv6 address")] if _mapped(address) else []


def _parts(text: str) -> tuple[Address, str] | None:
    """(address, prefix length) of a CIDR value that can be read."""
    host, _, bits = text.partition("/")
    address = parse_ip(host)
    if address is None or not re.fullmatch(r"[0-9]{1,6}", bits) or int(bits) > address.max_prefixlen:
        return None
    return address, bits


def parse_cidr(text: str) -> Network | None:
    parts = _parts(text)
    return ipaddress.ip_network((parts[0], int(parts[1])), strict=False) if parts else None


def cidr(path: str, text: str) -> Errors:
    parts = _parts(text)
    if parts is None:
        return [invalid(path, text, CIDR_TEXT)]
    address, bits = parts
    if _leading_zeros(text.partition("/")[0]) or (len(bits) > 1 and bits[0] == "0"):
        return [invalid(path, text, "must not have leading 0s in IP or prefix length")]
    if _mapped(address):
        return [invalid(path, text, "must not have an IPv4-mapped IPv6 address")]
    if ipaddress.ip_network((address, int(bits)), strict=False).network_address != address:
        return [invalid(path, text, "must not have bits set beyond the prefix length")]
    return []


def special_ip(path: str, text: str) -> Errors:
    """Addresses that are valid but can't be an endpoint or an external IP."""
    address = parse_ip(text)
    if address is None:
        return [invalid(path, text, "must be a valid IP address")]
    errors: Errors = []
    if address.is_unspecified:
        errors.append(invalid(path, text, f"may not be unspecified ({text})"))
    if address.is_loopback:
        errors.append(invalid(path, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)"))
    if address.is_link_local:
        errors.append(invalid(path, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"))
    if address.is_multicast and (address.version == 6 or text.startswith("224.0.0.")):
        errors.append(invalid(path, text, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"))
    return errors


CONFIG_KEY_TEXT = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or "
    "'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)
_CONFIG_KEY = re.compile(r"[-._a-zA-Z0-9]+")


def config_key_errors(key: str) -> list[str]:
    errors = []
    if len(key) > 253:
        errors.append("must be no more than 253 characters")
    if not _CONFIG_KEY.fullmatch(key):
        errors.append(CONFIG_KEY_TEXT)
    if key in (".", ".."):
        errors.append(f"must not be '{key}'")
    elif key.startswith(".."):
        errors.append("must not start with '..'")
    return errors


def path_without_back_steps(path: str, value: str) -> Errors:
    if ".." in value.split("/"):
        return [invalid(path, value, "must not contain '..'")]
    return []


def relative_path(path: str, value: str) -> Errors:
    errors = []
    if value.startswith("/"):
        errors.append(invalid(path, value, "must be a relative path"))
    return errors + path_without_back_steps(path, value)


_LABEL_DEFINITION = "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"


def label_selector(selector: Any, path: str) -> Errors:
    """A LabelSelector; None is valid (whether one must be given is the caller's rule)."""
    if selector is None:
        return []
    errors: Errors = []
    for key, value in (selector.get("matchLabels") or {}).items():
        errors += each(f"{path}.matchLabels", key, qualified_name_errors(key))
        errors += each(f"{path}.matchLabels", value, label_value_errors(value))
    for index, rule in enumerate(selector.get("matchExpressions") or ()):
        errors += _requirement(rule, f"{path}.matchExpressions[{index}]")
    return errors


def _requirement(rule: Obj, path: str) -> Errors:
    errors: Errors = []
    operator, values = rule.get("operator", ""), rule.get("values") or []
    if operator in ("In", "NotIn"):
        if not values:
            errors.append(required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            errors.append(
                forbidden(f"{path}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
            )
    else:
        errors.append(invalid(f"{path}.operator", operator, "not a valid selector operator"))
    errors += each(f"{path}.key", rule.get("key", ""), qualified_name_errors(rule.get("key", "")))
    for index, value in enumerate(values):
        errors += each(f"{path}.values[{index}]", value, label_value_errors(value))
    return errors


def selector_is_empty(selector: Any) -> bool:
    return not (selector.get("matchLabels") or selector.get("matchExpressions"))


def selector_matches(selector: Any, labels: Any) -> bool:
    """Whether a valid LabelSelector selects these labels; a missing one selects nothing, an empty one everything."""
    if selector is None:
        return False
    labels = labels or {}
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for rule in selector.get("matchExpressions") or ():
        found, values = labels.get(rule.get("key")), rule.get("values") or ()
        operator = rule.get("operator")
        if operator == "In" and found not in values:
            return False
        if operator == "NotIn" and found is not None and found in values:
            return False
        if operator == "Exists" and found is None:
            return False
        if operator == "DoesNotExist" and found is not None:
            return False
    return True


def selector_shown(selector: Any) -> str:
    return internal.shown(_LABEL_DEFINITION, selector)


def immutable_selector(path: str, new: Any, old: Any) -> Errors:
    if (new or None) == (old or None):
        return []
    return [FieldError(path, "FieldValueInvalid", f"Invalid value: {selector_shown(new)}: {IMMUTABLE}")]


def immutable(path: str, new: Any, old: Any) -> Errors:
    return [] if new == old else [invalid(path, new, IMMUTABLE)]


def template_metadata(meta: Any, path: str) -> Errors:
    """Labels and annotations of a pod template; the API tells them without `metadata`."""
    errors: Errors = []
    if meta and meta.get("labels"):
        errors += validate_labels(meta["labels"], f"{path}.labels")
    if meta and meta.get("annotations"):
        errors += validate_annotations(meta["annotations"], f"{path}.annotations")
    return errors


PERCENT_TEXT = (
    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for "
    "validation is '[0-9]+%')"
)


def int_or_percent(path: str, value: Any) -> Errors:
    """A non-negative integer or a percentage."""
    if isinstance(value, str):
        return [] if re.fullmatch(r"[0-9]+%", value) else [invalid(path, value, PERCENT_TEXT)]
    return non_negative(path, value)


def _atoi(text: str) -> int:
    """The number of a text of digits; one beyond 64 bits is the largest or smallest there is."""
    most = 2**63 - 1
    if len(text.lstrip("+-0")) > 19:
        return -most if text.startswith("-") else most
    return max(-most, min(most, int(text)))


def percent_of(value: Any) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"[0-9]+%", value):
        return _atoi(value[:-1])
    return None


def at_most_hundred(path: str, value: Any) -> Errors:
    found = percent_of(value)
    return [invalid(path, value, "must not be greater than 100%")] if found is not None and found > 100 else []


def as_int(value: Any) -> int:
    """The number of an IntOrString; a percentage counts as its number."""
    if isinstance(value, str):
        found = percent_of(value)
        if found is not None:
            return found
        return _atoi(value) if re.fullmatch(r"[+-]?[0-9]+", value) else 0
    return int(value or 0)


def amount(text: str) -> Any:
    """A canonical quantity's value."""
    return quantity.parse(text)[0]


def non_negative_quantity(path: str, text: str) -> Errors:
    return [invalid(path, text, NON_NEGATIVE)] if amount(text) < 0 else []


def label_name(path: str, key: str) -> Errors:
    return each(path, key, qualified_name_errors(key))


def labels_map(labels: Any, path: str) -> Errors:
    return validate_labels(labels, path) if labels else []
