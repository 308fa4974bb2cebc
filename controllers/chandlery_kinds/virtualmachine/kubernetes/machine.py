"""The VirtualMachine of KubeVirt.

Source: the KubeVirt API reference, kubevirt.io/v1.
"""

from __future__ import annotations

from typing import Any

from chandlery.foundation.validation.quantity import Quantity
from chandlery.providers.kubernetes.pods import placement
from chandlery.providers.kubernetes.types import KUBEVIRT_MACHINES, Obj
from chandlery_kinds.virtualmachine.kubernetes.inputs import Inputs
from chandlery_kinds.virtualmachine.kubernetes.seed import KEYS, SEED
from chandlery_kinds.virtualmachine.kubernetes.volumes import ROOT, volume_suffix
from chandlery_kinds.virtualmachine.model import Architecture
from chandlery_kinds.virtualmachine.spec_parts import DiskBus, Firmware, ForwardProtocol, NetworkMode

_ARCHITECTURES = {Architecture.X86_64: "amd64", Architecture.AARCH64: "arm64"}
NIC = "nic0"


def machine(inputs: Inputs) -> Obj:
    """The manifest."""
    spec, owner = inputs.spec, inputs.owner
    template: dict[str, Any] = {
        "architecture": _ARCHITECTURES[spec.architecture],
        "domain": _domain(inputs),
        "networks": [_network(inputs)],
        "volumes": _volumes(inputs),
        "terminationGracePeriodSeconds": int(spec.shutdown_timeout.seconds),
        "hostname": inputs.hostname,
        **placement(owner, spec.placement),
    }
    probe = _probe(inputs)
    if probe:
        template["readinessProbe"] = probe
    if spec.cloud_init.ssh_authorized_keys:
        source = {"secret": {"secretName": owner.base + KEYS}}
        template["accessCredentials"] = [{"sshPublicKey": {"source": source, "propagationMethod": {"noCloud": {}}}}]
    return owner.child(
        KUBEVIRT_MACHINES,
        spec={
            "runStrategy": inputs.run_strategy,
            "template": {"metadata": {"labels": owner.labels}, "spec": template},
        },
    )


def _domain(inputs: Inputs) -> dict[str, Any]:
    spec = inputs.spec
    disks: list[dict[str, Any]] = [{"name": ROOT, "disk": {"bus": DiskBus.VIRTIO.value}, "bootOrder": 1}]
    for disk in spec.disks:
        device: dict[str, Any] = {"bus": disk.bus.value}
        if disk.read_only:
            device["readonly"] = True
        disks.append({"name": str(disk.name), "disk": device, "serial": str(disk.name)[:20]})
    disks.append({"name": "seed", "disk": {"bus": DiskBus.VIRTIO.value}})
    binding = "masquerade" if spec.network.mode is NetworkMode.USER else "bridge"
    found: dict[str, Any] = {
        # sockets can be added to a machine that runs, where the cluster allows that
        "cpu": {"sockets": spec.cpus, "cores": 1, "threads": 1},
        "memory": {"guest": str(Quantity(str(spec.memory)))},
        "firmware": {"uuid": inputs.owner.uid},
        "devices": {
            "disks": disks,
            "interfaces": [{"name": NIC, binding: {}, "macAddress": inputs.mac}],
            "rng": {},
        },
    }
    if spec.firmware is not Firmware.BIOS:
        secure = spec.firmware is Firmware.UEFI_SECURE
        found["firmware"]["bootloader"] = {"efi": {"secureBoot": secure}}
        if secure:
            found["features"] = {"smm": {"enabled": True}}
    return found


def _network(inputs: Inputs) -> dict[str, Any]:
    network = inputs.spec.network
    if network.mode is NetworkMode.USER:
        return {"name": NIC, "pod": {}}
    return {"name": NIC, "multus": {"networkName": str(network.bridge)}}


def _volumes(inputs: Inputs) -> list[dict[str, Any]]:
    names = [ROOT, *(str(disk.name) for disk in inputs.spec.disks)]
    base = inputs.owner.base
    found: list[dict[str, Any]] = [{"name": name, "dataVolume": {"name": base + volume_suffix(name)}} for name in names]
    seed = {"secretRef": {"name": base + SEED}, "networkDataSecretRef": {"name": base + SEED}}
    return [*found, {"name": "seed", "cloudInitNoCloud": seed}]


def _probe(inputs: Inputs) -> dict[str, Any]:
    """What makes a guest ready: its agent, or that it accepts connections where the first forward leads."""
    if inputs.spec.guest_agent.required:
        return {"guestAgentPing": {}, "periodSeconds": 5, "failureThreshold": 3, "timeoutSeconds": 5}
    for forward in inputs.spec.network.forwards:
        if forward.protocol is ForwardProtocol.TCP:
            return {"tcpSocket": {"port": forward.guest_port}, "periodSeconds": 5, "timeoutSeconds": 3}
    return {}
