"""RBAC: may this user do this?

Bindings are indexed by subject and kept current from change events, so that a decision looks only at
the bindings of the asking user; decisions are remembered until the next change of an RBAC object.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chandlery.controlplane.auth.rules import Rule
from chandlery.controlplane.types import ApiError, Obj, Resource, UserInfo

if TYPE_CHECKING:
    from chandlery.controlplane.types import LocalApi

RBAC_GROUP = "rbac.authorization.k8s.io"
MASTERS = "system:masters"
SERVICE_ACCOUNT_PREFIX = "system:serviceaccount:"
_CACHE_LIMIT = 20_000

_RoleKey = tuple[str, str]
"""(namespace, name); namespace "" for a ClusterRole."""
_SubjectKey = tuple[str, str, str]
"""("User" or "Group", name, namespace of the binding); a ServiceAccount is the User it authenticates as."""
_GrantKey = tuple[str, int]
"""(name of the binding, index of the subject in it)."""


@dataclass(frozen=True, slots=True)
class _Grant:
    """One subject of one binding."""

    role: _RoleKey
    reason: str
    """What an allowed review gives as its reason."""


_NOTHING: dict[_GrantKey, _Grant] = {}


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


class Authorizer:
    """Decides by the RBAC objects; members of system:masters may do everything."""

    def __init__(self, api: LocalApi) -> None:
        self._api = api
        self._roles: dict[_RoleKey, tuple[Rule, ...]] = {}
        self._grants: dict[_SubjectKey, dict[_GrantKey, _Grant]] = {}
        self._bindings: dict[tuple[str, str], list[tuple[_SubjectKey, _GrantKey]]] = {}
        self._decisions: dict[tuple[object, ...], tuple[bool, str]] = {}
        self._loaded = False

    def load(self) -> None:
        """Read all RBAC objects; happens by itself at the first question."""
        self._roles.clear()
        self._grants.clear()
        self._bindings.clear()
        self._decisions.clear()
        for plural in ("clusterroles", "roles", "clusterrolebindings", "rolebindings"):
            for obj in self._api.list(RBAC_GROUP, plural):
                self._put(plural, obj)
        self._loaded = True

    def observe(self, event: str, resource: Resource, obj: Obj, old: Obj | None) -> None:
        """Take a change into account; call with every change (others than RBAC objects cost nothing)."""
        if resource.group != RBAC_GROUP or not self._loaded:
            return
        self._remove(resource.plural, obj)
        if event != "DELETED":
            self._put(resource.plural, obj)
        self._decisions.clear()

    def _put(self, plural: str, obj: Obj) -> None:
        meta = obj["metadata"]
        namespace = meta.get("namespace", "")
        name = meta["name"]
        if plural in ("clusterroles", "roles"):
            self._roles[namespace, name] = tuple(Rule.from_obj(rule) for rule in obj.get("rules") or ())
            return
        ref = obj["roleRef"]
        role = (namespace if ref["kind"] == "Role" else "", ref["name"])
        binding = f"{name}/{namespace}" if namespace else name
        kind = "RoleBinding" if namespace else "ClusterRoleBinding"
        keys = self._bindings.setdefault((namespace, name), [])
        for index, subject in enumerate(obj.get("subjects") or ()):
            described = _quote(subject["name"])
            if subject["kind"] == "ServiceAccount":
                where = subject.get("namespace") or namespace
                key = ("User", f"{SERVICE_ACCOUNT_PREFIX}{where}:{subject['name']}", namespace)
                described = _quote(f"{subject['name']}/{subject.get('namespace', '')}")
            else:
                key = (subject["kind"], subject["name"], namespace)
            reason = (
                f"RBAC: allowed by {kind} {_quote(binding)} of {ref['kind']} {_quote(ref['name'])}"
                f" to {subject['kind']} {described}"
            )
            grant_key = (name, index)
            self._grants.setdefault(key, {})[grant_key] = _Grant(role, reason)
            keys.append((key, grant_key))

    def _remove(self, plural: str, obj: Obj) -> None:
        meta = obj["metadata"]
        key = (meta.get("namespace", ""), meta["name"])
        if plural in ("clusterroles", "roles"):
            self._roles.pop(key, None)
            return
        for subject, grant in self._bindings.pop(key, ()):
            grants = self._grants.get(subject)
            if grants is not None:
                grants.pop(grant, None)
                if not grants:
                    del self._grants[subject]

    def _grants_of(self, user: UserInfo, namespace: str) -> list[_Grant]:
        """The user's grants that apply in a namespace, those of the whole cluster first."""
        subjects = (("User", user.name), *(("Group", group) for group in user.groups))
        return [
            grant
            for where in (("", namespace) if namespace else ("",))
            for kind, name in subjects
            for grant in self._grants.get((kind, name, where), _NOTHING).values()
        ]

    def authorize(
        self,
        user: UserInfo,
        verb: str,
        *,
        group: str = "",
        resource: str = "",
        subresource: str = "",
        namespace: str = "",
        name: str = "",
        path: str | None = None,
    ) -> tuple[bool, str]:
        """Whether `user` may do `verb` on a resource, or on a non-resource `path`, and the reason.

        For list, watch and deletecollection with the field selector `metadata.name=x`, `name` is x.
        For a request on one Namespace, `namespace` is its name.
        """
        if MASTERS in user.groups:
            return True, ""
        key = (user.name, user.groups, verb, group, resource, subresource, namespace, name, path)
        known = self._decisions.get(key)
        if known is not None:
            return known
        if not self._loaded:
            self.load()
        decision = self._decide(user, verb, group, resource, subresource, namespace, name, path)
        if len(self._decisions) >= _CACHE_LIMIT:
            self._decisions.clear()
        self._decisions[key] = decision
        return decision

    def _decide(
        self,
        user: UserInfo,
        verb: str,
        group: str,
        resource: str,
        subresource: str,
        namespace: str,
        name: str,
        path: str | None,
    ) -> tuple[bool, str]:
        absent: list[str] = []
        for grant in self._grants_of(user, namespace if path is None else ""):
            rules = self._roles.get(grant.role)
            if rules is None:
                absent.append(_absent_role(grant.role))
                continue
            for rule in rules:
                if path is None:
                    allowed = rule.allows(verb, group, resource, subresource, name)
                else:
                    allowed = rule.allows_path(verb, path)
                if allowed:
                    return True, grant.reason
        if not absent:
            return False, ""
        absent = list(dict.fromkeys(absent))
        return False, "RBAC: " + (absent[0] if len(absent) == 1 else f"[{', '.join(absent)}]")

    def rules_of(self, user: UserInfo, namespace: str) -> tuple[list[Rule], list[str]]:
        """Every rule that applies to the user in a namespace ("" for the whole cluster), and what could not be read."""
        if not self._loaded:
            self.load()
        rules: list[Rule] = []
        absent: list[str] = []
        for grant in self._grants_of(user, namespace):
            found = self._roles.get(grant.role)
            if found is None:
                absent.append(_absent_role(grant.role))
            else:
                rules += found
        return rules, absent

    def role_rules(self, namespace: str, name: str) -> tuple[Rule, ...] | None:
        """The rules of a Role, or of a ClusterRole (namespace ""); None when there is none of that name."""
        if not self._loaded:
            self.load()
        return self._roles.get((namespace, name))

    def check(
        self,
        user: UserInfo,
        verb: str,
        *,
        group: str = "",
        resource: str = "",
        subresource: str = "",
        namespace: str = "",
        name: str = "",
        path: str | None = None,
    ) -> None:
        """`authorize`, raising ApiError 403 on a refusal."""
        allowed, reason = self.authorize(
            user,
            verb,
            group=group,
            resource=resource,
            subresource=subresource,
            namespace=namespace,
            name=name,
            path=path,
        )
        if not allowed:
            raise forbidden(
                user,
                verb,
                group=group,
                resource=resource,
                subresource=subresource,
                namespace=namespace,
                name=name,
                path=path,
                reason=reason,
            )


def _absent_role(role: _RoleKey) -> str:
    namespace, name = role
    return f"{'role' if namespace else 'clusterrole'}.{RBAC_GROUP} {_quote(name)} not found"


def forbidden(
    user: UserInfo,
    verb: str,
    *,
    group: str = "",
    resource: str = "",
    subresource: str = "",
    namespace: str = "",
    name: str = "",
    path: str | None = None,
    reason: str = "",
) -> ApiError:
    """The 403 answer for a request that the authorizer turned down."""
    if path is not None:
        text = f"User {_quote(user.name)} cannot {verb} path {_quote(path)}"
        return ApiError(403, "Forbidden", "forbidden: " + (f"{text}: {reason}" if reason else text), {})
    what = f"{resource}/{subresource}" if subresource else resource
    where = f"in the namespace {_quote(namespace)}" if namespace else "at the cluster scope"
    text = f"User {_quote(user.name)} cannot {verb} resource {_quote(what)} in API group {_quote(group)} {where}"
    if reason:
        text += f": {reason}"
    qualified = f"{resource}.{group}" if group else resource
    details: Obj = {}
    if name:
        qualified += f" {_quote(name)}"
        details["name"] = name
    if group:
        details["group"] = group
    details["kind"] = resource
    return ApiError(403, "Forbidden", f"{qualified} is forbidden: {text}", details)
