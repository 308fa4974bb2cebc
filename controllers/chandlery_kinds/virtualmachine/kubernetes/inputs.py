"""What the manifests of a virtual machine are made from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from chandlery.foundation.errors import InvalidSpec
from chandlery.providers.kubernetes.ownership import Owner
from chandlery_kinds.virtualmachine.model import VirtualMachine, VirtualMachineSpec
from chandlery_kinds.virtualmachine.parameters import MachineParameters
from chandlery_kinds.virtualmachine.power import POWER_ANNOTATION
from chandlery_kinds.virtualmachine.spec_parts import RunStrategy


@dataclass(frozen=True, slots=True)
class Source:
    """An image to fill a volume with."""

    url: str
    checksum: str


@dataclass(frozen=True, slots=True)
class Inputs:
    """The spec, whose children they are, and what class and annotations say."""

    owner: Owner
    spec: VirtualMachineSpec
    image: Source
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, obj: VirtualMachine, parameters: MachineParameters) -> Inputs:
        """Raises:
        InvalidSpec: the class knows no image of this name.
        """
        annotations = dict(obj.metadata.annotations or {})
        return cls(Owner.of(obj, "kubevirt"), obj.spec, _image(obj.spec, parameters), annotations)

    @property
    def mac(self) -> str:
        """From namespace and name, so that it survives recreation."""
        if self.spec.network.mac is not None:
            return str(self.spec.network.mac)
        octets = hashlib.sha256(f"{self.owner.namespace}/{self.owner.name}".encode()).digest()[:3]
        return "52:54:00:" + ":".join(f"{octet:02x}" for octet in octets)

    @property
    def hostname(self) -> str:
        """Of the guest: one label, which an object's name needn't be."""
        name = self.owner.name
        return str(self.spec.cloud_init.hostname or (name if "." not in name and len(name) <= 63 else self.owner.base))

    @property
    def run_strategy(self) -> str:
        """In KubeVirt's words. Its own Manual is for its command line: ours follows the annotation."""
        strategy = self.spec.run_strategy
        if strategy is RunStrategy.MANUAL:
            asked = self.annotations.get(POWER_ANNOTATION, "").strip().capitalize()
            return "Always" if asked == "On" else "Halted"
        return strategy.value


def _image(spec: VirtualMachineSpec, parameters: MachineParameters) -> Source:
    if spec.image.url is not None:
        return Source(str(spec.image.url), str(spec.image.checksum))
    known = parameters.images
    name = str(spec.image.name)
    if name not in known:
        there = ", ".join(sorted(known)) or "none"
        raise InvalidSpec(
            "the class has no image of this name",
            field="spec.image.name",
            value=name,
            hint=f"Its parameter images has: {there}. Choose one of them, or give url and checksum.",
        )
    return Source(known[name].url, known[name].checksum)
