"""Virtual machines on Kubernetes: handed over to KubeVirt and its importer of images, and told back as our own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from chandlery.driver.permissions import Rule
from chandlery.driver.protocol import DriverContext, Unsupported
from chandlery.foundation.errors import FailedPrecondition
from chandlery.model.base import DeletionPolicy
from chandlery.providers.kubernetes.driver import KubernetesDriver, Pass, child_rules
from chandlery_kinds.virtualmachine.drivers.kubernetes_kubevirt import CRDS, KubeVirtMachine
from chandlery_kinds.virtualmachine.model import VirtualMachine
from chandlery_kinds.virtualmachine.parameters import MachineParameters
from chandlery_kinds.virtualmachine.power import POWER_ANNOTATION
from chandlery_kinds.virtualmachine.spec_parts import NetworkMode

_NO_FILES = "a cluster has no files: give an http or https URL"


class VirtualMachineDriver(KubernetesDriver[VirtualMachine, MachineParameters]):
    """The `kubernetes` driver of VirtualMachine."""

    parameters: ClassVar[type[MachineParameters]] = MachineParameters
    permissions: ClassVar[tuple[Rule, ...]] = (
        *child_rules(
            ("", ("services", "secrets")),
            ("kubevirt.io", ("virtualmachines",)),
            ("cdi.kubevirt.io", ("datavolumes",)),
        ),
        Rule(("kubevirt.io",), ("virtualmachineinstances",), ("list", "watch", "delete")),
        Rule(("",), ("pods",), ("list", "watch")),
        Rule(("",), ("persistentvolumeclaims",), ("list", "watch", "patch", "delete")),
        Rule(("apiextensions.k8s.io",), ("customresourcedefinitions",), ("get",)),
    )

    def refused(self, obj: VirtualMachine, parameters: MachineParameters) -> Iterator[Unsupported]:
        spec = obj.spec
        if spec.root_disk is None:
            yield Unsupported("spec.rootDisk", "unset", "a volume on Kubernetes needs its size: set rootDisk.size")
        if spec.image.kernel is not None:
            yield Unsupported("spec.image.kernel", "set", "KubeVirt takes kernels from container images only")
        if str(spec.image.url or "").startswith("file:"):
            yield Unsupported("spec.image.url", str(spec.image.url), _NO_FILES)
        for disk in spec.disks:
            if disk.source is not None and str(disk.source.url).startswith("file:"):
                where = f"spec.disks[{disk.name}].source.url"
                yield Unsupported(where, str(disk.source.url), _NO_FILES)
        if spec.network.mode is NetworkMode.USER and spec.network.address is not None:
            why = "a guest behind its pod gets its address from KubeVirt; use mode bridge for one of its own"
            yield Unsupported("spec.network.address", str(spec.network.address), why)
        if spec.snapshots.named or spec.snapshots.schedule is not None:
            yield Unsupported("spec.snapshots", "set", "snapshots of machines on Kubernetes are not taken yet")
        if spec.restore_from is not None:
            yield Unsupported("spec.restoreFrom", "set", "machines on Kubernetes can't begin with a snapshot yet")
        if spec.deletion_policy is DeletionPolicy.SNAPSHOT:
            yield Unsupported(
                "spec.deletionPolicy", "Snapshot", "snapshots of machines on Kubernetes are not taken yet"
            )
        if spec.exposure.allowed_cidrs and spec.exposure.type.value != "LoadBalancer":
            why = "only a Service of type LoadBalancer can restrict who connects to a machine"
            yield Unsupported("spec.exposure.allowedCidrs", "set", why)
        if (obj.metadata.annotations or {}).get(POWER_ANNOTATION, "").strip().capitalize() == "Paused":
            why = "KubeVirt pauses by its own command only: virtctl pause vm"
            yield Unsupported(f"metadata.annotations[{POWER_ANNOTATION}]", "Paused", why)

    async def begin(self, ctx: DriverContext, obj: VirtualMachine) -> Pass:
        missing = [crd for crd in CRDS if not await ctx.provider.served(crd)]
        if missing and not obj.metadata.deletion_timestamp:
            names = " and ".join(CRDS[crd] for crd in missing)
            raise FailedPrecondition(
                f"virtual machines on Kubernetes are run by {names}, which this cluster doesn't have (no {missing[0]})",
                hint="Install KubeVirt and its Containerized Data Importer (https://kubevirt.io); this object goes on "
                "by itself then.",
                retry_after=30.0,
            )
        return await KubeVirtMachine.of(ctx, obj, served=not missing)
