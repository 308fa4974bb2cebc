"""What the loop and its drivers say about objects, on the bus. Kubernetes Events are one subscriber, metrics another.

Others subscribe through `Core.bus`: `core.bus.subscribe(Said, handler)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chandlery.reconcile.api import Key


@dataclass(frozen=True, slots=True)
class Said:
    """Something about one object, for people."""

    obj: Mapping[str, Any] = field(repr=False)
    """The object as it was known then."""
    type: str
    """Normal or Warning."""
    reason: str
    message: str
    routine: bool = False
    """It went as the spec asked, and status says so too."""


@dataclass(frozen=True, slots=True)
class Audited:
    """Something that was done without a person asking for it."""

    what: str
    key: Key
    why: str
