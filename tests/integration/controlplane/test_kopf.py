"""An operator made with kopf, run by kopf, against the control plane: handlers, finalizers, status, events, timers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "lamps.kopf.example"},
    "spec": {
        "group": "kopf.example",
        "scope": "Namespaced",
        "names": {"kind": "Lamp", "plural": "lamps"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                        },
                    }
                },
            }
        ],
    },
}

OPERATOR = """
import kopf

@kopf.on.create("lamps")
def lit(spec, patch, body, **_):
    kopf.event(body, type="Normal", reason="Lit", message="the lamp is lit")
    patch.status["colour"] = spec.get("colour", "white")
    return {"done": True}

@kopf.on.update("lamps", field="spec.colour")
def changed(new, patch, **_):
    patch.status["colour"] = new

@kopf.on.delete("lamps")
def out(**_):
    pass

@kopf.timer("lamps", interval=0.5)
def tick(patch, status, **_):
    patch.status["ticks"] = status.get("ticks", 0) + 1

@kopf.on.event("configmaps", labels={"lamp": "yes"})
def seen(name, logger, **_):
    logger.info(f"saw {name}")
"""


@pytest.fixture
def operator(plane, kubectl, tmp_path) -> Iterator[subprocess.Popen[bytes]]:
    kubectl("apply", "-f", "-", stdin=json.dumps(CRD))
    kubectl("wait", "--for=condition=Established", "crd/lamps.kopf.example", "--timeout=10s")
    code = tmp_path / "operator.py"
    code.write_text(OPERATOR)
    log = (tmp_path / "log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "kopf", "run", "-A", "--verbose", str(code)],
        env={**os.environ, **plane.env}, stdout=log, stderr=log,
    )  # fmt: skip
    yield process
    process.terminate()
    process.wait(20)
    log.close()
    text = (tmp_path / "log").read_text()
    assert "Traceback" not in text, text[-3000:]


@pytest.mark.slow
def test_an_operator_s_whole_round(operator, kubectl, tmp_path):
    lamp = {"apiVersion": "kopf.example/v1", "kind": "Lamp", "metadata": {"name": "a"}, "spec": {"colour": "red"}}
    kubectl("apply", "-f", "-", stdin=json.dumps(lamp))
    kubectl("wait", "lamps/a", "--for=jsonpath={.status.colour}=red", "--timeout=30s")
    kubectl("patch", "lamp", "a", "--type=merge", "-p", '{"spec":{"colour":"green"}}')
    kubectl("wait", "lamps/a", "--for=jsonpath={.status.colour}=green", "--timeout=30s")
    found = json.loads(kubectl("get", "lamp", "a", "-o", "json"))
    assert found["metadata"]["finalizers"] == ["kopf.zalando.org/KopfFinalizerMarker"]
    assert found["metadata"]["generation"] == 2
    deadline = time.monotonic() + 20
    while json.loads(kubectl("get", "lamp", "a", "-o", "json"))["status"].get("ticks", 0) < 2:
        assert time.monotonic() < deadline, "the timer does not tick"
        time.sleep(0.2)
    assert "Lit" in kubectl("get", "events", "--field-selector=reason=Lit")
    kubectl("delete", "lamp", "a", "--timeout=20s")
    kubectl("create", "configmap", "noted")
    kubectl("label", "configmap", "noted", "lamp=yes")
    while "saw noted" not in (tmp_path / "log").read_text():
        assert time.monotonic() < deadline + 20, "the operator did not see the ConfigMap"
        time.sleep(0.1)
    assert operator.poll() is None
