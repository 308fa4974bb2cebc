"""The end of a namespace: empty it, say what holds it up, and let it go.

Source: Kubernetes docs, "Namespaces"; the conditions of `v1` NamespaceStatus.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar

from chandlery.controlplane.controllers.base import MANAGER, Controller
from chandlery.controlplane.types import ApiError, Obj, Resource

if TYPE_CHECKING:
    from chandlery.controlplane.types import LocalApi

FINALIZER = "kubernetes"
_AT_ONCE = 64


class NamespaceController(Controller[str]):
    name: ClassVar[str] = "namespace-controller"
    workers: ClassVar[int] = 4

    def __init__(self, api: LocalApi) -> None:
        super().__init__(api)
        self._ending: set[str] = set()

    def observe(self, event: str, resource: Resource, obj: Obj, old: Obj | None) -> None:
        meta = obj["metadata"]
        if resource.plural == "namespaces" and not resource.group:
            name = meta["name"]
            if event == "DELETED" or not meta.get("deletionTimestamp"):
                self._ending.discard(name)
            elif FINALIZER in ((obj.get("spec") or {}).get("finalizers") or ()):
                # Its own status writes come back here too; a pass that changes nothing ends that.
                self._ending.add(name)
                self.add(name)
            return
        namespace = meta.get("namespace", "")
        if namespace and namespace in self._ending and event != "ADDED":
            self.add(namespace)

    def resync(self) -> None:
        resource = self.api.resource("", "namespaces")
        assert resource is not None
        for namespace in self.api.list("", "namespaces"):
            self.observe("ADDED", resource, namespace, None)

    async def sync(self, key: str) -> None:
        namespace = self.api.get("", "namespaces", "", key)
        if namespace is None or not namespace["metadata"].get("deletionTimestamp"):
            return
        if FINALIZER not in ((namespace.get("spec") or {}).get("finalizers") or ()):
            return
        failures = await self._empty(key)
        remaining, finalizers = self._remaining(key)
        namespace = await self._report(key, remaining, finalizers, failures)
        if failures:
            # Nothing else will bring us back: no object changes when its deletion is refused.
            raise RuntimeError(failures[0])
        if namespace is None or remaining:
            return
        spec = dict(namespace.get("spec") or {})
        spec["finalizers"] = [found for found in spec.get("finalizers") or () if found != FINALIZER]
        await self.api.update(
            "", "namespaces", {**namespace, "spec": spec}, user=self.user, manager=MANAGER, subresource="finalize"
        )

    def _kinds(self) -> list[Resource]:
        """What a namespace may hold, pods first: nothing they use goes before them."""
        found = [resource for resource in self.api.resources() if resource.namespaced and "delete" in resource.verbs]
        return sorted(found, key=lambda resource: (resource.group, resource.plural) != ("", "pods"))

    async def _empty(self, namespace: str) -> list[str]:
        """Delete everything that is not being deleted yet; the texts of what failed."""
        failures: list[str] = []
        todo: list[tuple[Resource, Obj]] = []
        for resource in self._kinds():
            objects = self.api.list(resource.group, resource.plural, namespace)
            todo += [(resource, obj) for obj in objects if not obj["metadata"].get("deletionTimestamp")]
            if resource.plural == "pods" and not resource.group and objects:
                await self._delete(todo, failures)
                if self.api.list("", "pods", namespace):
                    return failures
                todo = []
        await self._delete(todo, failures)
        return failures

    async def _delete(self, todo: list[tuple[Resource, Obj]], failures: list[str]) -> None:
        async def one(resource: Resource, obj: Obj) -> None:
            meta = obj["metadata"]
            try:
                await self.api.delete(
                    resource.group,
                    resource.plural,
                    meta["namespace"],
                    meta["name"],
                    user=self.user,
                    uid=meta["uid"],
                    propagation="Background",
                )
            except ApiError as error:
                if error.code not in (404, 409):
                    failures.append(error.message)

        for start in range(0, len(todo), _AT_ONCE):
            await asyncio.gather(*(one(*item) for item in todo[start : start + _AT_ONCE]))

    def _remaining(self, namespace: str) -> tuple[dict[str, int], Counter[str]]:
        """`plural.group` -> how many are left, and finalizer -> how many objects carry it."""
        remaining: dict[str, int] = {}
        finalizers: Counter[str] = Counter()
        for resource in self._kinds():
            objects = self.api.list(resource.group, resource.plural, namespace)
            if objects:
                remaining[f"{resource.plural}.{resource.group}"] = len(objects)
            for obj in objects:
                finalizers.update(obj["metadata"].get("finalizers") or ())
        return remaining, finalizers

    async def _report(
        self, name: str, remaining: dict[str, int], finalizers: Counter[str], failures: list[str]
    ) -> Obj | None:
        """Write the conditions when they changed; the namespace as it is now, None when it is gone."""
        namespace = self.api.get("", "namespaces", "", name)
        if namespace is None:
            return None
        conditions = _conditions(remaining, finalizers, failures)
        status = namespace.get("status") or {}
        merged = _merge(status.get("conditions") or [], conditions)
        if merged == status.get("conditions"):
            return namespace
        status = {**status, "conditions": merged}
        return await self.api.update(
            "", "namespaces", {**namespace, "status": status}, user=self.user, manager=MANAGER, subresource="status"
        )


def _conditions(remaining: dict[str, int], finalizers: Counter[str], failures: list[str]) -> list[Obj]:
    left = ", ".join(f"{name} has {count} resource instances" for name, count in sorted(remaining.items()))
    held = ", ".join(f"{name} in {count} resource instances" for name, count in sorted(finalizers.items()))
    return [
        _condition(
            "NamespaceDeletionDiscoveryFailure",
            None,
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        _condition(
            "NamespaceDeletionGroupVersionParsingFailure",
            None,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        _condition(
            "NamespaceDeletionContentFailure",
            ("ContentDeletionFailed", f"Failed to delete all resource types, {len(failures)} remaining: "
             + ", ".join(sorted(set(failures)))) if failures else None,
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        _condition(
            "NamespaceContentRemaining",
            ("SomeResourcesRemain", f"Some resources are remaining: {left}") if left else None,
            "ContentRemoved",
            "All content successfully removed",
        ),
        _condition(
            "NamespaceFinalizersRemaining",
            ("SomeFinalizersRemain", f"Some content in the namespace has finalizers remaining: {held}")
            if held
            else None,
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished",
        ),
    ]  # fmt: skip


def _condition(kind: str, bad: tuple[str, str] | None, reason: str, message: str) -> Obj:
    if bad is not None:
        reason, message = bad
    return {"type": kind, "status": "True" if bad else "False", "reason": reason, "message": message}


def _merge(old: list[Obj], new: list[Obj]) -> list[Obj]:
    """The new conditions; the time of the last transition moves only when something else did."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    merged = []
    known = {condition["type"]: condition for condition in old}
    for condition in new:
        before = known.pop(condition["type"], None)
        if before is not None and {k: v for k, v in before.items() if k != "lastTransitionTime"} == condition:
            merged.append(before)
        else:
            merged.append({**condition, "lastTransitionTime": now})
    return [*known.values(), *merged] if known else merged
