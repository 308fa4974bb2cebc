"""The built-in kinds: schemas, decoding, defaults, rules, printers."""

from __future__ import annotations

from chandlery.controlplane.builtins.resources import builtin_resources

__all__ = ["builtin_resources"]
