"""The live map of what is served: built-in resources from the start, custom ones as their CRDs come and go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from chandlery.controlplane.types import Resource


class Registry:
    """Finds resources by path and by what is stored; tells listeners when the set changes."""

    def __init__(self) -> None:
        self._by_path: dict[tuple[str, str, str], Resource] = {}
        self._by_store: dict[tuple[str, str], Resource] = {}
        self._by_crd: dict[str, list[Resource]] = {}
        self._builtin: list[Resource] = []
        self.generation = 0
        """Counts changes; caches of derived documents compare it."""
        self._listeners: list[Callable[[], None]] = []

    def on_change(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    def add_builtin(self, resources: Iterable[Resource]) -> None:
        for resource in resources:
            resource.builtin = True
            self._builtin.append(resource)
            self._index(resource)
        self._changed()

    def set_crd(self, name: str, resources: Sequence[Resource]) -> None:
        """Serve these resources for the CRD of that name, in place of what it served before."""
        for old in self._by_crd.pop(name, ()):
            self._forget(old)
        if resources:
            self._by_crd[name] = list(resources)
            for resource in resources:
                self._index(resource)
        self._changed()

    def crd_resources(self, name: str) -> Sequence[Resource]:
        return self._by_crd.get(name, ())

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        return self._by_path.get((group, version, plural))

    def stored(self, group: str, plural: str) -> Resource | None:
        """The resource by which objects of (group, plural) are read and written in their stored version."""
        return self._by_store.get((group, plural))

    def all_stored(self) -> list[Resource]:
        return [r for key, r in self._by_store.items() if r.storage_key == key and "list" in r.verbs]

    def all_served(self) -> list[Resource]:
        return list(self._by_path.values())

    def has_version(self, group: str, version: str) -> bool:
        return any(g == group and v == version for g, v, _ in self._by_path)

    def _index(self, resource: Resource) -> None:
        self._by_path[resource.group, resource.version, resource.plural] = resource
        key = (resource.group, resource.plural)
        known = self._by_store.get(key)
        storage_version = resource.storage_version or resource.version
        if known is None or resource.version == storage_version:
            self._by_store[key] = resource

    def _forget(self, resource: Resource) -> None:
        path = (resource.group, resource.version, resource.plural)
        if self._by_path.get(path) is resource:
            del self._by_path[path]
        key = (resource.group, resource.plural)
        if self._by_store.get(key) is resource:
            del self._by_store[key]

    def _changed(self) -> None:
        self.generation += 1
        for listener in self._listeners:
            listener()

    def has_builtin_group(self, group: str) -> bool:
        return any(r.group == group for r in self._builtin)
