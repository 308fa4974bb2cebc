"""Nobody grants rights that they don't hold: checks on writes of roles and bindings.

Source: Kubernetes docs, "Privilege escalation prevention and bootstrapping".
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from chandlery.controlplane.auth.authz import MASTERS, RBAC_GROUP
from chandlery.controlplane.auth.rules import Rule, missing_rules
from chandlery.controlplane.types import ApiError, Obj, RequestContext, UserInfo

if TYPE_CHECKING:
    from chandlery.controlplane.auth.authz import Authorizer


def check_escalation(authorizer: Authorizer, ctx: RequestContext, obj: Obj, old: Obj | None) -> None:
    """Raise ApiError 403 when a role or binding grants more than its writer holds.

    Call after decoding and defaulting, for every create and update of a resource of
    group rbac.authorization.k8s.io; other resources pass. A binding that refers to a missing role answers 404.
    """
    if ctx.resource.group != RBAC_GROUP or MASTERS in ctx.user.groups:
        return
    plural = ctx.resource.plural
    namespace = ctx.namespace
    if plural in ("roles", "clusterroles"):
        _check_role(authorizer, ctx, obj, old, namespace)
    elif plural in ("rolebindings", "clusterrolebindings"):
        _check_binding(authorizer, ctx, obj, old, namespace)


def _check_role(authorizer: Authorizer, ctx: RequestContext, obj: Obj, old: Obj | None, namespace: str) -> None:
    name = obj["metadata"].get("name", "")
    allowed, _ = authorizer.authorize(
        ctx.user, "escalate", group=RBAC_GROUP, resource=ctx.resource.plural, namespace=namespace, name=name
    )
    if allowed:
        return
    if (
        old is not None
        and obj.get("rules") == old.get("rules")
        and (obj.get("aggregationRule") == old.get("aggregationRule"))
    ):
        return
    rules = [Rule.from_obj(rule) for rule in obj.get("rules") or ()]
    if obj.get("aggregationRule") and (old is None or obj["aggregationRule"] != old.get("aggregationRule")):
        # What an aggregation will hold is open: only who holds everything may write one.
        everything = [Rule(("*",), ("*",), ("*",)), Rule(("*",), urls=("*",))]
        owned, _ = authorizer.rules_of(ctx.user, namespace)
        if missing_rules(owned, everything):
            raise _refuse(ctx, name, "must have cluster-admin privileges to use the aggregationRule")
    _confirm(authorizer, ctx, name, rules, namespace)


def _check_binding(authorizer: Authorizer, ctx: RequestContext, obj: Obj, old: Obj | None, namespace: str) -> None:
    if old is not None and obj.get("roleRef") == old.get("roleRef") and obj.get("subjects") == old.get("subjects"):
        return
    ref = obj.get("roleRef") or {}
    role_name = ref.get("name", "")
    plural = "roles" if ref.get("kind") == "Role" else "clusterroles"
    allowed, _ = authorizer.authorize(
        ctx.user, "bind", group=RBAC_GROUP, resource=plural, namespace=namespace, name=role_name
    )
    if allowed:
        return
    rules = authorizer.role_rules(namespace if plural == "roles" else "", role_name)
    if rules is None:
        singular = plural.removesuffix("s")
        raise ApiError(
            404,
            "NotFound",
            f"{singular}.{RBAC_GROUP} {json.dumps(role_name)} not found",
            {"name": role_name, "group": RBAC_GROUP, "kind": singular},
        )
    _confirm(authorizer, ctx, obj["metadata"].get("name", ""), list(rules), namespace)


def _confirm(authorizer: Authorizer, ctx: RequestContext, name: str, rules: list[Rule], namespace: str) -> None:
    owned, errors = authorizer.rules_of(ctx.user, namespace)
    missing = missing_rules(owned, rules)
    if not missing:
        return
    listed = "\n".join(sorted({rule.text() for rule in missing}))
    message = (
        f"user {json.dumps(ctx.user.name)} (groups=[{_groups(ctx.user)}]) is attempting to grant RBAC permissions"
        f" not currently held:\n{listed}"
    )
    if errors:
        message += f"; resolution errors: [{', '.join(errors)}]"
    raise _refuse(ctx, name, message)


def _groups(user: UserInfo) -> str:
    return " ".join(json.dumps(group) for group in user.groups)


def _refuse(ctx: RequestContext, name: str, message: str) -> ApiError:
    resource = ctx.resource
    return ApiError(
        403,
        "Forbidden",
        f"{resource.group_resource} {json.dumps(name)} is forbidden: {message}",
        {"name": name, "group": resource.group, "kind": resource.plural},
    )
