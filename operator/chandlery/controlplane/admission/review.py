"""AdmissionReview: what a webhook is told, and how its answer is read.

Source: `admission.k8s.io/v1` of the Kubernetes API reference.
"""

from __future__ import annotations

import base64
import binascii
import json
import uuid
from typing import Any

import orjson

from chandlery.controlplane.admission.common import name_of, operation
from chandlery.controlplane.auth.reviews import user_obj
from chandlery.controlplane.codec import gojson
from chandlery.controlplane.codec.gojson import kind_of as kind_of_json
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
    got = _check_kind(answer)
    problem = _problem(answer.get("response"), got, uid, version, mutating=mutating)
    if problem:
        raise WebhookError(f"received invalid webhook response: {problem}")
    response: Obj = answer["response"]
    return response


def _check_kind(answer: Any) -> tuple[str, str]:
    """ApiVersion and kind of what a webhook answered."""
    called = "failed to call webhook: "
    if not isinstance(answer, dict):
        what = f"json: cannot unmarshal {kind_of_json(answer)} into Go value of type "
        text = r'struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }'
        raise WebhookError(f"{called}couldn't get version/kind; json parse error: {what}{text}")
    kind, version = answer.get("kind") or "", answer.get("apiVersion") or ""
    if not kind:
        shown = orjson.dumps(answer).decode()
        raise WebhookError(f"{called}Object 'Kind' is missing in '{shown}'")
    if version not in ("admission.k8s.io/v1", "admission.k8s.io/v1beta1") or kind != "AdmissionReview":
        scheme = 'in scheme "pkg/runtime/scheme.go:110"'
        raise WebhookError(f'{called}no kind "{kind}" is registered for version "{version}" {scheme}')
    return version, kind


def _problem(response: Any, got: tuple[str, str], uid: str, version: str, *, mutating: bool) -> str:
    """What is wrong with a response; "" when nothing is."""
    if not isinstance(response, dict):
        return "webhook response was absent"
    patch, kind = response.get("patch"), response.get("patchType")
    if version == "v1":
        if response.get("uid") != uid:
            return f"expected response.uid={json.dumps(uid)}, got {json.dumps(response.get('uid', ''))}"
        if got[0] != "admission.k8s.io/v1":
            return (
                f"expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {got[0]}, Kind={got[1]}"
            )
        if mutating:
            if patch and kind is None:
                return "webhook returned response.patch but not response.patchType"
            if not patch and kind is not None:
                return "webhook returned response.patchType but not response.patch"
            if kind == "":
                return 'webhook returned invalid response.patchType of ""'
        elif patch:
            return "validating webhook may not return response.patch"
        elif kind is not None:
            return "validating webhook may not return response.patchType"
    if patch and kind not in (None, "", "JSONPatch"):
        return f"unsupported patch type {json.dumps(kind)}"
    return ""


def patch_of(response: Obj) -> list[Obj]:
    """The JSON patch of a response. Raises WebhookError when it can't be read."""
    try:
        raw = base64.b64decode(response["patch"], validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise WebhookError(f"webhook returned a patch that is not base64 of JSON: {error}") from error
    try:
        operations = gojson.loads(raw)
    except gojson.JsonError as error:
        raise WebhookError(str(error)) from error
    if not isinstance(operations, list):
        raise WebhookError(f"json: cannot unmarshal {kind_of_json(operations)} into Go value of type jsonpatch.Patch")
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
