"""The heart: registry, cache, store and the policies, as the verbs use them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import orjson

from chandlery.controlplane import errors
from chandlery.controlplane.auth.escalation import check_escalation
from chandlery.controlplane.cache import Cache, Entry, Table, storage_key, table_key
from chandlery.controlplane.fields import keep_managed_fields
from chandlery.controlplane.registry import Registry
from chandlery.controlplane.store.base import Store, StoreError
from chandlery.controlplane.types import ApiError, FieldError, Obj, RequestContext, Resource

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AsyncExitStack

    from chandlery.controlplane.admission import AdmissionChain
    from chandlery.controlplane.auth import Authorizer, VirtualHandler
    from chandlery.controlplane.builtins import ServiceAllocator


_AT_ONCE = 500
_GROWING = frozenset({("", "pods"), ("", "services"), ("", "persistentvolumeclaims")})
"""Resources whose use of a quota may grow by an update."""


class Core:
    """Finds, serves and writes entries. Policies that are None let everything pass."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.registry = Registry()
        self.cache = Cache()
        self.admission: AdmissionChain | None = None
        self.authorizer: Authorizer | None = None
        self.virtual: dict[tuple[str, str, str], VirtualHandler] = {}
        self.services: ServiceAllocator | None = None

    def allocate(self, ctx: RequestContext, obj: Obj, old: Obj | None) -> list[FieldError]:
        """Give a Service its addresses and ports, in place; the errors when it can't have what it asked for."""
        if self.services is None or ctx.resource.plural != "services" or ctx.resource.group:
            return []
        known = [entry.obj for entry in self.cache.table(("", "services")).entries.values()]
        ranges = [entry.obj for entry in self.cache.table(("networking.k8s.io", "servicecidrs")).entries.values()]
        return self.services.allocate(obj, old, known, ranges, dry_run=ctx.dry_run)

    async def current(self) -> None:
        """Wait until reads show everything that anybody wrote before this call. Raises ApiError."""
        if self.store.shared:
            try:
                await self.store.synced()
            except StoreError as error:
                raise ApiError(error.code, error.reason, str(error)) from error

    async def take_turns(self, ctx: RequestContext, turns: AsyncExitStack) -> None:
        """Take the turns that a write needs which is decided by other objects too. Raises ApiError."""
        resource, names = ctx.resource, []
        ctx.take_turns = None  # once
        if ctx.dry_run or ctx.subresource:
            return
        kind = (resource.group, resource.plural)
        counted = resource.namespaced and kind != ("", "resourcequotas")
        if counted and (ctx.verb == "create" or kind in _GROWING):
            first, last = self.cache.table(("", "resourcequotas")).bounds(ctx.namespace)
            if last > first:
                names.append(f"quotas/{ctx.namespace}")
        if kind == ("", "services"):
            names.append("services")
        try:
            for name in names:
                await turns.enter_async_context(self.store.turn(name))
        except StoreError as error:
            raise ApiError(error.code, error.reason, f"the write was not stored: {error}") from error

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

    def terminating(self, resource: Resource) -> bool:
        """Whether the resource's CRD is being deleted."""
        if resource.builtin:
            return False
        crds = self.cache.table(("apiextensions.k8s.io", "customresourcedefinitions"))
        entry = crds.entries.get(resource.group_resource)
        return entry is not None and "deletionTimestamp" in entry.obj["metadata"]

    @staticmethod
    def is_plain(resource: Resource, entry: Entry) -> bool:
        """Whether the stored bytes are what this resource shows."""
        return entry.maker is resource or _same_form(resource)

    async def served(self, resource: Resource, entry: Entry) -> bytes:
        """The entry as this resource shows it: usually the stored bytes themselves."""
        if entry.maker is resource or _same_form(resource):
            return entry.raw
        known = entry.view(resource)
        if known is None:
            known = self._keep(resource, entry, await resource.strategy.from_storage(entry.fresh()))
        return known  # type: ignore[no-any-return]

    @staticmethod
    def _keep(resource: Resource, entry: Entry, obj: Obj) -> bytes:
        """Remember an entry's served form; most often it is the stored one, as after a restart."""
        made = dump(obj)
        if made == entry.raw:
            entry.maker = resource
        else:
            entry.set_view(resource, made)
        return made

    async def prepare(self, resource: Resource, entries: Iterable[Entry]) -> None:
        """Make the served forms of many entries at once: one call of a conversion webhook instead of one for each."""
        many = getattr(resource.strategy, "many_from_storage", None)
        if many is None:
            return
        todo = [entry for entry in entries if entry.maker is not resource and entry.view(resource) is None]
        if len(todo) < 2:
            return
        for first in range(0, len(todo), _AT_ONCE):
            some = todo[first : first + _AT_ONCE]
            for entry, obj in zip(some, await many([entry.fresh() for entry in some]), strict=True):
                self._keep(resource, entry, obj)
            await asyncio.sleep(0)  # others get their turn: after a restart these may be thousands

    async def object(self, resource: Resource, entry: Entry) -> Obj:
        """The entry as this resource shows it, parsed. Shared: copy before a change."""
        if entry.maker is resource or _same_form(resource):
            return entry.obj
        return orjson.loads(await self.served(resource, entry))  # type: ignore[no-any-return]

    async def own_object(self, resource: Resource, entry: Entry) -> Obj:
        """The same, as the caller's own."""
        return orjson.loads(await self.served(resource, entry))  # type: ignore[no-any-return]

    async def write(self, resource: Resource, namespace: str, name: str, expect: int, obj: Obj) -> bytes:
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
            stored["metadata"]["resourceVersion"] = str(rev)
            made = dump(stored)
            return made

        try:
            rev = await self.store.txn(
                storage_key(resource, namespace, name),
                expect,
                make,
                obj=stored,
                tag=resource if same else None,
            )
        except StoreError as error:
            raise ApiError(error.code, error.reason, f"the write was not stored: {error}") from error
        finally:
            if self.services is not None and resource.plural == "services" and not resource.group:
                self.services.settle(obj["metadata"].get("uid") or "")
        if same:
            return made
        obj["metadata"]["resourceVersion"] = str(rev)
        return dump(await resource.strategy.from_storage(orjson.loads(made)))

    async def remove(self, resource: Resource, entry: Entry) -> bytes:
        """Delete an entry; watchers see its last stored state with the deletion's revision. Answers that state.

        Raises `Conflict`, and ApiError when the store refuses.
        """
        last = entry.fresh()
        made = b""

        def make(rev: int) -> bytes:
            nonlocal made
            last["metadata"]["resourceVersion"] = str(rev)
            made = dump(last)
            return made

        group, plural = resource.storage_key
        try:
            await self.store.txn(
                f"{group}/{plural}/{entry.key}", entry.rev, make, deleted=True, obj=last, tag=entry.maker
            )
        except StoreError as error:
            raise ApiError(error.code, error.reason, f"the deletion was not stored: {error}") from error
        return made

    async def mutate(self, ctx: RequestContext, obj: Obj, old: Obj | None) -> Obj:
        """Mutating admission; what a webhook made is decoded and defaulted again."""
        if self.admission is not None:
            managed = obj["metadata"].get("managedFields")
            made = await self.admission.mutate(ctx, obj, old)
            if made is not None and made is not obj:
                warning = keep_managed_fields(made, managed)
                if warning:
                    ctx.warnings.append(warning)
                ctx.resource.strategy.decode(made)
                ctx.resource.strategy.default(made)
                obj = made
        if self.authorizer is not None and ctx.resource.group == "rbac.authorization.k8s.io":
            check_escalation(self.authorizer, ctx, obj, old)
        return obj

    async def close(self) -> None:
        if self.admission is not None:
            await self.admission.close()
        await self.store.close()


def dump(obj: Obj) -> bytes:
    """An object as JSON with apiVersion and kind in front, where `untyped` finds them."""
    head = {"apiVersion": obj.get("apiVersion"), "kind": obj.get("kind")}
    # A copy, for these bytes are kept: what orjson answers holds on to the room that it wrote in, ten times as much.
    return b"%b" % orjson.dumps(head | obj)


def untyped(raw: bytes) -> bytes:
    """A dumped object without apiVersion and kind, as items of built-in lists are written."""
    start = raw.find(b',"kind":"')
    end = raw.find(b'",', start + 9)
    return b"{" + raw[end + 2 :] if start > 0 and end > 0 else raw


def _same_form(resource: Resource) -> bool:
    """Whether this resource serves exactly what is stored (built-in types in their storage version)."""
    return (
        resource.builtin
        and (resource.storage_version or resource.version) == resource.version
        and resource.storage_key == (resource.group, resource.plural)
    )
