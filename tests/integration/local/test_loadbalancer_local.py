"""Load balancers as real HAProxy processes: what a client sees."""

import asyncio
import contextlib
import os
import random
import signal
import ssl

import aiohttp
import psutil
import pytest
from aiohttp import web
from local_harness import Harness, kill, until

from chandlery.foundation.errors import ChandleryError
from chandlery.providers.local import pids
from chandlery.providers.local.ports import DEFAULT_RANGE, Ports
from chandlery_kinds.loadbalancer.drivers.local import LoadBalancerDriver
from chandlery_kinds.loadbalancer.model import LoadBalancer

pytestmark = pytest.mark.engine


@pytest.fixture
async def local(tmp_path):
    made = Harness(tmp_path / "data", LoadBalancerDriver(), LoadBalancer)
    yield made
    await made.close()


@pytest.fixture
def port():
    """Free ports, in a place by chance: HAProxy shares a port with whoever else took it in the same moment."""
    first = DEFAULT_RANGE[0] + 100 * random.randrange((DEFAULT_RANGE[1] - DEFAULT_RANGE[0]) // 100)
    return Ports(lambda: (), (first, first + 99)).choose


@pytest.fixture
async def backends():
    """Starts HTTP servers that say their name; ends them all."""
    runners = []

    async def start(name, number=0, delay=0.0):
        async def answer(request):
            await asyncio.sleep(delay)
            headers = {k.lower(): v for k, v in request.headers.items()}
            return web.json_response({"name": name, "path": request.path_qs, "headers": headers})

        application = web.Application()
        application.router.add_route("*", "/{rest:.*}", answer)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", number)
        await site.start()
        runners.append(runner)
        return runner.addresses[0][1]

    yield start
    for runner in runners:
        await runner.cleanup()


async def get(url, **options):
    async with aiohttp.ClientSession() as session, session.get(url, **options) as answer:
        with contextlib.suppress(aiohttp.ContentTypeError):
            return answer.status, await answer.json()
        return answer.status, await answer.text()


CHECK = {
    "type": "http",
    "path": "/healthz",
    "interval": "100ms",
    "timeout": "100ms",
    "healthyThreshold": 1,
    "unhealthyThreshold": 20,  # a busy machine answers late now and then
}


def target(name, port, **more):
    return {"name": name, "address": "127.0.0.1", "port": port, **more}


async def test_two_targets_share_the_traffic_and_a_dead_one_gets_none(local, port, backends):
    ports = [await backends("a"), await backends("b")]
    spec = {
        "listeners": [{"name": "web", "port": port(), "protocol": "HTTP", "pool": "app"}],
        "pools": [{"name": "app", "healthCheck": CHECK, "targets": [target("a", ports[0]), target("b", ports[1])]}],
    }
    obj = local.object(**spec)
    seen = await local.converge(obj)
    url = seen.binding.entries["uri"]

    async def both():
        return {(await get(url))[1]["name"] for _ in range(4)} == {"a", "b"}

    await until(both)
    spec["pools"][0]["targets"].append(target("dead", port()))
    obj = local.changed(obj, **spec)
    await local.converge(obj)
    assert {cost for _, cost in local.plans} == {"none"}, "a target is added without a reload"

    async def known():
        observed = await local.driver.observe(local.ctx, obj)
        members = {m["name"]: m["healthy"] for m in observed.facts["pools"][0]["members"]}
        return members == {"a": True, "b": True, "dead": False}

    await until(known)


async def test_no_request_fails_while_targets_come_and_go_and_the_configuration_changes(local, port, backends):
    ports = [await backends(name) for name in "abc"]
    spec = {
        "listeners": [{"name": "web", "port": port(), "protocol": "HTTP", "pool": "app"}],
        "pools": [{"name": "app", "healthCheck": CHECK, "targets": [target("a", ports[0])]}],
    }
    obj = local.object(**spec)
    seen = await local.converge(obj)
    url, failed, count = seen.binding.entries["uri"], [], 0

    async def served():
        return (await get(url))[0] == 200

    await until(served)
    stop = asyncio.Event()

    async def ask():
        nonlocal count
        async with aiohttp.ClientSession() as session:
            while not stop.is_set():
                try:
                    async with session.get(url) as answer:
                        await answer.read()
                        if answer.status != 200:
                            failed.append(answer.status)
                except aiohttp.ClientError as error:
                    failed.append(repr(error))
                count += 1

    clients = [asyncio.create_task(ask()) for _ in range(4)]
    try:
        for pool, timeouts in (
            ([("a", 0), ("b", 1)], {}),
            ([("b", 1), ("c", 2)], {}),
            ([("b", 1), ("c", 2)], {"client": "40s"}),
            ([("c", 2)], {"client": "40s"}),
            ([("a", 0), ("c", 2)], {"client": "45s"}),
        ):
            spec["pools"][0]["targets"] = [target(name, ports[index]) for name, index in pool]
            obj = local.changed(obj, **spec, timeouts=timeouts)
            await local.converge(obj)
            before = count
            await until(lambda before=before: count > before + 200, 60)
    finally:
        stop.set()
        await asyncio.gather(*clients)
    assert count > 1000
    assert failed == []


async def test_routes_by_host_path_header_and_weight(local, port, backends):
    ports = {name: await backends(name) for name in ("site", "api", "canary")}
    pools = [{"name": n, "healthCheck": {"enabled": False}, "targets": [target("t", ports[n])]} for n in ports]
    obj = local.object(
        listeners=[{"name": "web", "port": port(), "protocol": "HTTP", "pool": "site"}],
        pools=pools,
        routes=[
            {
                "name": "api",
                "path": {"value": "/api"},
                "replacePrefix": "/v1",
                "backends": [{"pool": "api"}],
                "requestHeaders": {"set": [{"name": "X-From", "value": "100% balancer"}]},
                "responseHeaders": {"set": [{"name": "X-Seen", "value": "yes"}]},
            },
            {"name": "exact", "path": {"type": "Exact", "value": "/api/exact"}, "backends": [{"pool": "site"}]},
            {"name": "wild", "hostnames": ["*.shop.test"], "backends": [{"pool": "canary"}]},
            {"name": "old", "path": {"value": "/old"}, "redirect": {"path": "/new", "status": 301}},
            {
                "name": "split",
                "path": {"value": "/split"},
                "backends": [{"pool": "api", "weight": 1}, {"pool": "canary", "weight": 1}],
            },
        ],
    )
    url = (await local.converge(obj)).binding.entries["uri"]
    status, answer = await get(f"{url}/api/users?x=1")
    assert (status, answer["name"], answer["path"]) == (200, "api", "/v1/users?x=1")
    assert answer["headers"]["x-from"] == "100% balancer"
    assert (await get(f"{url}/api/exact"))[1]["name"] == "site"
    assert (await get(f"{url}/apiary"))[1]["name"] == "site", "a prefix ends at a slash"
    assert (await get(url, headers={"Host": "a.shop.test"}))[1]["name"] == "canary"
    assert (await get(url, headers={"Host": "a.b.shop.test"}))[1]["name"] == "site", "* stands for one part"
    async with aiohttp.ClientSession() as session, session.get(f"{url}/old/x", allow_redirects=False) as redirect:
        assert (redirect.status, redirect.headers["Location"]) == (
            301,
            f"{url}/new",
        )
    assert {(await get(f"{url}/split"))[1]["name"] for _ in range(40)} == {"api", "canary"}


async def test_https_with_a_certificate_of_its_own_and_then_a_given_one(local, port, backends):
    from datetime import UTC, datetime

    from chandlery.foundation import x509

    obj = local.object(
        listeners=[{"name": "web", "port": port(), "protocol": "HTTPS", "pool": "app", "hostnames": ["shop.test"]}],
        pools=[{"name": "app", "healthCheck": {"enabled": False}, "targets": [target("a", await backends("a"))]}],
    )
    seen = await local.converge(obj)
    url, host = f"https://127.0.0.1:{seen.endpoint.port}", {"Host": "shop.test"}
    trusted = ssl.create_default_context(cadata=seen.binding.entries["ca.crt"])
    assert (await get(url, headers=host, ssl=trusted))[0] == 200
    with pytest.raises(aiohttp.ClientError):
        await get(url, headers=host)
    assert (await get(url, headers={"Host": "other.test"}, ssl=trusted))[0] == 404

    ca = x509.make_ca("given", datetime.now(UTC))
    pem = x509.make_certificate(ca, ["127.0.0.1", "shop.test"], datetime.now(UTC))
    chain, _, key = pem.partition("-----BEGIN PRIVATE KEY")
    local.reader.secrets["default", "given"] = {
        "tls.crt": chain.encode(),
        "tls.key": f"-----BEGIN PRIVATE KEY{key}".encode(),
    }
    listener = obj.model_dump(by_alias=True, exclude_none=True, mode="json")["spec"]["listeners"][0]
    obj = local.changed(obj, listeners=[{**listener, "tls": {"certificateSecrets": [{"name": "given"}]}}])
    seen = await local.converge(obj)
    assert {cost for _, cost in local.plans} == {"reload"}
    assert (await get(url, headers=host, ssl=ssl.create_default_context(cadata=ca[0])))[0] == 200
    assert seen.facts["listeners"][0]["certificateExpires"] == f"{x509.expires(pem):%Y-%m-%dT%H:%M:%SZ}"

    # Plain clients are led to the port where HTTPS is, not to their own.
    plain = {"name": "plain", "port": port(), "protocol": "HTTP", "redirectToHttps": True}
    away = {"name": "away", "port": port(), "protocol": "HTTP"}
    route = {"name": "r", "listeners": ["away"], "redirect": {"scheme": "https", "status": 308}}
    listeners = obj.model_dump(by_alias=True, exclude_none=True, mode="json")["spec"]["listeners"]
    await local.converge(local.changed(obj, listeners=[*listeners, plain, away], routes=[route]))
    async with aiohttp.ClientSession() as session:
        for each in (plain, away):
            asked = f"http://127.0.0.1:{each['port']}/a?b=c"
            async with session.get(asked, headers={"Host": f"shop.test:{each['port']}"}, allow_redirects=False) as led:
                assert led.headers["Location"] == f"https://shop.test:{seen.endpoint.port}/a?b=c"


async def test_limits_networks_and_rates(local, port, backends):
    free = port(block=2)
    pool = {"name": "app", "healthCheck": {"enabled": False}, "targets": [target("a", await backends("a"))]}
    obj = local.object(
        listeners=[
            {
                "name": "web",
                "port": free,
                "protocol": "HTTP",
                "pool": "app",
                "rateLimit": {"requests": 5, "period": "1h"},
            },
            {"name": "closed", "port": free + 1, "protocol": "HTTP", "pool": "app", "allowedCidrs": ["10.0.0.0/8"]},
        ],
        pools=[pool],
    )
    await local.converge(obj)
    codes = [(await get(f"http://127.0.0.1:{free}"))[0] for _ in range(8)]
    assert codes == [200] * 5 + [429] * 3
    with pytest.raises(aiohttp.ClientError):
        await get(f"http://127.0.0.1:{free + 1}")


async def test_targets_by_reference_follow_the_objects(local, port, backends):
    first, second = await backends("first"), await backends("second")
    machine = {
        "metadata": {"name": "vm"},
        "status": {"forwards": [{"name": "http", "guestPort": 80, "hostPort": first}]},
    }
    local.reader.objects["VirtualMachine", "default", "vm"] = machine
    obj = local.object(
        listeners=[{"name": "web", "port": port(), "protocol": "HTTP", "pool": "vms"}],
        pools=[
            {
                "name": "vms",
                "healthCheck": {"enabled": False},
                "targets": [{"name": "vm", "object": {"kind": "VirtualMachine", "name": "vm"}, "port": 80}],
            }
        ],
    )
    url = (await local.converge(obj)).binding.entries["uri"]
    assert (await get(url))[1]["name"] == "first"
    machine["status"]["forwards"][0]["hostPort"] = second
    await local.converge(obj)
    assert {cost for _, cost in local.plans} == {"none"}
    assert (await get(url))[1]["name"] == "second"


async def test_tcp_passes_bytes_through(local, port):
    async def echo(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server:
        number = server.sockets[0].getsockname()[1]
        obj = local.object(
            listeners=[{"name": "raw", "port": port(), "protocol": "TCP", "pool": "echo"}],
            pools=[{"name": "echo", "targets": [target("a", number)]}],
        )
        seen = await local.converge(obj)
        reader, writer = await asyncio.open_connection("127.0.0.1", seen.endpoint.port)
        writer.write(b"ahoy\n")
        assert await reader.readline() == b"ahoy\n"
        writer.close()
        await writer.wait_closed()


async def test_killed_it_is_back_and_deleted_it_is_gone(local, port, backends):
    obj = local.object(
        listeners=[{"name": "web", "port": port(), "protocol": "HTTP", "pool": "app"}],
        pools=[{"name": "app", "healthCheck": {"enabled": False}, "targets": [target("a", await backends("a"))]}],
    )
    seen = await local.converge(obj)
    process = local.instance(obj).process("haproxy")
    await kill(process.state().pid)
    await local.restart_operator()
    again = await local.converge(obj)
    assert again.endpoint == seen.endpoint
    assert (await get(again.binding.entries["uri"]))[0] == 200
    pid = local.instance(obj).process("haproxy").state().pid
    await local.delete(obj)
    assert pids.start_time(pid) is None
    assert not local.instance(obj).root.exists()
    with pytest.raises(aiohttp.ClientError):
        await get(again.binding.entries["uri"])


async def test_a_missing_certificate_secret_is_named(local, port):
    tls = {"certificateSecrets": [{"name": "nowhere"}]}
    obj = local.object(
        listeners=[{"name": "web", "port": port(), "protocol": "HTTPS", "pool": "app", "tls": tls}],
        pools=[{"name": "app"}],
    )
    with pytest.raises(ChandleryError) as caught:
        await local.driver.create(local.ctx, obj)
    message = caught.value.condition_message()
    assert "spec.listeners[web].tls.certificateSecrets[0]" in message
    assert "nowhere" in message


def alive_in_group(group):
    """Processes of a group that aren't dead."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


async def test_several_processes_share_the_ports_and_take_over_when_one_dies(local, port, backends):
    ports = [await backends("a"), await backends("b")]
    spec = {
        "replicas": 3,
        "listeners": [{"name": "web", "port": port(), "protocol": "HTTP", "pool": "app"}],
        "pools": [{"name": "app", "healthCheck": CHECK, "targets": [target("a", ports[0])]}],
    }
    obj = local.object(**spec)
    await local.converge(obj)

    async def all_serve():
        seen = await local.converge(obj)
        members = seen.facts["pools"][0]["members"]
        return seen if seen.facts["readyReplicas"] == 3 and all(m["healthy"] for m in members) else None

    seen = await until(all_serve)
    url = seen.binding.entries["uri"]
    # a target is added live in each of them
    spec["pools"][0]["targets"] = [target("b", ports[1])]
    obj = local.changed(obj, **spec)
    await local.converge(obj)
    assert {cost for _, cost in local.plans} == {"none"}

    async def only_b():
        return {(await get(url))[1].get("name") for _ in range(20)} == {"b"}

    await until(only_b)
    group = local.instance(obj).process("haproxy-1").state().pid
    os.killpg(group, signal.SIGKILL)
    await until(lambda: not alive_in_group(group))
    assert [(await get(url))[0] for _ in range(40)] == [200] * 40  # nobody has mended anything yet
    observed = await local.driver.observe(local.ctx, obj)
    assert (observed.ready, observed.facts["readyReplicas"]) == (True, 2)
    await until(all_serve)
    obj = local.changed(obj, replicas=1)
    seen = await local.converge(obj)
    assert (seen.facts["replicas"], local.instance(obj).process_names()) == (1, ("haproxy",))
    assert (await get(url))[0] == 200
    await local.delete(obj)
    assert not local.instance(obj).root.exists()
