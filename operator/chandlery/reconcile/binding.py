"""The binding Secret: written by server-side apply, owned by its object, repaired when somebody changes it.

Keys as servicebinding.io says: `type` and `provider`, then what the driver gives (host, port, username, password, uri
...). A Secret of the same name that isn't ours is never touched.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from chandlery.driver.protocol import Binding
from chandlery.foundation.concurrency import KeyedLock
from chandlery.foundation.errors import Conflict, DependencyNotReady
from chandlery.model.base import AnyResource
from chandlery.reconcile.api import GROUP, MANAGED_LABEL, MANAGER, SECRETS, Api, Obj
from chandlery.reconcile.problems import SecretTaken

BINDING_TYPE = "servicebinding.io/"
MANAGED_SELECTOR = f"{MANAGED_LABEL}={MANAGER}"


class SecretFacts(NamedTuple):
    """What is kept of a binding Secret: no secrets."""

    version: str
    digest: bytes
    owner_uid: str
    owner: str
    """Kind and name of the controlling owner."""


class Binder:
    """Keeps binding Secrets as they must be, and remembers how they are."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._known: dict[tuple[str, str], SecretFacts] = {}
        self._owned: dict[str, set[tuple[str, str]]] = {}
        self._locks: KeyedLock[tuple[str, str]] = KeyedLock()
        self._writing: dict[tuple[str, str], bytes] = {}
        self.watching = False
        """True while an informer feeds us; until then what we know may be out of date and is read again."""

    def seen(self, obj: Obj) -> bool:
        """A Secret as an informer saw it. True when it is not as we left it."""
        if not str(obj.get("type", "")).startswith(BINDING_TYPE):
            return False  # a driver's own Secret: not for us to compare, nor to remove
        meta = obj["metadata"]
        place = (meta.get("namespace", ""), meta["name"])
        facts = _facts(obj)
        before = self._known.get(place)
        self._learn(place, facts)
        if facts.digest == self._writing.get(place):
            return False  # what is being written this very moment: the event was faster than the answer
        return before is None or (before.digest, before.owner_uid) != (facts.digest, facts.owner_uid)

    def gone(self, namespace: str, name: str) -> None:
        """The Secret was deleted."""
        facts = self._known.pop((namespace, name), None)
        if facts is not None:
            mine = self._owned.get(facts.owner_uid, set())
            mine.discard((namespace, name))
            if not mine:
                self._owned.pop(facts.owner_uid, None)

    def _learn(self, place: tuple[str, str], facts: SecretFacts) -> None:
        self._known[place] = facts
        if facts.owner_uid:
            self._owned.setdefault(facts.owner_uid, set()).add(place)

    async def apply(self, obj: AnyResource, binding: Binding, previous: str = "") -> str:
        """Make the Secret what it must be; one request when it isn't, none when it is.

        Args:
            obj: the owner.
            binding: the content.
            previous: the name in use until now; that Secret is removed when the name changes.

        Returns:
            The Secret's name.

        Raises:
            SecretTaken: a Secret of this name belongs to something else.
            DependencyNotReady: it belongs to a deleted object of the same name and is about to go.
        """
        name = await self._write(obj, manifest(obj, binding))
        if previous and previous != name:
            await self._drop(obj, previous)
        return name

    async def apply_users(self, obj: AnyResource, bindings: Mapping[str, Binding]) -> None:
        """Make the Secrets of single users what they must be, and remove those of users that are no more.

        Raises:
            SecretTaken, DependencyNotReady: as `apply`.
        """
        for name, binding in bindings.items():
            await self._write(obj, manifest(obj, binding, name))
        keep = {secret_name(obj), *bindings}
        for namespace, name in list(self._owned.get(obj.metadata.uid, ())):
            if namespace == obj.metadata.namespace and name not in keep:
                await self._drop(obj, name)

    async def _write(self, obj: AnyResource, body: Obj) -> str:
        place = (obj.metadata.namespace, str(body["metadata"]["name"]))
        async with self._locks.hold(place):  # two objects may want the same name: the second must see the first
            known = self._known.get(place)
            if known is None or not self.watching:
                live = None if self.watching else await self._api.get(SECRETS, *place)
                known = _facts(live) if live is not None else None
            if known is None:
                await self._make(obj, body, place)
                return place[1]
            _check_owner(obj, place[1], known)
            if known.digest != _facts(body).digest:
                known = await self._send(body, place)
            self._learn(place, known)
        return place[1]

    async def _make(self, obj: AnyResource, body: Obj, place: tuple[str, str]) -> None:
        """The Secret is not among ours. Where one exists all the same, the server refuses, as fields would change."""
        try:
            written = await self._send(body, place, force=False)
        except Conflict:
            live = await self._api.get(SECRETS, *place)
            if live is not None:
                _check_owner(obj, place[1], _facts(live))
            written = await self._send(body, place)
        self._learn(place, written)

    async def _send(self, body: Obj, place: tuple[str, str], *, force: bool = True) -> SecretFacts:
        self._writing[place] = _facts(body).digest
        try:
            return _facts(await self._api.apply(SECRETS, body, force=force))
        finally:
            del self._writing[place]

    async def _drop(self, obj: AnyResource, name: str) -> None:
        live = await self._api.get(SECRETS, obj.metadata.namespace, name)
        if live is not None and _facts(live).owner_uid == obj.metadata.uid:
            await self._api.delete(SECRETS, obj.metadata.namespace, name, uid=live["metadata"]["uid"])


def secret_name(obj: AnyResource) -> str:
    """What spec.connectionSecret.name says, else the object's own name."""
    chosen = getattr(obj.spec, "connection_secret", None)
    return str(chosen.name) if chosen is not None else obj.metadata.name


def manifest(obj: AnyResource, binding: Binding, name: str = "") -> Obj:
    """The whole Secret; without a name the object's own binding."""
    meta = obj.metadata
    entries = {"type": binding.type, "provider": binding.provider, **binding.entries}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name or secret_name(obj),
            "namespace": meta.namespace,
            "labels": {
                MANAGED_LABEL: MANAGER,
                f"{GROUP}/kind": obj.kind,
                # a label's value ends at 63 characters, a name at 253; the owner reference has it whole
                f"{GROUP}/name": meta.name[:63].rstrip("-.") or "x",
            },
            "ownerReferences": [
                {
                    "apiVersion": obj.api_version,
                    "kind": obj.kind,
                    "name": meta.name,
                    "uid": meta.uid,
                    "controller": True,
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "type": f"{BINDING_TYPE}{binding.type}",
        "data": {key: base64.b64encode(str(value).encode()).decode() for key, value in sorted(entries.items())},
    }


def owner_of(obj: Obj) -> Mapping[str, Any] | None:
    """The controlling owner reference."""
    for owner in obj["metadata"].get("ownerReferences", ()):
        if owner.get("controller"):
            found: Mapping[str, Any] = owner
            return found
    return None


def _facts(obj: Obj) -> SecretFacts:
    meta = obj["metadata"]
    owner = owner_of(obj) or {}
    labels = meta.get("labels", {})
    ours = sorted((k, v) for k, v in labels.items() if k == MANAGED_LABEL or k.startswith(f"{GROUP}/"))
    text = repr((obj.get("type"), sorted(obj.get("data", {}).items()), ours, owner.get("uid")))
    return SecretFacts(
        meta.get("resourceVersion", ""),
        hashlib.blake2b(text.encode(), digest_size=16).digest(),
        owner.get("uid", ""),
        f"{owner.get('kind', '')} {owner.get('name', '')}".strip(),
    )


def _check_owner(obj: AnyResource, name: str, facts: SecretFacts) -> None:
    if facts.owner_uid == obj.metadata.uid:
        return
    if facts.owner == f"{obj.kind} {obj.metadata.name}":
        raise DependencyNotReady(
            f"the Secret {name} still belongs to a deleted {obj.kind} of the same name", retry_after=1.0
        )
    belongs = f"belongs to {facts.owner}" if facts.owner else "was not made by us"
    raise SecretTaken(f"the Secret exists and {belongs}", field="spec.connectionSecret.name", value=name)
