"""Conversion between the versions of a custom resource by its webhook.

Source: ConversionReview of `apiextensions.k8s.io/v1` in the Kubernetes API reference; apiextensions-apiserver
`pkg/apiserver/conversion/webhook_converter.go` (behaviour).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from chandlery.controlplane.admission.review import WebhookError
from chandlery.controlplane.codec.gotext import go_type
from chandlery.controlplane.metadata import validate_annotations, validate_labels
from chandlery.controlplane.schema.defaulting import copy_json
from chandlery.controlplane.schema.gotext import quote
from chandlery.controlplane.types import ApiError, Obj

_TIMEOUT = 30
_BATCH = 100
_LARGEST = 3 * 1024 * 1024
"""Of one object."""
_CALL_FAILED = "failed to call webhook: "


class ReviewClient(Protocol):
    """Posts a review to a webhook, as the admission webhooks' client does."""

    async def call(self, client: Obj, timeout: int, review: Obj, *, limit: int) -> Any:
        """The answer as decoded JSON. `client` is the webhook's clientConfig. Raises WebhookError."""


class WebhookConverter:
    """Asks one CRD's conversion webhook. All objects of a call go in one review, up to a number."""

    def __init__(self, webhook: Obj, client: Callable[[], ReviewClient | None]) -> None:
        """`client` is asked for when it is needed: a CRD may be served before webhooks can be reached."""
        self._config: Obj = webhook.get("clientConfig") or {}
        self._client = client
        versions = webhook.get("conversionReviewVersions") or ()
        self._review: str = next((version for version in versions if version in ("v1", "v1beta1")), "")

    async def __call__(self, objects: Sequence[Obj], api_version: str) -> list[Obj]:
        """The objects in the wanted version, metadata kept but for labels and annotations. Raises ApiError 500."""
        out: list[Obj] = []
        for start in range(0, len(objects), _BATCH):
            out += await self._convert(objects[start : start + _BATCH], api_version)
        return out

    async def _convert(self, objects: Sequence[Obj], api_version: str) -> list[Obj]:
        client = self._client()
        if not self._review:
            raise ApiError(500, "", "no supported conversion review versions")
        what = f"conversion webhook for {_kind_text(objects[0])}"
        if client is None:
            raise ApiError(500, "", f"{what} failed: the server is not ready to call webhooks")
        review = {
            "kind": "ConversionReview",
            "apiVersion": f"apiextensions.k8s.io/{self._review}",
            "request": {
                "uid": str(uuid.uuid4()),
                "desiredAPIVersion": api_version,
                "objects": [copy_json(obj) for obj in objects],
            },
        }
        try:
            answer = await client.call(self._config, _TIMEOUT, review, limit=_LARGEST * len(objects))
            converted = self._read(answer, review)
        except WebhookError as error:
            raise ApiError(500, "", f"{what} failed: {str(error).removeprefix(_CALL_FAILED)}") from error
        if len(converted) != len(objects):
            raise ApiError(500, "", f"{what} returned {len(converted)} objects, expected {len(objects)}")
        out = []
        for position, (original, new) in enumerate(zip(objects, converted, strict=True)):
            of = f"conversion webhook for {_kind_text(original)}"
            if problem := _form_problem(original, new, api_version):
                raise ApiError(500, "", f"{of} returned invalid object at index {position}: {problem}")
            if problem := _identity_problem(original, new):
                raise ApiError(500, "", f"{of} returned invalid object: {problem}")
            metadata, problem = _restored(original, new)
            if problem:
                raise ApiError(500, "", f"{of} returned invalid metadata: {problem}")
            new["metadata"] = metadata
            out.append(new)
        return out

    def _read(self, answer: Any, review: Obj) -> list[Any]:
        """The converted objects of an answer. Raises WebhookError."""
        if not isinstance(answer, dict):
            raise WebhookError(f"expected a ConversionReview, got {go_type(answer)}")
        if self._review == "v1" and (answer.get("apiVersion"), answer.get("kind")) != (
            review["apiVersion"],
            review["kind"],
        ):
            raise WebhookError(f"expected webhook response of {_kind_text(review)}, got {_kind_text(answer)}")
        response = answer.get("response")
        if not isinstance(response, dict):
            raise WebhookError("no response provided")
        uid = review["request"]["uid"]
        if self._review == "v1" and response.get("uid") != uid:
            raise WebhookError(f"expected response.uid={quote(uid)}, got {quote(str(response.get('uid') or ''))}")
        result = response.get("result")
        result = result if isinstance(result, dict) else {}
        if result.get("status") != "Success":
            status = result.get("status") or ""
            raise WebhookError(result.get("message") or f"response.result.status was '{status}', not 'Success'")
        objects = response.get("convertedObjects") or []
        return objects if isinstance(objects, list) else [objects]


def _kind_text(obj: Any) -> str:
    """`group/version, Kind=K` of an object."""
    found = obj if isinstance(obj, dict) else {}
    group, slash, version = str(found.get("apiVersion") or "").partition("/")
    group, version = (group, version) if slash else ("", group)
    return f"{group}/{version}, Kind={found.get('kind') or ''}"


def _form_problem(original: Obj, new: Any, api_version: str) -> str:
    if not isinstance(new, dict):
        return "Object 'Kind' is missing"
    if new.get("apiVersion") != api_version:
        return f"invalid groupVersion (expected {api_version}, received {new.get('apiVersion') or ''})"
    if new.get("kind") != original.get("kind"):
        return f"invalid kind (expected {original.get('kind')}, received {new.get('kind') or ''})"
    return ""


def _identity_problem(original: Obj, new: Obj) -> str:
    before, after = original.get("metadata") or {}, new.get("metadata")
    after = after if isinstance(after, dict) else {}
    for name, shown in (("name", "name"), ("namespace", "namespace"), ("uid", "UID")):
        old, got = before.get(name) or "", after.get(name) or ""
        if old != got:
            return f"must have the same {shown}: {old} != {got}"
    return ""


def _restored(original: Obj, new: Obj) -> tuple[Obj, str]:
    """The original's metadata with the labels and annotations of the converted object, or what is wrong with them."""
    metadata: Obj = copy_json(original.get("metadata") or {})
    if "metadata" not in new:
        return metadata, "missing metadata in converted object"
    answered = new["metadata"]
    if not isinstance(answered, dict):
        return metadata, f"invalid metadata of type {go_type(answered)} in converted object"
    for name in ("labels", "annotations"):
        members = answered.get(name)
        if members is None:
            metadata.pop(name, None)
            continue
        if not isinstance(members, dict):
            return metadata, f"invalid metadata.{name} of type {go_type(members)} in converted object"
        for key, value in members.items():
            if not isinstance(value, str):
                problem = f"metadata.{name}[{key}] must be a string, but is {go_type(value)} in converted object"
                return metadata, problem
        if members != metadata.get(name):
            check = validate_labels if name == "labels" else validate_annotations
            # The reference server says "annotation" here, without an s.
            found = check(members, "metadata.labels" if name == "labels" else "metadata.annotation")
            if found:
                texts = list(dict.fromkeys(f"{error.path}: {error.detail}" for error in found))
                return metadata, texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
        metadata[name] = members
    return metadata, ""
