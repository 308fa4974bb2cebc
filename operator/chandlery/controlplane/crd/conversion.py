"""Conversion between the versions of a custom resource by its webhook (`apiextensions.k8s.io/v1` ConversionReview)."""

from __future__ import annotations

import base64
import ssl
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import aiohttp

from chandlery.controlplane.schema.defaulting import copy_json
from chandlery.controlplane.types import ApiError, Obj

_TIMEOUT = 30.0
_LIMIT = 3 * 1024 * 1024 * 10

resolve_service: Callable[[str, str, int], str] | None = None
"""(namespace, name, port) -> "host:port" of a Service; the control plane sets it at start."""


class WebhookConverter:
    """Asks one CRD's conversion webhook. All objects of a call go in one review."""

    def __init__(self, crd_name: str, webhook: Obj) -> None:
        self.crd_name = crd_name
        client = webhook.get("clientConfig") or {}
        self._url: str = client.get("url") or ""
        self._service: Obj = client.get("service") or {}
        self._ca: str = client.get("caBundle") or ""
        versions = webhook.get("conversionReviewVersions") or ["v1"]
        self._review = next((v for v in versions if v in ("v1", "v1beta1")), "v1")

    async def __call__(self, objects: Sequence[Obj], api_version: str) -> list[Obj]:
        """The objects in the wanted version, metadata kept but for labels and annotations. Raises ApiError 500."""
        if not objects:
            return []
        uid = str(uuid.uuid4())
        review = {
            "kind": "ConversionReview",
            "apiVersion": f"apiextensions.k8s.io/{self._review}",
            "request": {"uid": uid, "desiredAPIVersion": api_version, "objects": [copy_json(o) for o in objects]},
        }
        try:
            answer = await self._post(review)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise self._failed(objects, str(error) or type(error).__name__) from error
        response = answer.get("response") if isinstance(answer, dict) else None
        if not isinstance(response, dict):
            raise self._failed(objects, "invalid response: the review has no response")
        if response.get("uid") != uid:
            shown, wanted = response.get("uid") or "", uid
            raise self._failed(objects, f'invalid response: expected response.uid="{wanted}", got "{shown}"')
        result = response.get("result") or {}
        if result.get("status") != "Success":
            raise self._failed(objects, result.get("message") or "", prefix="conversion webhook for")
        converted = response.get("convertedObjects") or []
        if len(converted) != len(objects):
            text = f"expected {len(objects)} converted objects, got {len(converted)}"
            raise self._failed(objects, f"invalid response: {text}")
        return [
            self._checked(original, new, position, api_version)
            for position, (original, new) in enumerate(zip(objects, converted, strict=True))
        ]

    def _checked(self, original: Obj, new: Any, position: int, api_version: str) -> Obj:
        if not isinstance(new, dict) or new.get("apiVersion") != api_version:
            got = new.get("apiVersion") if isinstance(new, dict) else type(new).__name__
            text = f"invalid groupVersion (expected {api_version}, received {got})"
            raise self._failed([original], f"invalid converted object at index {position}: {text}")
        if new.get("kind") != original.get("kind"):
            text = f"invalid kind (expected {original.get('kind')}, received {new.get('kind')})"
            raise self._failed([original], f"invalid converted object at index {position}: {text}")
        before, after = original.get("metadata") or {}, new.get("metadata")
        if not isinstance(after, dict):
            raise self._failed([original], f"invalid metadata of converted object at index {position}")
        for name in ("name", "namespace", "uid"):
            if (after.get(name) or "") != (before.get(name) or ""):
                raise self._failed(
                    [original], f"invalid metadata of converted object at index {position}: mismatched {name}"
                )
        metadata = dict(before)
        for name in ("labels", "annotations"):
            if after.get(name):
                metadata[name] = after[name]
            else:
                metadata.pop(name, None)
        return {**new, "metadata": metadata}

    def _failed(self, objects: Sequence[Obj], why: str, *, prefix: str = "conversion webhook for") -> ApiError:
        first = objects[0]
        group, _, version = str(first.get("apiVersion")).partition("/")
        return ApiError(500, "", f"{prefix} {group}/{version}, Kind={first.get('kind')} failed: {why}")

    async def _post(self, review: Obj) -> Any:
        url = self._url or self._service_url()
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT)
        connector = aiohttp.TCPConnector(ssl=self._tls())
        server_name = f"{self._service['name']}.{self._service['namespace']}.svc" if self._service else None
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.post(url, json=review, server_hostname=server_name) as response,
        ):
            if response.status != 200:
                raise ValueError(f"the server answered {response.status}")
            return await response.json(content_type=None)

    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self._ca:
            context.load_verify_locations(cadata=base64.b64decode(self._ca).decode())
        return context

    def _service_url(self) -> str:
        service = self._service
        port = int(service.get("port") or 443)
        name, namespace = service.get("name", ""), service.get("namespace", "")
        if resolve_service is None:
            raise ValueError(f'the Service "{namespace}/{name}" can\'t be reached: no service network here, set a url')
        address = resolve_service(namespace, name, port)
        path = (service.get("path") or "/").lstrip("/")
        return f"https://{address}/{path}"
