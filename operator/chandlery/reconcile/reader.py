"""Reading other objects for drivers: ours from the store, the rest from the API server."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any, Final

from chandlery.foundation.errors import NotFound
from chandlery.reconcile.api import (
    CONFIG_MAPS,
    NAMESPACES,
    PROVIDER_CONFIGS,
    RESOURCE_CLASSES,
    SECRETS,
    SERVICES,
    Api,
    Key,
    Obj,
    ResourceType,
)
from chandlery.reconcile.store import Store

WELL_KNOWN: Final = (SECRETS, CONFIG_MAPS, SERVICES, NAMESPACES, RESOURCE_CLASSES, PROVIDER_CONFIGS)


class ApiReader:
    """`chandlery.driver.protocol.Reader` over the store and the API.

    Args:
        api: for what the store doesn't hold.
        store: our own kinds, as watched.
        types: our own kinds' types.
        synced: whether the store holds all objects of a kind by now.
    """

    def __init__(
        self, api: Api, store: Store, types: Mapping[str, ResourceType], synced: Callable[[str], bool]
    ) -> None:
        self._api = api
        self._store = store
        self._types = {(t.group, t.kind): t for t in (*WELL_KNOWN, *types.values())}
        self._ours = frozenset((t.group, t.kind) for t in types.values())
        self._synced = synced

    def type_of(self, group: str, kind: str) -> ResourceType:
        """Where objects of this group and kind are served.

        Raises:
            NotFound: neither a kind of ours nor one of the few others that specs refer to.
        """
        try:
            return self._types[group, kind]
        except KeyError:
            raise NotFound(f"references to {kind}.{group or 'core'} are not known here") from None

    async def get(self, group: str, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        where = self.type_of(group, kind)
        if (group, kind) in self._ours and self._synced(kind):
            return self._store.get(Key(kind, namespace, name))
        return await self._api.get(where, namespace, name)

    async def list(
        self, group: str, kind: str, namespace: str, labels: Mapping[str, str] | None = None
    ) -> list[dict[str, Any]]:
        where = self.type_of(group, kind)
        if (group, kind) in self._ours and self._synced(kind):
            return [obj for key, obj in self._store.items(kind) if key.namespace == namespace and _has(obj, labels)]
        selector = ",".join(f"{key}={value}" for key, value in (labels or {}).items())
        return (await self._api.list(where, namespace, labels=selector)).items

    async def secret(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        found = await self._api.get(SECRETS, namespace, name)
        if found is None:
            return None
        return {key: base64.b64decode(value) for key, value in (found.get("data") or {}).items()}


def _has(obj: Obj, labels: Mapping[str, str] | None) -> bool:
    have = obj["metadata"].get("labels") or {}
    return all(have.get(key) == value for key, value in (labels or {}).items())
