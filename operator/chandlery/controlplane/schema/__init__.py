"""Structural schemas of custom resources: compile once, then prune, default and validate plain JSON.

`Node` is the compiled schema; `Validator` answers and explains; `prune`, `drop_nulls` and `compile_defaults` change
values in place; `validate_lists` and the `embedded` module hold the rules that OpenAPI can't express.
"""

from __future__ import annotations

from chandlery.controlplane.schema.correlation import Correlation
from chandlery.controlplane.schema.defaulting import compile_defaults, copy_json
from chandlery.controlplane.schema.listtypes import has_list_types, validate_lists
from chandlery.controlplane.schema.node import MISSING, Node
from chandlery.controlplane.schema.pruning import drop_nulls, prune
from chandlery.controlplane.schema.validation import Validator

__all__ = [
    "MISSING",
    "Correlation",
    "Node",
    "Validator",
    "compile_defaults",
    "copy_json",
    "drop_nulls",
    "has_list_types",
    "prune",
    "validate_lists",
]
