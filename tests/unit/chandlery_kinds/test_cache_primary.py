"""Who becomes primary of a replicated cache on Kubernetes, and who never does."""

from chandlery_kinds.cache.kubernetes.nodes import Node, heir, role_differences


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
