"""Webhook configurations, compiled for matching.

Source: `admissionregistration.k8s.io/v1` of the Kubernetes API reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chandlery.controlplane.admission.common import matches_selector
from chandlery.controlplane.admission.webhooks.conditions import Condition, compile_conditions
from chandlery.controlplane.types import Obj, Resource

if TYPE_CHECKING:
    from chandlery.controlplane.types import LocalApi

GROUP = "admissionregistration.k8s.io"
CONFIGURATIONS = frozenset(
    {
        "mutatingwebhookconfigurations",
        "validatingwebhookconfigurations",
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
    }
)
"""Never sent to webhooks, so that a bad one can be repaired."""


@dataclass(frozen=True, slots=True)
class _Rule:
    operations: frozenset[str]
    groups: frozenset[str]
    versions: frozenset[str]
    resources: tuple[tuple[str, str], ...]
    scope: str

    @classmethod
    def of(cls, rule: Obj) -> _Rule:
        resources = []
        for text in rule.get("resources") or ():
            plural, _, sub = text.partition("/")
            resources.append((plural, sub))
        return cls(
            frozenset(rule.get("operations") or ()),
            frozenset(rule.get("apiGroups") or ()),
            frozenset(rule.get("apiVersions") or ()),
            tuple(resources),
            rule.get("scope") or "*",
        )

    def matches(self, operation: str, resource: Resource, subresource: str) -> bool:
        if operation not in self.operations and "*" not in self.operations:
            return False
        if resource.group not in self.groups and "*" not in self.groups:
            return False
        if resource.version not in self.versions and "*" not in self.versions:
            return False
        if self.scope != "*" and resource.namespaced != (self.scope == "Namespaced"):
            return False
        return any(plural in ("*", resource.plural) and sub in ("*", subresource) for plural, sub in self.resources)


@dataclass(frozen=True, slots=True, eq=False)
class Webhook:
    """One webhook of one configuration."""

    name: str
    mutating: bool
    client: Obj
    rules: tuple[_Rule, ...]
    fail: bool
    """failurePolicy Fail: when it can't be asked, the request is refused."""
    equivalent: bool
    namespace_selector: Mapping[str, Any]
    object_selector: Mapping[str, Any]
    side_effects: str
    timeout: int
    versions: tuple[str, ...]
    reinvoke: bool
    conditions: tuple[Condition, ...]

    @classmethod
    def of(cls, webhook: Obj, *, mutating: bool) -> Webhook:
        return cls(
            name=webhook["name"],
            mutating=mutating,
            client=webhook["clientConfig"],
            rules=tuple(_Rule.of(rule) for rule in webhook.get("rules") or ()),
            fail=webhook.get("failurePolicy", "Fail") == "Fail",
            equivalent=webhook.get("matchPolicy", "Equivalent") == "Equivalent",
            namespace_selector=webhook.get("namespaceSelector") or {},
            object_selector=webhook.get("objectSelector") or {},
            side_effects=webhook.get("sideEffects", ""),
            timeout=webhook.get("timeoutSeconds") or 10,
            versions=tuple(webhook.get("admissionReviewVersions") or ()),
            reinvoke=webhook.get("reinvocationPolicy") == "IfNeeded",
            conditions=compile_conditions(webhook.get("matchConditions") or ()),
        )

    def resource_for(
        self, operation: str, resource: Resource, subresource: str, others: tuple[Resource, ...]
    ) -> Resource | None:
        """The version of the resource in which this webhook wants to be asked; None when it doesn't."""
        candidates = (resource, *others) if self.equivalent else (resource,)
        for candidate in candidates:
            if any(rule.matches(operation, candidate, subresource) for rule in self.rules):
                return candidate
        return None

    def selects(self, namespace_labels: Mapping[str, str] | None, obj: Obj | None, old: Obj | None) -> bool:
        """`namespace_labels` None: the resource is in no namespace, so the namespace selector says nothing."""
        if namespace_labels is not None and not matches_selector(self.namespace_selector, namespace_labels):
            return False
        if not self.object_selector:
            return True
        return any(
            matches_selector(self.object_selector, candidate.get("metadata", {}).get("labels") or {})
            for candidate in (obj, old)
            if candidate is not None
        )


class Configurations:
    """The webhooks of all configurations of one kind, by configuration name; compiled again when one changes."""

    def __init__(self, api: LocalApi, *, mutating: bool) -> None:
        self._api = api
        self._mutating = mutating
        self._plural = f"{'mutating' if mutating else 'validating'}webhookconfigurations"
        self._seen: list[str] = []
        self._webhooks: tuple[Webhook, ...] = ()

    def current(self) -> tuple[Webhook, ...]:
        found = self._api.list(GROUP, self._plural)
        seen = [obj["metadata"]["resourceVersion"] for obj in found]
        if seen != self._seen:
            self._webhooks = tuple(
                Webhook.of(webhook, mutating=self._mutating)
                for obj in sorted(found, key=lambda obj: obj["metadata"]["name"])
                for webhook in obj.get("webhooks") or ()
            )
            self._seen = seen
        return self._webhooks
