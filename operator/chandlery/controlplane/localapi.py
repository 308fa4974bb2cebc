"""The control plane's API for its own controllers, without HTTP."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager

import orjson

from chandlery.controlplane import errors
from chandlery.controlplane.cache import Entry, Event
from chandlery.controlplane.core import Core
from chandlery.controlplane.types import ApiError, Obj, RequestContext, Resource, UserInfo
from chandlery.controlplane.verbs.create import create
from chandlery.controlplane.verbs.delete import DeleteOptions, delete
from chandlery.controlplane.verbs.update import update


class Local:
    """Implements `LocalApi` on a `Core`."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def resource(self, group: str, plural: str) -> Resource | None:
        return self._core.registry.stored(group, plural)

    def resources(self) -> Sequence[Resource]:
        return self._core.registry.all_stored()

    def _known(self, group: str, plural: str) -> Resource:
        resource = self._core.registry.stored(group, plural)
        if resource is None:
            raise errors.generic_not_found()
        return resource

    def get(self, group: str, plural: str, namespace: str, name: str) -> Obj | None:
        resource = self._core.registry.stored(group, plural)
        entry = None if resource is None else self._core.find(resource, namespace, name)
        return None if entry is None else entry.obj

    def list(self, group: str, plural: str, namespace: str | None = None) -> list[Obj]:
        resource = self._core.registry.stored(group, plural)
        if resource is None:
            return []
        table = self._core.table(resource)
        return [entry.obj for entry in table.span(namespace or "")] if table.entries else []

    def count(self, group: str, plural: str, namespace: str | None = None) -> int:
        resource = self._core.registry.stored(group, plural)
        if resource is None:
            return 0
        first, last = self._core.table(resource).bounds(namespace or "")
        return last - first

    def turn(self, name: str) -> AbstractAsyncContextManager[None]:
        """See `Store.turn`."""
        return self._core.store.turn(name)

    def on_change(self, group: str, plurals: Sequence[str], tell: Callable[[], None]) -> None:
        self._core.cache.listen(lambda *_: tell(), [(group, plural) for plural in plurals])

    async def watch_all(self) -> AsyncIterator[tuple[str, Resource, Obj, Obj | None]]:
        waiting: deque[tuple[str, Resource, Obj, Obj | None]] = deque()
        more = asyncio.Event()

        def listener(kind: str, where: tuple[str, str], event: Event) -> None:
            resource = self._core.registry.stored(*where)
            if resource is not None:
                prev = event.prev.obj if event.prev is not None else None
                waiting.append((kind, resource, event.entry.obj, prev))
                if len(waiting) == 1:
                    more.set()

        stop = self._core.cache.listen(listener)
        try:
            while True:
                await more.wait()
                more.clear()
                while waiting:
                    yield waiting.popleft()
        finally:
            stop()

    def _context(
        self, verb: str, resource: Resource, user: UserInfo, namespace: str, name: str, manager: str, subresource: str
    ) -> RequestContext:
        return RequestContext(
            user=user,
            verb=verb,
            resource=resource,
            namespace=namespace if resource.namespaced else "",
            name=name,
            subresource=subresource,
            field_manager=manager,
            field_validation="Ignore",
            user_agent=manager,
        )

    async def create(self, group: str, plural: str, obj: Obj, *, user: UserInfo, manager: str) -> Obj:
        resource = self._known(group, plural)
        own = _copy(obj)
        own.setdefault("apiVersion", resource.api_version)
        own.setdefault("kind", resource.kind)
        namespace = own.setdefault("metadata", {}).get("namespace") or ""
        ctx = self._context("create", resource, user, namespace, "", manager, "")
        return orjson.loads(await create(self._core, ctx, own))  # type: ignore[no-any-return]

    async def update(
        self, group: str, plural: str, obj: Obj, *, user: UserInfo, manager: str, subresource: str = ""
    ) -> Obj:
        resource = self._known(group, plural)
        meta = obj["metadata"]
        ctx = self._context("update", resource, user, meta.get("namespace") or "", meta["name"], manager, subresource)

        async def change(live: Obj, _entry: Entry) -> Obj:
            own = _copy(obj)
            if not own["metadata"].get("resourceVersion"):
                own["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
            return own

        body = await update(self._core, ctx, change, retry=not meta.get("resourceVersion"))
        return orjson.loads(body)  # type: ignore[no-any-return]

    async def delete(
        self,
        group: str,
        plural: str,
        namespace: str,
        name: str,
        *,
        user: UserInfo,
        uid: str = "",
        propagation: str = "Background",
    ) -> None:
        resource = self._known(group, plural)
        ctx = self._context("delete", resource, user, namespace, name, "", "")
        options = DeleteOptions(uid=uid or None, propagation=propagation or None)
        try:
            await delete(self._core, ctx, options)
        except ApiError as error:
            if error.code != 404:
                raise


def _copy(obj: Obj) -> Obj:
    return orjson.loads(orjson.dumps(obj))  # type: ignore[no-any-return]
