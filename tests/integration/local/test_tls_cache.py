"""Caches that speak TLS: what a client of redis-py sees."""

import random
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis.asyncio as redis
from local_harness import Harness, kill, until

from chandlery.foundation import x509
from chandlery.providers.local.ports import DEFAULT_RANGE, Ports
from chandlery_kinds.cache.drivers.local import CacheDriver
from chandlery_kinds.cache.model import Cache

pytestmark = pytest.mark.engine


@pytest.fixture
async def local(tmp_path):
    made = Harness(tmp_path / "data", CacheDriver(), Cache)
    yield made
    await made.close()


def client(binding, **options):
    if "ca.crt" in binding.entries:
        options["ssl_ca_data"] = binding.entries["ca.crt"]
    return redis.from_url(binding.entries["uri"], decode_responses=True, **options)


def given(ca, *names):
    made = x509.issue(ca, names, datetime.now(UTC))
    return {"tls.crt": made.certificate.encode(), "tls.key": made.key.encode(), "ca.crt": ca.certificate.encode()}


def authority(name="given"):
    return x509.make_ca(name, datetime.now(UTC))


def serial(port):
    """The certificate that the server shows a new client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), 10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as wrapped,
    ):
        return wrapped.getpeercert(binary_form=True)


async def test_the_binding_leads_to_a_cache_that_speaks_tls_only(local):
    obj = local.object(tls={}, exposure={"hostname": "cache.example.com"}, users=[{"name": "app"}])
    seen = await local.converge(obj)
    assert seen.binding.entries["uri"].startswith("rediss://")
    for binding in (seen.binding, *seen.user_bindings.values()):
        async with client(binding) as cache:
            assert await cache.set("greeting", "ahoy")
    certificate = ssl.DER_cert_to_PEM_cert(serial(seen.endpoint.port))
    assert x509.names_of(certificate) == {"127.0.0.1", "::1", "localhost", "cache.example.com"}
    plain = seen.binding.entries["uri"].replace("rediss:", "redis:")
    async with redis.from_url(plain) as stranger:
        with pytest.raises(redis.ConnectionError):
            await stranger.ping()
    assert "plain-uri" not in seen.binding.entries
    async with redis.from_url(seen.binding.entries["uri"], ssl_ca_data=authority().certificate) as doubtful:
        with pytest.raises(redis.ConnectionError, match=r"(?i)certificate"):
            await doubtful.ping()
    folder = local.instance(obj).config_dir / "tls"
    assert {path.stat().st_mode & 0o077 for path in folder.iterdir()} == {0}


async def test_a_certificate_is_renewed_in_time_and_no_connection_breaks(local):
    obj = local.object(tls={})
    seen = await local.converge(obj)
    before = serial(seen.endpoint.port)
    async with client(seen.binding, single_connection_client=True) as cache:
        identity = await cache.client_id()
        instance = local.instance(obj)
        instance.record["tls"]["renew_at"] = 0
        instance.save()
        seen = await local.converge(obj)
        assert local.plans == [("spec.tls", "reload")]
        await until(lambda: serial(seen.endpoint.port) != before, 30)
        assert await cache.client_id() == identity
    async with client(seen.binding) as cache:  # by the same CA
        assert await cache.ping()


async def test_a_given_certificate_is_used_and_followed_when_it_changes(local):
    ca = authority()
    obj = local.object(tls={"certificateSecret": {"name": "mine"}})
    with pytest.raises(AssertionError, match=r"spec\.tls\.certificateSecret: the Secret mine isn't there"):
        await local.converge(obj, seconds=0.2)
    local.reader.secrets["default", "mine"] = {"tls.crt": b"x"}
    with pytest.raises(AssertionError, match=r"the Secret mine has no tls\.key"):
        await local.converge(obj, seconds=0.2)
    local.reader.secrets["default", "mine"] = given(ca, "127.0.0.1") | {"tls.key": given(ca, "x")["tls.key"]}
    with pytest.raises(AssertionError, match=r"isn't the key of tls\.crt"):
        await local.converge(obj, seconds=0.2)
    local.reader.secrets["default", "mine"] = given(ca, "127.0.0.1")
    seen = await local.converge(obj)
    assert seen.binding.entries["ca.crt"] == ca.certificate
    async with client(seen.binding, single_connection_client=True) as cache:
        identity = await cache.client_id()
        before = serial(seen.endpoint.port)
        local.reader.secrets["default", "mine"] = given(ca, "127.0.0.1", "other.example.com")
        await local.converge(obj)
        await until(lambda: serial(seen.endpoint.port) != before, 30)
        assert await cache.client_id() == identity


async def test_clients_show_certificates_where_they_must(local, tmp_path):
    ca = authority("clients")
    local.reader.secrets["default", "clients"] = {"ca.crt": ca.certificate.encode()}
    obj = local.object(tls={"clientCaSecret": {"name": "clients"}, "clientAuthentication": "required"})
    seen = await local.converge(obj)
    async with client(seen.binding) as nobody:
        with pytest.raises((redis.RedisError, OSError)):
            await nobody.ping()
    mine = x509.issue(ca, [], datetime.now(UTC), client=True, common_name="app")
    (tmp_path / "app.crt").write_text(mine.certificate)
    (tmp_path / "app.key").write_text(mine.key)
    files = {"ssl_certfile": str(tmp_path / "app.crt"), "ssl_keyfile": str(tmp_path / "app.key")}
    async with client(seen.binding, **files) as app:
        assert await app.ping()
    optional = local.changed(obj, tls={"clientCaSecret": {"name": "clients"}, "clientAuthentication": "optional"})
    seen = await local.converge(optional)

    async def welcome():
        async with client(seen.binding) as nobody:
            return await nobody.ping()

    assert await welcome()


async def test_an_old_protocol_version_is_refused(local):
    seen = await local.converge(local.object(tls={"minimumVersion": "1.3"}))
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", seen.endpoint.port), 10) as plain,
        pytest.raises((ssl.SSLError, OSError)),
    ):
        old.wrap_socket(plain)
    async with client(seen.binding) as cache:
        assert await cache.ping()


async def test_tls_is_switched_on_and_off_without_a_restart(local):
    obj = local.object()
    seen = await local.converge(obj)
    async with client(seen.binding) as cache:
        await cache.set("kept", "yes")
    pid = local.instance(obj).process("node-0").state().pid
    seen = await local.converge(local.changed(obj, tls={"required": False}))
    assert {cost for _, cost in local.plans} <= {"none", "reload"}
    async with client(seen.binding) as cache, redis.from_url(seen.binding.entries["plain-uri"]) as plain:
        assert await cache.get("kept") == "yes"
        assert await plain.get("kept") == b"yes"
    seen = await local.converge(obj)
    async with client(seen.binding) as cache:
        assert await cache.get("kept") == "yes"
    assert local.instance(obj).process("node-0").state().pid == pid
    assert local.instance(obj).process_names() == ("node-0",)


async def test_a_copy_takes_over_behind_the_same_port(local):
    obj = local.object(mode="replicated", replicas=1, tls={})
    seen = await local.converge(obj)
    async with client(seen.binding) as cache:
        await cache.set("kept", "yes")
        await cache.wait(1, 5000)
    await kill(local.instance(obj).process("node-0").state().pid)
    again = await local.converge(obj)
    assert (again.facts["primary"], again.endpoint.port) == ("node-1", seen.endpoint.port)
    async with client(again.binding) as cache:
        assert await cache.get("kept") == "yes"
    reader = client(again.binding)
    reader.connection_pool.connection_kwargs["port"] = again.endpoint.read_port
    async with reader:
        assert await reader.get("kept") == "yes"


async def test_the_front_comes_back_and_nothing_is_left_after_deletion(local):
    obj = local.object(tls={})
    seen = await local.converge(obj)
    instance = local.instance(obj)
    await kill(instance.process("tls-front").state().pid)
    again = await local.converge(obj)
    assert again.endpoint == seen.endpoint
    async with client(again.binding) as cache:
        assert await cache.ping()
    await local.delete(obj)
    left = [path for path in Path("/proc").glob("[0-9]*/environ") if instance.name.encode() in readable(path)]
    assert left == []


def readable(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


async def test_the_port_of_the_spec_is_taken_and_followed(local, free_ports):
    first, second = free_ports(2)
    obj = local.object(exposure={"port": first})
    seen = await local.converge(obj)
    assert seen.endpoint.port == first
    async with client(seen.binding, single_connection_client=True) as cache:
        await cache.set("kept", "yes")
        obj = local.changed(obj, exposure={"port": second})
        seen = await local.converge(obj)
        assert seen.endpoint.port == second
        assert await cache.get("kept") == "yes"
    secured = await local.converge(local.changed(obj, tls={}))
    assert secured.endpoint.port == second
    async with client(secured.binding) as cache:
        assert await cache.get("kept") == "yes"


async def test_other_machines_are_let_in_on_request_only(local, free_ports):
    """The engines listen on 127.0.0.1: who comes by another address of this machine comes as others would."""
    first, second = free_ports(2)
    obj = local.object()
    await local.converge(obj)
    obj = local.changed(obj, exposure={"type": "NodePort", "nodePort": first})
    seen = await local.converge(obj)
    assert seen.binding.entries["node-port"] == str(first)

    async def ask(port, **options):
        password = seen.binding.entries["password"]
        async with redis.Redis(host="127.0.0.2", port=port, password=password, **options) as cache:
            return await cache.ping()

    assert await ask(first)
    closed = {"type": "NodePort", "nodePort": first, "allowedCidrs": ["10.1.2.0/24"]}
    await local.converge(local.changed(obj, exposure=closed))

    async def refused():
        try:
            return not await ask(first)
        except (redis.RedisError, OSError):
            return True

    await until(refused, 30)
    opened = {"type": "NodePort", "nodePort": second, "allowedCidrs": ["10.1.2.0/24", "127.0.0.0/8"]}
    seen = await local.converge(local.changed(obj, exposure=opened, tls={}))
    authority = {"ssl": True, "ssl_ca_data": seen.binding.entries["ca.crt"], "ssl_check_hostname": False}
    assert await ask(second, **authority)
    seen = await local.converge(local.changed(obj, exposure={}))
    assert "node-port" not in seen.binding.entries
    assert local.instance(obj).process_names() == ("node-0",)
    assert "outside" not in local.instance(obj).ports


async def test_a_port_that_another_has_is_named(local, free_ports):
    (wanted,) = free_ports(1)
    obj = local.object()
    await local.converge(obj)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", wanted))
        other.listen()
        moved = local.changed(obj, exposure={"port": wanted})
        with pytest.raises(AssertionError, match=f"port {wanted} is taken"):
            await local.converge(moved, seconds=0.2)
    assert (await local.converge(moved)).endpoint.port == wanted


@pytest.fixture
def free_ports():
    """Ports that nobody has, away from those that instances claim."""
    low = random.randint(DEFAULT_RANGE[1] - 5000, DEFAULT_RANGE[1] - 2500)
    ports = Ports(lambda: (), (low, DEFAULT_RANGE[1] - 2000))
    return lambda count: [ports.choose() for _ in range(count)]


SHARDED = {"mode": "sharded", "shards": 3}


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"tls": {"issuerRef": {"name": "internal"}}}, "spec.tls.issuerRef"),
        ({"tls": {"required": False}, **SHARDED}, "spec.tls.required"),
        ({"tls": {}, "engine": "redis", **SHARDED}, "spec.tls.enabled"),
        ({"exposure": {"type": "LoadBalancer"}}, "spec.exposure.type"),
        ({"exposure": {"type": "NodePort"}, **SHARDED}, "spec.exposure.type"),
        ({"exposure": {"allowedCidrs": ["10.0.0.0/8"]}}, "spec.exposure.allowedCidrs"),
        ({"deletionPolicy": "Snapshot"}, "spec.deletionPolicy"),
        ({"metrics": {}}, "spec.metrics"),
    ],
)
def test_what_it_cant_do_is_refused_by_name(local, spec, field):
    assert [item.field for item in local.driver.unsupported(local.object(**spec), {})] == [field]
