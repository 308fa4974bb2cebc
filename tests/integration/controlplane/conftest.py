"""A control plane for these tests, and plain HTTP and kubectl against it."""

from __future__ import annotations

import base64
import json
import os
import ssl
import subprocess
import tempfile
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
        self, method: str, path: str, body: Any = None, content_type: str = "application/json"
    ) -> tuple[int, Any]:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        request = urllib.request.Request(
            self.server + path, data=data, method=method, headers={"Content-Type": content_type}
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
    import shutil
    import sys

    binary = shutil.which("kubectl") or str(Path(sys.executable).with_name("kubectl"))
    return Kubectl(plane, binary)
