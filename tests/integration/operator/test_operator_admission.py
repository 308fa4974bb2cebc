"""Admission over a real API server: deletion protection, and what schema and CEL can't say."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry

from chandlery.foundation import x509
from chandlery.foundation.clock import FakeClock
from chandlery.reconcile.server import Listen, Server
from chandlery.reconcile.settings import LoopSettings


async def test_protection_is_refused_at_the_door_and_lifted(run, kubectl, namespace):
    manifest = {
        "apiVersion": "data.chandlery.dev/v1alpha1",
        "kind": "Cache",
        "metadata": {"name": "one", "namespace": namespace},
        "spec": {"memory": "64Mi", "deletionProtection": True},
    }
    async with run(webhook=Listen(port=0), lease_namespace=namespace):
        await kubectl("apply", "-f", "-", stdin=manifest)
        await kubectl("wait", "--for=condition=Ready", "cache/one", "-n", namespace, "--timeout=15s")
        said = await kubectl("delete", "cache", "one", "-n", namespace, ok=False)
        assert "spec.deletionProtection" in said
        assert "Set spec.deletionProtection to false first" in said
        manifest["spec"]["deletionProtection"] = False
        await kubectl("apply", "-f", "-", stdin=manifest)
        await kubectl("delete", "cache", "one", "-n", namespace, "--timeout=15s")


async def test_a_time_zone_that_does_not_exist_is_refused(run, kubectl, namespace):
    manifest = {
        "apiVersion": "data.chandlery.dev/v1alpha1",
        "kind": "Cache",
        "metadata": {"name": "one", "namespace": namespace},
        "spec": {"maintenanceWindow": {"start": "03:00", "timeZone": "Europe/Atlantis"}},
    }
    async with run(webhook=Listen(port=0), lease_namespace=namespace):
        said = await kubectl("apply", "-f", "-", stdin=manifest, ok=False)
        assert "spec.maintenanceWindow.timeZone" in said
        assert "must be a time zone of the IANA database" in said


async def test_a_class_with_a_misspelt_parameter_is_refused_with_the_nearest_name(run, kubectl, namespace):
    manifest = {
        "apiVersion": "platform.chandlery.dev/v1alpha1",
        "kind": "ResourceClass",
        "metadata": {"name": f"{namespace}-poor"},
        "spec": {"kind": "Cache", "driver": "memory", "parameters": {"unsuported": ["memory"]}},
    }
    async with run(webhook=Listen(port=0), lease_namespace=namespace):
        said = await kubectl("apply", "-f", "-", stdin=manifest, ok=False)
        assert "spec.parameters.unsuported" in said
        assert "did you mean unsupported?" in said
        manifest["spec"]["parameters"] = {"unsupported": ["memory"]}
        await kubectl("apply", "-f", "-", stdin=manifest)
        await kubectl("delete", "resourceclass", f"{namespace}-poor")


async def test_a_namespace_goes_with_what_is_protected_in_it(run, kubectl, namespace):
    """Nobody could lift the protection in time, so the resource stays, and the namespace ends."""
    manifest = {
        "apiVersion": "data.chandlery.dev/v1alpha1",
        "kind": "Cache",
        "metadata": {"name": "one", "namespace": namespace},
        "spec": {"memory": "64Mi", "deletionProtection": True},
    }
    quick = LoopSettings(namespace_deletion_wait=1.0)
    async with run(webhook=Listen(port=0), lease_namespace="default", loop=quick):
        await kubectl("apply", "-f", "-", stdin=manifest)
        await kubectl("wait", "--for=condition=Ready", "cache/one", "-n", namespace, "--timeout=60s")
        await kubectl("delete", "namespace", namespace, "--timeout=90s")


async def test_a_certificate_that_is_renewed_is_read_also_after_a_half_replaced_one(tmp_path):
    """As a kubelet brings cert-manager's: the folder behind both files changes between two reads."""
    now = datetime.now(UTC)
    authority = x509.make_ca("tests", now)
    pairs = [x509.issue(authority, ["localhost"], now) for _ in range(2)]
    where = Listen("127.0.0.1", 0, tmp_path / "tls.crt", tmp_path / "tls.key")

    def write(certificate, key):
        where.certificate.write_text(certificate)
        where.key.write_text(key)

    def shown():
        pem = ssl.get_server_certificate(("127.0.0.1", server.webhook_port), timeout=20)
        return [pem.strip() == pair.certificate.strip().split("\n-----BEGIN")[0] for pair in pairs]

    write(*pairs[0])
    clock = FakeClock()
    well = dict
    server = Server(
        registry=CollectorRegistry(),
        kinds={},
        live=well,
        ready=well,
        plain=Listen(port=None),
        webhook=where,
        clock=clock,
    )
    await server.start()
    try:
        assert await asyncio.to_thread(shown) == [True, False]
        write(pairs[1].certificate, pairs[0].key)
        await clock.advance(61)
        assert await asyncio.to_thread(shown) == [True, False]
        write(*pairs[1])
        await clock.advance(2)
        assert await asyncio.to_thread(shown) == [False, True]
    finally:
        await server.stop()
