"""The life of an object: made, changed, broken, repaired, deleted; for every kind."""

from __future__ import annotations

import pytest

from chandlery_kinds import KINDS

ALL = [kind.name for kind in KINDS]


@pytest.mark.parametrize("kind", ALL)
async def test_becomes_ready_with_three_writes_and_a_secret(stage, kind):
    await stage.start()
    await stage.apply(kind)
    status = await stage.ready(kind)
    assert status["phase"] == "Ready"
    assert status["driver"] == "memory"
    assert status["className"] == f"{kind.lower()}-default"
    secret = await stage.secret()
    assert secret["type"].startswith("servicebinding.io/")
    assert {"type", "provider", "host", "port", "uri"} <= set(secret["data"])
    assert status["binding"]["name"] == "one"
    writes = [w for w in stage.writes() if w[1] in {kind, "Secret"} and w[0] != "create"]
    assert [w[:2] for w in writes] == [
        ("json_patch", kind),
        ("apply", "Secret"),
        ("apply", kind),
        ("apply", kind),
    ], writes


@pytest.mark.parametrize("kind", ALL)
async def test_deleted_without_a_trace(stage, kind):
    await stage.start()
    await stage.apply(kind)
    await stage.ready(kind)
    await stage.delete(kind)
    await stage.until(lambda obj: obj is None, kind)
    assert stage.world.everything() == []
    assert await stage.secret() is None
