"""What stands around a workload: other operators' objects, a policy, what others add, what is repaired."""

from __future__ import annotations

import ssl
import sys
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path

import nats
import pytest
from foreign_crds import CERT_MANAGER, MONITORING
from kubernetes_cluster import CONTAINERS, CRDS, eventually

from chandlery.foundation import x509
from chandlery.providers.kubernetes.types import (
    BUDGETS,
    CERTIFICATES,
    NETWORK_POLICIES,
    SECRETS,
    SERVICE_MONITORS,
    SERVICES,
    STATEFUL_SETS,
)

pytestmark = pytest.mark.engine
EXPORTER = """#!{python}
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *words):
        pass

words = dict(zip(sys.argv[1:], sys.argv[2:]))
HTTPServer((words["-addr"], int(words["-port"])), Answer).serve_forever()
"""


def stand_in(folder: Path) -> str:
    """A program that listens where the exporter would."""
    path = folder / "exporter"
    path.write_text(EXPORTER.format(python=sys.executable))
    path.chmod(0o755)
    return str(path)


@pytest.mark.skipif(CONTAINERS, reason="no package brings the exporter of NATS")
async def test_other_operators_a_policy_and_what_others_own(kube, tmp_path):
    for crd in (MONITORING, CERT_MANAGER):
        await kube.api.apply(CRDS, crd)
    for kind in (SERVICE_MONITORS, CERTIFICATES):
        await eventually(lambda kind=kind: kube.api.list(kind, kube.namespace))
    kube.workloads.binaries["/prometheus-nats-exporter"] = stand_in(tmp_path)
    spec = {
        "storage": {"size": "64Mi"},
        "replicas": 3,
        "tls": {"issuerRef": {"name": "company", "kind": "ClusterIssuer"}},
        "metrics": {"monitor": True, "labels": {"release": "prometheus"}},
        "exposure": {"allowedCidrs": ["10.0.0.0/8"]},
    }
    await kube.apply("Queue", "rich", spec)

    # cert-manager's part: it issues what the Certificate asks for
    asked = await eventually(lambda: kube.get(CERTIFICATES, "rich-queue"))
    assert asked["spec"]["issuerRef"] == {"group": "cert-manager.io", "kind": "ClusterIssuer", "name": "company"}
    now = datetime.now(UTC)
    ca = x509.make_ca("company", now)
    made = x509.issue(ca, asked["spec"]["dnsNames"], now)
    data = {"tls.crt": made.certificate, "tls.key": made.key, "ca.crt": ca.certificate}
    body = {
        "metadata": {
            "name": asked["spec"]["secretName"],
            "namespace": kube.namespace,
            "labels": asked["spec"]["secretTemplate"]["labels"],
        },
        "type": "kubernetes.io/tls",
        "data": {key: b64encode(value.encode()).decode() for key, value in data.items()},
    }
    await kube.api.create(SECRETS, body)
    await kube.ready("Queue", "rich", 60)
    binding = await kube.secret("rich")
    assert binding["ca.crt"].strip() == ca.certificate.strip()
    assert binding["host"] in asked["spec"]["dnsNames"]

    policy = await kube.get(NETWORK_POLICIES, "rich-queue")
    assert policy["spec"]["ingress"][0]["from"] == [{"ipBlock": {"cidr": "10.0.0.0/8"}}]
    monitor = await kube.get(SERVICE_MONITORS, "rich-queue")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    found = await kube.get(SERVICES, "rich-queue-metrics")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= found["metadata"]["labels"].items()

    # what others add stays; what is ours is put right
    live = await kube.get(STATEFUL_SETS, "rich-queue")
    await kube.api.merge_patch(
        STATEFUL_SETS, kube.namespace, "rich-queue", {"metadata": {"annotations": {"acme.example/note": "theirs"}}}
    )
    await kube.api.merge_patch(BUDGETS, kube.namespace, "rich-queue", {"spec": {"maxUnavailable": 3}})
    await kube.api.delete(SERVICE_MONITORS, kube.namespace, "rich-queue")

    async def repaired():
        budget = await kube.get(BUDGETS, "rich-queue")
        return budget["spec"]["maxUnavailable"] == 1 and await kube.get(SERVICE_MONITORS, "rich-queue")

    await eventually(repaired, 30)
    await kube.ready("Queue", "rich")
    after = await kube.get(STATEFUL_SETS, "rich-queue")
    assert after["metadata"]["annotations"]["acme.example/note"] == "theirs"
    assert after["metadata"]["generation"] == live["metadata"]["generation"]

    # one server shows what the binding's certificate authority signed
    [(host, port), *_] = await eventually(lambda: kube.workloads.behind(kube.namespace, "rich-queue"))
    trust = ssl.create_default_context(cadata=binding["ca.crt"])
    connection = await nats.connect(
        f"nats://{host}:{port}",
        user=binding["username"],
        password=binding["password"],
        tls=trust,
        tls_hostname=binding["host"],
        allow_reconnect=False,
    )
    await connection.jetstream().publish(binding["subject"], b"trusted")
    await connection.close()

    # taken out of the spec, they go
    await kube.apply("Queue", "rich", {key: spec[key] for key in ("storage", "replicas")})

    async def plain():
        names = (CERTIFICATES, "rich-queue"), (SERVICE_MONITORS, "rich-queue"), (NETWORK_POLICIES, "rich-queue")
        return not [name for kind, name in names if await kube.get(kind, name) is not None]

    await eventually(plain, 60)
    await kube.ready("Queue", "rich", 90)
