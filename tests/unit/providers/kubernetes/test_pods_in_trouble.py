"""What is told of pods that don't get on, and that an exporter takes no pod from its clients."""

from typing import Any

import pytest

from chandlery.providers.kubernetes import backup, pods
from chandlery.providers.kubernetes.children import Children
from chandlery.providers.kubernetes.metrics import exporter_condition
from chandlery.providers.kubernetes.ownership import Owner
from chandlery.providers.kubernetes.types import SERVICES

SERVES = {"name": "cache", "ready": True, "state": {"running": {}}}
BROKEN = {"name": "cache", "ready": False, "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}}
EXPORTS = {"name": pods.EXPORTER, "ready": True, "state": {"running": {}}}
FAILS = {
    "name": pods.EXPORTER,
    "ready": False,
    "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image no/such:1"}},
}


def pod(*containers: dict[str, Any], name: str = "a-cache-0") -> dict[str, Any]:
    up = all(c["ready"] for c in containers)
    conditions = [{"type": "Ready", "status": str(up)}]
    status = {"phase": "Running", "conditions": conditions, "containerStatuses": list(containers)}
    return {"kind": "Pod", "metadata": {"name": name, "labels": {"app": "a"}}, "status": status}


def test_a_pod_serves_whatever_its_exporter_does():
    assert pods.ready(pod(SERVES, EXPORTS))
    assert not pods.cut_off(pod(SERVES, EXPORTS))
    assert pods.ready(pod(SERVES, FAILS))
    assert pods.cut_off(pod(SERVES, FAILS))
    for unready in (pod(BROKEN, FAILS), pod(BROKEN, EXPORTS), pod(BROKEN), pod(FAILS), None):
        assert not pods.ready(unready)
        assert not pods.cut_off(unready)
    going = pod(SERVES, FAILS)
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert not pods.ready(going)


@pytest.mark.parametrize(
    ("there", "leads"),
    [
        ([pod(SERVES, EXPORTS)], False),
        ([pod(SERVES, FAILS)], True),
        ([pod(SERVES, FAILS), pod(SERVES, EXPORTS, name="b")], True),
        ([pod(SERVES, FAILS), pod(BROKEN, FAILS, name="b")], True),  # else nobody would serve
        ([pod(SERVES, FAILS), pod(BROKEN, FAILS, name="b"), pod(SERVES, EXPORTS, name="c")], False),
        ([pod(BROKEN, FAILS)], False),
        ([{**pod(SERVES, FAILS), "metadata": {"name": "x", "labels": {"app": "other"}}}], False),
    ],
)
def test_a_service_leads_to_pods_that_only_their_exporter_keeps_out(there, leads):
    owner = Owner("v1", "Cache", "shop", "a", "uid", "a-cache", "cache")
    live = {("Pod", p["metadata"]["name"]): p for p in there}
    children = Children(None, owner, (), live)  # type: ignore[arg-type] - nothing is asked of a session
    spec = {"type": "ClusterIP", "selector": {"app": "a"}, "ports": []}
    [found] = children.differences([{"kind": SERVICES.kind, "metadata": {"name": "a-cache"}, "spec": spec}])
    assert ("publishNotReadyAddresses" in found.payload[1]["spec"]) is leads


def test_a_failing_exporter_is_told_apart():
    [told] = exporter_condition([pod(SERVES, FAILS)])
    assert (told.type, told.status, told.reason) == ("MetricsAvailable", "False", "ImagePullBackOff")
    assert "a-cache-0" in told.message
    assert "Clients are served" in told.message
    assert exporter_condition([pod(SERVES, EXPORTS), pod(BROKEN)]) == ()
    assert pods.problem(pod(FAILS, BROKEN)) == ("CrashLoopBackOff", "back-off")  # the engine's own trouble first


def test_the_way_out_is_named():
    reason, words = pods.problem(pod({**FAILS, "name": "cache"})) or ("", "")
    assert reason == "ImagePullBackOff"
    assert "no/such:1" in words
    assert "pullSecrets" in words
    ended = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
    _, words = pods.problem(pod({**BROKEN, "lastState": ended})) or ("", "")
    assert "OOMKilled (137)" in words
    assert "spec.resources.limits.memory" in words
    last = {"terminated": {"reason": "Error", "exitCode": 1, "message": "x" * 1000 + "\nno space left on device\n"}}
    _, words = pods.problem(pod({**BROKEN, "lastState": last})) or ("", "")
    assert words.endswith("no space left on device")
    assert len(words) < 400


@pytest.mark.parametrize(
    ("said", "way"),
    [
        ("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.", "spec.storage.className"),
        ("0/3 nodes are available: 3 Insufficient memory.", "spec.resources.requests"),
        ("0/1 nodes are available: 1 node(s) had untolerated taint(s).", "spec.placement.tolerations"),
        ("0/1 nodes are available: 1 node(s) didn't match pod topology spread constraints.", "spread.policy"),
        ("0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.", "nodeSelector"),
    ],
)
def test_a_pod_without_a_place_says_what_it_lacks(said, way):
    waiting = {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": said}]}
    reason, words = pods.problem({"metadata": {"name": "a"}, "status": waiting}) or ("", "")
    assert reason == "Unschedulable"
    assert said.rstrip(".") in words
    assert way in words


def test_a_lost_node_is_told_with_the_way_out():
    lost = pod(SERVES)
    lost["metadata"] |= {"namespace": "shop", "deletionTimestamp": "2026-01-01T00:00:00Z"}
    lost["spec"] = {"nodeName": "node-7"}
    assert pods.problem(lost) is None  # on its way, as any pod that is deleted
    lost["status"]["conditions"].append({"type": "DisruptionTarget", "reason": "DeletionByTaintManager"})
    found = pods.problem(lost)
    assert found is not None
    assert found[0] == "NodeLost"
    assert "node-7" in found[1]
    assert "kubectl delete pod a-cache-0 -n shop --force" in found[1]


def test_a_backup_that_waits_for_its_claim_says_so():
    words = '0/1 nodes are available: persistentvolumeclaim "safe" not found.'
    waits = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
    job = {"metadata": {"name": "a-cache-backup-1"}, "status": {"active": 1, "startTime": "2026-01-01T03:00:00Z"}}
    made = {"metadata": {"name": "p", "labels": {"batch.kubernetes.io/job-name": "a-cache-backup-1"}}}
    going = {"list": backup.entries([job], [{**made, "status": {}}])}
    assert backup.condition(going).reason == "None"
    stuck = {"list": backup.entries([job], [{**made, "status": {"conditions": [waits]}}])}
    told = backup.condition({**stuck, "lastSuccessfulTime": "2026-01-01T02:00:00Z"})
    assert (told.status, told.reason) == ("False", "Waiting")
    assert 'persistentvolumeclaim "safe" not found' in told.message
    assert "Make the claim" in told.message
