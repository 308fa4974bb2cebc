"""VirtualMachine: a whole computer."""

from __future__ import annotations

from chandlery.driver.kind import Kind
from chandlery_kinds.virtualmachine.model import VirtualMachine
from chandlery_kinds.virtualmachine.references import references

KIND = Kind(
    model=VirtualMachine,
    drivers={
        "memory": "chandlery_kinds.virtualmachine.drivers.memory:VirtualMachineDriver",
        "local": "chandlery_kinds.virtualmachine.drivers.local:VirtualMachineDriver",
        "kubernetes": "chandlery_kinds.virtualmachine.drivers.kubernetes:VirtualMachineDriver",
    },
    references=references,
    operations=("snapshot", "power"),
    package=__name__,
)
