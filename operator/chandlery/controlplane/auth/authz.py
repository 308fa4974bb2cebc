"""RBAC: may this user do this?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chandlery.controlplane.types import ApiError, Obj, Resource, UserInfo

if TYPE_CHECKING:
    from chandlery.controlplane.types import LocalApi


class Authorizer:
    """Decides by the RBAC objects; members of system:masters may do everything."""

    def __init__(self, api: LocalApi) -> None:
        self._api = api

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
        """Whether `user` may do `verb` on a resource, or on a non-resource `path`, and the reason."""
        raise NotImplementedError

    def observe(self, event: str, resource: Resource, obj: Obj, old: Obj | None) -> None:
        """Take a change into account; call with every change (others than RBAC objects cost nothing)."""


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
    raise NotImplementedError
