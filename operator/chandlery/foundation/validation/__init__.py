"""Checks of what people write, each one rule, and an error that says field, value, rule and way out.

Pure and quick to import: no pydantic, no settings. `check_*` functions return the value (cleaned where that is safe)
or raise `InvalidSpec`; `Quantity`, `Duration` and `Cron` are values that also work as pydantic field types.
"""

from chandlery.foundation.validation.cron import Cron, check_timezone
from chandlery.foundation.validation.duration import Duration
from chandlery.foundation.validation.names import (
    check_annotation_key,
    check_dns1035_label,
    check_dns1123_label,
    check_dns1123_subdomain,
    check_env_name,
    check_label_key,
    check_label_value,
    check_labels,
    check_qualified_name,
    check_wildcard_subdomain,
    shorten,
)
from chandlery.foundation.validation.network import (
    check_cidr,
    check_host,
    check_ip,
    check_mac,
    check_port,
    check_port_name,
    check_url,
    parse_endpoint,
)
from chandlery.foundation.validation.quantity import Quantity, as_served
from chandlery.foundation.validation.reference import check_reference, parse_reference

__all__ = [
    "Cron",
    "Duration",
    "Quantity",
    "as_served",
    "check_annotation_key",
    "check_cidr",
    "check_dns1035_label",
    "check_dns1123_label",
    "check_dns1123_subdomain",
    "check_env_name",
    "check_host",
    "check_ip",
    "check_label_key",
    "check_label_value",
    "check_labels",
    "check_mac",
    "check_port",
    "check_port_name",
    "check_qualified_name",
    "check_reference",
    "check_timezone",
    "check_url",
    "check_wildcard_subdomain",
    "parse_endpoint",
    "parse_reference",
    "shorten",
]
