"""Why a text is no IP address, in the words that expressions show."""

from __future__ import annotations

import re

from chandlery.controlplane.schema.gotext import quote


def address_problem(text: str) -> str:
    """`ParseAddr("..."): what is wrong`; the text is known to be no address."""
    first = re.search(r"[.:%]", text)
    if first is None:
        why, rest = "unable to parse IP", ""
    elif first.group() == "%":
        why, rest = "missing IPv6 address", ""
    elif first.group() == ".":
        why, rest = _four(text)
    else:
        why, rest = _six(text)
    at = f" (at {quote(rest)})" if rest else ""
    return f"ParseAddr({quote(text)}): {why}{at}"


def _four(text: str) -> tuple[str, str]:
    value = digits = fields = 0
    for position, char in enumerate(text):
        if char in "0123456789":
            if digits == 1 and value == 0:
                return "IPv4 field has octet with leading zero", ""
            value, digits = value * 10 + int(char), digits + 1
            if value > 255:
                return "IPv4 field has value >255", ""
        elif char == ".":
            if position in (0, len(text) - 1) or text[position - 1] == ".":
                return "IPv4 field must have at least one digit", text[position:]
            if fields == 3:
                return "IPv4 address too long", ""
            value, digits, fields = 0, 0, fields + 1
        else:
            return "unexpected character", text[position:]
    return "IPv4 address too short", ""


def _six(text: str) -> tuple[str, str]:
    rest, mark, zone = text.partition("%")
    if mark and not zone:
        return "zone must be a non-empty string", ""
    shortened = rest.startswith("::")
    rest = rest.removeprefix("::")
    fields = 0
    while rest or not shortened:
        match = re.match(r"[0-9A-Fa-f]*", rest)
        digits = match.group() if match else ""
        if len(digits) > 4:
            return "each group must have 4 or less digits", rest
        if not digits:
            return "each colon-separated field must have at least one digit", rest
        after = rest[len(digits) :]
        if after.startswith("."):
            why, _ = _four(rest)
            return why, ""
        fields += 1
        rest = after
        if not rest or fields > 8:
            break
        if not rest.startswith(":"):
            return "unexpected character, want colon", rest
        if len(rest) == 1:
            return "colon must be followed by more characters", rest
        rest = rest[1:]
        if rest.startswith(":"):
            if shortened:
                return "multiple :: in address", rest
            shortened, rest = True, rest[1:]
            if not rest:
                break
    if fields < 8 and not shortened:
        return "address string too short", ""
    return (
        ("the :: must expand to at least one field of zeros", "")
        if shortened
        else ("trailing garbage after address", rest)
    )
