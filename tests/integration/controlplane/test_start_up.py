"""How a control plane starts: what it loads, that it says where it is, and that its keys are private."""

from __future__ import annotations

import json
import stat
import subprocess
import sys

AT_REST = """
import asyncio, json, sys
from pathlib import Path
from chandlery.controlplane import plane
async def main():
    async with plane.ControlPlane(plane.ControlPlaneSettings(data_dir=Path(sys.argv[1]))) as running:
        await running._warm
        print(json.dumps([running.url, sorted(sys.modules)]))
asyncio.run(main())
"""
PROGRAM = """
import asyncio, json, sys
from pathlib import Path
from chandlery.controlplane import plane
plane._warm_up = lambda: None
async def main():
    async with plane.ControlPlane(plane.ControlPlaneSettings(data_dir=Path(sys.argv[1]))) as running:
        print(json.dumps([running.url, sorted(sys.modules)]))
asyncio.run(main())
"""


def start(folder: str, program: str = PROGRAM) -> tuple[str, set[str]]:
    done = subprocess.run(
        [sys.executable, "-c", program, folder], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    url, modules = json.loads(done.stdout)
    return url, set(modules)


def test_what_a_start_does_not_need_is_not_loaded(tmp_path):
    """Starting within half a second rests on it: each of these takes tens of milliseconds to import."""
    start(str(tmp_path))  # makes the certificates
    url, modules = start(str(tmp_path))
    assert url.startswith("https://127.0.0.1:")
    heavy = {
        "cryptography", "yaml", "chandlery.controlplane.cel", "chandlery.controlplane.crd", "kopf", "kubernetes",
        "pydantic", "aiohttp", "grpc", "jsonschema_rs", "prometheus_client", "typer", "rich",
    }  # fmt: skip
    assert not heavy & modules


def test_what_nobody_asked_for_is_not_carried(tmp_path):
    """160 MB for operator and control plane rest on it: what signs tokens and reads YAML takes 12 of them."""
    start(str(tmp_path))  # makes the certificates
    _, modules = start(str(tmp_path), AT_REST)
    assert "chandlery.controlplane.crd" in modules
    assert not {"cryptography", "yaml", "bcrypt"} & modules


def test_keys_and_kubeconfig_are_private(tmp_path):
    start(str(tmp_path))
    for path in [*(tmp_path / "pki").iterdir(), tmp_path / "kubeconfig", tmp_path / "store.db"]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE((tmp_path / "pki").stat().st_mode) == 0o700


def test_certificates_are_kept_and_made_anew_when_they_must_be(tmp_path):
    start(str(tmp_path))
    files = {path.name: path.read_bytes() for path in (tmp_path / "pki").iterdir()}
    start(str(tmp_path))
    assert {path.name: path.read_bytes() for path in (tmp_path / "pki").iterdir()} == files
    (tmp_path / "pki" / "apiserver.crt").unlink()
    start(str(tmp_path))
    assert (tmp_path / "pki" / "ca.crt").read_bytes() == files["ca.crt"]
    assert (tmp_path / "pki" / "apiserver.crt").read_bytes() != files["apiserver.crt"]
    note = tmp_path / "pki" / "issued.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"until": 5}))
    start(str(tmp_path))
    assert json.loads(note.read_text())["until"] > 1_700_000_000
