"""The chart's life with Helm 3 and 4: an earlier one installed, upgraded, the operator run by it, uninstalled.

The operator runs for real, as a process with the Deployment's own command and environment and a token of its service
account: what its permissions lack, the control plane refuses, and its audit log tells.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from charts import CHART
from helms import MAJORS, Helm, binary

from chandlery.testing import RunningControlPlane, start_control_plane

SPACE = "chandlery-system"
KUBECTL = Path(sys.executable).with_name("kubectl")


class Cluster:
    """A control plane with helm and kubectl."""

    def __init__(self, plane: RunningControlPlane, helm: Helm) -> None:
        self.plane = plane
        self.helm = helm

    def kubectl(self, *args: str, stdin: Any = None, check: bool = True) -> str:
        done = subprocess.run(
            [KUBECTL, *args], env={**os.environ, **self.plane.env, "HOME": str(self.plane.settings.data_dir)},
            input=json.dumps(stdin) if stdin is not None else None, capture_output=True, text=True, timeout=200,
            check=False,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(args)}: {done.stderr or done.stdout}")
        return done.stdout if check else done.stdout + done.stderr

    def get(self, *args: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl("get", *args, "-o", "json"))
        return found

    def names(self, kind: str, *args: str) -> set[str]:
        return {name.partition("/")[2] for name in self.kubectl("get", kind, *args, "-o", "name").split()}


def until(condition: Callable[[], Any], what: str, seconds: float = 150.0) -> Any:
    ends = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < ends, f"not in {seconds:.0f} s: {what}"
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(params=MAJORS)
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    path = binary(request.param)
    with start_control_plane(tmp_path / "plane") as plane:
        yield Cluster(plane, Helm(path, tmp_path / "helm", plane.env))


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """The chart as it was before one of the kinds was added."""
    folder = tmp_path / "earlier"
    shutil.copytree(CHART, folder)
    chart = folder / "Chart.yaml"
    chart.write_text(chart.read_text().replace("version: 0.1.0", "version: 0.0.9"))
    (folder / "files" / "crds" / "messaging.chandlery.dev_queues.yaml").unlink()
    kinds = folder / "files" / "kinds.yaml"
    text = kinds.read_text()
    kinds.write_text(text[: text.index("\n  Queue:") + 1] + text[text.index("\n  LoadBalancer:") + 1 :])
    return folder


class Operator:
    """The Deployment's container, as a process of ours."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        deployment = cluster.get("deployment", "chandlery", "-n", SPACE)
        spec = deployment["spec"]["template"]["spec"]
        token = cluster.kubectl("create", "token", spec["serviceAccountName"], "-n", SPACE).strip()
        config = json.loads(cluster.plane.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": token}
        config["contexts"][0]["context"]["namespace"] = SPACE
        kubeconfig = folder / "operator.kubeconfig"
        kubeconfig.touch(0o600)
        kubeconfig.write_text(json.dumps(config))
        container = spec["containers"][0]
        assert container["command"] == ["chandlery", "operator"]
        env = {variable["name"]: variable["value"] for variable in container["env"]}
        self.port = free_port()
        env |= {
            "CHANDLERY_OPERATOR_METRICS_HOST": "127.0.0.1",
            "CHANDLERY_OPERATOR_METRICS_PORT": str(self.port),
            "CHANDLERY_OPERATOR_WEBHOOK_HOST": "127.0.0.1",
            "CHANDLERY_OPERATOR_WEBHOOK_PORT": "0",
            "KUBECONFIG": str(kubeconfig),
            "PATH": os.environ["PATH"],
        }
        self.log = folder / "operator.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(Path(sys.executable).with_name("chandlery")), "operator"], env=env, stdout=log, stderr=log
            )

    def __enter__(self) -> Self:
        until(self._leads, "the operator leads", 60)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        assert self.process.wait(20) == 0, self.log.read_text()[-3000:]

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            return str(answer.read().decode())

    def _leads(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        try:
            return "chandlery_leader 1.0" in self.metrics()
        except OSError:
            return False


def make_and_delete(cluster: Cluster, space: str) -> None:
    """A cache by the memory driver, to Ready and away; one by the kubernetes driver, to its children and away."""
    cluster.kubectl("apply", "-f", "-", stdin={
        "apiVersion": "platform.chandlery.dev/v1alpha1", "kind": "ResourceClass", "metadata": {"name": "simulated"},
        "spec": {"kind": "Cache", "driver": "memory"},
    })  # fmt: skip
    for name, class_name in (("simulated", "simulated"), ("real", "kubernetes-cache")):
        cluster.kubectl("apply", "-n", space, "-f", "-", stdin={
            "apiVersion": "data.chandlery.dev/v1alpha1", "kind": "Cache", "metadata": {"name": name},
            "spec": {"className": class_name},
        })  # fmt: skip
    cluster.kubectl("wait", "-n", space, "cache/simulated", "--for=condition=Ready", "--timeout=150s")
    until(lambda: cluster.names("statefulsets", "-n", space), "the StatefulSet of the kubernetes driver")
    until(lambda: cluster.names("services", "-n", space), "its Service")
    cluster.kubectl("delete", "-n", space, "cache", "--all", "--timeout=150s")
    until(lambda: not cluster.names("statefulsets", "-n", space), "the StatefulSet is gone")


def refused(cluster: Cluster, account: str) -> list[str]:
    """Every request of a service account that was refused for want of permission, from the audit log."""
    path = cluster.plane.settings.audit_log_path or cluster.plane.settings.data_dir / "audit.log"
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    return [f"{e['verb']} {e['requestURI']}" for e in entries if e["user"] == account and e["code"] == 403]


def refuse_and_see(cluster: Cluster, account: str) -> None:
    """The look at refusals can fail: with a rule less, the same work is refused something."""
    role = cluster.get("clusterrole", "chandlery-system-chandlery-workloads")
    role["rules"] = [rule for rule in role["rules"] if "statefulsets" not in rule["resources"]]
    # as helm, so that its next upgrade puts the rule back
    as_helm = ("--server-side", "--field-manager=helm", "--force-conflicts")
    cluster.kubectl("apply", *as_helm, "-f", "-", stdin=role)
    cluster.kubectl("apply", "-f", "-", stdin={
        "apiVersion": "data.chandlery.dev/v1alpha1", "kind": "Cache", "metadata": {"name": "refused"}, "spec": {},
    })  # fmt: skip
    until(lambda: any("statefulsets" in line for line in refused(cluster, account)), "a refusal is told")


def test_a_chart_s_life(cluster: Cluster, earlier: Path, tmp_path: Path) -> None:
    # Helm 3 goes the narrow way, Helm 4 the wide one: both ways of installing are run by either of them
    narrow = cluster.helm.major == "3"
    space = "shop" if narrow else "default"
    values = ("--set", "watchNamespace=shop") if narrow else ()
    if narrow:
        cluster.kubectl("create", "namespace", "shop")
    helm, account = cluster.helm, f"system:serviceaccount:{SPACE}:chandlery"

    helm("install", "chandlery", str(earlier), "-n", SPACE, "--create-namespace", *values)
    assert "queues.messaging.chandlery.dev" not in cluster.names("crds")
    assert "kubernetes-cache" in cluster.names("resourceclasses")

    helm("upgrade", "chandlery", str(CHART), "-n", SPACE, *values)
    assert "queues.messaging.chandlery.dev" in cluster.names("crds")
    uid = cluster.get("resourceclass", "kubernetes-cache")["metadata"]["uid"]

    with Operator(cluster, tmp_path) as operator:
        make_and_delete(cluster, space)
        assert re.findall(r'chandlery_api_requests_total\{code="403".*', operator.metrics()) == []
        registered = cluster.get("validatingwebhookconfiguration", "chandlery-system-chandlery")
        assert refused(cluster, account) == []
        if not narrow:
            refuse_and_see(cluster, account)
    bundle = registered["webhooks"][0]["clientConfig"]["caBundle"]
    assert bundle == cluster.get("secret", "chandlery-webhook", "-n", SPACE)["data"]["ca.crt"]
    assert base64.b64decode(bundle).startswith(b"-----BEGIN CERTIFICATE-----")

    # an upgrade leaves alone what the operator wrote, and changes what the values say
    helm("upgrade", "chandlery", str(CHART), "-n", SPACE, *values, "--set", "replicas=3,webhook.timeoutSeconds=7")
    webhook = cluster.get("validatingwebhookconfiguration", "chandlery-system-chandlery")["webhooks"][0]
    assert (webhook["clientConfig"]["caBundle"], webhook["timeoutSeconds"]) == (bundle, 7)
    assert cluster.get("secret", "chandlery-webhook", "-n", SPACE)["data"]["ca.crt"] == bundle
    assert cluster.get("deployment", "chandlery", "-n", SPACE)["spec"]["replicas"] == 3
    if not narrow:
        rules = cluster.get("clusterrole", "chandlery-system-chandlery-workloads")["rules"]
        assert any("statefulsets" in rule["resources"] for rule in rules)
    assert cluster.get("resourceclass", "kubernetes-cache")["metadata"]["uid"] == uid

    # what people made stays, and says so; everything else of the release goes
    said = helm("uninstall", "chandlery", "-n", SPACE)
    assert "caches.data.chandlery.dev" in said
    assert "caches.data.chandlery.dev" in cluster.names("crds")
    assert "kubernetes-cache" in cluster.names("resourceclasses")
    for kind in ("deployments", "services", "secrets", "roles", "rolebindings", "poddisruptionbudgets", "pods"):
        assert cluster.names(kind, "-n", SPACE) == set(), kind
    for kind in ("clusterroles", "clusterrolebindings", "validatingwebhookconfigurations"):
        assert {name for name in cluster.names(kind) if "chandlery" in name} == set(), kind

    # and a new installation takes it all back
    helm("install", "chandlery", str(CHART), "-n", SPACE, *values)
    assert cluster.get("resourceclass", "kubernetes-cache")["metadata"]["uid"] == uid
    helm("uninstall", "chandlery", "-n", SPACE)


def play_job(cluster: Cluster, name: str, stop: threading.Event) -> None:
    """The part of Job controller and kubelet: run the container's command, tell how it ended."""
    done = ""
    while not stop.wait(0.1):
        found = cluster.kubectl("get", "job", name, "-n", SPACE, "-o", "json", check=False)
        if not found.startswith("{"):
            continue
        job = json.loads(found)
        if job["metadata"]["uid"] == done:
            continue
        done = job["metadata"]["uid"]
        command = job["spec"]["template"]["spec"]["containers"][0]["command"]
        ended = subprocess.run([sys.executable, *command[1:]], env={**os.environ, **cluster.plane.env}, check=False)
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        kinds = ("FailureTarget", "Failed") if ended.returncode else ("SuccessCriteriaMet", "Complete")
        status = {
            "startTime": now,
            "conditions": [{"type": kind, "status": "True", "lastTransitionTime": now} for kind in kinds],
            **({"failed": 1} if ended.returncode else {"succeeded": 1, "completionTime": now}),
        }
        patch = json.dumps({"status": status})
        cluster.kubectl("patch", "job", name, "-n", SPACE, "--subresource=status", "--type=merge", "-p", patch)


def test_definitions_go_only_when_nothing_is_left(tmp_path: Path) -> None:
    path = binary("4")
    with start_control_plane(tmp_path / "plane") as plane:
        cluster = Cluster(plane, Helm(path, tmp_path / "helm", plane.env))
        cluster.helm("install", "chandlery", str(CHART), "-n", SPACE, "--create-namespace", "--set", "crds.keep=false")
        cluster.kubectl("apply", "-f", "-", stdin={
            "apiVersion": "data.chandlery.dev/v1alpha1", "kind": "Cache", "metadata": {"name": "dear"}, "spec": {},
        })  # fmt: skip
        stop = threading.Event()
        player = threading.Thread(target=play_job, args=(cluster, "chandlery-guard", stop), daemon=True)
        player.start()
        try:
            first = cluster.helm.run("uninstall", "chandlery", "-n", SPACE, "--timeout", "150s")
            assert first.returncode != 0
            assert "failed" in first.stderr
            assert "deadline" not in first.stderr
            assert cluster.names("caches") == {"dear"}
            assert cluster.names("deployments", "-n", SPACE) == {"chandlery"}
            cluster.kubectl("delete", "cache", "dear")
            cluster.helm("uninstall", "chandlery", "-n", SPACE, "--timeout", "150s")
        finally:
            stop.set()
            player.join(30)
        until(lambda: not any("chandlery" in name for name in cluster.names("crds")), "the definitions are gone")
