"""Decisions of the kubernetes drivers of Cache and Queue without any server."""

from chandlery.providers.kubernetes.network import Doors, network_policy
from chandlery.providers.kubernetes.ownership import Owner
from chandlery.providers.kubernetes.parameters import NetworkPolicyParameter
from chandlery_kinds.cache import cluster
from chandlery_kinds.cache.kubernetes.shards import Shards, place
from chandlery_kinds.queue.kubernetes.tidy import forgotten, scale_differences

OWNER = Owner("data.chandlery.dev/v1alpha1", "Cache", "shop", "orders", "u", "cache-u", "valkey")


def stream(leader, *others, copies=3, current=True):
    replicas = [{"name": name, "current": current} for name in others]
    config = {"name": "orders", "num_replicas": copies}
    return {"stream": {"config": config, "cluster": {"leader": leader, "replicas": replicas}}}


def names(count):
    return [f"q-{index}" for index in range(count)]


def test_a_server_goes_when_nothing_is_left_on_it():
    assert scale_differences(3, 5, names(5), stream("q-0", "q-1", "q-2")) == ([], 4)
    assert scale_differences(3, 4, names(4), stream("q-0", "q-1", "q-2")) == ([], 3)


def test_before_that_its_copies_move_and_are_in_step():
    [move], servers = scale_differences(3, 5, names(5), stream("q-0", "q-1", "q-4"))
    assert (move.payload, servers) == (("evacuate", "orders", "q-4"), 5)
    for inside in (
        stream("q-0", "q-1", "q-2", "q-3", "q-4", copies=5),
        stream("q-0", "q-1", "q-2", current=False),
        stream(None, "q-1", "q-2"),
        {},
    ):
        [wait], servers = scale_differences(3, 5, names(5), inside)
        assert (wait.payload, servers) == (("wait",), 5)


def test_one_server_does_not_become_several():
    [refused], servers = scale_differences(3, 1, names(1), stream("q-0", copies=1))
    assert (refused.payload, servers) == (("scale",), 1)


def test_who_is_gone_for_good_is_forgotten():
    peers = [{"name": "q-2", "offline": False}, {"name": "q-3", "offline": True}, {"name": "q-1", "offline": True}]
    found = forgotten([{"jetstream": {"meta": {"replicas": peers}}}], ["q-0", "q-1", "q-2"])
    assert [change.payload for change in found] == [("forget", "q-3")]


def node(identity, flags, primary="-", slots="", connected="connected"):
    return f"{identity} 10.0.0.1:6379@16379 {flags} {primary} 0 0 1 {connected} {slots}".strip()


def seen(shards, **replies):
    shards.see({f"c-s{name[1:].replace('_', '-')}": cluster.parse("\n".join(lines)) for name, lines in replies.items()})
    return shards


def test_shards_know_who_owns_what_and_whom_nobody_knows():
    shards = seen(
        Shards("c", 2, 1),
        s0_0=[node("a", "myself,master", slots="0-100"), node("gone", "master,fail", slots="101-200")],
        s1_0=[node("b", "myself,master")],
    )
    assert shards.owner(0) == "c-s0-0"
    assert shards.owned() == {0: set(range(101))}
    assert shards.strangers() == ("c-s0-0", ["c-s1-0"])
    assert shards.lost_owners() == {"gone"}
    assert shards.ghosts() == ["gone"]
    assert 150 not in shards.free()
    assert 201 in shards.free()
    assert place("c-s12-3") == (12, 3)


def test_a_lost_primary_with_a_copy_waits_for_it():
    lines = [node("a", "myself,slave", "gone"), node("gone", "master,fail", slots="0-16383")]
    shards = seen(Shards("c", 1, 2), s0_1=lines)
    assert shards.primary(0) is None
    assert shards.ghosts() == []


def test_a_pod_whose_address_changed_is_introduced_again():
    shards = seen(
        Shards("c", 2, 1),
        s0_0=[node("a", "myself,master", slots="0-8000"), node("b", "master", connected="disconnected")],
        s1_0=[node("b", "myself,master", slots="8001-16383"), node("a", "master", connected="disconnected")],
    )
    _, strangers = shards.strangers()
    assert len(strangers) == 1


def test_a_policy_is_made_only_where_somebody_asks_for_one():
    doors = Doors([6379], members=[16379], metrics=[9121])
    assert network_policy(OWNER, doors) == []
    [policy] = network_policy(OWNER, doors, asked=NetworkPolicyParameter())
    assert policy["spec"]["ingress"][0]["from"] == [{"podSelector": {}}]
    peer = {"namespaceSelector": {"matchLabels": {"team": "shop"}}}
    [policy] = network_policy(
        OWNER, doors, cidrs=["10.0.0.0/8"], asked=NetworkPolicyParameter.model_validate({"from": [peer]})
    )
    assert policy["spec"]["ingress"][0]["from"] == [{"ipBlock": {"cidr": "10.0.0.0/8"}}, peer]
    members = next(rule for rule in policy["spec"]["ingress"] if rule["ports"][-1]["port"] == 16379)
    [peer] = members["from"]
    assert peer["podSelector"]["matchLabels"].items() <= OWNER.labels.items()
