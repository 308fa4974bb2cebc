"""Who owns which slots, and which move: pure."""

from hypothesis import given
from hypothesis import strategies as st

from chandlery_kinds.cache import cluster

NODES = """\
aaa 127.0.0.1:20000@20001 myself,master - 0 0 7 connected 0-99 200 [300->-bbb] [301-<-ccc]
bbb 127.0.0.1:20002@20003,host slave ccc 0 1 3 connected
ccc 127.0.0.1:20004@20005 master,fail - 0 1 3 disconnected 100-199
ddd :0@0 handshake - 0 0 0 disconnected
"""


def test_a_reply_of_cluster_nodes_is_read():
    view = cluster.parse(NODES)
    assert view.me.id == "aaa"
    assert view.me.is_primary
    assert view.me.slots == frozenset(range(100)) | {200}
    assert (view.me.leaving, view.me.arriving) == ({300: "bbb"}, {301: "ccc"})
    assert (view.peers["bbb"].primary_id, view.peers["bbb"].is_primary) == ("ccc", False)
    assert (view.peers["ccc"].connected, view.peers["ddd"].in_handshake) == (False, True)
    assert cluster.parse("") is None


def test_ranges_go_forth_and_back():
    words = cluster.range_words([5, 1, 2, 3, 9])
    assert words == [1, 3, 5, 5, 9, 9]
    assert cluster.in_ranges(words) == {1, 2, 3, 5, 9}


def apply(owned, moves):
    made = {shard: set(slots) for shard, slots in owned.items()}
    for move in moves:
        made[move.source] -= set(move.slots)
        made.setdefault(move.target, set()).update(move.slots)
    return {shard: slots for shard, slots in made.items() if slots}


def test_a_new_cluster_gets_contiguous_shares():
    found = cluster.fill(range(cluster.SLOTS), {}, 3)
    assert [cluster.ranges(slots) for slots in found.values()] == [[(0, 5461)], [(5462, 10922)], [(10923, 16383)]]
    assert cluster.moves(found, 3) == []


@given(st.integers(3, 12), st.integers(3, 12), st.data())
def test_moves_make_it_even_touch_no_slot_twice_and_can_be_cut_off_anywhere(before, after, data):
    owned = {shard: set(slots) for shard, slots in enumerate(cluster.first_shares(before))}
    moves = cluster.moves(owned, after)
    moved = [slot for move in moves for slot in move.slots]
    assert len(moved) == len(set(moved))
    done = apply(owned, moves)
    assert [len(done[shard]) for shard in range(after)] == cluster.shares(after)
    assert set(done) == set(range(after))
    count = data.draw(st.integers(0, len(moves)))
    half = apply(owned, moves[:count])
    rest = cluster.moves(half, after)
    assert [len(slots) for _, slots in sorted(apply(half, rest).items())] == cluster.shares(after)
    assert len(moved) == sum(len(m.slots) for m in moves[:count]) + sum(len(m.slots) for m in rest)  # nothing twice


@given(st.sets(st.integers(0, cluster.SLOTS - 1), max_size=500), st.integers(3, 8))
def test_slots_that_nobody_has_go_to_those_with_least(free, shards):
    owned = {n: set(slots) - free for n, slots in enumerate(cluster.first_shares(shards))}
    assert cluster.unowned(owned.values()) == free
    for shard, slots in cluster.fill(free, owned, shards).items():
        owned[shard] |= set(slots)
    assert cluster.unowned(owned.values()) == set()
    assert [len(owned[n]) for n in range(shards)] == cluster.shares(shards)


def test_slots_without_keys_follow_those_with_keys():
    owned = {0: [3, 100], 1: [6000], 2: [12000, 16000]}
    shares = cluster.extend(cluster.unowned(owned.values()), owned)
    whole = {shard: sorted([*owned[shard], *shares[shard]]) for shard in owned}
    assert {shard: cluster.ranges(slots) for shard, slots in whole.items()} == {
        0: [(0, 5999)],
        1: [(6000, 11999)],
        2: [(12000, 16383)],
    }
    assert cluster.unowned(whole.values()) == set()
