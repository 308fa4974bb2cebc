"""All children of a queue by NATS, in the order in which they are made."""

from __future__ import annotations

from collections.abc import Sequence

from chandlery.providers.kubernetes.metrics import metrics_children
from chandlery.providers.kubernetes.network import Doors, cidrs_of, network_policy
from chandlery.providers.kubernetes.pods import budget
from chandlery.providers.kubernetes.types import Obj
from chandlery_kinds.queue.kubernetes.config import Configuration, config
from chandlery_kinds.queue.kubernetes.inputs import CLUSTER_PORT, PORT, Inputs
from chandlery_kinds.queue.kubernetes.services import services


def children(
    inputs: Inputs, content: Configuration, stateful: Obj, more: Sequence[Obj] = (), *, monitors: bool = False
) -> list[Obj]:
    """Everything but what holds generated values; `more` is made before the pods."""
    spec, owner = inputs.spec, inputs.owner
    doors = Doors([PORT], members=[CLUSTER_PORT], metrics=[inputs.metrics_port] if inputs.metrics else [])
    return [
        config(inputs, content),
        *services(inputs),
        *metrics_children(owner, spec.metrics, inputs.metrics_port, monitors=monitors),
        *network_policy(owner, doors, cidrs=cidrs_of(spec.exposure), asked=inputs.parameters.network_policy),
        *budget(owner, spec.replicas),
        *more,
        stateful,
    ]
