"""VirtualMachine: a whole computer."""

from __future__ import annotations

from chandlery.driver.kind import Kind
from chandlery_kinds.virtualmachine.model import VirtualMachine

KIND = Kind(
    model=VirtualMachine,
    drivers={
        "memory": "chandlery_kinds.virtualmachine.drivers.memory:VirtualMachineDriver",
        "local": "chandlery_kinds.virtualmachine.drivers.local:VirtualMachineDriver",
    },
    operations=("snapshot", "power"),
    package=__name__,
)
