"""A cluster: the one that CHANDLERY_E2E_KUBECONFIG names, else an embedded control plane with simulated engines."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chandlery.testing import start_control_plane
from chandlery_kinds import KINDS

ROOT = Path(__file__).resolve().parents[2]
KUBECTL = Path(sys.executable).with_name("kubectl")
OPERATOR_SECONDS = float(os.environ.get("CHANDLERY_E2E_OPERATOR_SECONDS", "240"))
PART = "app.kubernetes.io/part-of=chandlery,app.kubernetes.io/component=operator"
Obj = dict[str, Any]


@dataclass(frozen=True)
class Cluster:
    """kubectl against one cluster."""

    kubeconfig: Path
    home: Path
    seconds: float
    driver: str
    """Classes are made with this driver; empty: the cluster's own are used."""

    def kubectl(self, *args: str, stdin: str = "", timeout: float = 60) -> str:
        done = self.run(*args, stdin=stdin, timeout=timeout)
        assert done.returncode == 0, f"kubectl {' '.join(args)}: {done.stderr or done.stdout}"
        return done.stdout

    def run(self, *args: str, stdin: str = "", timeout: float = 60) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "KUBECONFIG": str(self.kubeconfig), "HOME": str(self.home)}
        return subprocess.run(
            [KUBECTL, *args], env=env, input=stdin, capture_output=True, text=True, timeout=timeout, check=False
        )

    def get(self, *args: str) -> Obj:
        found: Obj = json.loads(self.kubectl("get", *args, "-o", "json"))
        return found

    def serves(self, crd: str) -> bool:
        """Whether this CustomResourceDefinition is there."""
        return bool(self.kubectl("get", "crd", crd, "--ignore-not-found", "-o", "name").strip())

    def until(self, condition: Callable[[], Any], what: Callable[[], str]) -> Any:
        """What the condition gives once it gives something; fails with what `what` says."""
        ends = time.monotonic() + self.seconds
        while True:
            found = condition()
            if found:
                return found
            assert time.monotonic() < ends, f"not in {self.seconds:.0f} s: {what()}"
            time.sleep(0.1)


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster as it is found."""
    home = tmp_path_factory.mktemp("e2e")
    named = os.environ.get("CHANDLERY_E2E_KUBECONFIG", "")
    seconds = float(os.environ.get("CHANDLERY_E2E_SECONDS", "600" if named else "60"))
    driver = os.environ.get("CHANDLERY_E2E_DRIVER", "" if named else "memory")
    with ExitStack() as stack:
        kubeconfig = Path(named) if named else stack.enter_context(start_control_plane(home / "plane")).kubeconfig
        yield Cluster(kubeconfig.absolute(), home, seconds, driver)


@pytest.fixture(scope="session")
def cluster(bare: Cluster) -> Iterator[Cluster]:
    """The cluster with our CRDs, an operator, and classes."""
    # what a chart installed is its own: only what is missing is added
    known = set(bare.kubectl("get", "crds", "-o", "name").split())
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        group, _, plural = path.stem.partition("_")
        if f"customresourcedefinition.apiextensions.k8s.io/{plural}.{group}" not in known:
            bare.kubectl("apply", "--server-side", "-f", str(path))
    bare.kubectl("wait", "crd", "--all", "--for=condition=Established", "--timeout=60s", timeout=90)
    made = classes(bare) if bare.driver else []
    try:
        installed = json.loads(bare.run("get", "deployments", "-A", "-l", PART, "-o", "json").stdout or "{}")
        if installed.get("items"):
            serves(bare, installed["items"][0]["metadata"])
            yield bare
            return
        with operator(bare):
            yield bare
    finally:
        for name in made:
            bare.run("delete", "resourceclass", name, "--ignore-not-found", "--wait=false")


def serves(cluster: Cluster, where: Obj) -> None:
    """Wait for the operator that is installed: without it each kind would wait for itself, to its own time limit."""
    place = ("-n", where["namespace"])

    def available() -> bool:
        return bool((cluster.get(*place, "deployment", where["name"]).get("status") or {}).get("availableReplicas"))

    def told() -> str:
        pods = cluster.run("get", *place, "pods", "-l", PART, "-o", "wide").stdout.strip()
        if not pods:
            pods = "It has no pods: nothing in this cluster runs workloads. See tests/e2e/README.md for such clusters."
        return f"the operator's Deployment {where['namespace']}/{where['name']} is not available.\n{pods}"

    ends = time.monotonic() + OPERATOR_SECONDS
    while not available():
        if time.monotonic() > ends:
            pytest.exit(told(), returncode=1)
        time.sleep(0.5)


def classes(cluster: Cluster) -> list[str]:
    """Classes with the driver that was asked for, none of them a default."""
    names = []
    for kind in KINDS:
        if cluster.driver not in kind.driver_names():
            continue
        name = f"e2e-{cluster.driver}-{kind.name.lower()}"
        body = {
            "apiVersion": "platform.chandlery.dev/v1alpha1",
            "kind": "ResourceClass",
            "metadata": {"name": name},
            "spec": {"kind": kind.name, "driver": cluster.driver},
        }
        cluster.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(body))
        names.append(name)
    return names


class operator:  # noqa: N801 - reads as what it is: with operator(cluster)
    """An operator of this checkout, as a process."""

    def __init__(self, cluster: Cluster) -> None:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.port = int(one.getsockname()[1])
        self.log = cluster.home / "operator.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(Path(sys.executable).with_name("chandlery")), "operator", "--kubeconfig", str(cluster.kubeconfig)],
                env={**os.environ, "CHANDLERY_OPERATOR_METRICS_PORT": str(self.port)}, stdout=log, stderr=log,
            )  # fmt: skip

    def __enter__(self) -> None:
        ends = time.monotonic() + 90
        while not self._leads():
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < ends, f"the operator does not lead: {self.log.read_text()[-3000:]}"
            time.sleep(0.1)

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(30)

    def _leads(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
                return b"chandlery_leader 1.0" in answer.read()
        except OSError:
            return False


@pytest.fixture(scope="session")
def space(cluster: Cluster) -> Iterator[str]:
    name = f"chandlery-e2e-{secrets.token_hex(3)}"
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield name
    cluster.run("delete", "namespace", name, "--wait=false")
