"""The heart: registry, cache, store and the policies, as the verbs use them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from chandlery.controlplane import errors
from chandlery.controlplane.cache import Cache, Entry, Table, storage_key, table_key
from chandlery.controlplane.registry import Registry
from chandlery.controlplane.store.base import Store, StoreError
from chandlery.controlplane.types import ApiError, Obj, Resource

if TYPE_CHECKING:
    from chandlery.controlplane.admission import AdmissionChain
    from chandlery.controlplane.auth import VirtualHandler


class Core:
    """Finds, serves and writes entries. Policies that are None let everything pass."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.registry = Registry()
        self.cache = Cache()
        self.admission: AdmissionChain | None = None
        self.virtual: dict[tuple[str, str, str], VirtualHandler] = {}

    def table(self, resource: Resource) -> Table:
        return self.cache.table(resource.storage_key)

    def find(self, resource: Resource, namespace: str, name: str) -> Entry | None:
        return self.cache.table(resource.storage_key).entries.get(table_key(resource, namespace, name))

    def get(self, resource: Resource, namespace: str, name: str) -> Entry:
        """The live entry. Raises ApiError 404."""
        entry = self.find(resource, namespace, name)
        if entry is None:
            raise errors.not_found(resource, name)
        return entry

    async def served(self, resource: Resource, entry: Entry) -> bytes:
        """The entry as this resource shows it: usually the stored bytes themselves."""
        if entry.maker is resource or _same_form(resource):
            return entry.raw
        known = entry.view(resource)
        if known is None:
            known = orjson.dumps(await resource.strategy.from_storage(entry.fresh()))
            entry.set_view(resource, known)
        return known  # type: ignore[no-any-return]

    async def object(self, resource: Resource, entry: Entry) -> Obj:
        """The entry as this resource shows it, parsed. Shared: copy before a change."""
        if entry.maker is resource or _same_form(resource):
            return entry.obj
        return orjson.loads(await self.served(resource, entry))  # type: ignore[no-any-return]

    async def own_object(self, resource: Resource, entry: Entry) -> Obj:
        """The same, as the caller's own."""
        return orjson.loads(await self.served(resource, entry))  # type: ignore[no-any-return]

    async def write(
        self, resource: Resource, namespace: str, name: str, expect: int, obj: Obj, *, deleted: bool = False
    ) -> bytes:
        """Store `obj` (in this resource's version) if the entry is still at revision `expect`.

        Sets the object's resourceVersion and returns the bytes as this resource serves them. Raises
        `Conflict`, and ApiError when the store refuses.
        """
        plain = _same_form(resource)
        stored = obj if plain else await resource.strategy.to_storage(obj)
        same = plain or stored.get("apiVersion") == obj.get("apiVersion")
        made = b""

        def make(rev: int) -> bytes:
            nonlocal made
            stored["metadata"]["resourceVersion"] = str(rev) if rev else ""
            made = orjson.dumps(stored)
            return made

        try:
            rev = await self.store.txn(
                storage_key(resource, namespace, name),
                expect,
                make,
                deleted=deleted,
                obj=stored,
                tag=resource if same else None,
            )
        except StoreError as error:
            raise ApiError(507, "InsufficientStorage", f"the write was not stored: {error}") from error
        if same:
            return made
        obj["metadata"]["resourceVersion"] = str(rev)
        return orjson.dumps(await resource.strategy.from_storage(orjson.loads(made)))

    async def close(self) -> None:
        if self.admission is not None:
            await self.admission.close()
        await self.store.close()


def _same_form(resource: Resource) -> bool:
    """Whether this resource serves exactly what is stored (built-in types in their storage version)."""
    return (
        resource.builtin
        and (resource.storage_version or resource.version) == resource.version
        and resource.storage_key == (resource.group, resource.plural)
    )


