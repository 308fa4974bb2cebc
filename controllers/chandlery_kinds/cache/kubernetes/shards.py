"""Which pod of a sharded cache is what, as its servers tell. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from chandlery_kinds.cache import cluster

_NAME = re.compile(r"-s(\d+)-(\d+)$")


def shard_suffix(shard: int) -> str:
    """Of the name of a shard's StatefulSet."""
    return f"-s{shard}"


def place(name: str) -> tuple[int, int]:
    """Shard of a pod, and its number in it."""
    match = _NAME.search(name)
    assert match is not None, name
    return int(match[1]), int(match[2])


class Shards:
    """The pods by name, and the cluster as each of them sees it.

    Args:
        base: of the pods' names.
        shards: how many the spec asks for.
        group: pods of each.
    """

    def __init__(self, base: str, shards: int, group: int) -> None:
        self.base = base
        self.shards = shards
        self.group = group
        self.views: Mapping[str, cluster.View] = {}
        """By the names of the pods that answer."""

    def see(self, views: Mapping[str, cluster.View]) -> None:
        self.views = views

    # -- names

    def names(self) -> list[str]:
        """Pods that the spec asks for."""
        return [f"{self.base}{shard_suffix(s)}-{n}" for s in range(self.shards) for n in range(self.group)]

    def known(self, present: Iterable[str]) -> list[str]:
        """These, and those that there are."""
        more = [name for name in present if name.startswith(f"{self.base}-s") and _NAME.search(name)]
        return sorted({*self.names(), *more}, key=place)

    def wants(self, name: str) -> bool:
        shard, number = place(name)
        return shard < self.shards and number < self.group

    def complete(self) -> bool:
        """Whether all pods that the spec asks for answer."""
        return all(name in self.views for name in self.names())

    # -- members

    @property
    def ids(self) -> dict[str, str]:
        """Name of the pod that a member is, by the member's id."""
        return {view.me.id: name for name, view in self.views.items()}

    def slots_of(self, name: str) -> frozenset[int]:
        view = self.views.get(name)
        return view.me.slots if view is not None and view.me.is_primary else frozenset()

    def owner(self, shard: int) -> str | None:
        """The pod that owns the shard's slots; the one of the latest vote where two think so."""
        names = [name for name in self.views if place(name)[0] == shard and self.slots_of(name)]
        return max(names, key=lambda name: self.views[name].me.epoch, default=None)

    def primary(self, shard: int) -> str | None:
        """The owner; before there is one the first pod, unless a lost one's copies wait for their turn."""
        owner = self.owner(shard)
        if owner is not None:
            return owner
        names = sorted((name for name in self.views if place(name)[0] == shard), key=place)
        lost = self.lost_owners()
        if any(self.views[name].me.primary_id in lost for name in names):
            return None
        return next((name for name in names if self.views[name].me.is_primary), None)

    def owners(self) -> dict[int, str]:
        shards = sorted({place(name)[0] for name in self.views})
        return {shard: name for shard in shards if (name := self.primary(shard)) is not None}

    def owned(self) -> dict[int, set[int]]:
        """Slots by shard."""
        found: dict[int, set[int]] = {}
        for name in self.views:
            slots = self.slots_of(name)
            if slots:
                found.setdefault(place(name)[0], set()).update(slots)
        return found

    def free(self) -> set[int]:
        """Slots that nobody claims, be it somebody who doesn't answer."""
        claims = [peer.slots for view in self.views.values() for peer in view.peers.values()]
        return cluster.unowned([*self.owned().values(), *claims])

    def lost_owners(self) -> set[str]:
        """Ids of primaries with slots that are none of the pods that answer."""
        ids, found = self.ids, set()
        for view in self.views.values():
            for peer in view.peers.values():
                if peer.id not in ids and peer.is_primary and peer.slots:
                    found.add(peer.id)
        return found

    def ghosts(self) -> list[str]:
        """Ids of members that are none of the pods that answer; those with copies are left until one took over."""
        ids = self.ids
        followed = {view.me.primary_id for view in self.views.values()}
        found = {peer.id for view in self.views.values() for peer in view.peers.values() if not peer.in_handshake}
        return sorted(found - ids.keys() - followed)

    def strangers(self) -> tuple[str, list[str]]:
        """Who introduces, and whom: pods that it doesn't know, or whose present address it doesn't."""
        if not self.views:
            return "", []
        seed = max(self.views, key=lambda name: (self._met(name), [-part for part in place(name)]))
        known = self.views[seed].peers
        found = []
        for name, view in self.views.items():
            peer = known.get(view.me.id)
            if name != seed and (peer is None or not (peer.connected or peer.in_handshake)):
                found.append(name)
        return seed, found

    def _met(self, name: str) -> int:
        """How many of the pods it knows; one that owns slots counts for more."""
        ids = self.ids
        met = sum(1 for peer in self.views[name].peers.values() if peer.id in ids and not peer.in_handshake)
        return met + (1000 if self.slots_of(name) else 0)
