"""Kinds that describe the cluster itself: classes, drivers, certificates, priorities, service addresses.

The expectations are kube-apiserver's own (its source, release 1.36).
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

Ask = Callable[..., tuple[int, Any]]
MERGE = "application/merge-patch+json"
STORAGE, NET = "/apis/storage.k8s.io/v1", "/apis/networking.k8s.io/v1"
FLOW, CSR = "/apis/flowcontrol.apiserver.k8s.io/v1", "/apis/certificates.k8s.io/v1/certificatesigningrequests"
RUNTIMES = "/apis/node.k8s.io/v1/runtimeclasses"
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
_PATIENCE = 60.0


@pytest.fixture
def ask(api: Ask) -> Ask:
    return api


def until(check: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + _PATIENCE
    while not (found := check()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)
    return found


def named(name: str, **body: Any) -> Any:
    return {"metadata": {"name": name}, **body}


def signing_request(*organisations: str) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.NameAttribute(x509.NameOID.COMMON_NAME, "bob")]
    names += [x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, one) for one in organisations]
    signed = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names)).sign(key, hashes.SHA256())
    return base64.b64encode(signed.public_bytes(serialization.Encoding.PEM)).decode()


@pytest.mark.parametrize(
    ("where", "body", "told"),
    [
        (
            f"{STORAGE}/csinodes",
            {"spec": {"drivers": [{"name": "d.x", "nodeID": ""}]}},
            "drivers[0].nodeID: Required",
        ),
        (
            f"{STORAGE}/csidrivers",
            {"spec": {"tokenRequests": [{"audience": "a", "expirationSeconds": 5}]}},
            "tokenRequests[0].expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes",
        ),
        (
            f"{STORAGE}/volumeattachments",
            {"spec": {"attacher": "d.x", "nodeName": "n", "source": {}}},
            "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
        ),
        (f"{STORAGE}/volumeattributesclasses", {"driverName": "d.x"}, "must contain at least one key/value pair"),
        (
            f"{STORAGE}/namespaces/default/csistoragecapacities",
            {"storageClassName": "x", "capacity": "-1"},
            'capacity: Invalid value: "-1": must be greater than or equal to 0',
        ),
        (RUNTIMES, {"handler": "R"}, 'handler: Invalid value: "R": a lowercase RFC 1123 label'),
        (f"{NET}/ipaddresses", {"spec": {}}, "not-this: unable to parse IP"),
        (f"{NET}/servicecidrs", {"spec": {"cidrs": ["10.0.0.0/24", "10.1.0.0/24"]}}, "no more than one IP for each IP"),
        (f"{FLOW}/flowschemas", {"spec": {}}, "spec.priorityLevelConfiguration.name: Required value: must reference"),
        (f"{FLOW}/prioritylevelconfigurations", {"spec": {"type": "Exempt"}}, "if and only if name is 'exempt'"),
        (CSR, {"spec": {"request": "YQ==", "signerName": "x"}}, "PEM block type must be CERTIFICATE REQUEST"),
    ],
)
def test_what_is_wrong_is_told(ask, where, body, told):
    status, answer = ask("POST", where, named("not-this", **body))
    assert status == 422
    assert told.replace("not-this", 'ParseAddr("not-this")') in answer["message"]


def test_a_driver_gets_defaults_and_a_generation_for_what_kubelets_act_on(ask):
    status, made = ask("POST", f"{STORAGE}/csidrivers", named("d.x", spec={}))
    assert status == 201
    assert made["spec"]["volumeLifecycleModes"] == ["Persistent"]
    assert "generation" not in made["metadata"]
    changed = ask("PATCH", f"{STORAGE}/csidrivers/d.x", {"spec": {"requiresRepublish": True}}, MERGE)[1]
    assert changed["metadata"]["generation"] == 1
    status, answer = ask("PATCH", f"{STORAGE}/csidrivers/d.x", {"spec": {"attachRequired": False}}, MERGE)
    assert (status, answer["details"]["causes"][0]["field"]) == (422, "spec.attachedRequired")
    assert ask("DELETE", f"{STORAGE}/csidrivers/d.x")[1]["kind"] == "CSIDriver"


def test_a_pod_takes_over_what_its_runtime_class_says(ask):
    scheduling = {"nodeSelector": {"a": "b"}, "tolerations": [{"key": "t", "operator": "Exists"}]}
    body = named("gvisor", handler="r", overhead={"podFixed": {"cpu": "250m"}}, scheduling=scheduling)
    assert ask("POST", RUNTIMES, body)[0] == 201
    spec = {"runtimeClassName": "gvisor", "containers": [{"name": "c", "image": "i"}]}
    status, pod = ask("POST", "/api/v1/namespaces/default/pods", named("with-class", spec=spec))
    assert status == 201
    found = pod["spec"]
    assert (found["overhead"], found["nodeSelector"]) == ({"cpu": "250m"}, {"a": "b"})
    assert {"key": "t", "operator": "Exists"} in found["tolerations"]
    clash = named("clash", spec={**spec, "nodeSelector": {"a": "c"}})
    status, answer = ask("POST", "/api/v1/namespaces/default/pods", clash)
    assert (status, "runtimeClass.scheduling.nodeSelector[a] = b" in answer["message"]) == (403, True)


def test_a_certificate_request_is_approved_and_says_who_asked(ask):
    spec = {"signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"], "username": "nobody"}
    status, answer = ask("POST", CSR, named("m", spec={**spec, "request": signing_request("system:masters")}))
    assert (status, "with system:masters group is not allowed" in answer["message"]) == (403, True)
    status, made = ask("POST", CSR, named("bob", spec={**spec, "request": signing_request()}))
    assert (status, made["spec"]["username"], made["status"]) == (201, "admin", {})
    approved = {"status": {"conditions": [{"type": "Approved", "status": "True", "reason": "Me"}]}}
    assert ask("PATCH", f"{CSR}/bob", approved, MERGE)[1]["status"] == {}
    stranger = {"Impersonate-User": "eve", "Impersonate-Group": "approvers"}
    rules = [{"apiGroups": ["certificates.k8s.io"], "resources": ["*"], "verbs": ["get", "patch"]}]
    assert ask("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", named("approvers", rules=rules))[0] == 201
    role = {"kind": "ClusterRole", "name": "approvers", "apiGroup": "rbac.authorization.k8s.io"}
    subject = {"kind": "Group", "name": "approvers", "apiGroup": "rbac.authorization.k8s.io"}
    binding = named("approvers", subjects=[subject], roleRef=role)
    assert ask("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)[0] == 201
    status, answer = ask("PATCH", f"{CSR}/bob/approval", approved, MERGE, headers=stranger)
    assert (status, "user not permitted to approve requests with signerName" in answer["message"]) == (403, True)
    decided = ask("PATCH", f"{CSR}/bob/approval", approved, MERGE)[1]["status"]["conditions"][0]
    assert {"lastUpdateTime", "lastTransitionTime"} <= decided.keys()
    both = {"status": {"conditions": [decided, {"type": "Denied", "status": "True"}]}}
    assert ask("PATCH", f"{CSR}/bob/approval", both, MERGE)[0] == 422
    status, answer = ask("PATCH", f"{CSR}/bob/approval", {"status": {"conditions": None}}, MERGE)
    assert 'updates may not remove a condition of type "Approved"' in answer["message"]
    row = ask("GET", CSR, headers=TABLE)[1]["rows"][0]["cells"]
    assert (row[0], row[3], row[5]) == ("bob", "admin", "Approved")


def test_priorities_are_there_and_two_of_them_always_are(ask):
    fixed = f"{FLOW}/flowschemas/catch-all"
    first = ask("GET", fixed)[1]["metadata"]["uid"]
    status, answer = ask("PATCH", fixed, {"spec": {"matchingPrecedence": 5}}, MERGE)
    assert (status, "spec of 'catch-all' must equal the fixed value" in answer["message"]) == (422, True)
    ask("DELETE", fixed)
    until(lambda: ask("GET", fixed)[1].get("metadata", {}).get("uid", first) != first)
    ask("POST", f"{FLOW}/flowschemas", named("lost", spec={"priorityLevelConfiguration": {"name": "nowhere"}}))

    def dangling() -> str:
        found = ask("GET", f"{FLOW}/flowschemas/lost")[1]["status"].get("conditions") or [{}]
        return found[0].get("status", "")

    assert until(dangling) == "True"
    level = {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}
    status, made = ask("POST", f"{FLOW}/prioritylevelconfigurations", named("nowhere", spec=level))
    assert (status, made["spec"]["limited"]["nominalConcurrencyShares"]) == (201, 30)
    until(lambda: dangling() == "False")


def test_every_service_address_is_told(ask):
    assert ask("GET", f"{NET}/servicecidrs/kubernetes")[1]["spec"]["cidrs"]
    services = "/api/v1/namespaces/default/services"
    service = ask("POST", services, named("told", spec={"ports": [{"port": 80}]}))[1]
    where = f"{NET}/ipaddresses/{service['spec']['clusterIP']}"
    found = until(lambda: (answer := ask("GET", where))[0] == 200 and answer[1])
    parent = {"group": "", "resource": "services", "namespace": "default", "name": "told"}
    assert found["spec"]["parentRef"] == parent
    ask("DELETE", f"{services}/told")
    until(lambda: ask("GET", where)[0] == 404)
