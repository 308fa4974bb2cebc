"""Every kind on a cluster: its README's first manifest to Ready, a change, a deletion that leaves nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chandlery.model.examples import readme_examples
from chandlery_kinds import KINDS

CRDS = Path(__file__).resolve().parents[2] / "crds"
KUBEVIRT = "virtualmachines.kubevirt.io"
CHANGES: dict[str, dict[str, Any]] = {
    "Cache": {"memory": "512Mi"},
    "Database": {"configuration": {"log_min_duration_statement": "250"}},
    "Queue": {"storage": {"size": "2Gi"}},
    "LoadBalancer": {"pools": [{"name": "web", "targets": [{"name": "a", "address": "192.0.2.10", "port": 80}]}]},
    "VirtualMachine": {"deletionPolicy": "Delete", "cpus": 2},
}


def ready(obj: dict[str, Any]) -> bool:
    status = obj.get("status") or {}
    if status.get("observedGeneration") != obj["metadata"]["generation"]:
        return False
    return any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or ())


def test_the_server_takes_the_crds(cluster: Any) -> None:
    done = cluster.run(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", str(CRDS)
    )
    assert done.returncode == 0, done.stderr
    assert set(cluster.kubectl("api-resources", "--categories=chandlery", "-o", "name").split()) == {
        f"{kind.names.plural}.{kind.names.group}" for kind in KINDS
    }


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
@pytest.mark.timeout(2400)
def test_a_kind_lives(cluster: Any, space: str, kind: Any) -> None:
    manifest = json.loads(json.dumps(readme_examples(kind.package)[0].manifest))
    if cluster.driver:
        if cluster.driver not in kind.driver_names():
            pytest.skip(f"{kind.name} has no driver {cluster.driver}")
        manifest["spec"]["className"] = f"e2e-{cluster.driver}-{kind.name.lower()}"
    else:
        classes = [c["spec"] for c in cluster.get("resourceclasses")["items"] if c["spec"]["kind"] == kind.name]
        chosen = next((spec for spec in classes if spec.get("default")), None)
        if chosen is None:
            pytest.skip(f"the cluster has no default ResourceClass for {kind.name}")
        if chosen["driver"] == "kubernetes" and kind.name == "VirtualMachine" and not cluster.serves(KUBEVIRT):
            pytest.skip("KubeVirt is not installed in this cluster")
    where, name = f"{kind.names.plural}.{kind.names.group}", manifest["metadata"]["name"]

    def live() -> dict[str, Any]:
        found: dict[str, Any] = cluster.get("-n", space, where, name)
        return found

    def settled() -> dict[str, Any] | None:
        found = live()
        return found if ready(found) else None

    def told() -> str:
        return json.dumps(live().get("status"), indent=1)

    cluster.kubectl("apply", "-n", space, "--validate=strict", "-f", "-", stdin=json.dumps(manifest))
    first = cluster.until(settled, told)
    secret = (first["status"].get("binding") or {}).get("name")
    if secret:
        assert cluster.get("-n", space, "secret", secret)["data"]

    change = {"spec": CHANGES[kind.name]}
    cluster.kubectl("patch", "-n", space, where, name, "--type=merge", "-p", json.dumps(change))
    changed = cluster.until(settled, told)
    assert changed["metadata"]["generation"] > first["metadata"]["generation"]
    assert changed["status"]["externalName"] == first["status"]["externalName"]

    cluster.kubectl(
        "delete", "-n", space, where, name, f"--timeout={cluster.seconds:.0f}s", timeout=cluster.seconds + 30
    )
    assert "NotFound" in cluster.run("get", "-n", space, where, name).stderr
    if secret:
        cluster.until(
            lambda: "NotFound" in cluster.run("get", "-n", space, "secret", secret).stderr,
            lambda: f"the Secret {secret} is still there",
        )
