"""Permissions that a driver needs at a Kubernetes API server, declared beside the code that uses them.

A driver's class has `permissions: ClassVar[tuple[Rule, ...]]`; the chart's RBAC is made from them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, order=True)
class Rule:
    """One rule of a Role: these verbs on these resources of these API groups."""

    groups: tuple[str, ...]
    """API groups; "" is the core group."""
    resources: tuple[str, ...]
    """Plural names, subresources as `pods/log`."""
    verbs: tuple[str, ...]

    def manifest(self) -> dict[str, Any]:
        """As in the `rules` of a Role or ClusterRole."""
        return {"apiGroups": list(self.groups), "resources": list(self.resources), "verbs": list(self.verbs)}


def permissions_of(driver: Any) -> tuple[Rule, ...]:
    """What a driver (or its class) declares; nothing for drivers of other substrates."""
    return tuple(getattr(driver, "permissions", ()))


def merged(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """The same permissions with one rule for each resource, sorted: what a generated Role holds."""
    verbs: dict[tuple[str, str], set[str]] = {}
    for rule in rules:
        for group in rule.groups:
            for resource in rule.resources:
                verbs.setdefault((group, resource), set()).update(rule.verbs)
    return tuple(
        Rule((group,), (resource,), tuple(sorted(found))) for (group, resource), found in sorted(verbs.items())
    )
