"""RabbitMQ servers more or fewer: what is done in which state, one step at a time."""

from datetime import UTC, datetime, timedelta

from chandlery_kinds.queue.kubernetes.rabbit_scale import (
    ADD,
    FORGET,
    LEAVE,
    REMOVE,
    RETRY_SECONDS,
    Cluster,
    last_words,
    over,
    scale_differences,
)

NAMES = [f"rabbit@q-{index}" for index in range(5)]


def steps(wanted, now, there):
    found, servers = scale_differences(wanted, now, NAMES[: max(wanted, now)], there)
    return [change.payload for change in found], servers


def whole(count, members=None, running=None):
    nodes = NAMES[:count]
    return Cluster(nodes, nodes if running is None else running, {"q": nodes if members is None else members})


def test_new_servers_come_first_and_get_their_copies_one_by_one():
    assert steps(3, 1, whole(1)) == ([], 3)
    assert steps(3, 3, whole(2, NAMES[:1])) == ([], 3)  # one is on its way
    assert steps(3, 3, whole(3, NAMES[:1])) == ([("task", ADD, "q", NAMES[1])], 3)
    assert steps(3, 3, whole(3, NAMES[:2])) == ([("task", ADD, "q", NAMES[2])], 3)
    assert steps(3, 3, whole(3)) == ([], 3)


def test_a_server_goes_when_nothing_counts_on_it_and_the_last_one_first():
    assert steps(3, 5, whole(5)) == ([("task", REMOVE, "q", NAMES[4])], 5)
    assert steps(3, 5, whole(5, NAMES[:4])) == ([("task", LEAVE, NAMES[4])], 5)
    assert steps(3, 5, whole(4)) == ([], 4)
    assert steps(3, 4, whole(4)) == ([("task", REMOVE, "q", NAMES[3])], 4)


def test_a_server_that_has_stopped_half_way_is_taken_out_all_the_same():
    stopped = Cluster(NAMES[:3], NAMES[:2], {"q": NAMES[:2]})
    assert steps(1, 3, stopped) == ([("task", LEAVE, NAMES[2])], 3)


def test_nobody_goes_while_one_of_those_that_stay_is_missing_or_nobody_tells():
    assert steps(1, 3, whole(3, running=[NAMES[0], NAMES[2]])) == ([("wait",)], 3)
    assert steps(1, 3, Cluster()) == ([("wait",)], 3)
    assert steps(3, 3, Cluster()) == ([], 3)
    assert steps(3, 1, Cluster()) == ([], 3)


def test_a_member_without_a_pod_is_forgotten():
    gone = Cluster(NAMES[:4], NAMES[:3], {"q": NAMES[:3]})
    assert steps(3, 3, gone) == ([("task", FORGET, NAMES[3])], 3)


def job(kind, now):
    told = {"type": kind, "status": "True", "lastTransitionTime": now.isoformat()}
    return {"metadata": {"uid": "u"}, "status": {"conditions": [told]}}


def test_a_job_that_failed_stays_for_a_while_and_tells_why():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert over(job("Complete", now), now)
    assert not over(job("Failed", now), now)
    assert over(job("Failed", now), now + timedelta(seconds=RETRY_SECONDS))
    assert not over({"metadata": {"uid": "u"}, "status": {}}, now)
    ended = {"containerStatuses": [{"state": {"terminated": {"message": "Error:\n not\n a member "}}}]}
    pod = {"metadata": {"ownerReferences": [{"uid": "u"}]}, "status": ended}
    assert last_words(job("Failed", now), [pod]) == "Error: not a member"
