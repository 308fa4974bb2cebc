"""What a LoadBalancer refers to: Secrets with certificates, and targets that move."""

from __future__ import annotations

from collections.abc import Iterator

from chandlery.model.base import Ref
from chandlery.model.references import ANY, distinct, secrets
from chandlery_kinds.loadbalancer.model import LoadBalancer
from chandlery_kinds.loadbalancer.pools import KIND_GROUPS


def references(obj: LoadBalancer) -> tuple[Ref, ...]:
    return distinct((*secrets(obj.spec), *_targets(obj)))


def _targets(obj: LoadBalancer) -> Iterator[Ref]:
    for pool in obj.spec.pools:
        for target in pool.targets:
            if target.service is not None:
                yield Ref(kind="Service", name=target.service.name)
            elif target.object is not None:
                yield target.object.ref
            elif target.machines is not None:
                yield Ref(group=KIND_GROUPS["VirtualMachine"], kind="VirtualMachine", name=ANY)
