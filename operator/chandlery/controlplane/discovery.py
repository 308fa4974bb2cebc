"""Discovery in both forms: the old documents per group and version, and the aggregated one."""

from __future__ import annotations

import base64
import hashlib
import re

import orjson

from chandlery.controlplane.registry import Registry
from chandlery.controlplane.types import Obj, Resource

_CUSTOM_VERBS = ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"]
_VERSION = re.compile(r"v([0-9]+)(?:(alpha|beta)([0-9]+))?")

_FIRST_GROUPS = (
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "resource.k8s.io",
)


def version_rank(version: str) -> tuple[int, int, int, int, str]:
    """A sort key by which GA versions come first, newer before older, other names last by alphabet."""
    found = _VERSION.fullmatch(version)
    if found is None:
        return (1, 0, 0, 0, version)
    major, stage, minor = int(found[1]), found[2], int(found[3] or 0)
    return (0, {None: 0, "beta": 1, "alpha": 2}[stage], -major, -minor, "")


_STORED_EARLIER = frozenset(("CustomResourceDefinition", "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"))


def storage_version_hash(resource: Resource) -> str:
    version = resource.storage_version or resource.version
    # These are stored in an earlier version on the real server; clients that know the hash know that one.
    version = "v1beta1" if resource.builtin and resource.kind in _STORED_EARLIER else version
    text = f"{resource.storage_key[0]}/{version}/{resource.kind}"
    return base64.b64encode(hashlib.sha256(text.encode()).digest()[:8]).decode()


class Discovery:
    """Documents made from the registry, remembered until it changes."""

    def __init__(self, registry: Registry, server_address: str) -> None:
        self._registry = registry
        self._address = server_address
        self._generation = -1
        self._groups: dict[str, dict[str, list[Resource]]] = {}
        self._memo: dict[object, tuple[bytes, str]] = {}

    def is_builtin(self, group: str) -> bool:
        """Whether this is a group of built-in types."""
        return self._registry.has_builtin_group(group)

    def _refresh(self) -> dict[str, dict[str, list[Resource]]]:
        if self._generation != self._registry.generation:
            groups: dict[str, dict[str, list[Resource]]] = {}
            for resource in self._registry.all_served():
                groups.setdefault(resource.group, {}).setdefault(resource.version, []).append(resource)
            order = {name: index for index, name in enumerate(_FIRST_GROUPS)}
            self._groups = {
                group: {
                    version: sorted(groups[group][version], key=lambda r: r.plural)
                    for version in sorted(groups[group], key=version_rank)
                }
                for group in sorted(groups, key=lambda name: (order.get(name, 100), name))
            }
            self._memo = {}
            self._generation = self._registry.generation
        return self._groups

    def paths(self) -> list[str]:
        """All paths that `GET /` tells."""
        found = ["/.well-known/openid-configuration", "/api", "/api/v1", "/apis", "/apis/"]
        for group, versions in self._refresh().items():
            if group:
                found.append(f"/apis/{group}")
                found += [f"/apis/{group}/{version}" for version in versions]
        return [
            *sorted(found),
            "/healthz",
            "/livez",
            "/metrics",
            "/openapi/v3",
            "/openapi/v3/",
            "/openid/v1/jwks",
            "/readyz",
            "/version",
        ]

    def document(self, parts: list[str]) -> Obj | None:
        """The old-style document at /api..., /apis...; None when there is none."""
        groups = self._refresh()
        match parts:
            case ["api"]:
                return {
                    "kind": "APIVersions",
                    "versions": ["v1"],
                    "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": self._address}],
                }
            case ["api", version] if version in groups.get("", {}):
                return self._resources("", version)
            case ["apis"]:
                return {
                    "kind": "APIGroupList",
                    "apiVersion": "v1",
                    "groups": [self._group(group) for group in groups if group],
                }
            case ["apis", group] if group in groups and group:
                return {"kind": "APIGroup", "apiVersion": "v1"} | self._group(group)
            case ["apis", group, version] if version in groups.get(group, {}) and group:
                return self._resources(group, version)
        return None

    def _group(self, group: str) -> Obj:
        versions = [{"groupVersion": f"{group}/{version}", "version": version} for version in self._groups[group]]
        return {"name": group, "versions": versions, "preferredVersion": versions[0]}

    def _resources(self, group: str, version: str) -> Obj:
        resources: list[Obj] = []
        for resource in self._groups[group][version]:
            item: Obj = {
                "name": resource.plural,
                "singularName": resource.singular,
                "namespaced": resource.namespaced,
                "kind": resource.kind,
                "verbs": verbs_of(resource),
            }
            if resource.short_names:
                item["shortNames"] = list(resource.short_names)
            if resource.categories:
                item["categories"] = list(resource.categories)
            if "create" in resource.verbs and "list" in resource.verbs:
                item["storageVersionHash"] = storage_version_hash(resource)
            resources.append(item)
            for name, sub in resource.subresources.items():
                item = {"name": f"{resource.plural}/{name}", "singularName": "", "namespaced": resource.namespaced}
                if sub.get("version") and (sub.get("group", ""), sub["version"]) != (group, version):
                    item |= {"group": sub.get("group", ""), "version": sub["version"]}
                item |= {"kind": sub.get("kind") or resource.kind, "verbs": list(sub["verbs"])}
                resources.append(item)
        return {
            "kind": "APIResourceList",
            **({"apiVersion": "v1"} if group else {}),  # the core group's list has never had one
            "groupVersion": f"{group}/{version}" if group else version,
            "resources": resources,
        }

    def aggregated(self, named: bool, version: str) -> tuple[bytes, str]:
        """(body, ETag) of the aggregated document: of the core group, or (`named`) of all others."""
        groups = self._refresh()
        key = (named, version)
        known = self._memo.get(key)
        if known is None:
            items = [self._aggregated_group(group) for group in groups if bool(group) is named]
            body = orjson.dumps(
                {
                    "kind": "APIGroupDiscoveryList",
                    "apiVersion": f"apidiscovery.k8s.io/{version}",
                    "metadata": {},
                    "items": items,
                }
            )
            known = self._memo[key] = (body, hashlib.sha512(body).hexdigest().upper())
        return known

    def _aggregated_group(self, group: str) -> Obj:
        meta: Obj = {"name": group} if group else {}
        return {
            "metadata": meta,
            "versions": [
                {
                    "version": version,
                    "resources": [_aggregated_resource(resource) for resource in resources],
                    "freshness": "Current",
                }
                for version, resources in self._groups[group].items()
            ],
        }


def verbs_of(resource: Resource) -> list[str]:
    return list(resource.verbs) if resource.builtin else list(_CUSTOM_VERBS)


def _aggregated_resource(resource: Resource) -> Obj:
    item: Obj = {
        "resource": resource.plural,
        "responseKind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": verbs_of(resource),
    }
    if resource.short_names:
        item["shortNames"] = list(resource.short_names)
    if resource.categories:
        item["categories"] = list(resource.categories)
    subresources = [
        {
            "subresource": name,
            "responseKind": {
                "group": sub.get("group", "") if sub.get("version") else resource.group,
                "version": sub.get("version") or resource.version,
                "kind": sub.get("kind") or resource.kind,
            },
            "verbs": list(sub["verbs"]),
        }
        for name, sub in resource.subresources.items()
    ]
    if subresources:
        item["subresources"] = subresources
    return item
