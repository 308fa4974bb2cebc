"""The Common Expression Language as Kubernetes uses it: parsed, type-checked, costed and run in plain Python.

`compile_expression` gives a `Program`; its `evaluate` takes variables by name. Known is everything that the standard
library declares, the extensions for optional values, strings, lists, sets and two-variable macros, and the Kubernetes
libraries. There is no native dependency, so it works on every platform.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from chandlery.controlplane.cel.checker import check
from chandlery.controlplane.cel.decls import Functions
from chandlery.controlplane.cel.errors import CelCostError, CelError, CompileError
from chandlery.controlplane.cel.kubernetes_lib import add_kubernetes
from chandlery.controlplane.cel.lists_lib import add_lists
from chandlery.controlplane.cel.parser import parse
from chandlery.controlplane.cel.program import Program
from chandlery.controlplane.cel.stdlib import standard
from chandlery.controlplane.cel.strings_lib import add_strings
from chandlery.controlplane.cel.types import BOOL, DYN, STRING, Type

__all__ = [
    "BOOL",
    "DYN",
    "STRING",
    "CelCostError",
    "CelError",
    "CompileError",
    "Functions",
    "Program",
    "Type",
    "compile_expression",
    "kubernetes_functions",
]


@cache
def kubernetes_functions() -> Functions:
    """The functions of Kubernetes' base environment. Shared: extend a copy (`Functions(base)`)."""
    functions = standard()
    add_strings(functions)
    add_lists(functions)
    add_kubernetes(functions)
    return functions


def compile_expression(
    source: str,
    variables: Mapping[str, Type],
    *,
    result: Type | None = None,
    functions: Functions | None = None,
) -> Program:
    """Compile an expression over these variables (`DYN` for values without a schema).

    `result` is the type that it must have. Raises CompileError; its text is what the API shows.
    """
    checked = check(source, parse(source), variables, functions or kubernetes_functions())
    if result is not None and checked.type != result:
        raise CompileError(source, [(0, f"must evaluate to {result}")])
    return Program(checked.expr, variables, checked.names)
