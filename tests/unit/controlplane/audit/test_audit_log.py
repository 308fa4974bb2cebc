"""The audit log: one line a change, digests instead of content, bounded files."""

import asyncio
import json
import stat
from pathlib import Path
from typing import Any

from chandlery.controlplane.audit import AuditLog
from chandlery.controlplane.types import UserInfo

SECRET = {"kind": "Secret", "metadata": {"name": "s", "managedFields": [1]}, "data": {"password": "aHVudGVyMg=="}}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def record(log: AuditLog, **more: Any) -> None:
    base = {"user": UserInfo("ann", groups=("devs",)), "verb": "create", "path": "/api/v1/x?token=abc", "code": 201}
    log.record(**{**base, "decision": "allow", "resource": "secrets", "namespace": "n", "name": "s", **more})


def test_a_change_is_written_with_actor_object_and_digests(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.log")
    record(log, after=SECRET)
    record(log, after={**SECRET, "metadata": {"name": "s"}})
    record(log, verb="update", before=SECRET, after={**SECRET, "data": {}})
    log.close()
    first, second, third = lines(tmp_path / "audit.log")
    assert first["user"] == "ann"
    assert first["objectRef"] == {"resource": "secrets", "namespace": "n", "name": "s"}
    assert first["after"] == second["after"], "managedFields are not content"
    assert third["before"] == first["after"] != third["after"]
    text = (tmp_path / "audit.log").read_text()
    assert "aHVudGVyMg" not in text
    assert "token=abc" not in text
    assert stat.S_IMODE((tmp_path / "audit.log").stat().st_mode) == 0o600


def test_reads_are_written_only_when_refused(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.log")
    record(log, verb="get", code=200)
    record(log, verb="get", code=403, decision="forbid", reason="no rule")
    log.close()
    (only,) = lines(tmp_path / "audit.log")
    assert (only["decision"], only["reason"]) == ("forbid", "no rule")


def test_the_files_rotate_and_old_ones_go(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.log", max_bytes=1000, keep=2)
    for number in range(40):
        record(log, name=f"s{number}")
    log.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "audit.log",
        "audit.log.1",
        "audit.log.2",
        "audit.log.key",
    ]
    kept = [line["objectRef"]["name"] for n in (".2", ".1", "") for line in lines(tmp_path / f"audit.log{n}")]
    assert kept == [f"s{number}" for number in range(40 - len(kept), 40)], "in order, the newest last"
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())


async def test_lines_are_flushed_soon_without_being_asked(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.log")
    record(log)
    async with asyncio.timeout(5):
        while not lines(tmp_path / "audit.log"):
            await asyncio.sleep(0.01)
    log.close()


def test_digests_of_secrets_cannot_be_tried_out(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        log = AuditLog(tmp_path / folder / "audit.log")
        record(log, after=SECRET)
        record(log, resource="configmaps", after=SECRET)
        log.close()
    one, two = lines(tmp_path / "one" / "audit.log"), lines(tmp_path / "two" / "audit.log")
    assert one[0]["after"] != two[0]["after"], "another control plane has another key"
    assert one[1]["after"] == two[1]["after"]


def test_a_new_process_appends(tmp_path: Path) -> None:
    for _ in range(2):
        log = AuditLog(tmp_path / "audit.log")
        record(log)
        log.close()
    assert len(lines(tmp_path / "audit.log")) == 2
