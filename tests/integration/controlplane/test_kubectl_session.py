"""A working day with the real kubectl: everything that people do by hand, against one control plane."""

from __future__ import annotations

import json
import os
import stat
from typing import Any

import pytest

DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "labels": {"app": "web"}},
    "spec": {
        "replicas": 1,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "main", "image": "img:1"}]},
        },
    },
}


@pytest.fixture
def space(kubectl, request) -> str:
    name = "s-" + request.node.name.replace("_", "-").removeprefix("test-")[:40].strip("-")
    kubectl("create", "namespace", name)
    return name


def test_apply_diff_and_last_applied(kubectl, space):
    text = json.dumps(DEPLOYMENT)
    assert "created" in kubectl("-n", space, "apply", "-f", "-", stdin=text)
    assert "unchanged" in kubectl("-n", space, "apply", "-f", "-", stdin=text)
    changed = text.replace("img:1", "img:2")
    assert "img:2" in kubectl("-n", space, "diff", "-f", "-", stdin=changed, check=False)
    assert "configured" in kubectl("-n", space, "apply", "-f", "-", stdin=changed)
    image = "jsonpath={.spec.template.spec.containers[0].image}"
    assert kubectl("-n", space, "get", "deploy", "web", "-o", image) == "img:2"
    kubectl("-n", space, "set", "image", "deploy/web", "main=img:3")
    assert kubectl("-n", space, "get", "deploy", "web", "-o", image) == "img:3"


def test_server_side_apply_and_its_conflicts(kubectl, space):
    text = json.dumps(DEPLOYMENT)
    assert "serverside-applied" in kubectl("-n", space, "apply", "--server-side", "-f", "-", stdin=text)
    kubectl("-n", space, "scale", "deploy/web", "--replicas=4")
    refused = kubectl("-n", space, "apply", "--server-side", "-f", "-", stdin=text, check=False)
    assert "conflict" in refused
    assert ".spec.replicas" in refused
    kubectl("-n", space, "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)
    assert kubectl("-n", space, "get", "deploy", "web", "-o", "jsonpath={.spec.replicas}") == "1"


def test_client_side_apply_taken_over_by_the_server_side(kubectl, space):
    text = json.dumps(DEPLOYMENT)
    kubectl("-n", space, "apply", "-f", "-", stdin=text)
    kubectl("-n", space, "apply", "--server-side", "-f", "-", stdin=text)
    managers = kubectl("-n", space, "get", "deploy", "web", "-o", "jsonpath={.metadata.managedFields[*].manager}")
    assert "kubectl" in managers.split()


def test_typed_creates(kubectl, space):
    for command in (
        "configmap c --from-literal=a=1",
        "secret generic s --from-literal=p=q",
        "serviceaccount robot",
        "role r --verb=get --resource=pods",
        "rolebinding rb --role=r --serviceaccount=default:robot",
        "quota q --hard=configmaps=5",
        "deployment d --image=x",
        "job j --image=x",
        "cronjob cj --image=x --schedule=* * * * *".replace("* * * * *", "@daily"),
        "service clusterip svc --tcp=80:8080",
        "ingress i --rule=host/path=svc:80",
        "poddisruptionbudget p --selector=app=x --min-available=1",
        "token robot",
    ):
        kubectl("-n", space, "create", *command.split())
    assert kubectl("-n", space, "get", "secret", "s", "-o", "jsonpath={.data.p}") == "cQ=="
    listed = kubectl("-n", space, "get", "all")
    for part in ("deployment.apps/d", "job.batch/j", "cronjob.batch/cj", "service/svc"):
        assert part in listed


def test_scale_autoscale_label_annotate_and_rollout(kubectl, space):
    kubectl("-n", space, "create", "deployment", "d", "--image=x")
    kubectl("-n", space, "scale", "deploy/d", "--replicas=3")
    kubectl("-n", space, "autoscale", "deploy/d", "--min=1", "--max=5")
    kubectl("-n", space, "label", "deploy/d", "tier=a")
    kubectl("-n", space, "annotate", "deploy/d", "note=b")
    kubectl("-n", space, "rollout", "restart", "deploy/d")
    found = json.loads(kubectl("-n", space, "get", "deploy", "d", "-o", "json"))
    assert found["spec"]["replicas"] == 3
    assert found["metadata"]["labels"]["tier"] == "a"
    assert "kubectl.kubernetes.io/restartedAt" in found["spec"]["template"]["metadata"]["annotations"]
    assert found["metadata"]["generation"] >= 3


def test_edit_with_an_editor(kubectl, space, tmp_path, monkeypatch):
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/before/after/' \"$1\"\n")
    editor.chmod(editor.stat().st_mode | stat.S_IXUSR)
    kubectl("-n", space, "create", "configmap", "c", "--from-literal=k=before")
    kubectl._env["KUBE_EDITOR"] = str(editor)
    assert "edited" in kubectl("-n", space, "edit", "configmap", "c")
    assert kubectl("-n", space, "get", "cm", "c", "-o", "jsonpath={.data.k}") == "after"


def test_explain_describe_and_events(kubectl, space):
    assert "replicas" in kubectl("explain", "deployment.spec")
    assert "containers" in kubectl("explain", "deployment.spec.template.spec", "--recursive")
    kubectl("-n", space, "apply", "-f", "-", stdin=json.dumps(DEPLOYMENT))
    assert "Replicas:" in kubectl("-n", space, "describe", "deployment", "web")
    kubectl("-n", space, "events")
    kubectl("-n", space, "get", "events")


def test_deletion_in_its_three_ways(kubectl, space):
    for way in ("background", "foreground", "orphan"):
        owner = json.loads(kubectl("-n", space, "create", "configmap", f"owner-{way}", "-o", "json"))
        reference = {
            "apiVersion": "v1", "kind": "ConfigMap", "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"],
            "blockOwnerDeletion": True,
        }  # fmt: skip
        child = {
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": f"child-{way}", "ownerReferences": [reference]},
        }  # fmt: skip
        kubectl("-n", space, "create", "-f", "-", stdin=json.dumps(child))
        kubectl("-n", space, "delete", "configmap", f"owner-{way}", f"--cascade={way}", "--timeout=20s")
        if way == "orphan":
            kept = json.loads(kubectl("-n", space, "get", "configmap", "child-orphan", "-o", "json"))
            assert not kept["metadata"].get("ownerReferences")
        else:
            kubectl("-n", space, "wait", "--for=delete", f"configmap/child-{way}", "--timeout=20s")


def test_rights(kubectl, space):
    assert "yes" in kubectl("auth", "can-i", "create", "pods")
    kubectl("-n", space, "create", "serviceaccount", "robot")
    who = f"system:serviceaccount:{space}:robot"
    assert "no" in kubectl("-n", space, "auth", "can-i", "list", "pods", f"--as={who}", check=False)
    kubectl("-n", space, "create", "rolebinding", "view", "--clusterrole=view", f"--serviceaccount={space}:robot")
    assert "yes" in kubectl("-n", space, "auth", "can-i", "list", "pods", f"--as={who}")
    assert "pods" in kubectl("-n", space, "auth", "can-i", "--list", f"--as={who}")
    assert "system:masters" in kubectl("auth", "whoami")


def test_patches_and_waiting(kubectl, space):
    kubectl("-n", space, "create", "configmap", "c", "--from-literal=k=1")
    kubectl("-n", space, "patch", "cm", "c", "-p", '{"data":{"k":"2"}}')
    kubectl("-n", space, "patch", "cm", "c", "--type=json", "-p", '[{"op":"add","path":"/data/x","value":"y"}]')
    kubectl("-n", space, "wait", "cm/c", "--for=jsonpath={.data.x}=y", "--timeout=5s")
    kubectl("-n", space, "replace", "-f", "-", stdin=kubectl("-n", space, "get", "cm", "c", "-o", "json"))
    kubectl("-n", space, "delete", "cm", "c")
    kubectl("-n", space, "wait", "--for=delete", "cm/c", "--timeout=5s")


def test_what_needs_a_node_says_so(kubectl, space):
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }  # fmt: skip
    kubectl("-n", space, "apply", "-f", "-", stdin=json.dumps(pod))
    assert kubectl("-n", space, "logs", "p") == ""  # no node, nothing written
    assert "does not have a host assigned" in kubectl("-n", space, "exec", "p", "--", "ls", check=False)
    assert "Metrics API not available" in kubectl("-n", space, "top", "pods", check=False)
    kubectl("-n", space, "delete", "pod", "p", "--timeout=10s")


def test_binding_and_evicting_pods(kubectl, api, space):
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }  # fmt: skip
    kubectl("-n", space, "apply", "-f", "-", stdin=json.dumps(pod))
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "p"},
        "target": {"kind": "Node", "name": "n1"},
    }
    # kubectl validates kinds that can't be patched by the OpenAPI v2 document, in protobuf.
    kubectl("-n", space, "create", "-f", "-", stdin=json.dumps(binding))
    assert kubectl("-n", space, "get", "pod", "p", "-o", "jsonpath={.spec.nodeName}") == "n1"
    pods = f"/api/v1/namespaces/{space}/pods/p"
    status, refused = api("POST", f"{pods}/binding", binding)
    assert (status, refused["reason"]) == (409, "Conflict")
    status, _ = api("POST", f"{pods}/eviction", {"metadata": {"name": "p"}, "deleteOptions": {"gracePeriodSeconds": 0}})
    assert status == 201
    assert api("GET", pods)[0] == 404


def test_explaining_by_both_openapi_versions(kubectl):
    assert "replicas" in kubectl("explain", "deployment.spec", "--output=plaintext-openapiv2")
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"tokn": "x"}}
    assert 'unknown field "tokn"' in kubectl("create", "-f", "-", stdin=json.dumps(review), check=False)


def test_namespaces_go_with_everything_in_them(kubectl, space):
    kubectl("-n", space, "create", "configmap", "c")
    kubectl("-n", space, "create", "deployment", "d", "--image=x")
    kubectl("delete", "namespace", space, "--timeout=30s")
    assert "NotFound" in kubectl("get", "namespace", space, check=False)


def test_other_formats_and_selectors(kubectl, space):
    for name, tier in (("a", "x"), ("b", "y")):
        kubectl("-n", space, "create", "configmap", name)
        kubectl("-n", space, "label", "cm", name, f"tier={tier}")
    assert "kind: ConfigMap" in kubectl("-n", space, "get", "cm", "a", "-o", "yaml")
    assert kubectl("-n", space, "get", "cm", "-l", "tier=x", "-o", "name").split() == ["configmap/a"]
    assert kubectl("-n", space, "get", "cm", "--field-selector=metadata.name=b", "-o", "name").split() == [
        "configmap/b"
    ]
    assert "AGE" in kubectl("-n", space, "get", "cm", "-o", "wide", "--show-labels")
    assert "v1" in kubectl("api-versions")
    assert "configmaps" in kubectl("api-resources")
    assert os.environ is not None
