"""What a pod asks for in all: sums over its containers.

Source: Kubernetes docs, "Resource Quotas", "Sidecar Containers" (resource sharing within containers).
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from chandlery.controlplane.builtins import quantity
from chandlery.controlplane.types import Obj

Usage = dict[str, tuple[Fraction, str]]
"""Resource name -> (amount, quantity format)."""


def add(total: Usage, more: Usage) -> None:
    for name, (amount, style) in more.items():
        known = total.get(name)
        total[name] = (amount, style) if known is None else (known[0] + amount, known[1])


def amounts(container: Obj, kind: str) -> Iterator[tuple[str, tuple[Fraction, str]]]:
    resources = (container.get("resources") or {}).get(kind) or {}
    for name, text in resources.items():
        yield name, quantity.parse(str(text))


def pod_resources(spec: Obj, kind: str) -> Usage:
    """Requests or limits of a pod: its containers together, or its largest init container when that is more.

    A sidecar (init container with restartPolicy Always) counts with the containers. Requests default to limits.
    """
    total: Usage = {}
    for container in spec.get("containers") or ():
        add(total, dict(amounts(container, kind)))
    sidecars: Usage = {}
    highest: Usage = {}
    for container in spec.get("initContainers") or ():
        own = dict(amounts(container, kind))
        if container.get("restartPolicy") == "Always":
            add(sidecars, own)
            own = dict(sidecars)
        else:
            add(own, sidecars)
        for name, amount in own.items():
            if name not in highest or highest[name][0] < amount[0]:
                highest[name] = amount
    add(total, sidecars)
    for name, amount in highest.items():
        if name not in total or total[name][0] < amount[0]:
            total[name] = amount
    for name, text in ((spec.get("resources") or {}).get(kind) or {}).items():
        if name in ("cpu", "memory") or name.startswith("hugepages-"):  # the pod's own word comes first
            total[name] = quantity.parse(str(text))
    for name, text in (spec.get("overhead") or {}).items():
        add(total, {name: quantity.parse(str(text))})
    return total
