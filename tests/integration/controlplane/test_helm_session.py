"""Charts with the real helm, 3 and 4: install, upgrade, rollback, uninstall, with and without --wait.

Binaries come from `CHANDLERY_HELM`, a list of paths separated by colons, else from hack/fetch-helm, else from PATH.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from helms import MAJORS, Helm, binary

CHART = {
    "Chart.yaml": "apiVersion: v2\nname: sample\nversion: 0.1.0\n",
    "values.yaml": "size: 1\n",
    "crds/crd.yaml": """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: sails.helm.example}
spec:
  group: helm.example
  scope: Namespaced
  names: {kind: Sail, plural: sails}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer}}}}}}
""",
    "templates/all.yaml": """
apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Release.Name }}-config"}
data: {size: "{{ .Values.size }}"}
---
apiVersion: v1
kind: Service
metadata: {name: "{{ .Release.Name }}-service"}
spec: {selector: {app: x}, ports: [{port: 80}]}
---
apiVersion: helm.example/v1
kind: Sail
metadata: {name: "{{ .Release.Name }}-sail"}
spec: {size: {{ .Values.size }}}
""",
}


@pytest.fixture(params=MAJORS)
def helm(request, plane, tmp_path) -> Helm:
    return Helm(binary(request.param), tmp_path, plane.env)


@pytest.fixture
def chart(tmp_path) -> Path:
    for name, text in CHART.items():
        path = tmp_path / "chart" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "chart"


@pytest.mark.parametrize("wait", [(), ("--wait", "--timeout=30s")], ids=["plain", "wait"])
def test_a_chart_s_life(helm, chart, kubectl, wait):
    name = f"rel{helm.major}-{'wait' if wait else 'plain'}"
    space = ("-n", f"helm-{name}")
    size = ("get", "cm", f"{name}-config", "-o", "jsonpath={.data.size}")
    helm(*space, "install", name, str(chart), "--create-namespace", *wait)
    assert kubectl(*space, *size) == "1"
    assert "deployed" in helm(*space, "list")
    helm(*space, "upgrade", name, str(chart), "--set", "size=2", *wait)
    assert kubectl(*space, *size) == "2"
    assert kubectl(*space, "get", "sails", f"{name}-sail", "-o", "jsonpath={.spec.size}") == "2"
    helm(*space, "rollback", name, "1", *wait)
    assert kubectl(*space, *size) == "1"
    assert "REVISION" in helm(*space, "history", name)
    assert "STATUS: deployed" in helm(*space, "status", name)
    helm(*space, "uninstall", name, *wait)
    assert "NotFound" in kubectl(*space, *size, check=False)
    assert kubectl(*space, "get", "secrets", "-l", "owner=helm", "-o", "name").strip() in ("", "No resources found")
