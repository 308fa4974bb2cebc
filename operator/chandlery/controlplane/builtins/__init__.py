"""The built-in kinds: schemas, decoding, defaults, rules, printers."""

from __future__ import annotations

from chandlery.controlplane.builtins.resources import builtin_resources
from chandlery.controlplane.builtins.service import ServiceAllocator

__all__ = ["ServiceAllocator", "builtin_resources"]
