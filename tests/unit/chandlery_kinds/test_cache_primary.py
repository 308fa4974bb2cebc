"""Who becomes primary of a replicated cache on Kubernetes, and who never does."""

from chandlery_kinds.cache.kubernetes.nodes import HUNG_SECONDS, LAG_SECONDS, Node, given_up, heir, role_differences


def pod(name, ip, role="", running=True):
    state = {"running": {}} if running else {"waiting": {}}
    return {
        "metadata": {"name": name, "uid": name, "labels": {"chandlery.dev/role": role} if role else {}},
        "status": {"phase": "Running", "podIP": ip, "containerStatuses": [{"state": state}]},
    }


def node(index, *, follows=None, offset=0, answers=True, role="", primary=False, running=True):
    name, ip = f"c-{index}", f"10.0.0.{index}"
    if not answers:
        return Node(name, pod(name, ip, role, running))
    host, port = follows or ("127.0.0.1", "1")
    info = (
        {"role": "master", "master_repl_offset": str(offset)}
        if primary
        else {"role": "slave", "master_host": host, "master_port": port, "slave_repl_offset": str(offset)}
    )
    return Node(name, pod(name, ip, role, running), info)


FOLLOWING = ("10.0.0.0", "6379")


def lost(_node):
    return True


def alive(_node):
    return False


def test_the_first_pod_becomes_the_first_primary():
    assert heir([node(0), node(1)], "", alive).name == "c-0"
    assert heir([node(0, answers=False), node(1)], "", alive) is None


def test_nobody_is_promoted_beside_a_primary():
    nodes = [node(0, primary=True), node(1, follows=FOLLOWING, offset=5)]
    assert heir(nodes, "c-0", lost) is None


def test_an_old_primary_that_comes_back_empty_does_not_take_over():
    nodes = [node(0), node(1, follows=FOLLOWING, offset=5), node(2, follows=FOLLOWING, offset=7)]
    assert heir(nodes, "c-0", alive).name == "c-2"


def test_a_silent_primary_keeps_its_place_until_it_is_given_up():
    nodes = [node(0, answers=False), node(1, follows=FOLLOWING, offset=5)]
    assert heir(nodes, "c-0", alive) is None
    assert heir(nodes, "c-0", lost).name == "c-1"


def test_after_a_restart_of_all_the_last_primary_waits_for_those_that_may_have_more():
    assert heir([node(0), node(1, answers=False)], "c-0", alive) is None
    assert heir([node(0), node(1, answers=False, running=False)], "c-0", alive).name == "c-0"
    assert heir([node(0), node(1)], "c-0", alive).name == "c-0"


def test_a_promotion_that_was_cut_short_is_finished():
    nodes = [node(0, answers=False), node(1, follows=FOLLOWING, offset=5)]
    assert heir(nodes, "c-1", lost).name == "c-1"


def test_the_old_label_goes_before_the_new_one_comes():
    nodes = [node(0, follows=("10.0.0.1", "6379"), role="primary"), node(1, primary=True, role="replica")]
    found = [change.payload for change in role_differences(nodes, "c-1", lost)]
    assert found == [("label", "c-0", "replica"), ("label", "c-1", "primary")]


def ends(one):
    """Its pod is deleted, and has its grace: the server answers still."""
    one.pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return one


def test_a_pod_that_ends_is_not_in_step_and_inherits_nothing():
    copy = node(1, follows=FOLLOWING, offset=9)
    copy.info["master_link_status"] = "up"
    assert copy.in_step
    assert not ends(copy).in_step
    nodes = [node(0), copy, node(2, follows=FOLLOWING, offset=7)]
    assert heir(nodes, "c-0", alive).name == "c-2"


def test_a_primary_that_ends_hands_over_while_it_answers():
    nodes = [ends(node(0, primary=True)), node(1, follows=FOLLOWING, offset=5)]
    assert heir(nodes, "c-0", alive).name == "c-1"
    assert heir([ends(node(0, primary=True))], "c-0", alive) is None
    assert heir([ends(node(0, primary=True)), node(1, answers=False)], "c-0", alive) is None


def hears(index, seconds, link="up"):
    copy = node(index, follows=FOLLOWING)
    copy.info |= {"master_link_status": link, "master_last_io_seconds_ago": str(seconds)}
    return copy


def test_a_primary_that_copies_hear_keeps_its_place_whoever_cannot_reach_it():
    silent = node(0, answers=False)
    assert not given_up(silent, [hears(1, 1)], 100.0, alone=False)
    assert not given_up(silent, [hears(1, 100), hears(2, 1)], 100.0, alone=False)
    assert given_up(silent, [hears(1, HUNG_SECONDS)], HUNG_SECONDS, alone=False)
    assert given_up(silent, [hears(1, 1, link="down")], HUNG_SECONDS, alone=False)
    assert given_up(silent, [hears(1, -1)], HUNG_SECONDS, alone=False)


def test_a_primary_is_given_up_only_when_it_has_stopped_taking_writes():
    silent = node(0, answers=False)
    assert HUNG_SECONDS >= LAG_SECONDS + 2  # it looks once a second, and counts whole seconds
    assert not given_up(silent, [hears(1, HUNG_SECONDS)], HUNG_SECONDS - 0.1, alone=False)
    assert given_up(node(0, answers=False, running=False), [hears(1, 1)], 0.0, alone=False)
    assert given_up(Node("c-0", None), [hears(1, 1)], 0.0, alone=True)


def test_one_that_may_take_writes_alone_is_given_up_only_when_it_has_ended():
    assert not given_up(node(0, answers=False), [hears(1, 100)], 1000.0, alone=True)
    assert not given_up(ends(node(0, answers=False)), [hears(1, 100)], 1000.0, alone=True)
    assert given_up(ends(node(0, answers=False)), [hears(1, 100)], 0.0, alone=False)
    assert given_up(node(0, answers=False, running=False), [hears(1, 100)], 0.0, alone=True)
    nodes = [ends(node(0, answers=False)), hears(1, 100)]
    assert heir(nodes, "c-0", alive) is None


def test_what_was_written_alone_and_is_on_disk_comes_before_an_older_copy():
    nodes = [node(0), node(1, follows=FOLLOWING, offset=5)]
    assert heir(nodes, "c-0", alive, newest=True).name == "c-0"
    assert heir(nodes, "c-0", alive).name == "c-1"


def test_a_primary_counts_the_copies_that_it_has_just_heard_of():
    primary = node(0, primary=True)
    primary.info |= {
        "connected_slaves": "3",
        "slave0": "ip=10.0.0.1,port=6379,state=online,offset=5,lag=1,type=replica",
        "slave1": f"ip=10.0.0.2,port=6379,state=online,offset=5,lag={LAG_SECONDS + 1}",
        "slave2": "ip=10.0.0.3,port=6379,state=wait_bgsave,offset=0,lag=0",
        "slave_repl_offset": "5",
    }
    assert primary.company == 1
