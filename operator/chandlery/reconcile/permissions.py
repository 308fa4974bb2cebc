"""What the operator itself asks of the API server, drivers left out; the chart's RBAC is made from it."""

from __future__ import annotations

from typing import Final

from chandlery.driver.permissions import Rule
from chandlery.model.base import Names

CLUSTER: Final = (
    Rule(("platform.chandlery.dev",), ("resourceclasses", "providerconfigs"), ("get", "list", "watch")),
    Rule(("platform.chandlery.dev",), ("resourceclasses/status", "providerconfigs/status"), ("patch",)),
    # kopf learns from these which kinds are served; drivers, whether an operator they delegate to is installed
    Rule(("apiextensions.k8s.io",), ("customresourcedefinitions",), ("get", "list", "watch")),
)
"""On objects without a namespace."""

NAMESPACED: Final = (
    Rule(("",), ("secrets",), ("get", "list", "watch", "create", "patch", "delete")),  # bindings, what specs refer to
    Rule(("",), ("configmaps", "services"), ("get", "list", "watch")),  # what specs refer to
    Rule(("",), ("events",), ("create", "patch")),
    Rule(("",), ("namespaces",), ("get",)),  # whether one is being deleted
)
"""In every namespace that is worked in."""

HOME: Final = (
    Rule(("coordination.k8s.io",), ("leases",), ("get", "list", "watch", "create", "update", "patch", "delete")),
    Rule(("",), ("secrets",), ("get", "create", "update")),  # the webhook's certificate
)
"""In the operator's own namespace."""


def of_kind(names: Names) -> tuple[Rule, ...]:
    """On the objects of one kind."""
    return (
        Rule((names.group,), (names.plural,), ("get", "list", "watch", "patch")),
        Rule((names.group,), (f"{names.plural}/status",), ("patch",)),
        # where owner references are enforced, a child may only name an owner whose finalizers we could set
        Rule((names.group,), (f"{names.plural}/finalizers",), ("update",)),
    )
