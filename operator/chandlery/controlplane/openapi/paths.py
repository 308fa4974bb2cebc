"""The operations of a resource, as OpenAPI paths.

Source: OpenAPI documents of kube-apiserver 1.36.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import orjson

from chandlery.controlplane.builtins.resources import definition_name as builtin_name
from chandlery.controlplane.openapi.schemas import META, camel, definition_name
from chandlery.controlplane.types import Obj, Resource

_TYPES = {
    "allowWatchBookmarks": "boolean",
    "force": "boolean",
    "gracePeriodSeconds": "integer",
    "ignoreStoreReadErrorWithClusterBreakingPotential": "boolean",
    "limit": "integer",
    "orphanDependents": "boolean",
    "sendInitialEvents": "boolean",
    "timeoutSeconds": "integer",
    "watch": "boolean",
}
_LIST = (
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "shardSelector",
    "timeoutSeconds",
    "watch",
)
_DELETE = (
    "dryRun",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "orphanDependents",
    "propagationPolicy",
)
_DELETE_MANY = tuple(sorted({*_DELETE, *_LIST} - {"allowWatchBookmarks", "watch"}))
_WRITE = ("dryRun", "fieldManager", "fieldValidation")
_PATCH = (*_WRITE, "force")
_PLAIN = ("application/json", "application/yaml")
_TYPED = ("application/json", "application/vnd.kubernetes.protobuf", "application/yaml")
_STREAMED = (*_TYPED, "application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch")
_PATCHES = ("application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json")
_STRATEGIC = "application/strategic-merge-patch+json"
_TEXT = ""
"""Stands for an answer that is plain text, where else the name of a definition is."""
_CONNECT: dict[str, tuple[str, ...]] = {
    "attach": ("get", "post"),
    "exec": ("get", "post"),
    "portforward": ("get", "post"),
    "proxy": ("delete", "get", "head", "options", "patch", "post", "put"),
}
"""Endpoints that pass a connection on to a node, and their methods."""
_WORDS = {200: "OK", 201: "Created", 202: "Accepted", 401: "Unauthorized"}


@cache
def _texts() -> dict[str, str]:
    raw = files("chandlery.controlplane.openapi").joinpath("data/parameters.json").read_bytes()
    found: dict[str, str] = orjson.loads(raw)
    return found


class Writer:
    """Writes one resource's paths, in v3 or v2."""

    def __init__(self, resource: Resource, *, v3: bool = True) -> None:
        self.resource, self.v3 = resource, v3
        group, version, kind = resource.group, resource.version, resource.kind
        self.own = builtin_name(group, version, kind) if resource.builtin else definition_name(group, version, kind)
        self.many = self.own + "List" if resource.builtin else definition_name(group, version, resource.list_kind)
        name = camel(group)
        self.group_version = name + version[:1].upper() + version[1:]
        self.tag = f"{name[:1].lower()}{name[1:]}_{version}"
        self.scope = "Namespaced" if resource.namespaced else ""
        self.media: Sequence[str] = _TYPED if resource.builtin else _PLAIN
        self.patches = [*_PATCHES, _STRATEGIC] if resource.builtin else list(_PATCHES)

    # -- pieces

    def parameter(self, name: str, where: str = "query", *, text: str = "") -> Obj:
        key = name
        kind = _TYPES.get(name, "string")
        described = text or _texts()[key]
        if self.v3:
            out: Obj = {"name": name, "in": where, "description": described}
            if where == "path":
                out["required"] = True
            out["schema"] = {"type": kind, "uniqueItems": True}
            return out
        out = {"uniqueItems": True, "type": kind, "description": described, "name": name, "in": where}
        if where == "path":
            out["required"] = True
        return out

    def _parameters(self, names: Sequence[str], *, patch: bool = False) -> list[Obj]:
        return [
            self.parameter(name, text=_texts()["fieldManager of a patch"] if patch and name == "fieldManager" else "")
            for name in names
        ]

    def _ref(self, name: str) -> Obj:
        if name == _TEXT:
            return {"type": "string"}
        return {"$ref": ("#/components/schemas/" if self.v3 else "#/definitions/") + name}

    def _operation(
        self,
        action: str,
        operation: str,
        text: str,
        answers: dict[int, str],
        *,
        names: Sequence[str] = (),
        body: str = "",
        takes: Sequence[str] = (),
        needed: bool = True,
        gvk: Obj | None = None,
        media: Sequence[str] = (),
    ) -> Obj:
        media = media or self.media
        resource = self.resource
        out: Obj = {"tags": [self.tag], "description": text, "operationId": operation}
        parameters = self._parameters(names, patch=action == "patch")
        if self.v3:
            if parameters:
                out["parameters"] = parameters
            if body:
                content = {kind: {"schema": self._ref(body)} for kind in takes}
                out["requestBody"] = {"content": content, **({"required": True} if needed else {})}
            out["responses"] = {
                str(code): {
                    "description": _WORDS[code],
                    "content": {kind: {"schema": self._ref(name)} for kind in media},
                }
                for code, name in answers.items()
            }
            out["responses"]["401"] = {"description": _WORDS[401]}
        else:
            out["consumes"] = list(takes) or list(self.media if not resource.builtin else ["*/*"])
            out["produces"] = list(media)
            out["schemes"] = ["https"]
            if body:
                shown: Obj = {"name": "body", "in": "body", "schema": self._ref(body)}
                if needed:
                    shown["required"] = True
                parameters.insert(0, shown)
            if parameters:
                out["parameters"] = parameters
            out["responses"] = {
                str(code): {"description": _WORDS[code], "schema": self._ref(name)} for code, name in answers.items()
            }
            out["responses"]["401"] = {"description": _WORDS[401]}
        out["x-kubernetes-action"] = action
        out["x-kubernetes-group-version-kind"] = gvk or {
            "group": resource.group,
            "version": resource.version,
            "kind": resource.kind,
        }
        return out

    # -- whole paths

    def paths(self) -> dict[str, Obj]:
        resource = self.resource
        base = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
        middle = "/namespaces/{namespace}" if resource.namespaced else ""
        collection = f"{base}{middle}/{resource.plural}"
        out: dict[str, Obj] = {collection: self._collection()}
        verbs = resource.verbs
        if "get" in verbs:
            out[collection + "/{name}"] = self._single()
        for name, sub in resource.subresources.items():
            out[f"{collection}/{{name}}/{name}"] = self._sub(name, sub)
        if resource.namespaced and "list" in verbs:
            everywhere = f"{base}/{resource.plural}"
            out[everywhere] = {
                "get": self._list(f"list{self.group_version}{resource.kind}ForAllNamespaces"),
                "parameters": [self.parameter("pretty")],
            }
        return out

    def _path_parameters(self, *, name: bool) -> list[Obj]:
        out = []
        if name:
            out.append(self.parameter("name", "path", text=f"name of the {self.resource.kind}"))
        if self.resource.namespaced:
            out.append(self.parameter("namespace", "path"))
        out.append(self.parameter("pretty"))
        return out

    def _list(self, operation: str) -> Obj:
        builtin = self.resource.builtin
        words = "list or watch objects of kind" if builtin else "list objects of kind"
        return self._operation(
            "list",
            operation,
            f"{words} {self.resource.kind}",
            {200: self.many},
            names=_LIST,
            media=_STREAMED if builtin else _PLAIN,
        )

    def _collection(self) -> Obj:
        resource, kind = self.resource, self.resource.kind
        takes: Sequence[str] = ("*/*",) if resource.builtin else _PLAIN
        out: Obj = {}
        if "list" in resource.verbs:
            out["get"] = self._list(f"list{self.group_version}{self.scope}{kind}")
        if "create" in resource.verbs:
            out["post"] = self._operation(
                "post",
                f"create{self.group_version}{self.scope}{kind}",
                f"create{article(kind)}{kind}",
                {200: self.own, 201: self.own, 202: self.own},
                names=_WRITE,
                body=self.own,
                takes=takes,
            )
        if "deletecollection" in resource.verbs:
            body = {"body": META + "DeleteOptions", "takes": ("*/*",), "needed": False} if resource.builtin else {}
            options: Any = body
            out["delete"] = self._operation(
                "deletecollection",
                f"delete{self.group_version}Collection{self.scope}{kind}",
                f"delete collection of {kind}",
                {200: META + "Status"},
                names=_DELETE_MANY if resource.builtin else _LIST,
                **options,
            )
        out["parameters"] = self._path_parameters(name=False)
        return out

    def _single(self) -> Obj:
        resource, kind, own = self.resource, self.resource.kind, self.own
        takes: Sequence[str] = ("*/*",) if resource.builtin else _PLAIN
        deleted = own if resource.returns_deleted else META + "Status"
        out = {
            **self._read_write("", own, None),
            "delete": self._operation(
                "delete",
                f"delete{self.group_version}{self.scope}{kind}",
                f"delete{article(kind)}{kind}",
                {200: deleted, 202: deleted},
                names=_DELETE,
                body=META + "DeleteOptions",
                takes=takes,
                needed=False,
            ),
            "parameters": self._path_parameters(name=True),
        }
        if "delete" not in resource.verbs:
            del out["delete"]
        return out

    def _read_write(self, sub: str, shown: str, gvk: Obj | None, verbs: Sequence[str] = ()) -> Obj:
        resource, kind = self.resource, self.resource.kind
        suffix = sub[:1].upper() + sub[1:]
        of = f"{sub} of " if sub else ""
        takes: Sequence[str] = ("*/*",) if resource.builtin else _PLAIN
        name = f"{self.group_version}{self.scope}{kind}{suffix}"
        out: Obj = {}
        wanted = verbs or resource.verbs
        if "get" in wanted:
            out["get"] = self._operation(
                "get",
                f"read{name}",
                f"read {of}the specified {kind}",
                {200: shown},
                names=() if resource.builtin else ("resourceVersion",),
                gvk=gvk,
            )
        if "update" in wanted:
            out["put"] = self._operation(
                "put",
                f"replace{name}",
                f"replace {of}the specified {kind}",
                {200: shown, 201: shown},
                names=_WRITE,
                body=shown,
                takes=takes,
                gvk=gvk,
            )
        if "patch" in wanted:
            out["patch"] = self._operation(
                "patch",
                f"patch{name}",
                f"partially update {of}the specified {kind}",
                {200: shown, 201: shown} if resource.builtin else {200: shown},
                names=_PATCH,
                body=META + "Patch",
                takes=self.patches if self.v3 else _v2_order(self.patches),
                gvk=gvk,
            )
        return out

    def _connect(self, name: str, options: str) -> Obj:
        """An endpoint that takes whatever comes, and answers whatever the other side does."""
        kind, suffix = self.resource.kind, name[:1].upper() + name[1:]
        gvk = {"group": "", "version": self.resource.version, "kind": options}
        out: Obj = {
            method: self._operation(
                "connect",
                f"connect{self.group_version}{method.capitalize()}{self.scope}{kind}{suffix}",
                f"connect {method.upper()} requests to {name} of {kind}",
                {200: _TEXT},
                gvk=gvk,
                media=("*/*",),
            )
            for method in _CONNECT[name]
        }
        out["parameters"] = [one for one in self._path_parameters(name=True) if one["name"] != "pretty"]
        return out

    def _sub(self, name: str, sub: Obj) -> Obj:
        resource = self.resource
        if resource.builtin and name in _CONNECT:
            return self._connect(name, sub["kind"])
        kind = sub.get("kind") or resource.kind
        group, version = sub.get("group") or "", sub.get("version") or ""
        if version:
            shown = builtin_name(group, version, kind)
        elif kind != resource.kind:
            group, version = resource.group, resource.version
            shown = builtin_name(group, version, kind)
        else:
            shown = self.own
        gvk = {"group": group, "version": version, "kind": kind} if resource.builtin and version else None
        if resource.builtin and name == "log":
            read = ("text/plain", *_TYPED)
            operation = f"read{self.group_version}{self.scope}{resource.kind}Log"
            text = f"read log of the specified {resource.kind}"
            whole = self._operation("get", operation, text, {200: _TEXT}, media=read)
            return {"get": whole, "parameters": self._path_parameters(name=True)}
        out = self._read_write(name, shown, gvk, sub["verbs"])
        if "create" in sub["verbs"]:
            suffix = name[:1].upper() + name[1:]
            out["post"] = self._operation(
                "post",
                f"create{self.group_version}{self.scope}{resource.kind}{suffix}",
                f"create {name} of{article(resource.kind)}{resource.kind}",
                {200: shown, 201: shown, 202: shown},
                names=_WRITE,
                body=shown,
                takes=("*/*",),
                gvk=gvk,
            )
        out["parameters"] = self._path_parameters(name=True)
        return out


def _v2_order(patches: Sequence[str]) -> list[str]:
    order = ("application/json-patch+json", "application/merge-patch+json", _STRATEGIC, "application/apply-patch+yaml")
    return [one for one in order if one in patches]


def article(noun: str) -> str:
    """` a `, ` an ` or, before a plural, a space."""
    if noun.endswith("s") and not noun.endswith("ss"):
        return " "
    return " an " if noun[:1].lower() in "aeiou" else " a "
