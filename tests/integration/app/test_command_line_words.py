"""The command line as somebody meets it who gets something wrong: what is said, and nothing is left running."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chandlery.app import keeping
from chandlery.app.home import Home

GOOD = """
apiVersion: data.chandlery.dev/v1alpha1
kind: Cache
metadata: {name: demo}
spec: {memory: 64Mi}
"""


@pytest.fixture
def chandlery(tmp_path):
    def run(*argv, code=1, **environment):
        env = {**os.environ, "CHANDLERY_DATA_DIR": str(tmp_path / "d"), "COLUMNS": "200", **environment}
        words = [str(Path(sys.executable).parent / "chandlery"), *map(str, argv)]
        done = subprocess.run(words, env=env, capture_output=True, text=True, check=False, timeout=100)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        assert "\033[" not in done.stdout + done.stderr, "no colours where nobody sees them"
        assert not keeping.is_kept(Home(tmp_path / "d"))
        return done.stdout + done.stderr

    return run


@pytest.mark.parametrize(
    "argv",
    [("status",), ("logs", "cache/x"), ("binding", "cache/x"), ("console", "vm/x")],
    ids=lambda argv: argv[0],
)
def test_nothing_runs(chandlery, argv):
    assert "nothing runs on" in (said := chandlery(*argv))
    assert "`chandlery up`" in said


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("up", "--store", "foo"), "'foo' is not one of 'sqlite', 'memory', 'etcd'"),
        (("up", "--port", "99999"), "65535"),
        (("up", "--apply", "/nonexistent"), "'/nonexistent' does not exist"),
        (("status", "-o", "xml"), "'xml' is not one of 'table', 'json'"),
        (("frobnicate",), "No such command 'frobnicate'"),
        (("run",), "Missing argument"),
    ],
    ids=lambda value: "-".join(value[:2]) if isinstance(value, tuple) else None,
)
def test_wrong_usage_is_code_2(chandlery, argv, words):
    assert words in chandlery(*argv, code=2)


def test_a_manifest_is_read_before_anything_starts(chandlery, tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text("a: [")
    assert "isn't valid YAML" in chandlery("up", "--detach", "--apply", path)
    path.write_text("kind: Cache\napiVersion: v9\n")
    assert "can't be applied by chandlery" in chandlery("up", "--detach", "--apply", path)
    assert not (tmp_path / "d").exists()


def test_what_can_not_start_is_told_and_not_left_trying(chandlery):
    said = chandlery("up", "--detach", CHANDLERY_CONTROLPLANE_SERVICE_CLUSTER_IP_RANGE="nonsense", PATH="/nowhere")
    assert "controlplane exited with code" in said
    assert "whole log is in" in said


def test_options_that_need_one_another_are_told_before_anything_starts(chandlery, tmp_path):
    assert "needs --etcd-servers" in chandlery("up", "--detach", "--store", "etcd")
    assert "needs --store etcd" in chandlery("up", "--detach", "--etcd-servers", "http://127.0.0.1:1")
    assert "there is no file /nonexistent" in chandlery("up", "--detach", "--kubeconfig", "/nonexistent")
    said = chandlery("up", "--detach", "--kubeconfig", "/nonexistent", "--port", "1234")
    assert "isn't started with --kubeconfig" in said
    assert "needs --etcd-servers" in chandlery("service", "print", "--store", "etcd")
    assert not (tmp_path / "d").exists()


def test_the_version_and_the_example(chandlery, tmp_path):
    assert chandlery("--version", code=0) == chandlery("version", code=0)
    said = chandlery("up", "--dry-run", "--quickstart", code=0)
    for kind in ("Cache", "Database", "LoadBalancer", "Queue", "VirtualMachine"):
        assert f"apply {kind} demo-" in said
    assert "run app-1: " in said
    assert not (tmp_path / "d").exists()


def test_a_dry_run_says_what_would_be_and_what_is_wrong(chandlery, tmp_path):
    path = tmp_path / "cache.yaml"
    path.write_text(GOOD)
    said = chandlery("up", "--dry-run", "--apply", path, code=0)
    assert "run controlplane: " in said
    assert "apply Cache demo" in said
    path.write_text(GOOD.replace("64Mi", "lots"))
    assert "spec.memory" in chandlery("up", "--dry-run", "--apply", path)
    path.write_text(GOOD.replace("spec: {", "spec: {exposure: {type: LoadBalancer}, "))
    assert "spec.exposure.type: " in chandlery("up", "--dry-run", "--apply", path)
    assert not (tmp_path / "d").exists()


def test_down_and_engines_work_without_anything_there(chandlery):
    assert chandlery("down", code=0) == ""
    listed = json.loads(chandlery("engines", "list", "-o", "json", code=0))
    assert {"valkey", "postgres", "nats", "haproxy"} <= {row["engine"] for row in listed}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_completes(chandlery, shell):
    done = chandlery(
        "",
        code=0,
        _CHANDLERY_COMPLETE=f"complete_{shell}",
        COMP_WORDS="chandlery sta",
        COMP_CWORD="1",
        _TYPER_COMPLETE_ARGS="chandlery sta",
        _TYPER_COMPLETE_FISH_ACTION="get-args",
    )
    assert "status" in done
