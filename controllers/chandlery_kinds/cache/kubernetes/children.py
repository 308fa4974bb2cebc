"""All children of a cache by Valkey or Redis, in the order in which they are made."""

from __future__ import annotations

from chandlery.providers.kubernetes.pods import budget
from chandlery.providers.kubernetes.templates import Kept, keep
from chandlery.providers.kubernetes.types import Obj
from chandlery_kinds.cache.kubernetes.inputs import Inputs
from chandlery_kinds.cache.kubernetes.services import services
from chandlery_kinds.cache.kubernetes.statefulset import stateful_set


def workload(inputs: Inputs, live: Obj | None, *, upgrade: str = "") -> Kept:
    """The StatefulSet, with the pod template that it should have now."""
    return keep(stateful_set(inputs, inputs.spec.instances, live), live, inputs.asked, upgrade=upgrade)


def children(inputs: Inputs, config: Obj, stateful: Obj) -> list[Obj]:
    return [config, *services(inputs), *budget(inputs.owner, inputs.spec.instances), stateful]
