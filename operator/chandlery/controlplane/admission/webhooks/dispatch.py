"""Asking the webhooks: mutating ones one after another, validating ones at once."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from chandlery.controlplane.admission import review as reviews
from chandlery.controlplane.admission.common import forbid
from chandlery.controlplane.admission.conditions import conditions_hold, variables_of
from chandlery.controlplane.admission.matching import exempt
from chandlery.controlplane.admission.webhooks.client import ServiceResolver, WebhookClient, resolve_by_endpoints
from chandlery.controlplane.admission.webhooks.config import Webhook, webhooks
from chandlery.controlplane.patch import PatchFailedError, explained_json_patch
from chandlery.controlplane.types import ApiError, Obj, RequestContext, Resource

if TYPE_CHECKING:
    from chandlery.controlplane.auth.authz import Authorizer
    from chandlery.controlplane.types import LocalApi

_NO_SIDE_EFFECTS = ("None", "NoneOnDryRun")


class Webhooks:
    """All admission webhooks of the cluster."""

    def __init__(
        self, api: LocalApi, *, authorizer: Authorizer | None = None, resolve_service: ServiceResolver | None = None
    ) -> None:
        self._api = api
        self._authorizer = authorizer
        self.mutating = webhooks(api, mutating=True)
        self.validating = webhooks(api, mutating=False)
        self.client = WebhookClient(resolve_service or resolve_by_endpoints(api))

    async def mutate(
        self, ctx: RequestContext, obj: Obj | None, old: Obj | None, *, again: frozenset[str] | None = None
    ) -> tuple[Obj | None, frozenset[str]]:
        """The object as the webhooks leave it, and which of them want to be asked again.

        `again` limits a second round to those. The second answer names the webhooks with reinvocationPolicy
        IfNeeded after which another one changed the object. Raises ApiError.
        """
        asked: list[Webhook] = []
        repeat: set[str] = set()
        for webhook in () if exempt(ctx) else self.mutating.current():
            if again is not None and webhook.name not in again:
                continue
            target = self._match(ctx, webhook, obj, old)
            if target is None:
                continue
            changed, obj = await self._mutate_one(ctx, webhook, target, obj, old)
            if changed:
                repeat.update(earlier.name for earlier in asked if earlier.reinvoke)
            asked.append(webhook)
        return obj, frozenset(repeat)

    async def validate(self, ctx: RequestContext, obj: Obj | None, old: Obj | None) -> None:
        """Raises the ApiError of the first webhook, in order of configuration, that refuses."""
        calls = []
        for webhook in () if exempt(ctx) else self.validating.current():
            target = self._match(ctx, webhook, obj, old)
            if target is not None:
                calls.append(self._validate_one(ctx, webhook, target, obj, old))
        if not calls:
            return
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def close(self) -> None:
        await self.client.close()

    def _match(self, ctx: RequestContext, webhook: Webhook, obj: Obj | None, old: Obj | None) -> Resource | None:
        """The version of the resource to ask this webhook in; None when it is not concerned."""
        target = webhook.match.target(self._api, ctx, obj, old)
        if target is None or not webhook.conditions:
            return target
        kind = reviews.kind_of(ctx, obj, old)
        request = reviews.attributes(ctx, target, obj, old, kind=kind, request_kind=kind)
        try:
            holds = conditions_hold(webhook.conditions, variables_of(ctx, request, self._authorizer))
        except ValueError as error:
            if webhook.fail:
                raise forbid(ctx, obj or old, str(error)) from error
            return None
        return target if holds else None

    async def _ask(
        self, ctx: RequestContext, webhook: Webhook, target: Resource, obj: Obj | None, old: Obj | None
    ) -> Obj:
        """The webhook's `response`. Raises WebhookError, and ApiError 400 on a dry run it can't do."""
        if ctx.dry_run and webhook.side_effects not in _NO_SIDE_EFFECTS:
            message = f"admission webhook {json.dumps(webhook.name)} does not support dry run"
            raise ApiError(400, "BadRequest", message)
        version = reviews.review_version(webhook.versions)
        request_kind = reviews.kind_of(ctx, obj, old)
        if target is not ctx.resource:
            obj = await _converted(ctx.resource, obj)
            old = await _converted(ctx.resource, old)
        kind = reviews.kind_of(ctx, obj, old)
        request = reviews.attributes(ctx, target, obj, old, kind=kind, request_kind=request_kind)
        body = {"kind": "AdmissionReview", "apiVersion": f"admission.k8s.io/{version}", "request": request}
        answer = await self.client.call(webhook.client, webhook.timeout, body)
        response = reviews.read_response(answer, request["uid"], version, mutating=webhook.mutating)
        ctx.warnings.extend(str(warning) for warning in response.get("warnings") or ())
        return response

    async def _validate_one(
        self, ctx: RequestContext, webhook: Webhook, target: Resource, obj: Obj | None, old: Obj | None
    ) -> None:
        try:
            response = await self._ask(ctx, webhook, target, obj, old)
        except reviews.WebhookError as error:
            _failed(webhook, error)
            return
        if not response.get("allowed"):
            raise reviews.denial(webhook.name, response.get("status"))

    async def _mutate_one(
        self, ctx: RequestContext, webhook: Webhook, target: Resource, obj: Obj | None, old: Obj | None
    ) -> tuple[bool, Obj | None]:
        """Whether the webhook changed the object, and the object after it."""
        try:
            response = await self._ask(ctx, webhook, target, obj, old)
        except reviews.WebhookError as error:
            _failed(webhook, error)
            return False, obj
        if not response.get("allowed"):
            raise reviews.denial(webhook.name, response.get("status"))
        if not response.get("patch"):
            return False, obj
        try:
            operations = reviews.patch_of(response)
        except reviews.WebhookError as error:
            raise _internal(str(error)) from error
        if not operations:
            return False, obj
        if obj is None:
            attempted = f"admission webhook {json.dumps(webhook.name)} attempted to modify the object"
            raise _internal(f"{attempted}, which is not supported for this operation")
        base = obj if target is ctx.resource else await _converted(ctx.resource, obj)
        assert base is not None
        try:
            changed = explained_json_patch(base, operations)
        except PatchFailedError as error:
            raise _internal(str(error)) from error
        if target is not ctx.resource:
            changed = await ctx.resource.strategy.from_storage(changed)
        if not ctx.subresource:
            # What the webhook wrote goes through the same door as what a client writes.
            ctx.resource.strategy.decode(changed)
            ctx.resource.strategy.default(changed)
        return changed != obj, changed


async def _converted(resource: Resource, obj: Obj | None) -> Obj | None:
    return None if obj is None else await resource.strategy.to_storage(obj)


def _failed(webhook: Webhook, error: reviews.WebhookError) -> None:
    if webhook.fail:
        raise _internal(f"failed calling webhook {json.dumps(webhook.name)}: {error}") from error


def _internal(message: str) -> ApiError:
    return ApiError(500, "InternalError", f"Internal error occurred: {message}", {"causes": [{"message": message}]})
