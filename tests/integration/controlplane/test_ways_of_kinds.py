"""What built-in kinds do each in its own way, and what bodies, paths and parameters are refused for.

The expectations are kube-apiserver's own (its source, release 1.36); the recordings in tests/fidelity don't reach them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pytest

V1 = "/api/v1/namespaces/ways"
APPS = "/apis/apps/v1/namespaces/ways"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
POD = {"containers": [{"name": "c", "image": "i"}]}
LABELS = {"app": "x"}
TEMPLATE = {"metadata": {"labels": LABELS}, "spec": POD}
WORKLOAD = {"selector": {"matchLabels": LABELS}, "template": TEMPLATE}

Ask = Callable[..., tuple[int, Any]]


@pytest.fixture
def ask(api: Ask) -> Ask:
    assert api("POST", "/api/v1/namespaces", {"metadata": {"name": "ways"}})[0] in (201, 409)
    return api


def named(name: str, **body: Any) -> Any:
    return {"metadata": {"name": name, **body.pop("metadata", {})}, **body}


def make(ask: Ask, where: str, name: str, **body: Any) -> Any:
    status, made = ask("POST", where, named(name, **body))
    assert status == 201, made
    return made


# --- deletion -----------------------------------------------------------------------------------------


def test_events_own_nothing_so_their_propagation_is_not_looked_at(ask):
    make(ask, f"{V1}/events", "e", involvedObject={"namespace": "ways"})
    status, answer = ask("DELETE", f"{V1}/events/e", {"propagationPolicy": "Foreground"})
    assert (status, answer["kind"]) == (200, "Status")
    assert ask("GET", f"{V1}/events/e")[0] == 404


@pytest.mark.parametrize(
    ("where", "spec"),
    [
        ("/apis/batch/v1/namespaces/ways/jobs", {"template": {"spec": {**POD, "restartPolicy": "Never"}}}),
        (f"{V1}/replicationcontrollers", {"selector": LABELS, "template": TEMPLATE}),
    ],
)
def test_jobs_and_replication_controllers_leave_their_pods_by_default(ask, where, spec):
    make(ask, where, "left", spec=spec)
    status, answer = ask("DELETE", f"{where}/left?dryRun=All")
    assert status == 200
    assert answer["metadata"]["finalizers"] == ["orphan"]
    status, answer = ask("DELETE", f"{where}/left", {"propagationPolicy": "Background"})
    assert (status, answer["kind"]) == (200, "Status")


def test_a_pod_on_a_node_is_given_its_time_and_may_be_given_less(ask):
    make(ask, f"{V1}/pods", "p", spec={**POD, "nodeName": "n"}, metadata={"finalizers": ["a.b/c"]})

    def delete(**options: Any) -> Any:
        status, pod = ask("DELETE", f"{V1}/pods/p", options)
        assert status == 200
        return pod["metadata"]

    first = delete()
    assert (first["deletionGracePeriodSeconds"], first["generation"]) == (30, 2)
    assert delete()["resourceVersion"] == first["resourceVersion"]
    assert delete(gracePeriodSeconds=60)["resourceVersion"] == first["resourceVersion"]
    assert delete(gracePeriodSeconds=-3)["deletionGracePeriodSeconds"] == 1
    last = delete(gracePeriodSeconds=0)
    assert (last["deletionGracePeriodSeconds"], last["generation"], last["finalizers"]) == (0, 2, ["a.b/c"])
    assert ask("PATCH", f"{V1}/pods/p", {"metadata": {"finalizers": None}}, MERGE)[0] == 200
    assert ask("GET", f"{V1}/pods/p")[0] == 404


# --- creation and update ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "body"),
    [
        (f"{V1}/limitranges", {"spec": {"limits": []}}),
        (f"{V1}/events", {"involvedObject": {"namespace": "ways"}}),
        (f"{V1}/endpoints", {}),
        ("/apis/coordination.k8s.io/v1/namespaces/ways/leases", {}),
        (f"{RBAC}/namespaces/ways/roles", {"rules": []}),
        (f"{RBAC}/clusterroles", {"rules": []}),
    ],
)
def test_some_kinds_are_created_by_put(ask, where, body):
    status, answer = ask("PUT", f"{where}/new", named("new", metadata={"uid": "x"}, **body))
    assert status == 409, answer
    assert "UID in precondition: x, UID in object meta: " in answer["message"]
    assert ask("PUT", f"{where}/new?dryRun=All", named("new", **body))[0] == 201
    assert ask("GET", f"{where}/new")[0] == 404
    status, answer = ask("PUT", f"{where}/new", named("new", metadata={"resourceVersion": "7"}, **body))
    assert status == 201, answer
    assert ask("GET", f"{where}/new")[1]["metadata"]["uid"] == answer["metadata"]["uid"]


def test_others_are_not(ask):
    assert ask("PUT", f"{V1}/configmaps/new", named("new"))[0] == 404


def test_a_name_that_is_taken_beside_a_generate_name(ask):
    taken = {"generateName": "t-", "finalizers": ["a.b/c"]}
    make(ask, f"{V1}/configmaps", "taken", metadata=taken)
    status, answer = ask("POST", f"{V1}/configmaps", named("taken", metadata=taken))
    why = 'configmaps "taken" already exists, the server was not able to generate a unique name for the object'
    assert (status, answer["message"], answer["details"]["retryAfterSeconds"]) == (409, why, 1)
    assert ask("DELETE", f"{V1}/configmaps/taken")[0] == 200
    answer = ask("POST", f"{V1}/configmaps", named("taken", metadata=taken))[1]
    assert answer["message"] == f"object is being deleted: {why}"
    assert ask("PATCH", f"{V1}/configmaps/taken", {"metadata": {"finalizers": None}}, MERGE)[0] == 200


@pytest.mark.parametrize(
    ("where", "body"),
    [
        ("/apis/policy/v1/namespaces/ways/poddisruptionbudgets", {"spec": {"minAvailable": 1}}),
        (
            "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
            {"spec": {"policyName": "p", "validationActions": ["Deny"]}},
        ),
    ],
)
def test_some_kinds_want_to_know_which_version_a_put_replaces(ask, where, body):
    make(ask, where, "u", **body)
    status, answer = ask("PUT", f"{where}/u", named("u", **body))
    assert status == 422
    assert "metadata.resourceVersion: Invalid value: 0: must be specified for an update" in answer["message"]


def test_who_may_only_update_does_not_create(ask):
    rules = [{"apiGroups": ["", "coordination.k8s.io"], "resources": ["*"], "verbs": ["update", "patch"]}]
    make(ask, f"{RBAC}/clusterroles", "updates", rules=rules)
    subject = {"kind": "ServiceAccount", "namespace": "ways", "name": "updater"}
    make(ask, f"{V1}/serviceaccounts", "updater")
    role = {"kind": "ClusterRole", "name": "updates", "apiGroup": "rbac.authorization.k8s.io"}
    make(ask, f"{RBAC}/clusterrolebindings", "updates", subjects=[subject], roleRef=role)
    as_updater = {"Impersonate-User": "system:serviceaccount:ways:updater"}
    lease = "/apis/coordination.k8s.io/v1/namespaces/ways/leases/mine"
    status, answer = ask("PUT", lease, named("mine"), headers=as_updater)
    assert (status, answer["message"]) == (403, 'leases.coordination.k8s.io "mine" is forbidden: ')
    applied = {"apiVersion": "v1", "kind": "ConfigMap", **named("mine")}
    status, answer = ask("PATCH", f"{V1}/configmaps/mine?fieldManager=m", applied, APPLY, headers=as_updater)
    assert (status, answer["message"]) == (403, 'configmaps "mine" is forbidden: ')


def test_what_counts_as_a_generation(ask):
    slices = "/apis/discovery.k8s.io/v1/namespaces/ways/endpointslices"
    make(ask, slices, "g", addressType="IPv4", endpoints=[])
    changes = [({"labels": {"a": "b"}}, 2), ({"annotations": {"a": "b"}}, 2)]
    for meta, wanted in changes:
        assert ask("PATCH", f"{slices}/g", {"metadata": meta}, MERGE)[1]["metadata"]["generation"] == wanted
    classes = "/apis/scheduling.k8s.io/v1/priorityclasses"
    make(ask, classes, "g", value=1)
    assert ask("PATCH", f"{classes}/g", {"description": "x"}, MERGE)[1]["metadata"]["generation"] == 1


def test_what_a_status_endpoint_takes_of_metadata(ask):
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "n", "uid": "u"}
    meta = {"labels": {"a": "b"}, "annotations": {"a": "b"}, "ownerReferences": [owner]}
    make(ask, f"{APPS}/deployments", "taken", spec=WORKLOAD)
    make(ask, f"{V1}/pods", "taken", spec=POD)
    found = ask("PATCH", f"{APPS}/deployments/taken/status?dryRun=All", {"metadata": meta}, MERGE)[1]["metadata"]
    assert (found["annotations"], found.get("labels"), found["generation"]) == ({"a": "b"}, None, 1)
    found = ask("PATCH", f"{V1}/pods/taken/status?dryRun=All", {"metadata": meta}, MERGE)[1]["metadata"]
    assert (found["labels"], found.get("ownerReferences")) == ({"a": "b"}, None)


def test_the_template_generation_of_a_daemon_set(ask):
    key = "deprecated.daemonset.template.generation"
    where = f"{APPS}/daemonsets"
    made = make(ask, where, "d", metadata={"annotations": {key: "5"}}, spec=WORKLOAD)
    assert made["metadata"]["annotations"] == {key: "5"}
    patch = {"metadata": {"annotations": None}, "spec": {"template": {"spec": {"hostNetwork": True}}}}
    changed = ask("PATCH", f"{where}/d", patch, MERGE)[1]["metadata"]
    assert (changed["annotations"], changed["generation"]) == ({key: "6"}, 2)
    status, answer = ask("POST", where, named("e", metadata={"annotations": {key: "x"}}, spec=WORKLOAD))
    assert status == 400
    assert answer["message"].endswith('cannot be handled as a DaemonSet: strconv.ParseInt: parsing "x": invalid syntax')


def test_a_limit_range_without_a_name_gets_one(ask):
    status, made = ask("POST", f"{V1}/limitranges", {"spec": {"limits": []}})
    assert (status, len(made["metadata"]["name"])) == (201, 36)


# --- what a body says that it is ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patch", "why"),
    [
        ({"kind": "X"}, 'no kind "X" is registered for version "v1" in scheme'),
        ({"kind": "Secret"}, "converting (v1.Secret) to (core.ConfigMap): unknown conversion"),
        ({"apiVersion": "v9"}, 'no kind "ConfigMap" is registered for version "v9" in scheme'),
        ({"kind": 1}, "json: cannot unmarshal number into Go struct field .kind of type string"),
    ],
)
def test_a_patch_can_not_change_the_kind(ask, patch, why):
    ask("POST", f"{V1}/configmaps", named("kind"))
    status, answer = ask("PATCH", f"{V1}/configmaps/kind", patch, MERGE)
    assert status == 422
    assert why in answer["message"]
    stored = ask("GET", f"{V1}/configmaps/kind")[1]
    assert (stored["kind"], stored["apiVersion"]) == ("ConfigMap", "v1")


def test_a_strategic_patch_of_the_kind_changes_nothing(ask):
    ask("POST", f"{V1}/configmaps", named("kind"))
    for patch in ({"kind": "X"}, {"apiVersion": None}):
        status, answer = ask("PATCH", f"{V1}/configmaps/kind", patch, STRATEGIC)
        assert (status, answer["kind"], answer["apiVersion"]) == (200, "ConfigMap", "v1")
    assert ask("PATCH", f"{V1}/configmaps/kind", {"kind": None}, MERGE)[1]["kind"] == "ConfigMap"


@pytest.mark.parametrize(
    ("where", "type_", "why"),
    [
        (f"{V1}/configmaps", "v1 Secret", 'Secret in version "v1" cannot be handled as a ConfigMap: converting'),
        (f"{APPS}/deployments", "extensions/v1beta1 Deployment", "does not match the expected API version (apps/v1)"),
        (f"{APPS}/deployments", "a/b/c Deployment", "unexpected GroupVersion string: a/b/c"),
        ("/apis/events.k8s.io/v1/namespaces/ways/events", "v1 Event", "(v1) does not match the expected API version"),
    ],
)
def test_a_body_of_another_type(ask, where, type_, why):
    version, kind = type_.split()
    status, answer = ask("POST", where, {"apiVersion": version, "kind": kind, **named("x")})
    assert status == 400
    assert why in answer["message"]


# --- subresources -------------------------------------------------------------------------------------


def test_a_scale_must_name_its_object(ask):
    make(ask, f"{V1}/replicationcontrollers", "s", spec={"selector": LABELS, "template": TEMPLATE})
    where = f"{V1}/replicationcontrollers/s/scale"
    assert ask("GET", where)[1]["status"] == {"replicas": 0, "selector": "app=x"}
    assert ask("PUT", where, {"spec": {"replicas": 2}})[1]["message"].endswith("name must be provided")
    assert "(y) does not match the name on the URL (s)" in ask("PUT", where, named("y"))[1]["message"]
    assert ask("PUT", where, named("s", spec={"replicas": 2}))[1]["spec"] == {"replicas": 2}
    assert ask("GET", f"{where}/more")[0] == 404


def running(ask: Ask, name: str) -> None:
    make(ask, f"{V1}/pods", name, spec=POD, metadata={"labels": {"guarded": "yes"}})
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    assert ask("PATCH", f"{V1}/pods/{name}/status", {"status": status}, MERGE)[0] == 200


def test_evictions_count_against_the_budget(ask):
    def evict(name: str, query: str = "") -> tuple[int, Any]:
        return ask("POST", f"{V1}/pods/{name}/eviction{query}", {"apiVersion": "policy/v1beta1", **named(name)})

    budgets = "/apis/policy/v1/namespaces/ways/poddisruptionbudgets"
    running(ask, "ev1")
    running(ask, "ev2")
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"guarded": "yes"}}}
    make(ask, budgets, "guard", spec=spec)
    status, answer = evict("ev1")
    assert status == 429
    assert "is still being processed by the server" in answer["details"]["causes"][0]["message"]
    allowed = {"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1}
    assert ask("PATCH", f"{budgets}/guard/status", {"status": {**allowed, "expectedPods": 2}}, MERGE)[0] == 200
    assert evict("ev1", "?dryRun=All")[0] == 201
    assert evict("ev1")[0] == 201
    status = ask("GET", f"{budgets}/guard")[1]["status"]
    assert (status["disruptionsAllowed"], list(status["disruptedPods"])) == (0, ["ev1"])
    code, answer = evict("ev2")
    assert code == 429
    assert answer["details"]["causes"][0]["message"].endswith("guard needs 1 healthy pods and has 2 currently")
    make(ask, budgets, "second", spec=spec)
    assert evict("ev2")[1]["code"] == 500
    assert (
        ask("POST", f"{V1}/pods/ev2/eviction", {})[1]["message"] == "name in URL does not match name in Eviction object"
    )


def test_a_pod_is_bound_once(ask):
    make(ask, f"{V1}/pods", "bound", spec=POD)
    where = f"{V1}/pods/bound/binding"
    assert ask("POST", where, {"target": {"name": "n"}})[0] == 400
    assert ask("POST", where, named("bound"))[1]["message"] == "target.name: Required value"
    bound = named("bound", metadata={"annotations": {"by": "me"}}, target={"kind": "Node", "name": "n"})
    assert ask("POST", where, bound)[0] == 201
    pod = ask("GET", f"{V1}/pods/bound")[1]
    assert (pod["spec"]["nodeName"], pod["metadata"]["annotations"]) == ("n", {"by": "me"})
    status, answer = ask("POST", where, bound)
    assert (status, answer["details"]["kind"]) == (409, "pods/binding")


def test_node_ports_go_with_the_type_that_needed_them(ask):
    ports = [{"name": "a", "port": 80}, {"name": "b", "port": 81}]
    make(ask, f"{V1}/services", "ports", spec={"type": "NodePort", "ports": ports})
    patch = [
        {"op": "replace", "path": "/spec/type", "value": "ClusterIP"},
        {"op": "remove", "path": "/spec/ports/0/nodePort"},
    ]
    status, service = ask("PATCH", f"{V1}/services/ports", patch, "application/json-patch+json")
    assert status == 200, service
    assert all("nodePort" not in port for port in service["spec"]["ports"])


def test_the_query_is_not_looked_at_when_there_is_a_body(ask):
    make(ask, f"{V1}/configmaps", "body")
    status, answer = ask("DELETE", f"{V1}/configmaps/body?propagationPolicy=Orphan", {})
    assert (status, answer["status"]) == (200, "Success")


# --- paths and parameters -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status", "plain"),
    [
        ("GET", "/apis/apps/v9", 404, False),
        ("GET", "/api/v9/pods", 404, False),
        ("GET", "/apis/nowhere.example/v1/things", 404, True),
        ("POST", "/apis/nowhere.example/v1", 404, True),
        ("POST", "/apis/apps/v1", 405, False),
        ("GET", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", 405, False),
        ("GET", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews/x", 404, False),
        ("POST", "/", 200, False),
    ],
)
def test_paths_that_nothing_is_at(ask, method, path, status, plain):
    found, answer = ask(method, path, {} if method == "POST" else None)
    assert found == status
    assert isinstance(answer, dict) is not plain


def test_one_object_is_no_list(ask):
    takes = {"Accept": "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"}
    status, answer = ask("GET", f"{V1}/serviceaccounts/default", headers=takes)
    assert status == 406
    assert answer["message"].endswith("but the requested object is not a list (*core.ServiceAccount)")


def test_a_path_is_looked_for_before_what_the_client_takes(ask):
    takes = {"Accept": "text/plain"}
    assert ask("GET", f"{V1}/nopes", headers=takes)[0] == 404
    assert ask("GET", f"{V1}/pods", headers=takes)[0] == 406


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("limit=", 'strconv.ParseInt: parsing "": invalid syntax'),
        ("fieldSelector=" + quote("metadata.name=a=b"), "unescaped character in value: 61"),
        ("fieldSelector=" + quote("z=1,a=2"), '"a" is not a known field selector'),
        ("labelSelector=" + quote("a>-x"), "unable to parse requirement: [values[0]: Invalid value"),
        ("labelSelector=" + quote("a in (-c,-b)"), 'values[0][a]: Invalid value: "-b"'),
        ("continue=eyJ", "continue key is not valid: unexpected end of JSON input"),
        ("continue=W10", "cannot unmarshal array into Go value of type storage.continueToken"),
    ],
)
def test_parameters_that_are_refused(ask, query, why):
    status, answer = ask("GET", f"{V1}/configmaps?{query}")
    assert status == 400
    assert why in answer["message"]


def test_a_list_as_it_was_before_anything_was(ask):
    status, found = ask("GET", f"{V1}/persistentvolumeclaims?resourceVersion=1&resourceVersionMatch=Exact")
    assert (status, found["metadata"]["resourceVersion"], found["items"]) == (200, "1", [])


def test_the_bookmark_after_the_first_events_has_the_form_of_the_others(ask):
    takes = {"Accept": "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"}
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=1&timeoutSeconds=1"
    status, event = ask("GET", f"/api/v1/namespaces/default/pods?{query}", headers=takes)
    assert (status, event["type"], event["object"]["kind"]) == (200, "BOOKMARK", "PartialObjectMetadata")
    assert event["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_components_are_asked_when_somebody_wants_to_know(ask):
    status, found = ask("GET", "/api/v1/componentstatuses")
    assert (status, found["metadata"]) == (200, {})
    health = {item["metadata"]["name"]: item["conditions"][0] for item in found["items"]}
    assert sorted(health) == ["controller-manager", "etcd-0", "scheduler"]
    assert health["etcd-0"] == {"type": "Healthy", "status": "True", "message": "ok"}
    assert all(condition["message"] for condition in health.values())
    assert ask("GET", "/api/v1/componentstatuses/etcd-0")[1]["conditions"] == [health["etcd-0"]]
    assert ask("GET", "/api/v1/componentstatuses/x")[1]["message"] == "Component not found: x"
    assert ask("DELETE", "/api/v1/componentstatuses/etcd-0")[0] == 405


def test_a_watch_from_a_revision_to_come_begins_after_it(ask):
    now = int(ask("GET", f"{V1}/secrets")[1]["metadata"]["resourceVersion"])
    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(ask, "GET", f"{V1}/secrets?watch=1&timeoutSeconds=2&resourceVersion={now + 3}")
        numbers = iter(range(10_000))
        while not watching.done():
            ask("POST", f"{V1}/secrets", named(f"later{next(numbers)}"))
        status, text = watching.result()
    assert status == 200
    seen = [json.loads(line)["object"]["metadata"]["resourceVersion"] for line in text.splitlines()]
    assert seen
    assert int(seen[0]) > now + 3


# --- what a node would answer ---------------------------------------------------------------------------

LOG = 'PodLogOptions "on" is invalid: '


@pytest.mark.parametrize(
    ("where", "status", "message"),
    [
        ("log?tailLines=-1", 422, f"{LOG}tailLines: Invalid value: -1: must be greater than or equal to 0"),
        ("log?limitBytes=0", 422, f"{LOG}limitBytes: Invalid value: 0: must be greater than 0"),
        (
            "log?sinceSeconds=1&sinceTime=2020-01-01T00:00:00Z",
            422,
            f"{LOG}: Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified",
        ),
        ("log?tailLines=x", 400, 'strconv.ParseInt: parsing "x": invalid syntax'),
        ("log", 400, "a container name must be specified for pod on, choose one of: [c d]"),
        ("log?container=x", 400, "container x is not valid for pod on"),
        ("exec?container=c&command=ls", 400, "pod on does not have a host assigned"),
        ("portforward", 400, "pod on does not have a host assigned"),
        ("proxy", 400, "address not allowed"),
    ],
)  # fmt: skip
def test_what_a_node_would_answer_is_asked_for_rightly_first(ask, where, status, message):
    two = {"containers": [{"name": name, "image": "i"} for name in "cd"]}
    assert ask("POST", f"{V1}/pods", named("on", spec=two))[0] in (201, 409)
    found, answer = ask("GET", f"{V1}/pods/on/{where}")
    assert (found, answer["message"]) == (status, message)


def test_a_pod_without_a_node_has_no_logs_and_one_on_an_unknown_node_none_either(ask):
    make(ask, f"{V1}/pods", "alone", spec=POD)
    assert ask("GET", f"{V1}/pods/alone/log")[0] == 204
    make(ask, f"{V1}/pods", "away", spec={**POD, "nodeName": "nowhere"})
    found, answer = ask("GET", f"{V1}/pods/away/log")
    assert (found, answer["message"]) == (404, 'nodes "nowhere" not found')


def test_export_is_no_more(ask):
    make(ask, f"{V1}/configmaps", "kept")
    assert ask("GET", f"{V1}/configmaps/kept?export=false")[0] == 200
    assert ask("GET", f"{V1}/configmaps/kept?export=true")[0] == 400
