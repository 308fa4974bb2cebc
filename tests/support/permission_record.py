"""What drivers really asked of the API server in the integration tests, against what they declare.

The record is in tests/golden/permissions.txt: `group resource verb`, "core" for the core group. The integration tests
check that each request of theirs was allowed; with CHANDLERY_WRITE_GOLDEN=1 they add to the record (delete the file
first to be rid of what is no longer asked). A unit test compares the record with the declarations.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from chandlery.driver.permissions import Rule, permissions_of
from chandlery.reconcile import permissions
from chandlery_kinds import KINDS

RECORD = Path(__file__).parents[1] / "golden" / "permissions.txt"
_MEANS = {"apply": ("create", "patch")}
"""Verbs as authorisation has them: a server-side apply may create."""

Asked = set[tuple[str, str, str]]


def spread(rules: tuple[Rule, ...]) -> Asked:
    """(group, resource, verb) of rules."""
    return {(g or "core", r, v) for rule in rules for g in rule.groups for r in rule.resources for v in rule.verbs}


def drivers() -> Asked:
    """What the kubernetes drivers declare."""
    found: Asked = set()
    for kind in KINDS:
        if "kubernetes" in kind.drivers:
            found |= spread(permissions_of(kind.load_driver("kubernetes")))
    return found


def declared() -> Asked:
    """All that the operator may do."""
    found = drivers()
    for rules in (permissions.CLUSTER, permissions.NAMESPACED, permissions.HOME):
        found |= spread(tuple(rules))
    for kind in KINDS:
        found |= spread(tuple(permissions.of_kind(kind.names)))
    return found


def recorded() -> Asked:
    lines = RECORD.read_text().splitlines() if RECORD.exists() else []
    return {(words[0], words[1], words[2]) for line in lines if len(words := line.split()) == 3}


class Recorder:
    """Listens to what a client asks."""

    def __init__(self, api: Any) -> None:
        self.asked: Asked = set()
        ask, watch = api._ask, api.watch

        async def asking(verb: str, method: str, kind: Any, path: str, *rest: Any, **more: Any) -> Any:
            match = re.search(rf"/{kind.plural}/[^/]+/([a-z]+)$", path)
            resource = f"{kind.plural}/{match[1]}" if match else kind.plural
            verbs = ("patch",) if match else _MEANS.get(verb, (verb,))
            self.asked |= {(kind.group or "core", resource, one) for one in verbs}
            return await ask(verb, method, kind, path, *rest, **more)

        async def watching(kind: Any, *rest: Any, **more: Any) -> AsyncIterator[Any]:
            self.asked.add((kind.group or "core", kind.plural, "watch"))
            async for event in watch(kind, *rest, **more):
                yield event

        api._ask, api.watch = asking, watching

    def check(self) -> None:
        """Nothing was asked that isn't declared; what was asked goes on record when that is wanted."""
        if os.environ.get("CHANDLERY_WRITE_GOLDEN"):
            with RECORD.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                lines = sorted(" ".join(words) for words in recorded() | (self.asked & drivers()))
                RECORD.write_text("".join(f"{line}\n" for line in lines))
            RECORD.with_suffix(".lock").unlink(missing_ok=True)
        missing = self.asked - declared()
        assert not missing, f"asked for without being declared: {sorted(missing)}"
