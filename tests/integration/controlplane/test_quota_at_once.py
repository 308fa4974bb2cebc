"""A quota holds for objects that are made at the same moment: those on their way to the disk count too."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from chandlery.controlplane.plane import ControlPlane
from chandlery.controlplane.settings import ControlPlaneSettings
from chandlery.controlplane.types import ApiError, UserInfo

ADMIN = UserInfo("admin", groups=("system:masters", "system:authenticated"))


async def count(plane: ControlPlane, quota: dict[str, str], objects: list[tuple[str, Any]]) -> tuple[int, list[str]]:
    """(how many of the objects were made, why the others weren't), all asked for at once."""
    api = plane.api
    assert api is not None
    body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": "default"}}
    await api.create("", "resourcequotas", {**body, "spec": {"hard": quota}}, user=ADMIN, manager="test")
    made = await asyncio.gather(
        *(api.create("", plural, obj, user=ADMIN, manager="test") for plural, obj in objects), return_exceptions=True
    )
    refused = [answer for answer in made if isinstance(answer, ApiError)]
    assert all(isinstance(answer, ApiError | dict) for answer in made), made
    return len(made) - len(refused), [error.message for error in refused]


def claim(name: str, size: str) -> Any:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    meta = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec}


def secret(name: str) -> Any:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "default"}}


@pytest.mark.parametrize("store", ["sqlite", "memory"])
async def test_no_more_are_made_than_the_quota_has(tmp_path: Path, store: Any) -> None:
    async with ControlPlane(ControlPlaneSettings(tmp_path, store=store)) as plane:
        objects = [("secrets", secret(f"s{number}")) for number in range(30)]
        made, refused = await count(plane, {"count/secrets": "7"}, objects)
        assert made == 7
        assert all("exceeded quota: q, requested: count/secrets=1" in text for text in refused)
        # what was refused for another reason, or has gone, gives its share back
        assert plane.api is not None
        with pytest.raises(ApiError, match="exceeded quota"):
            await plane.api.create("", "secrets", secret("s0"), user=ADMIN, manager="test")
        await plane.api.delete("", "secrets", "default", "s0", user=ADMIN)
        await plane.api.create("", "secrets", secret("another"), user=ADMIN, manager="test")


async def test_no_more_is_taken_than_the_quota_has(tmp_path: Path) -> None:
    async with ControlPlane(ControlPlaneSettings(tmp_path, store="sqlite")) as plane:
        objects = [("persistentvolumeclaims", claim(f"c{number}", "300Mi")) for number in range(12)]
        made, refused = await count(plane, {"requests.storage": "1Gi"}, objects)
        assert made == 3
        assert all("exceeded quota: q, requested: requests.storage=300Mi" in text for text in refused)
