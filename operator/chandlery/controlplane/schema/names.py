"""DNS-1035 labels: what CRD names and versions must be."""

from __future__ import annotations

import re

_LABEL = "[a-z]([-a-z0-9]*[a-z0-9])?"
_PATTERN = re.compile(_LABEL)
_TEXT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    f"'{_LABEL}')"
)


def dns1035_errors(text: str) -> list[str]:
    problems = []
    if len(text.encode()) > 63:
        problems.append("must be no more than 63 characters")
    if _PATTERN.fullmatch(text) is None:
        problems.append(_TEXT)
    return problems
