"""A patched document as the text that error messages quote.

Objects that a patch went into are written with sorted keys; what it left alone, or brought along, keeps its order.
Custom resources are kept with sorted keys throughout.
"""

from __future__ import annotations

import json
from typing import Any

from chandlery.controlplane.types import Obj


def patched_text(doc: Obj, patch: Any, content_type: str, *, builtin: bool) -> str:
    """The JSON text of `doc`, the result of `patch` (a JSON patch or a merge patch)."""
    if not builtin:
        return _escaped(json.dumps(doc, sort_keys=True, separators=(",", ":"), ensure_ascii=False))
    opened: Any = patch
    if content_type == "application/json-patch+json":
        opened = {}
        for op in patch:
            for name in ("path", "from"):
                at = opened
                for part in str((op or {}).get(name) or "").split("/")[1:-1]:
                    at = at.setdefault(part.replace("~1", "/").replace("~0", "~"), {})
    return _escaped(_text(doc, opened))


def _escaped(text: str) -> str:
    for char in "<>&\u2028\u2029":
        if char in text:
            text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _text(value: Any, opened: Any) -> str:
    if isinstance(value, dict) and isinstance(opened, dict):
        parts = (f"{json.dumps(key, ensure_ascii=False)}:{_text(value[key], opened.get(key))}" for key in sorted(value))
        return "{" + ",".join(parts) + "}"
    if isinstance(value, list) and isinstance(opened, list):  # brought along by a merge patch
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    if isinstance(value, list) and isinstance(opened, dict):
        return "[" + ",".join(_text(item, opened.get(str(index))) for index, item in enumerate(value)) + "]"
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
