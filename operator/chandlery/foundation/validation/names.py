"""Names as Kubernetes has them: RFC 1123 labels and subdomains, RFC 1035 labels, qualified names, label values."""

import hashlib
import re
from collections.abc import Mapping
from typing import Final

from chandlery.foundation.errors import InvalidSpec

LABEL_LENGTH: Final = 63
SUBDOMAIN_LENGTH: Final = 253
ANNOTATIONS_LENGTH: Final = 256 * 1024

_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL_1035: Final = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_QUALIFIED: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_ENV: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_dns1123_label(value: str, *, field: str = "name") -> str:
    """A name of one part, such as most objects have: at most 63 of a-z, 0-9 and `-`."""
    return _check(
        value,
        field,
        _LABEL,
        LABEL_LENGTH,
        "lower-case letters, digits and '-', beginning and ending with a letter or digit",
    )


def check_dns1035_label(value: str, *, field: str = "name") -> str:
    """Like an RFC 1123 label, but beginning with a letter, as Services need it."""
    return _check(
        value,
        field,
        _LABEL_1035,
        LABEL_LENGTH,
        "lower-case letters, digits and '-', beginning with a letter and ending with a letter or digit",
    )


def check_dns1123_subdomain(value: str, *, field: str = "name") -> str:
    """Labels joined by dots, at most 253 characters; the name of most cluster objects, and every host name."""
    return _check(
        value,
        field,
        _SUBDOMAIN,
        SUBDOMAIN_LENGTH,
        "lower-case letters, digits, '-' and '.', each part beginning and ending with a letter or digit",
    )


def check_wildcard_subdomain(value: str, *, field: str = "host") -> str:
    """A subdomain whose first part may be `*`."""
    if value.startswith("*."):
        check_dns1123_subdomain(value[2:], field=field)
        return value
    return check_dns1123_subdomain(value, field=field)


def check_qualified_name(value: str, *, field: str = "name") -> str:
    """`[prefix/]name`: an optional DNS subdomain and a name of at most 63 characters."""
    prefix, slash, name = value.rpartition("/")
    if slash:
        if not prefix:
            raise _wrong(value, field, "the part before '/' must not be empty", "write example.com/name, or name alone")
        if "/" in prefix:
            raise _wrong(value, field, "there may be one '/' only", "write example.com/name, or name alone")
        try:
            check_dns1123_subdomain(prefix, field=field)
        except InvalidSpec as error:
            raise _wrong(
                value, field, f"the part before '/' {error.message}", "write a DNS name there, such as example.com"
            ) from None
    if not name:
        raise _wrong(value, field, "the name must not be empty", "write example.com/name, or name alone")
    _check(
        name,
        field,
        _QUALIFIED,
        LABEL_LENGTH,
        "letters, digits, '-', '_' and '.', beginning and ending with a letter or digit",
        shown=value,
    )
    return value


check_label_key = check_qualified_name


def check_annotation_key(value: str, *, field: str = "metadata.annotations") -> str:
    """Like a label's key, but upper-case letters pass in the prefix."""
    check_qualified_name(value.lower(), field=field)
    return value


def check_label_value(value: str, *, field: str = "metadata.labels") -> str:
    """Empty, or at most 63 of letters, digits, `-`, `_` and `.`."""
    if not value:
        return value
    return _check(
        value,
        field,
        _QUALIFIED,
        LABEL_LENGTH,
        "letters, digits, '-', '_' and '.', beginning and ending with a letter or digit",
    )


def check_labels(labels: Mapping[str, str], *, field: str = "metadata.labels") -> Mapping[str, str]:
    """All keys and values; every fault is reported, not only the first."""
    faults: list[InvalidSpec] = []
    for key, value in labels.items():
        for check, what in ((check_label_key, key), (check_label_value, value)):
            try:
                check(what, field=f"{field}[{key}]")
            except InvalidSpec as error:
                faults.append(error)
    if faults:
        raise InvalidSpec.of(faults)
    return labels


def check_env_name(value: str, *, field: str = "env") -> str:
    """A C identifier, which every shell can set."""
    return _check(value, field, _ENV, 255, "letters, digits and '_', not beginning with a digit")


def shorten(name: str, limit: int = LABEL_LENGTH, *, suffix: str = "") -> str:
    """A name that fits: unchanged when it does, else cut and made unique by a hash of the whole.

    Args:
        name: what the name would be if length did not matter.
        limit: characters that the result, suffix included, may have.
        suffix: always kept, such as `-conn`.
    """
    if len(name) + len(suffix) <= limit:
        return name + suffix
    mark = hashlib.sha256(name.encode()).hexdigest()[:8]
    kept = limit - len(suffix) - len(mark) - 1
    if kept < 1:
        raise ValueError(f"limit: {limit} characters leave no room for a name with the suffix {suffix!r}")
    return f"{name[:kept].rstrip('-.')}-{mark}{suffix}"


def _check(value: str, field: str, pattern: re.Pattern[str], limit: int, rule: str, *, shown: str | None = None) -> str:
    full = value if shown is None else shown
    if not isinstance(value, str):
        raise _wrong(full, field, "must be text", "put it in quotes")
    if not value:
        raise InvalidSpec("must not be empty", field=field, hint=f"Write a name of {rule}.")
    if len(value) > limit:
        raise _wrong(full, field, f"must have at most {limit} characters, and has {len(value)}", "shorten it")
    if not pattern.fullmatch(value):
        raise _wrong(full, field, f"must consist of {rule}", _suggest(value, pattern, limit))
    return value


def _suggest(value: str, pattern: re.Pattern[str], limit: int) -> str:
    """A near name that passes, when there is an obvious one."""
    near = re.sub(r"[^a-z0-9.-]+" if pattern is _SUBDOMAIN else r"[^a-z0-9-]+", "-", value.lower()).strip("-.")[:limit]
    if pattern in {_LABEL, _LABEL_1035, _SUBDOMAIN} and pattern.fullmatch(near):
        return f'for example "{near}"'
    return "use other characters"


def _wrong(value: object, field: str, rule: str, way_out: str) -> InvalidSpec:
    return InvalidSpec(rule, field=field, value=value, hint=f"{way_out[0].upper()}{way_out[1:]}.")
