"""Warning headers: quoted, and cut when there are too many.

The real server drops texts with control characters, and once 4,096 characters are exceeded cuts every text to 256.
Source: RFC 9111 (Warning, obsolete but in use), apiserver `pkg/endpoints/filters/warning.go`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Final

_ALL: Final = 4096
_ONE: Final = 256


def warning_headers(texts: Iterable[str]) -> list[str]:
    """The values of the Warning headers for these texts, each told once."""
    wanted = [text for text in dict.fromkeys(texts) if text]
    if sum(map(len, wanted)) > _ALL:
        cut, written = [], 0
        for text in wanted:
            if written >= _ALL:
                break
            cut.append(text[:_ONE])
            written += len(cut[-1])
        wanted = cut
    return [f"299 - {quoted(text)}" for text in wanted if not has_control(text)]


def has_control(text: str) -> bool:
    return not text.isprintable() and any(unicodedata.category(char) == "Cc" for char in text)


def quoted(text: str) -> str:
    """A quoted-string of HTTP."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
