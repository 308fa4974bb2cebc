"""Acting as somebody else: the `Impersonate-*` headers.

Since 1.36 a server asks two ways: constrained (the right to impersonate this user, and the right to do
this very request on behalf of others) and, when that is refused, the older right `impersonate` alone.
Source: Kubernetes docs, "User impersonation"; KEP-5284.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from chandlery.controlplane.auth.authn import AUTHENTICATED
from chandlery.controlplane.auth.authz import MASTERS, SERVICE_ACCOUNT_PREFIX, forbidden
from chandlery.controlplane.types import ApiError, UserInfo

if TYPE_CHECKING:
    from chandlery.controlplane.auth.authz import Authorizer

_AUTHENTICATION = "authentication.k8s.io"
_EXTRA = "impersonate-extra-"
_NODE = "system:node:"
_UNAUTHENTICATED = "system:unauthenticated"
_NODE_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def impersonate(
    user: UserInfo, headers: Mapping[str, str], authorizer: Authorizer, verb: str, **request: Any
) -> UserInfo:
    """The user to act as, after the `Impersonate-*` headers; the same user when there are none.

    `headers` should be the request's CIMultiDict, so that repeated Impersonate-Group headers are all seen.
    `verb` and `request` are what `Authorizer.check` takes for this request. Raises ApiError 403 when the
    right to impersonate is missing and 400 on headers without Impersonate-User.
    """
    wanted = _wanted(headers)
    if wanted is None:
        return user
    first: ApiError | None = None
    for mode in ("arbitrary-node", "serviceaccount", "user-info", ""):
        if mode and not _applies(mode, wanted):
            continue
        try:
            if mode:
                authorizer.check(user, f"impersonate-on:{mode}:{verb}", **request)
            return _authorized(user, wanted, authorizer, mode)
        except ApiError as error:
            first = first or error
    assert first is not None
    raise first


def _wanted(headers: Mapping[str, str]) -> UserInfo | None:
    name = headers.get("Impersonate-User", "")
    uid = headers.get("Impersonate-Uid", "")
    groups: list[str] = []
    extra: dict[str, list[str]] = {}
    for header, value in headers.items():
        lower = header.lower()
        if lower == "impersonate-group":
            groups.append(value)
        elif lower.startswith(_EXTRA):
            extra.setdefault(unquote(lower[len(_EXTRA) :]), []).append(value)
    if name:
        return UserInfo(name, uid, tuple(groups), {key: tuple(values) for key, values in extra.items()})
    if uid or groups or extra:
        raise ApiError(400, "BadRequest", f"requested {_go(uid, groups, extra)} without impersonating a user name")
    return None


def _go(uid: str, groups: list[str], extra: dict[str, list[str]]) -> str:
    def strings(values: list[str]) -> str:
        return "{" + ", ".join(json.dumps(value) for value in values) + "}"

    listed = f"[]string{strings(groups)}" if groups else "[]string(nil)"
    mapped = "map[string][]string(nil)"
    if extra:
        pairs = ", ".join(f"{json.dumps(key)}:[]string{strings(extra[key])}" for key in sorted(extra))
        mapped = f"map[string][]string{{{pairs}}}"
    return f'&user.DefaultInfo{{Name:"", UID:{json.dumps(uid)}, Groups:{listed}, Extra:{mapped}}}'


def _service_account(name: str) -> tuple[str, str] | None:
    if not name.startswith(SERVICE_ACCOUNT_PREFIX):
        return None
    namespace, colon, account = name[len(SERVICE_ACCOUNT_PREFIX) :].partition(":")
    return (namespace, account) if colon and namespace and account and ":" not in account else None


def _node(name: str) -> str:
    node = name[len(_NODE) :] if name.startswith(_NODE) else ""
    return node if _NODE_NAME.fullmatch(node) else ""


def _applies(mode: str, wanted: UserInfo) -> bool:
    bare = not wanted.uid and not wanted.groups and not wanted.extra
    if mode == "arbitrary-node":
        return bare and bool(_node(wanted.name))
    account = _service_account(wanted.name)
    if mode == "serviceaccount":
        return bare and account is not None
    return account is None and not _node(wanted.name)


def _authorized(user: UserInfo, wanted: UserInfo, authorizer: Authorizer, mode: str) -> UserInfo:
    verb = f"impersonate:{mode}" if mode else "impersonate"
    group = _AUTHENTICATION if mode else ""
    groups = wanted.groups
    account = _service_account(wanted.name)
    node = _node(wanted.name) if mode else ""
    if account is not None:
        authorizer.check(user, verb, group=group, resource="serviceaccounts", namespace=account[0], name=account[1])
        groups = groups or ("system:serviceaccounts", f"system:serviceaccounts:{account[0]}")
    elif node:
        authorizer.check(user, verb, group=group, resource="nodes", name=node)
        groups = ("system:nodes",)
    else:
        authorizer.check(user, verb, group=group, resource="users", name=wanted.name)
    if wanted.uid:
        authorizer.check(user, verb, group=_AUTHENTICATION, resource="uids", name=wanted.uid)
    for name in wanted.groups:
        if mode and name in ("", MASTERS):
            reason = f"impersonating the {name or 'empty string'} group is not allowed"
            raise forbidden(user, verb, group=group, resource="groups", name=name, reason=reason)
        authorizer.check(user, verb, group=group, resource="groups", name=name)
    for key, values in wanted.extra.items():
        for value in values:
            authorizer.check(user, verb, group=_AUTHENTICATION, resource="userextras", subresource=key, name=value)
    if wanted.name == "system:anonymous":
        groups = groups if _UNAUTHENTICATED in groups else (*groups, _UNAUTHENTICATED)
    elif _UNAUTHENTICATED not in groups and AUTHENTICATED not in groups:
        groups = (*groups, AUTHENTICATED)
    return UserInfo(wanted.name, wanted.uid, groups, wanted.extra)
