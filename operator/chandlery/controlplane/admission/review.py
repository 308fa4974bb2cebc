"""AdmissionReview: what a webhook is told, and how its answer is read.

Source: `admission.k8s.io/v1` of the Kubernetes API reference.
"""

from __future__ import annotations

import base64
import binascii
import json
import uuid
from typing import Any

from chandlery.controlplane.admission.common import name_of, operation
from chandlery.controlplane.auth.reviews import user_obj
from chandlery.controlplane.types import ApiError, Obj, RequestContext, Resource


class WebhookError(Exception):
    """The webhook couldn't be asked, or didn't answer properly: its failurePolicy decides."""


def _kind(obj: Obj) -> Obj:
    group, slash, version = obj.get("apiVersion", "").partition("/")
    return {
        "group": group if slash else "",
        "version": version if slash else group,
        "kind": obj.get("kind", ""),
    }


def _resource(resource: Resource) -> Obj:
    return {"group": resource.group, "version": resource.version, "resource": resource.plural}


def attributes(
    ctx: RequestContext, target: Resource, obj: Obj | None, old: Obj | None, *, kind: Obj, request_kind: Obj
) -> Obj:
    """The `request` of an AdmissionReview; `target` is the version the webhook is asked in."""
    request: Obj = {
        "uid": str(uuid.uuid4()),
        "kind": kind,
        "resource": _resource(target),
        "requestKind": request_kind,
        "requestResource": _resource(ctx.resource),
    }
    if ctx.subresource:
        request["subResource"] = request["requestSubResource"] = ctx.subresource
    name = name_of(ctx, obj, old)
    if name:
        request["name"] = name
    namespace = ctx.namespace
    if ctx.resource.plural == "namespaces" and not ctx.resource.group:
        namespace = name
    if namespace:
        request["namespace"] = namespace
    request.update(
        operation=operation(obj, old),
        userInfo=user_obj(ctx.user),
        object=obj,
        oldObject=old,
        dryRun=ctx.dry_run,
        options=ctx.options or None,
    )
    return request


def kind_of(ctx: RequestContext, obj: Obj | None, old: Obj | None) -> Obj:
    """Group, version and kind of what is admitted: of a subresource, its own."""
    candidate = obj if obj is not None else old
    if candidate is not None and candidate.get("kind"):
        return _kind(candidate)
    return {"group": ctx.resource.group, "version": ctx.resource.version, "kind": ctx.resource.kind}


def review_version(accepted: tuple[str, ...]) -> str:
    """The AdmissionReview version to send: the first that both sides know."""
    for version in accepted:
        if version in ("v1", "v1beta1"):
            return version
    raise WebhookError("webhook does not accept known AdmissionReview versions (v1, v1beta1)")


def read_response(answer: Any, uid: str, version: str, *, mutating: bool) -> Obj:
    """The `response` of a webhook's AdmissionReview. Raises WebhookError when it isn't one."""
    if not isinstance(answer, dict):
        raise WebhookError("couldn't get version/kind; json parse error: an object is expected")
    wanted = f"admission.k8s.io/{version}"
    got = (answer.get("apiVersion", ""), answer.get("kind", ""))
    if version == "v1" and got != (wanted, "AdmissionReview"):
        raise WebhookError(f"expected webhook response of {wanted}, Kind=AdmissionReview, got {got[0]}, Kind={got[1]}")
    response = answer.get("response")
    if not isinstance(response, dict):
        raise WebhookError("webhook response was absent")
    if version == "v1" and response.get("uid") != uid:
        raise WebhookError(f"expected response.uid={json.dumps(uid)}, got {json.dumps(response.get('uid', ''))}")
    if response.get("patch"):
        if not mutating:
            return {key: value for key, value in response.items() if key not in ("patch", "patchType")}
        kind = response.get("patchType")
        if version == "v1" and not kind:
            raise WebhookError("webhook returned response.patch but not response.patchType")
        if kind and kind != "JSONPatch":
            raise WebhookError(f"webhook returned invalid response.patchType of {json.dumps(kind)}")
    return response


def patch_of(response: Obj) -> list[Obj]:
    """The JSON patch of a response. Raises WebhookError when it can't be read."""
    try:
        operations = json.loads(base64.b64decode(response["patch"], validate=True))
    except (ValueError, binascii.Error) as error:
        raise WebhookError(f"webhook returned a patch that is not base64 of JSON: {error}") from error
    if not isinstance(operations, list):
        raise WebhookError("webhook returned a patch that is not a list of operations")
    return operations


def denial(name: str, status: Obj | None) -> ApiError:
    """The error for a request that a webhook did not allow, with the code and words it gave."""
    status = status or {}
    code = status.get("code") or 0
    denied = f"admission webhook {json.dumps(name)} denied the request"
    reason = str(status.get("reason") or "")
    if status.get("message"):
        message = f"{denied}: {status['message']}"
    elif reason:
        message = f"{denied}: {reason}"
    else:
        message = f"{denied} without explanation"
    metadata = status.get("metadata") or {}
    return ApiError(max(code, 400), reason, message, status.get("details"), metadata=metadata)
