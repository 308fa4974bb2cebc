"""What a VirtualMachine refers to: Secrets, and the machine whose snapshot it begins with."""

from __future__ import annotations

from chandlery.model.base import Ref
from chandlery.model.references import distinct, secrets
from chandlery_kinds.virtualmachine.model import VirtualMachine


def references(obj: VirtualMachine) -> tuple[Ref, ...]:
    found = list(secrets(obj.spec))
    if obj.spec.restore_from is not None:
        found.append(Ref(group=obj.names.group, kind=obj.names.kind, name=obj.spec.restore_from.machine.name))
    return distinct(found)
