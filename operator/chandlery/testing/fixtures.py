"""pytest fixtures; take them into use with `pytest_plugins = ["chandlery.testing.fixtures"]`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chandlery.testing.control_plane import RunningControlPlane, start_control_plane


@pytest.fixture
def control_plane(tmp_path: Path) -> Iterator[RunningControlPlane]:
    """A fresh control plane for this test, in memory."""
    with start_control_plane(tmp_path / "control-plane") as plane:
        yield plane


@pytest.fixture(scope="session")
def control_plane_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningControlPlane]:
    """One control plane for all tests of this run: keep your tests apart by namespaces."""
    with start_control_plane(tmp_path_factory.mktemp("control-plane")) as plane:
        yield plane
