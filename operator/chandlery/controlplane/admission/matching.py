"""Which requests a webhook or policy is about: rules, selectors, and other versions of the same resource.

Source: `admissionregistration.k8s.io/v1` of the Kubernetes API reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chandlery.controlplane.admission.common import matches_selector, name_of, operation
from chandlery.controlplane.types import Obj, RequestContext, Resource

if TYPE_CHECKING:
    from chandlery.controlplane.types import LocalApi

GROUP = "admissionregistration.k8s.io"
_CONFIGURATIONS = frozenset(
    {
        "mutatingwebhookconfigurations",
        "validatingwebhookconfigurations",
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
    }
)


def exempt(ctx: RequestContext) -> bool:
    """Requests that no webhook or policy sees, so that a bad one can be repaired."""
    return ctx.resource.group == GROUP and ctx.resource.plural in _CONFIGURATIONS


@dataclass(frozen=True, slots=True)
class Rule:
    """RuleWithOperations, or NamedRuleWithOperations."""

    operations: frozenset[str]
    groups: frozenset[str]
    versions: frozenset[str]
    resources: tuple[tuple[str, str], ...]
    scope: str
    names: frozenset[str]

    @classmethod
    def of(cls, rule: Obj) -> Rule:
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
            frozenset(rule.get("resourceNames") or ()),
        )

    def matches(self, verb: str, resource: Resource, subresource: str, name: str) -> bool:
        """`verb` is CREATE, UPDATE or DELETE."""
        if verb not in self.operations and "*" not in self.operations:
            return False
        if resource.group not in self.groups and "*" not in self.groups:
            return False
        if resource.version not in self.versions and "*" not in self.versions:
            return False
        if self.scope != "*" and resource.namespaced != (self.scope == "Namespaced"):
            return False
        if self.names and name not in self.names:
            return False
        return any(plural in ("*", resource.plural) and sub in ("*", subresource) for plural, sub in self.resources)


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """All that chooses requests: the fields of a webhook, or MatchResources of a policy or binding."""

    rules: tuple[Rule, ...] | None
    """None: every resource."""
    excluded: tuple[Rule, ...]
    equivalent: bool
    namespace_selector: Mapping[str, Any]
    object_selector: Mapping[str, Any]

    @classmethod
    def of(cls, source: Obj, *, rules: Iterable[Obj] | None, excluded: Iterable[Obj] = ()) -> Match:
        return cls(
            None if rules is None else tuple(Rule.of(rule) for rule in rules),
            tuple(Rule.of(rule) for rule in excluded),
            source.get("matchPolicy", "Equivalent") == "Equivalent",
            source.get("namespaceSelector") or {},
            source.get("objectSelector") or {},
        )

    def target(self, api: LocalApi, ctx: RequestContext, obj: Obj | None, old: Obj | None) -> Resource | None:
        """The version of the resource in which the request is wanted; None when it isn't."""
        found = self._resource(api, ctx, operation(obj, old), name_of(ctx, obj, old))
        if found is None or not self._selects(api, ctx, obj, old):
            return None
        return found

    def _resource(self, api: LocalApi, ctx: RequestContext, verb: str, name: str) -> Resource | None:
        resource, sub = ctx.resource, ctx.subresource
        if any(rule.matches(verb, resource, sub, name) for rule in self.excluded):
            return None
        if self.rules is None or any(rule.matches(verb, resource, sub, name) for rule in self.rules):
            return resource
        if not self.equivalent or sub:
            return None
        stored = api.resource(resource.group, resource.plural)
        if stored is None or stored.version == resource.version:
            return None
        if any(rule.matches(verb, stored, sub, name) for rule in self.excluded):
            return None
        return stored if any(rule.matches(verb, stored, sub, name) for rule in self.rules) else None

    def _selects(self, api: LocalApi, ctx: RequestContext, obj: Obj | None, old: Obj | None) -> bool:
        if self.namespace_selector:
            labels = namespace_labels(api, ctx, obj, old)
            if labels is not None and not matches_selector(self.namespace_selector, labels):
                return False
        if not self.object_selector:
            return True
        return any(
            matches_selector(self.object_selector, candidate.get("metadata", {}).get("labels") or {})
            for candidate in (obj, old)
            if candidate is not None
        )


def namespace_labels(api: LocalApi, ctx: RequestContext, obj: Obj | None, old: Obj | None) -> Mapping[str, str] | None:
    """The labels of the request's namespace; None for resources that are in none."""
    if ctx.resource.plural == "namespaces" and not ctx.resource.group:
        source = obj if obj is not None and not ctx.subresource else old
        return ((source or {}).get("metadata") or {}).get("labels") or {}
    if not ctx.resource.namespaced or not ctx.namespace:
        return None
    namespace = api.get("", "namespaces", "", ctx.namespace)
    return ((namespace or {}).get("metadata") or {}).get("labels") or {}
