"""The authorizer as CEL expressions see it: `authorizer.group("").resource("pods").check("get").allowed()`.

Source: "Common Expression Language in Kubernetes", section "Kubernetes authorizer library".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from chandlery.controlplane.auth.authz import SERVICE_ACCOUNT_PREFIX
from chandlery.controlplane.cel import BOOL, STRING, Functions, Type, kubernetes_functions
from chandlery.controlplane.cel.closures import register_class
from chandlery.controlplane.types import UserInfo

if TYPE_CHECKING:
    from chandlery.controlplane.auth.authz import Authorizer

_PREFIX = "kubernetes.authorization."
AUTHORIZER = Type("opaque", f"{_PREFIX}Authorizer")
RESOURCE_CHECK = Type("opaque", f"{_PREFIX}ResourceCheck")
_GROUP_CHECK = Type("opaque", f"{_PREFIX}GroupCheck")
_PATH_CHECK = Type("opaque", f"{_PREFIX}PathCheck")
_DECISION = Type("opaque", f"{_PREFIX}Decision")


@dataclass(frozen=True, slots=True, eq=False)
class AuthorizerValue:
    """Asks on behalf of one user; without an authorizer everything is refused."""

    authorizer: Authorizer | None
    user: UserInfo


@dataclass(frozen=True, slots=True, eq=False)
class _GroupCheck:
    asker: AuthorizerValue
    group: str


@dataclass(frozen=True, slots=True, eq=False)
class ResourceCheck:
    asker: AuthorizerValue
    group: str
    resource: str
    subresource: str = ""
    namespace: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class _PathCheck:
    asker: AuthorizerValue
    path: str


@dataclass(frozen=True, slots=True)
class _Decision:
    allowed: bool
    reason: str


def _service_account(asker: AuthorizerValue, namespace: str, name: str) -> AuthorizerValue:
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
    user = UserInfo(f"{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}", groups=groups)
    return AuthorizerValue(asker.authorizer, user)


def _check_resource(check: ResourceCheck, verb: str) -> _Decision:
    if check.asker.authorizer is None:
        return _Decision(allowed=False, reason="")
    decision = check.asker.authorizer.authorize(
        check.asker.user,
        verb,
        group=check.group,
        resource=check.resource,
        subresource=check.subresource,
        namespace=check.namespace,
        name=check.name,
    )
    return _Decision(*decision)


def _check_path(check: _PathCheck, verb: str) -> _Decision:
    if check.asker.authorizer is None:
        return _Decision(allowed=False, reason="")
    return _Decision(*check.asker.authorizer.authorize(check.asker.user, verb, path=check.path))


@cache
def authorizer_functions() -> Functions:
    """Kubernetes' base environment together with the authorizer library."""
    for kind, known in (
        (AUTHORIZER, AuthorizerValue),
        (_GROUP_CHECK, _GroupCheck),
        (RESOURCE_CHECK, ResourceCheck),
        (_PATH_CHECK, _PathCheck),
        (_DECISION, _Decision),
    ):
        register_class(kind.name, known)
    f = Functions(kubernetes_functions())
    f.member("path", "authorizer_path", [AUTHORIZER, STRING], _PATH_CHECK, _PathCheck)
    f.member("group", "authorizer_group", [AUTHORIZER, STRING], _GROUP_CHECK, _GroupCheck)
    f.member("serviceAccount", "authorizer_serviceaccount", [AUTHORIZER, STRING, STRING], AUTHORIZER, _service_account)
    f.member(
        "resource",
        "groupcheck_resource",
        [_GROUP_CHECK, STRING],
        RESOURCE_CHECK,
        lambda check, resource: ResourceCheck(check.asker, check.group, resource),
    )
    for field in ("subresource", "namespace", "name"):
        f.member(
            field,
            f"resourcecheck_{field}",
            [RESOURCE_CHECK, STRING],
            RESOURCE_CHECK,
            lambda check, value, field=field: replace(check, **{field: value}),
        )
    f.member("check", "resourcecheck_check", [RESOURCE_CHECK, STRING], _DECISION, _check_resource)
    f.member("check", "pathcheck_check", [_PATH_CHECK, STRING], _DECISION, _check_path)
    f.member("allowed", "decision_allowed", [_DECISION], BOOL, lambda decision: decision.allowed)
    f.member("reason", "decision_reason", [_DECISION], STRING, lambda decision: decision.reason)
    f.member("errored", "decision_errored", [_DECISION], BOOL, lambda _decision: False)
    f.member("error", "decision_error", [_DECISION], STRING, lambda _decision: "")
    return f
