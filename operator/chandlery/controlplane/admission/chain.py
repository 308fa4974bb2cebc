"""The order of admission: mutating plugins, mutating webhooks, validating plugins, validating webhooks, quota."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from chandlery.controlplane.types import Obj, RequestContext

if TYPE_CHECKING:
    from chandlery.controlplane.auth.authz import Authorizer
    from chandlery.controlplane.types import LocalApi

ServiceResolver = Callable[[str, str, int], str]
"""(namespace, name, port) of a Service -> `host:port` to connect to."""


class AdmissionChain:
    """Admission for all writes.

    The caller runs, for create, update, patch (also apply): managedFields -> `mutate` -> defaulting and
    validation -> `validate`; for delete and each object of a deletecollection: `mutate` and `validate` with
    `obj` None and `old` the object. `obj` of subresources is the subresource's own object (Scale ...).
    """

    def __init__(
        self, api: LocalApi, *, authorizer: Authorizer | None = None, resolve_service: ServiceResolver | None = None
    ) -> None:
        self._api = api
        self._authorizer = authorizer
        self._resolve_service = resolve_service

    async def mutate(self, ctx: RequestContext, obj: Obj | None, old: Obj | None) -> Obj | None:
        """The object as the mutating plugins and webhooks leave it (maybe the same dict, changed). Raises ApiError."""
        return obj

    async def validate(self, ctx: RequestContext, obj: Obj | None, old: Obj | None) -> None:
        """Raise ApiError when a plugin or webhook turns the request down; quota is taken here."""

    async def close(self) -> None:
        """Close the connections to webhooks."""
