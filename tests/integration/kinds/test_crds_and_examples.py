"""The CRDs and every manifest of the READMEs, by kubectl, on a control plane."""

import json
from pathlib import Path

import pytest

from chandlery.gen.crds import crd
from chandlery.gen.outputs import models
from chandlery.model.examples import Example, readme_examples
from chandlery_kinds import KINDS

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = [(kind, example) for kind in KINDS for example in readme_examples(kind.package)]


def test_the_server_takes_the_crds_as_they_are(plane) -> None:
    """Client-side and server-side apply, for real types: schema, rules and their cost are checked on the way."""
    for flags in ([], ["--server-side", "--force-conflicts"]):
        done = plane.kubectl("apply", "--dry-run=server", *flags, "-f", str(ROOT / "crds"))
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == len(list((ROOT / "crds").glob("*.yaml")))


def test_what_the_server_stores_is_what_we_wrote(plane) -> None:
    """Nothing of a schema is pruned or defaulted away: what kubectl explains is what the models say."""
    for model, _ in models():
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{model.names.crd_name}"
        _, stored = plane.request("GET", path)
        ours = crd(model)["spec"]["versions"][0]
        theirs = stored["spec"]["versions"][0]
        assert theirs["schema"] == ours["schema"]
        assert theirs["additionalPrinterColumns"] == ours["additionalPrinterColumns"]
        assert {c["type"] for c in stored["status"]["conditions"]} >= {"Established", "NamesAccepted"}
        assert not any(c["type"] == "NonStructuralSchema" for c in stored["status"]["conditions"])


@pytest.mark.parametrize(("kind", "example"), EXAMPLES, ids=[f"{k.name}-{e.title}" for k, e in EXAMPLES])
def test_kubectl_applies_the_example(plane, kind, example: Example) -> None:
    done = plane.kubectl("apply", "--server-side", "--validate=strict", "-f", "-", stdin=example.text)
    assert done.returncode == 0, done.stderr
    name = example.manifest["metadata"]["name"]
    shown = plane.kubectl("get", kind.names.plural, name, "-o", "json")
    stored = json.loads(shown.stdout)
    assert stored["metadata"]["generation"] == 1
    # what is stored, defaults included, is what the model makes of the manifest: a later default moves nothing
    model = kind.model.model_validate({**example.manifest, "status": {}})
    again = kind.model.model_validate({**stored, "status": {}})
    assert again.spec == model.spec
    assert plane.kubectl("apply", "--server-side", "-f", "-", stdin=example.text).returncode == 0
    _, unchanged = plane.request("GET", f"/apis/{kind.names.api_version}/namespaces/default/{kind.names.plural}/{name}")
    assert unchanged["metadata"]["resourceVersion"] == stored["metadata"]["resourceVersion"]


def test_defaults_are_stored_and_say_something(plane) -> None:
    body = {"apiVersion": "data.chandlery.dev/v1alpha1", "kind": "Cache", "metadata": {"name": "defaults"}, "spec": {}}
    code, made = plane.request("POST", "/apis/data.chandlery.dev/v1alpha1/namespaces/default/caches", body)
    assert code == 201
    assert made["spec"] == {
        "deletionPolicy": "Delete",
        "deletionProtection": False,
        "paused": False,
        "engine": "valkey",
        "mode": "standalone",
        "memory": "256Mi",
        "evictionPolicy": "noeviction",
        "persistence": {"mode": "none"},
        "exposure": {"type": "Internal"},
        "placement": {"spread": {"policy": "Preferred", "topologyKey": "kubernetes.io/hostname"}},
    }


def test_kubectl_knows_the_kinds_as_people_ask_for_them(plane) -> None:
    everything = plane.kubectl("api-resources", "--categories=chandlery", "-o", "name")
    assert everything.returncode == 0, everything.stderr
    assert set(everything.stdout.split()) == {f"{k.names.plural}.{k.names.group}" for k in KINDS}
    for kind in KINDS:
        assert plane.kubectl("get", kind.names.short_names[0]).returncode == 0, kind.name
    head = plane.kubectl("get", "caches").stdout.splitlines()[0].split()
    assert head == ["NAME", "READY", "PHASE", "ENGINE", "VERSION", "MODE", "ENDPOINT", "PORT", "AGE"]
    wide = plane.kubectl("get", "databases", "-o", "wide").stdout.splitlines()[0].split()
    assert wide[-4:] == ["CLASS", "DRIVER", "SECRET", "MESSAGE"]


def test_kubectl_explains_fields(plane) -> None:
    done = plane.kubectl("explain", "cache.spec.persistence.storage.size")
    assert done.returncode == 0, done.stderr
    assert "It may only grow." in " ".join(done.stdout.split())


@pytest.mark.parametrize(("kind", "field"), [("cache", "replicas"), ("database", "instances"), ("queue", "replicas")])
def test_kubectl_scales(plane, kind: str, field: str) -> None:
    names = next(k.names for k in KINDS if k.name.lower() == kind)
    spec = {"cache": {"mode": "replicated", "replicas": 1}, "database": {}, "queue": {"storage": {"size": "1Gi"}}}[kind]
    body = {"apiVersion": names.api_version, "kind": names.kind, "metadata": {"name": "scaled"}, "spec": spec}
    path = f"/apis/{names.api_version}/namespaces/default/{names.plural}"
    assert plane.request("POST", path, body)[0] == 201
    done = plane.kubectl("scale", f"{names.plural}/scaled", "--replicas=3")
    assert done.returncode == 0, done.stderr
    assert plane.request("GET", f"{path}/scaled")[1]["spec"][field] == 3


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "quickstart").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_quickstart_is_good(plane, path: Path) -> None:
    done = plane.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", str(path))
    assert done.returncode == 0, done.stderr
