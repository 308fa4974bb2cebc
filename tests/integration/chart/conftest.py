"""Helm, 3 and 4, for the chart's tests."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from charts import CHART, Obj, documents
from helms import Helm, binary


@pytest.fixture(scope="session")
def helm4(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(binary("4"), tmp_path_factory.mktemp("helm4"))


@pytest.fixture(scope="session")
def helm3(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(binary("3"), tmp_path_factory.mktemp("helm3"))


@pytest.fixture(scope="session")
def render(helm4: Helm, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Obj]]:
    """What `helm template` makes of some values."""

    def made(values: Obj | None = None, *flags: str, helm: Helm = helm4) -> list[Obj]:
        path: Path = tmp_path_factory.mktemp("values") / "values.yaml"
        path.write_text(json.dumps(values or {}))
        done = helm.run("template", "rel", str(CHART), "-n", "chandlery-system", "-f", str(path), *flags)
        assert done.returncode == 0, done.stderr
        return documents(done.stdout)

    return made
