"""The cluster mode of Valkey and Redis: who owns which slots, and which have to move. Pure.

Source: the reply of CLUSTER NODES as Valkey's command reference describes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

SLOTS = 16384


@dataclass(frozen=True, slots=True)
class Peer:
    """One node as a line of CLUSTER NODES tells of it."""

    id: str
    flags: frozenset[str]
    primary_id: str
    """Whom it follows; empty for a primary."""
    epoch: int
    connected: bool
    slots: frozenset[int] = frozenset()
    leaving: Mapping[int, str] = field(default_factory=dict)
    """Slots that are being moved away, to which node. Only the node itself tells."""
    arriving: Mapping[int, str] = field(default_factory=dict)

    @property
    def is_primary(self) -> bool:
        return "master" in self.flags

    @property
    def in_handshake(self) -> bool:
        return "handshake" in self.flags


@dataclass(frozen=True, slots=True)
class View:
    """The cluster as one node sees it."""

    me: Peer
    peers: Mapping[str, Peer]
    """Every node that it knows, itself too."""


def parse(text: str) -> View | None:
    """A reply of CLUSTER NODES; None when it names no self."""
    peers: dict[str, Peer] = {}
    me = ""
    for line in text.splitlines():
        words = line.split()
        if len(words) < 8:
            continue
        flags = frozenset(words[2].split(","))
        slots, leaving, arriving = _slots(words[8:])
        peers[words[0]] = Peer(
            id=words[0],
            flags=flags,
            primary_id="" if words[3] == "-" else words[3],
            epoch=int(words[6]),
            connected=words[7] == "connected",
            slots=slots,
            leaving=leaving,
            arriving=arriving,
        )
        if "myself" in flags:
            me = words[0]
    return View(peers[me], peers) if me else None


def _slots(words: Sequence[str]) -> tuple[frozenset[int], dict[int, str], dict[int, str]]:
    owned: set[int] = set()
    leaving: dict[int, str] = {}
    arriving: dict[int, str] = {}
    for word in words:
        if word.startswith("["):
            slot, _, rest = word.strip("[]").partition("-")
            (leaving if rest.startswith(">-") else arriving)[int(slot)] = rest[2:]
            continue
        first, _, last = word.partition("-")
        owned.update(range(int(first), int(last or first) + 1))
    return frozenset(owned), leaving, arriving


def ranges(slots: Iterable[int]) -> list[tuple[int, int]]:
    """Slots as (first, last), in order."""
    found: list[tuple[int, int]] = []
    for slot in sorted(slots):
        if found and found[-1][1] == slot - 1:
            found[-1] = (found[-1][0], slot)
        else:
            found.append((slot, slot))
    return found


def range_words(slots: Iterable[int]) -> list[int]:
    """Slots as ADDSLOTSRANGE and MIGRATESLOTS want them: first, last, first, last, ..."""
    return [word for pair in ranges(slots) for word in pair]


def in_ranges(words: Sequence[int]) -> set[int]:
    """The other way around."""
    return {slot for first, last in zip(words[::2], words[1::2], strict=True) for slot in range(first, last + 1)}


def shares(shards: int) -> list[int]:
    """How many slots each shard has when they are spread evenly."""
    return [SLOTS // shards + (1 if shard < SLOTS % shards else 0) for shard in range(shards)]


def first_shares(shards: int) -> list[list[int]]:
    """Contiguous slots for each shard of a new cluster."""
    found, start = [], 0
    for count in shares(shards):
        found.append(list(range(start, start + count)))
        start += count
    return found


def unowned(claims: Iterable[Iterable[int]]) -> set[int]:
    free = set(range(SLOTS))
    for slots in claims:
        free.difference_update(slots)
    return free


def fill(free: Iterable[int], owned: Mapping[int, Iterable[int]], shards: int) -> dict[int, list[int]]:
    """Which shard takes which slots that nobody has: contiguous ones while everything is new."""
    free = sorted(free)
    if len(free) == SLOTS:
        return dict(enumerate(first_shares(shards)))
    have = {shard: len(set(owned.get(shard, ()))) for shard in range(shards)}
    found: dict[int, list[int]] = {}
    for slot in free:
        shard = min(have, key=lambda number: (have[number] - shares(shards)[number], number))
        have[shard] += 1
        found.setdefault(shard, []).append(slot)
    return found


def extend(free: Iterable[int], owned: Mapping[int, Iterable[int]]) -> dict[int, list[int]]:
    """As `fill`, where shards own only slots with keys, as after a restore: each takes what follows on its own.

    So there are as few ranges as may be: servers tell them all to every client. `moves` evens the shares out.
    """
    owner = {slot: shard for shard, slots in owned.items() for slot in slots}
    last = owner[min(owner)]
    wanted, found = set(free), dict[int, list[int]]()
    for slot in range(SLOTS):
        last = owner.get(slot, last)
        if slot in wanted:
            found.setdefault(last, []).append(slot)
    return found


@dataclass(frozen=True, slots=True)
class Move:
    """Slots that go from one shard to another."""

    source: int
    target: int
    slots: tuple[int, ...]


def moves(owned: Mapping[int, Iterable[int]], shards: int) -> list[Move]:
    """The fewest moves after which shards 0 to `shards` - 1 have even shares and others nothing.

    The same input gives the same moves; what has moved already isn't moved again. So whoever was interrupted goes on
    by asking anew.
    """
    have = {shard: sorted(slots) for shard, slots in owned.items()}
    target = shares(shards)
    wanting = {shard: target[shard] - len(have.get(shard, ())) for shard in range(shards)}
    takers = [shard for shard in range(shards) if wanting[shard] > 0]
    found = []
    for source in sorted(have, reverse=True):
        spare = len(have[source]) - (target[source] if source < shards else 0)
        while spare > 0 and takers:
            taker = takers[0]
            count = min(spare, wanting[taker])
            found.append(Move(source, taker, tuple(have[source][-count:])))
            del have[source][-count:]
            spare -= count
            wanting[taker] -= count
            if wanting[taker] == 0:
                takers.pop(0)
    return found
