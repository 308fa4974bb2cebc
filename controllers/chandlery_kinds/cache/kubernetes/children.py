"""All children of a cache by Valkey or Redis, in the order in which they are made."""

from __future__ import annotations

from collections.abc import Sequence

from chandlery.providers.kubernetes.metrics import metrics_children
from chandlery.providers.kubernetes.network import Doors, cidrs_of, network_policy
from chandlery.providers.kubernetes.pods import budget
from chandlery.providers.kubernetes.templates import Kept, keep
from chandlery.providers.kubernetes.types import Obj
from chandlery_kinds.cache.kubernetes.inputs import TLS_PORT, Inputs
from chandlery_kinds.cache.kubernetes.services import services
from chandlery_kinds.cache.kubernetes.statefulset import stateful_set


def workload(
    inputs: Inputs, live: Obj | None, *, instances: int | None = None, upgrade: str = "", suffix: str = ""
) -> Kept:
    """The StatefulSet, with the pod template that it should have now.

    Args:
        inputs: of all of it.
        live: as it is.
        instances: how many pods, where that isn't what the spec asks for yet.
        upgrade: as `keep` has it.
        suffix: of its name.
    """
    count = inputs.spec.instances if instances is None else instances
    return keep(stateful_set(inputs, count, live, suffix), live, inputs.asked, upgrade=upgrade)


def children(
    inputs: Inputs, config: Obj, stateful: Obj | Sequence[Obj], more: Sequence[Obj] = (), *, monitors: bool = False
) -> list[Obj]:
    """Everything but what holds generated values; `more` is made before the pods."""
    spec, owner = inputs.spec, inputs.owner
    sets = [stateful] if isinstance(stateful, dict) else stateful
    clients = [inputs.port, *([TLS_PORT] if inputs.tls is not None and not inputs.only_tls else [])]
    doors = Doors(
        clients,
        members=[inputs.port + 10000] if inputs.sharded else [],
        metrics=[inputs.metrics_port] if inputs.metrics else [],
    )
    return [
        config,
        *services(inputs),
        *metrics_children(owner, spec.metrics, inputs.metrics_port, monitors=monitors),
        *network_policy(owner, doors, cidrs=cidrs_of(spec.exposure), asked=inputs.parameters.network_policy),
        *budget(owner, spec.instances),
        *more,
        *sets,
    ]
