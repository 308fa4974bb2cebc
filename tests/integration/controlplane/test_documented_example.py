"""The example in docs/control-plane.md, as somebody who writes operators would try it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "control-plane.md"
OPERATOR = """
import kopf

@kopf.on.create("things")
def made(patch, **_):
    patch.status["ready"] = True
"""
CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: things, singular: thing, kind: Thing}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
"""
EXAMPLE = """
apiVersion: example.com/v1
kind: Thing
metadata: {name: example}
"""


@pytest.mark.skipif(not os.environ.get("CHANDLERY_HEAVY"), reason="starts an operator: with CHANDLERY_HEAVY=1")
def test_an_operator_is_tested_as_the_documentation_says(tmp_path: Path) -> None:
    conftest, test, *_ = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    files = {"conftest.py": conftest, "test_operator.py": test, "my_operator.py": OPERATOR}
    for name, text in (files | {"crd.yaml": CRD, "example.yaml": EXAMPLE}).items():
        (tmp_path / name).write_text(text)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "1 passed" in done.stdout
