"""Nobody grants rights that they don't hold: checks on writes of roles and bindings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chandlery.controlplane.types import Obj, RequestContext

if TYPE_CHECKING:
    from chandlery.controlplane.auth.authz import Authorizer


def check_escalation(authorizer: Authorizer, ctx: RequestContext, obj: Obj, old: Obj | None) -> None:
    """Raise ApiError 403 when a role or binding grants more than its writer holds.

    Call after decoding and defaulting, for every create and update of a resource of
    group rbac.authorization.k8s.io; other resources pass.
    """
