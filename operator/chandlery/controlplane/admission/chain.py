"""The order of admission: defaults, mutating policies and webhooks; limits, policies, validating webhooks, quota."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chandlery.controlplane.admission.certificates import check_certificates
from chandlery.controlplane.admission.claims import check_resize
from chandlery.controlplane.admission.compiled import Compiled
from chandlery.controlplane.admission.defaults import apply_defaults
from chandlery.controlplane.admission.lifecycle import check_namespace
from chandlery.controlplane.admission.limits import apply_limit_defaults, check_limits
from chandlery.controlplane.admission.policies import MutatingPolicies, Policies
from chandlery.controlplane.admission.quota import QuotaPlugin
from chandlery.controlplane.admission.quota.pending import charges_of
from chandlery.controlplane.admission.webhooks import Webhooks
from chandlery.controlplane.types import Obj, RequestContext

if TYPE_CHECKING:
    from chandlery.controlplane.admission.webhooks.client import ServiceResolver, WebhookClient
    from chandlery.controlplane.auth.authz import Authorizer
    from chandlery.controlplane.types import LocalApi


class AdmissionChain:
    """Admission for all writes.

    The caller runs, for create, update, patch (also apply): managedFields -> `mutate` -> validation ->
    `validate` -> storage; for delete and each object of a deletecollection: `mutate` and `validate` with
    `obj` None and `old` the object. `obj` of subresources is the subresource's own object (Scale ...).
    """

    def __init__(
        self,
        api: LocalApi,
        *,
        authorizer: Authorizer | None = None,
        resolve_service: ServiceResolver | None = None,
    ) -> None:
        """`resolve_service` finds the address of a webhook's Service."""
        self._api, self._authorizer = api, authorizer
        self._webhooks = Webhooks(api, authorizer=authorizer, resolve_service=resolve_service)
        self._policies = Policies(api, authorizer=authorizer)
        self._mutating = MutatingPolicies(api, authorizer=authorizer)
        self._quota = QuotaPlugin(api)
        self._quotas: Compiled[bool] = Compiled(api, "", ("resourcequotas",), lambda found: (True,) * bool(found))

    async def mutate(self, ctx: RequestContext, obj: Obj | None, old: Obj | None) -> Obj | None:
        """The object as the mutating plugins and webhooks leave it (maybe the same dict, changed). Raises ApiError."""
        check_namespace(self._api, ctx, obj, old)
        if obj is None:
            return (await self._webhooks.mutate(ctx, None, old))[0]
        if ctx.resource.builtin:
            await self._defaults(ctx, obj, old)
        if not self._mutating.compiled.current() and not self._webhooks.mutating.current():
            return obj
        obj, asked, repeat = await self._mutating.mutate(ctx, obj, old)
        after, again = await self._webhooks.mutate(ctx, obj, old)
        if asked and after != obj:
            repeat = asked
        if (again or repeat) and after is not None:
            # Something changed what an earlier one, or a default, had seen: those that asked for it look once more.
            if ctx.resource.builtin:
                await self._defaults(ctx, after, old)
            if repeat:
                after, _, _ = await self._mutating.mutate(ctx, after, old, again=repeat)
            if again:
                after, _ = await self._webhooks.mutate(ctx, after, old, again=again)
        return after

    async def validate(self, ctx: RequestContext, obj: Obj | None, old: Obj | None) -> None:
        """Raise ApiError when a plugin or webhook turns the request down; quota is taken here."""
        if obj is not None and ctx.resource.builtin:
            check_limits(self._api, ctx, obj, old)
            check_resize(self._api, ctx, obj, old)
            check_certificates(self._authorizer, ctx, obj, old)
        if self._policies.compiled.current():
            await self._policies.validate(ctx, obj, old)
        if self._webhooks.validating.current():
            await self._webhooks.validate(ctx, obj, old)
        if ctx.take_turns is not None:
            await ctx.take_turns()
        if self._quotas.current():
            await self._quota.check(ctx, obj, old)

    def settle(self, ctx: RequestContext) -> None:
        """What was charged to quotas for a request has been stored, or won't be."""
        if ctx.charges:
            charges_of(self._api).settle(ctx)

    @property
    def review_client(self) -> WebhookClient:
        """What calls webhooks; conversion webhooks share its connections."""
        return self._webhooks.client

    async def close(self) -> None:
        """Close the connections to webhooks."""
        await self._webhooks.close()

    async def _defaults(self, ctx: RequestContext, obj: Obj, old: Obj | None) -> None:
        apply_limit_defaults(self._api, ctx, obj, old)
        await apply_defaults(self._api, ctx, obj, old)
