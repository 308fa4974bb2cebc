"""A driver that somebody else installed: found by its entry point, held against the contract, used by the loop."""

from __future__ import annotations

import itertools
import sys
import tomllib
from pathlib import Path

import pytest

from chandlery.driver import kind as kind_module
from chandlery.driver.contract import CHECKS
from chandlery.driver.instrumented import Deadlines
from chandlery.driver.protocol import DriverContext
from chandlery.foundation.clock import FakeClock
from chandlery.foundation.context import Context
from chandlery.foundation.errors import NotSupported
from chandlery.reconcile.drivers import Drivers
from chandlery.reconcile.metrics import Metrics
from chandlery_kinds import KINDS

EXAMPLE = Path(__file__).parents[2] / "example_driver"
QUEUE = next(kind for kind in KINDS if kind.name == "Queue")


@pytest.fixture(autouse=True)
def installed(tmp_path, monkeypatch):
    """What an installer leaves behind: the module on the path, and the metadata that names the entry point."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    info = tmp_path / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in entries.items())
        for group, entries in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(EXAMPLE / "src"))
    kind_module._third_party.cache_clear()
    yield
    kind_module._third_party.cache_clear()
    sys.modules.pop("acme_chandlery", None)


def test_it_is_listed_and_loaded_by_name():
    assert "spool" in QUEUE.driver_names()
    assert QUEUE.load_driver("spool").__name__ == "SpoolDriver"
    with pytest.raises(KeyError):
        next(kind for kind in KINDS if kind.name == "Cache").load_driver("spool")


def test_a_refusal_names_the_drivers_that_can():
    obj = SpoolHarness(Path("/nowhere")).make(users=[{"name": "app", "rights": ["publish"]}])
    refused = Drivers(Metrics(), Deadlines()).refusal(QUEUE, "spool", obj, {})
    assert isinstance(refused, NotSupported)
    assert "spec.users" in refused.condition_message()
    assert "memory" in refused.condition_message()


class Never(BaseException):
    """This driver is not interrupted: it makes no calls to be counted."""


class SpoolHarness:
    crash = Never
    uids = itertools.count(1)

    def __init__(self, folder):
        self.folder = folder
        self.clock = FakeClock()

    def driver(self):
        return QUEUE.load_driver("spool")()

    def context(self, obj):
        return DriverContext(Context(clock=self.clock), None, None, {"directory": str(self.folder)})

    def make(self, **spec):
        meta = {"name": "one", "namespace": "shop", "uid": f"uid-{next(self.uids)}", "generation": 1}
        names = QUEUE.names
        raw = {"apiVersion": names.api_version, "kind": names.kind, "metadata": meta, "spec": spec, "status": {}}
        return QUEUE.model.model_validate(raw)

    def change(self):
        return {"retention": {"maxMessages": 100}}

    def crash_at(self, call, when):
        return

    def heal(self):
        return

    def calls(self):
        return 0

    def inventory(self):
        return {str(p): p.read_text() if p.is_file() else "" for p in self.folder.rglob("*") if p.name != "nothing"}

    async def wait(self, seconds):
        await self.clock.advance(seconds)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_it_keeps_the_contract(check, tmp_path):
    folder = tmp_path / "spools"
    folder.mkdir()
    await check(SpoolHarness(folder))
