"""NATS servers with TLS of their own: what a client that checks the certificate sees."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta

import nats
import nats.errors
import pytest
from local_harness import Harness, until

from chandlery.foundation import x509
from chandlery.foundation.errors import DependencyNotReady
from chandlery_kinds.queue.drivers.local import QueueDriver
from chandlery_kinds.queue.model import Queue

pytestmark = pytest.mark.engine
STORAGE = {"size": "64Mi"}


@pytest.fixture
async def local(tmp_path):
    made = Harness(tmp_path / "data", QueueDriver(), Queue)
    yield made
    await made.close()


async def quiet(_):
    """What matters is raised."""


def trusting(entries, **options):
    context = ssl.create_default_context(cadata=entries["ca.crt"])
    if "chain" in options:
        context.load_cert_chain(options["chain"])
    return context


async def connect(entries, **options):
    """As an application would: the certificate's name is checked."""
    tls = trusting(entries, **options) if entries["uri"].startswith("tls:") else None
    more = {"tls": tls} if tls else {}
    return await nats.connect(entries["uri"], allow_reconnect=False, connect_timeout=10, error_cb=quiet, **more)


async def works(entries, **options):
    try:
        connection = await connect(entries, **options)
    except (nats.errors.Error, ssl.SSLError, OSError):
        return False
    await connection.jetstream().publish(entries["subject"], b"hello", timeout=10)
    await connection.close()
    return True


async def shown(entries):
    """The certificate that the server shows, as bytes: NATS speaks first, then TLS."""
    reader, writer = await asyncio.open_connection(entries["host"], int(entries["port"]))
    await reader.readline()
    await writer.start_tls(trusting(entries), server_hostname=entries["host"])
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return der


async def test_a_client_that_checks_everything_gets_in_and_a_plain_one_does_not(local):
    seen = await local.converge(local.object(storage=STORAGE, tls={}))
    entries = seen.binding.entries
    assert entries["uri"].startswith("tls://")
    assert await works(entries)
    reader, writer = await asyncio.open_connection(entries["host"], int(entries["port"]))
    assert b'"tls_required":true' in await reader.readline()
    writer.close()
    other = x509.make_ca("somebody else", datetime.now(UTC))
    assert not await works({**entries, "ca.crt": other.certificate})


async def test_tls_is_switched_on_and_renewed_with_clients_connected(local):
    obj = local.object(storage=STORAGE)
    before = await local.converge(obj)
    plain = await connect(before.binding.entries)
    obj = local.changed(obj, tls={})
    seen = await local.converge(obj)
    assert {cost for _, cost in local.plans} <= {"none", "reload"}
    entries = seen.binding.entries
    assert await works(entries)
    await plain.flush(timeout=10)
    held = await connect(entries)
    first = await shown(entries)

    record = local.instance(obj).record
    record["tls"]["renew_at"] = (datetime.now(UTC) - timedelta(days=1)).timestamp()
    local.instance(obj).save()
    seen = await local.converge(obj)
    assert ("spec.tls", "reload") in local.plans
    renewed = seen.binding.entries
    assert renewed["ca.crt"] == entries["ca.crt"]

    async def other_certificate():
        return await shown(renewed) != first

    await until(other_certificate, 30)
    await held.flush(timeout=10)
    await plain.flush(timeout=10)
    await held.close()
    await plain.close()


async def test_clients_show_certificates_and_given_ones_are_awaited(local, tmp_path):
    now = datetime.now(UTC)
    ca = x509.make_ca("the company", now)
    given = x509.issue(ca, ["127.0.0.1"], now)
    chain = tmp_path / "client.pem"
    chain.write_text(x509.make_certificate(ca, ["till"], now, client=True))
    tls = {
        "certificateSecret": {"name": "given"},
        "clientCaSecret": {"name": "clients"},
        "clientAuthentication": "required",
    }
    obj = local.object(storage=STORAGE, tls=tls)
    local.reader.secrets["default", "clients"] = {"ca.crt": ca.certificate.encode()}
    with pytest.raises(DependencyNotReady, match="the Secret given isn't there"):
        await local.driver.create(local.ctx, obj)
    local.reader.secrets["default", "given"] = {
        "tls.crt": given.certificate.encode(),
        "tls.key": given.key.encode(),
        "ca.crt": ca.certificate.encode(),
    }
    seen = await local.converge(obj)
    entries = seen.binding.entries
    assert entries["ca.crt"] == ca.certificate
    assert await works(entries, chain=chain)
    assert not await works(entries)


async def test_a_guest_speaks_the_tls_of_its_broker(local):
    orders = local.object(storage=STORAGE, tls={})
    guest = local.object(brokerRef={"name": "demo"})
    guest = guest.model_copy(update={"metadata": guest.metadata.model_copy(update={"name": "guest"})})
    local.reader.objects["Queue", "default", "demo"] = orders.model_dump(by_alias=True, exclude_none=True, mode="json")
    host, seen = await asyncio.gather(local.converge(orders), local.converge(guest))
    assert seen.binding.entries["ca.crt"] == host.binding.entries["ca.crt"]
    assert await works(seen.binding.entries)


async def test_the_port_of_the_spec_is_followed(local):
    first = local.provider.ports.choose()
    obj = local.object(storage=STORAGE, exposure={"port": first})
    seen = await local.converge(obj)
    assert seen.endpoint.port == first
    second = local.provider.ports.choose()
    seen = await local.converge(local.changed(obj, exposure={"port": second}))
    assert ("spec.exposure.port", "restart") in local.plans
    assert seen.endpoint.port == second
    assert await works(seen.binding.entries)
