"""Admission over a real API server: deletion protection, and what schema and CEL can't say."""

from __future__ import annotations

from chandlery.reconcile.server import Listen


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
