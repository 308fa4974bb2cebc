"""Virtual machines handed over to KubeVirt: refused without it, made with it, its statuses told as ours."""

from __future__ import annotations

import pytest
from foreign_crds import KUBEVIRT
from kubernetes_cluster import CRDS, eventually
from kubevirt import KubeVirt

from chandlery.providers.kubernetes.types import (
    CLAIMS,
    DATA_VOLUMES,
    KUBEVIRT_INSTANCES,
    KUBEVIRT_MACHINES,
    SECRETS,
    SERVICES,
)

SPEC = {
    "image": {"url": "https://images.example/debian.qcow2", "checksum": "sha256:" + "a" * 64},
    "rootDisk": {"size": "4Gi"},
    "disks": [{"name": "data", "size": "1Gi", "bus": "scsi"}],
    "memory": "512Mi",
    "firmware": "uefi",
    "network": {"forwards": [{"name": "ssh", "guestPort": 22}, {"name": "web", "guestPort": 80, "hostPort": 8080}]},
    "cloudInit": {"userData": "#cloud-config\nhostname: ship\n", "sshAuthorizedKeys": ["ssh-ed25519 AAAA me"]},
}
KINDS = (KUBEVIRT_MACHINES, KUBEVIRT_INSTANCES, DATA_VOLUMES, CLAIMS, SERVICES)


@pytest.fixture
async def kubevirt(kube):
    async with KubeVirt(kube.api, kube.namespace):
        yield kube
        for crd in KUBEVIRT:
            await kube.api.delete(CRDS, "", crd["metadata"]["name"])


async def left(kube):
    return sorted([o["metadata"]["name"] for k in KINDS for o in (await kube.api.list(k, kube.namespace)).items])


async def test_machines_are_kubevirts(kubevirt):
    kube = kubevirt
    await kube.apply("VirtualMachine", "ship", {**SPEC, "deletionPolicy": "Retain"})

    async def refused():
        found = await kube.get("VirtualMachine", "ship")
        return "KubeVirt" in str(found["status"]["conditions"])

    await eventually(refused)
    for crd in KUBEVIRT:
        await kube.api.apply(CRDS, crd)
    await kube.apply("VirtualMachine", "ship", {**SPEC, "deletionPolicy": "Retain"}, annotations={"seen": "yes"})
    status = await kube.ready("VirtualMachine", "ship", 60)

    made = await kube.get(KUBEVIRT_MACHINES, "ship-virtualmachine")
    guest = made["spec"]["template"]["spec"]
    assert made["spec"]["runStrategy"] == "Always"
    assert guest["domain"]["firmware"]["bootloader"] == {"efi": {"secureBoot": False}}
    assert [v["name"] for v in guest["volumes"]] == ["root", "data", "seed"]
    assert guest["readinessProbe"]["tcpSocket"] == {"port": 22}
    root = await kube.get(DATA_VOLUMES, "ship-virtualmachine-root")
    assert root["spec"]["source"] == {"http": {"url": SPEC["image"]["url"], "checksum": SPEC["image"]["checksum"]}}
    seed = await kube.secret("ship-virtualmachine-seed")
    assert seed["userdata"] == SPEC["cloudInit"]["userData"]
    assert status["mac"] in seed["networkdata"]
    assert (await kube.secret("ship-virtualmachine-ssh-keys")) == {"key-0": "ssh-ed25519 AAAA me"}
    [ssh, web] = (await kube.get(SERVICES, "ship-virtualmachine"))["spec"]["ports"]
    assert (ssh["port"], web["port"], web["targetPort"]) == (22, 8080, 80)

    assert status["powerState"] == "Running"
    assert (status["node"], status["address"]) == ("node-1", "10.0.0.7")
    assert status["guest"]["osName"] == "Debian GNU/Linux 13"

    async def attached():  # KubeVirt tells of its volumes when the guest runs already
        found = await kube.get("VirtualMachine", "ship")
        return [disk["name"] for disk in found["status"]["disks"] if disk["attached"]] == ["root", "data"]

    await eventually(attached)
    binding = await kube.secret("ship")
    assert binding["web-port"] == "8080"

    # more memory comes with a restart, which KubeVirt asks for; volumes are grown as they are
    first = (await kube.get(KUBEVIRT_INSTANCES, "ship-virtualmachine"))["metadata"]["uid"]
    bigger = {**SPEC, "memory": "1Gi", "rootDisk": {"size": "6Gi"}, "deletionPolicy": "Retain"}
    await kube.apply("VirtualMachine", "ship", bigger)

    async def restarted():
        found = await kube.get(KUBEVIRT_INSTANCES, "ship-virtualmachine")
        return found["metadata"]["uid"] != first and found["spec"]["domain"]["memory"]["guest"] == "1Gi"

    await eventually(restarted)
    await kube.ready("VirtualMachine", "ship")
    claim = await kube.get(CLAIMS, "ship-virtualmachine-root")
    assert claim["spec"]["resources"]["requests"]["storage"] == "6Gi"

    # off, and nothing of it is a fault
    await kube.apply("VirtualMachine", "ship", {**bigger, "runStrategy": "Halted"})

    async def off():
        found = (await kube.get("VirtualMachine", "ship"))["status"]
        return found["powerState"] == "Off" and found["phase"] == "Ready"

    await eventually(off)
    await kube.delete("VirtualMachine", "ship")
    assert await left(kube) == sorted(2 * ["ship-virtualmachine-data", "ship-virtualmachine-root"])
    assert await kube.api.get(SECRETS, kube.namespace, "ship-virtualmachine-seed") is None
