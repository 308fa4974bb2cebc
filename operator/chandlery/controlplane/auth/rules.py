"""RBAC policy rules: matching requests, covering other rules, and how error texts print them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from chandlery.controlplane.types import Obj


def _strings(value: object) -> tuple[str, ...]:
    return tuple(str(item) for item in value) if isinstance(value, list) else ()


@dataclass(frozen=True, slots=True)
class Rule:
    """One `rbac.authorization.k8s.io/v1` PolicyRule."""

    verbs: tuple[str, ...]
    groups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()

    @classmethod
    def from_obj(cls, rule: Obj) -> Rule:
        return cls(
            _strings(rule.get("verbs")),
            _strings(rule.get("apiGroups")),
            _strings(rule.get("resources")),
            _strings(rule.get("resourceNames")),
            _strings(rule.get("nonResourceURLs")),
        )

    def to_obj(self) -> Obj:
        """The rule as JSON, without empty lists except verbs."""
        obj: Obj = {"verbs": list(self.verbs)}
        for key, values in (
            ("apiGroups", self.groups),
            ("resources", self.resources),
            ("resourceNames", self.names),
            ("nonResourceURLs", self.urls),
        ):
            if values:
                obj[key] = list(values)
        return obj

    def allows(self, verb: str, group: str, resource: str, subresource: str, name: str) -> bool:
        """Whether the rule allows `verb` on a resource. Source: RBAC docs, "Referring to resources"."""
        if verb not in self.verbs and "*" not in self.verbs:
            return False
        if group not in self.groups and "*" not in self.groups:
            return False
        if self.names and name not in self.names:
            return False
        if "*" in self.resources:
            return True
        if subresource:
            return f"{resource}/{subresource}" in self.resources or f"*/{subresource}" in self.resources
        return resource in self.resources

    def allows_path(self, verb: str, path: str) -> bool:
        if verb not in self.verbs and "*" not in self.verbs:
            return False
        return any(_path_matches(url, path) for url in self.urls)

    def atoms(self) -> Iterator[Rule]:
        """The rule as rules of one verb, one group and resource, and at most one name (or one URL) each."""
        for group in self.groups:
            for resource in self.resources:
                for verb in self.verbs:
                    for name in self.names or (None,):
                        yield Rule((verb,), (group,), (resource,), () if name is None else (name,))
        for url in self.urls:
            for verb in self.verbs:
                yield Rule((verb,), urls=(url,))

    def covers(self, atom: Rule) -> bool:
        """Whether this rule grants all that `atom` (one of `atoms()`) grants."""
        if "*" not in self.verbs and not set(atom.verbs) <= set(self.verbs):
            return False
        if atom.urls:
            return all(any(_path_matches(url, wanted) for url in self.urls) for wanted in atom.urls)
        if "*" not in self.groups and not set(atom.groups) <= set(self.groups):
            return False
        if not self.resources or not all(self._covers_resource(resource) for resource in atom.resources):
            return False
        if not self.names:
            return True
        return bool(atom.names) and set(atom.names) <= set(self.names)

    def _covers_resource(self, resource: str) -> bool:
        if "*" in self.resources or resource in self.resources:
            return True
        _, slash, subresource = resource.partition("/")
        return bool(slash) and f"*/{subresource}" in self.resources

    def text(self) -> str:
        """The compact form that escalation errors print: `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`."""
        parts = [
            f"{title}:[{' '.join(json.dumps(value, ensure_ascii=False) for value in values)}]"
            for title, values in (
                ("APIGroups", self.groups),
                ("Resources", self.resources),
                ("NonResourceURLs", self.urls),
                ("ResourceNames", self.names),
                ("Verbs", self.verbs),
            )
            if values
        ]
        return "{" + ", ".join(parts) + "}"


def _path_matches(pattern: str, path: str) -> bool:
    if pattern in ("*", path):
        return True
    return pattern.endswith("*") and path.startswith(pattern.rstrip("*"))


def missing_rules(owned: Sequence[Rule], wanted: Iterable[Rule]) -> list[Rule]:
    """The atoms of `wanted` that nothing in `owned` covers, in order, compacted by (group, resource, names)."""
    missing: dict[tuple[tuple[str, ...], ...], list[str]] = {}
    for rule in wanted:
        for atom in rule.atoms():
            if any(have.covers(atom) for have in owned):
                continue
            # A name list may be compacted with the same names only; URLs stay one a rule.
            verbs = missing.setdefault((atom.groups, atom.resources, atom.names, atom.urls), [])
            if atom.verbs[0] not in verbs:
                verbs.append(atom.verbs[0])
    return [
        Rule(tuple(verbs), groups, resources, names, urls)
        for (groups, resources, names, urls), verbs in missing.items()
    ]
