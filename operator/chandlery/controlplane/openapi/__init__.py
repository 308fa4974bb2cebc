"""OpenAPI documents for built-in kinds and custom resources: the v3 index, one v3 document per group and version, v2.

Documents are made when they are asked for and kept until what is served changes. The hash in a document's
address is that of everything it is made from, so a document that changed has another address.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import orjson

from chandlery.controlplane.builtins.data import descriptions
from chandlery.controlplane.openapi import schemas
from chandlery.controlplane.openapi.paths import Writer

if TYPE_CHECKING:
    from chandlery.controlplane.registry import Registry
    from chandlery.controlplane.types import Obj, Resource

__all__ = ["Document", "OpenAPI"]

_FORMAT = b"2"
"""Changes when documents are made in another way from the same parts."""


@dataclass(frozen=True, slots=True)
class Document:
    """One answer: `location` is where to look instead, "" when this is it; `etag` goes with `headers`."""

    body: bytes
    etag: str
    headers: Mapping[str, str] = field(default_factory=dict)
    location: str = ""


@cache
def _data_digest() -> bytes:
    """What the built-in documents are made from, as a digest."""
    digest = hashlib.sha512(_FORMAT)
    folder = files("chandlery.controlplane.builtins").joinpath("data")
    for name in ("schemas", "descriptions", "gotypes"):
        digest.update(folder.joinpath(f"{name}.json.z").read_bytes())
    return digest.digest()


class OpenAPI:
    """The documents of what a registry serves."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._generation = -1
        self._groups: dict[str, list[Resource]] = {}
        self._hashes: dict[str, str] = {}
        self._bodies: dict[str, tuple[str, bytes]] = {}
        self._index: Document | None = None

    def document(self, path: str, wanted: str = "") -> Document | None:
        """What `/openapi/v3`, `/openapi/v3/apis/GROUP/VERSION` or `/openapi/v2` answers; None when there is nothing.

        A hash that is not (or no longer) the document's only means that the answer may not be kept forever.
        """
        self._refresh()
        path = path.rstrip("/")
        if path == "/openapi/v3":
            return self._make_index()
        if path == "/openapi/v2":
            return self._whole()
        if not path.startswith("/openapi/v3/"):
            return None
        name = path.removeprefix("/openapi/v3/")
        if name not in self._groups:
            return None
        digest = self._hash(name)
        kept = self._bodies.get(name)
        if kept is None or kept[0] != digest:
            kept = self._bodies[name] = (digest, orjson.dumps(self._build(name)))
        headers = {"Content-Type": "application/json", "ETag": f'"{digest}"', "Vary": "Accept"}
        if wanted == digest:
            headers["Cache-Control"] = "public, immutable"
            headers["Expires"] = "Thu, 31 Dec 2099 23:59:59 GMT"
        return Document(kept[1], digest, headers)

    # -- parts

    def _refresh(self) -> None:
        if self._generation == self._registry.generation:
            return
        self._generation = self._registry.generation
        groups: dict[str, list[Resource]] = defaultdict(list)
        for resource in self._registry.all_served():
            group, version = resource.group, resource.version
            groups[f"apis/{group}/{version}" if group else f"api/{version}"].append(resource)
        self._groups = dict(groups)
        self._hashes, self._index = {}, None
        for name in [name for name in self._bodies if name not in groups]:
            del self._bodies[name]

    def _hash(self, name: str) -> str:
        found = self._hashes.get(name)
        if found is None:
            digest = hashlib.sha512(_data_digest())
            digest.update(name.encode())
            for resource in sorted(self._groups[name], key=lambda one: one.plural):
                facts = [
                    resource.plural,
                    resource.kind,
                    resource.list_kind,
                    resource.namespaced,
                    list(resource.verbs),
                    dict(resource.subresources),
                    None if resource.builtin else resource.schema,
                ]
                digest.update(orjson.dumps(facts, option=orjson.OPT_SORT_KEYS))
            found = self._hashes[name] = digest.hexdigest().upper()
        return found

    def _make_index(self) -> Document:
        if self._index is None:
            paths = {
                name: {"serverRelativeURL": f"/openapi/v3/{name}?hash={self._hash(name)}"}
                for name in sorted(self._groups)
            }
            body = orjson.dumps({"paths": paths})
            etag = hashlib.sha512(body).hexdigest().upper()
            headers = {"Content-Type": "text/plain; charset=utf-8", "ETag": f'"{etag}"', "Vary": "Accept"}
            self._index = Document(body, etag, headers)
        return self._index

    def _build(self, name: str) -> Obj:
        """The v3 document of one group and version."""
        resources = self._groups[name]
        paths, own = _collect(resources, v3=True)
        custom = not any(resource.builtin for resource in resources)
        return {
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes CRD Swagger" if custom else "Kubernetes", "version": "v1.36.2"},
            "paths": paths,
            "components": {
                "schemas": _close(paths, own, v3=True),
                "securitySchemes": {
                    "BearerToken": {
                        "type": "apiKey",
                        "description": "Bearer Token authentication",
                        "name": "authorization",
                        "in": "header",
                    }
                },
            },
        }

    def _whole(self) -> Document:
        """The v2 document of everything, as JSON."""
        etag = hashlib.sha512("".join(self._hash(name) for name in sorted(self._groups)).encode()).hexdigest().upper()
        kept = self._bodies.get("v2")
        if kept is None or kept[0] != etag:
            resources = [one for name in sorted(self._groups) for one in self._groups[name]]
            paths, own = _collect(resources, v3=False)
            body = orjson.dumps(
                {
                    "swagger": "2.0",
                    "info": {"title": "Kubernetes", "version": "v1.36.2"},
                    "paths": paths,
                    "definitions": _close(paths, own, v3=False),
                    "securityDefinitions": {
                        "BearerToken": {
                            "description": "Bearer Token authentication",
                            "type": "apiKey",
                            "name": "authorization",
                            "in": "header",
                        }
                    },
                    "security": [{"BearerToken": []}],
                }
            )
            kept = self._bodies["v2"] = (etag, body)
        return Document(kept[1], etag, {"Content-Type": "application/json", "ETag": f'"{etag}"', "Vary": "Accept"})


def _collect(resources: list[Resource], *, v3: bool) -> tuple[dict[str, Any], dict[str, Obj]]:
    """(paths, definitions of custom kinds)."""
    paths: dict[str, Any] = {}
    own: dict[str, Obj] = {}
    for resource in sorted(resources, key=lambda one: (one.group, one.version, one.plural)):
        paths.update(Writer(resource, v3=v3).paths())
        if not resource.builtin:
            group, version, kind = resource.group, resource.version, resource.kind
            own[schemas.definition_name(group, version, kind)] = schemas.custom(
                resource.schema, group, version, kind, v3=v3
            )
            own[schemas.definition_name(group, version, resource.list_kind)] = schemas.custom_list(
                group, version, kind, resource.list_kind, resource.plural, v3=v3
            )
    return dict(sorted(paths.items())), own


def _close(paths: Any, own: dict[str, Obj], *, v3: bool) -> dict[str, Obj]:
    """The definitions that paths and custom kinds refer to, and what those refer to."""
    texts = descriptions()
    out: dict[str, Obj] = dict(own)
    todo = schemas.refs_in(paths) | schemas.refs_in(own)
    while todo:
        name = todo.pop()
        if name in out or not schemas.known(name):
            continue
        out[name] = schemas.builtin(name, texts, v3=v3)
        todo |= schemas.refs_in(out[name])
    return dict(sorted(out.items()))
