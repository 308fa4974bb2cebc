"""A control plane with our CRDs, and the requests that kubectl would make of it."""

import base64
import http.client
import json
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
KUBECTL = Path(sys.executable).with_name("kubectl")


class Plane:
    """Requests to one API server, by its kubeconfig, over one connection."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        folder = kubeconfig.parent
        pair = []
        for name in ("client-certificate", "client-key"):
            path = folder / f"test-{name}.pem"
            if f"{name}-data" in user:
                path.write_bytes(base64.b64decode(user[f"{name}-data"]))
            else:
                path = folder / user[name]
            pair.append(str(path))
        authority = cluster.get("certificate-authority-data")
        context = ssl.create_default_context(
            cadata=base64.b64decode(authority).decode() if authority else None,
            cafile=cluster.get("certificate-authority"),
        )
        context.load_cert_chain(*pair)
        where = urlsplit(cluster["server"])
        self._connection = http.client.HTTPSConnection(where.hostname or "", where.port, context=context, timeout=30)

    def request(self, method: str, path: str, body: Any = None, content: str = "application/json") -> tuple[int, Any]:
        data = None if body is None else json.dumps(body)
        self._connection.request(method, path, data, {"Content-Type": content, "Accept": "application/json"})
        answer = self._connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text[:1] in {b"{", b"["} else text.decode()

    def kubectl(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [KUBECTL, "--kubeconfig", str(self.kubeconfig), *arguments],
            input=stdin, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    def close(self) -> None:
        self._connection.close()


def established(plane: Plane, name: str, seconds: float = 60) -> None:
    """Wait until a CRD is served.

    Raises:
        AssertionError: it isn't in time; says what its conditions are.
    """
    ends = time.monotonic() + seconds
    while True:
        _, crd = plane.request("GET", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")
        conditions = (crd.get("status") or {}).get("conditions") or ()
        if any(c["type"] == "Established" and c["status"] == "True" for c in conditions):
            return
        assert time.monotonic() < ends, conditions


@pytest.fixture(scope="session", name="plane")
def fixture_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """A control plane in a process of its own, with all our CRDs established."""
    folder = tmp_path_factory.mktemp("plane")
    with subprocess.Popen(
        [sys.executable, "-m", "chandlery.controlplane", "--data-dir", str(folder), "--store", "memory"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("ready:"), f"the control plane said: {line!r}"
            plane = Plane(folder / "kubeconfig")
            for file in sorted((ROOT / "crds").glob("*.yaml")):
                crd = yaml.safe_load(file.read_text())
                code, answer = plane.request("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
                assert code == 201, answer
                established(plane, crd["metadata"]["name"])
            yield plane
            plane.close()
        finally:
            process.terminate()
