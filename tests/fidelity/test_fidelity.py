"""Replays every recording against a fresh server; what once was equal must stay equal.

`results.json` holds the equal steps of each category. It may only rise: when more is equal than it says, the test
tells so, and `CHANDLERY_FIDELITY_UPDATE=1` writes the better numbers. Of a category that falls short, the scenarios
with differences are replayed once more: alone, and from the beginning of a second on, for what differs by chance
differs because the clock's second turned over in between, here as on a real server.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
LEAST_TOTAL, LEAST_EACH = 0.97, 0.90


Scenarios = dict[str, tuple[int, int]]
"""category/scenario -> (equal steps, steps)."""


def replay(folder: Path, *more: str) -> Scenarios:
    out = folder / "out.json"
    argv = [sys.executable, str(HERE / "run.py"), "--show", "40", "--json", str(out), *more]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=900, check=False)
    sys.stdout.write(done.stdout)
    if not out.exists():
        raise AssertionError(f"the replay did not finish:\n{done.stdout}\n{done.stderr}")
    return {row["scenario"]: (row["equal"], row["total"]) for row in json.loads(out.read_text())["scenarios"]}


def by_category(found: Scenarios) -> Scenarios:
    sums: Scenarios = {}
    for scenario, (equal, total) in found.items():
        category = scenario.partition("/")[0]
        before = sums.get(category, (0, 0))
        sums[category] = (before[0] + equal, before[1] + total)
    return sums


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_recording_is_answered_as_the_real_server_did(tmp_path):
    wanted: dict[str, int] = json.loads(RESULTS.read_text())
    scenarios = replay(tmp_path, "--jobs", "4")
    for category, (equal, _) in by_category(scenarios).items():
        if equal >= wanted.get(category, 0):
            continue
        for name, before in list(scenarios.items()):
            if name.startswith(f"{category}/") and before[0] < before[1]:
                again = replay(tmp_path, "--jobs", "1", "--align", "--only", name)[name]
                scenarios[name] = max(before, again)
    found = by_category(scenarios)
    if os.environ.get("CHANDLERY_FIDELITY_UPDATE"):
        better = {category: max(equal, wanted.get(category, 0)) for category, (equal, _) in sorted(found.items())}
        RESULTS.write_text(json.dumps(better, indent=2) + "\n")
    fallen = {c: (found[c][0], least) for c, least in wanted.items() if found[c][0] < least}
    assert not fallen, f"fewer steps are equal than were before (now, before): {fallen}"
    assert not {c for c, (equal, total) in found.items() if equal < LEAST_EACH * total}
    equal, total = (sum(pair[n] for pair in found.values()) for n in (0, 1))
    assert equal >= LEAST_TOTAL * total
