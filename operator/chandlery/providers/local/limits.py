"""What drivers do about limits: what a spec allows each process, what differs, and what status says of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from chandlery.driver.protocol import Difference, Disruption, Observation
from chandlery.foundation.validation.quantity import Quantity
from chandlery.model.base import Condition, ConditionStatus
from chandlery.providers.local.cgroups import LEAST_QUOTA, PERIOD, Allowance
from chandlery.providers.local.files import in_words
from chandlery.providers.local.instance import Instance
from chandlery.providers.local.process import Process

LIMITS = "limits"
"""First word of the payload of a difference in limits; the second is the process's name."""
ENFORCED = "LimitsEnforced"
SUFFICIENT = "MemorySufficient"
REMEMBER_SECONDS = 3600.0
"""So long status speaks of a process that was ended for want of memory."""
_ROUNDING = 1 << 16
"""The kernel rounds to whole pages."""

Allowed = Callable[[str], Allowance]


def asked(resources: Any) -> Allowance:
    """What `resources.limits` of a spec says."""
    limits = resources.limits if resources is not None else None
    if limits is None:
        return Allowance()
    cpu = float(Quantity(limits.cpu)) if limits.cpu else None
    return Allowance(limits.memory.bytes if limits.memory is not None else None, cpu)


def in_short(allowance: Allowance) -> str:
    """Such as "512 MiB of memory, 0.5 cores"."""
    parts = [f"{in_words(allowance.memory)} of memory"] if allowance.memory is not None else []
    if allowance.cpu is not None:
        parts.append("1 core" if allowance.cpu == 1 else f"{allowance.cpu:g} cores")
    return ", ".join(parts)


def with_limits(instance: Instance, seen: Observation, own_way: str) -> Observation:
    """An observation with what differs in limits, and what is to be said of them.

    Args:
        instance: whose `allowance` is what the spec says now.
        seen: what else was found.
        own_way: how the engine keeps to its limits by itself, a sentence.
    """
    if not seen.exists:
        return seen
    processes = [instance.process(name) for name in instance.process_names()]
    running = [process for process in processes if process.state().running]
    allowed = {process.name: instance.allowance(process.name) for process in processes}
    found = [each for process in running for each in _differences(process, allowed[process.name], seen.differences)]
    conditions = list(seen.conditions)
    if any(allowed.values()):
        limited = [process for process in running if allowed[process.name]]
        conditions.append(_enforced(instance, limited, allowed, own_way))
        conditions.append(_sufficient(instance, [process for process in processes if allowed[process.name]]))
    return replace(seen, differences=(*seen.differences, *found), conditions=tuple(conditions))


def _differences(process: Process, allowance: Allowance, others: Sequence[Difference]) -> list[Difference]:
    known = process.instance.provider.cgroups.controllers if allowance or process.limits.groups else {}
    if not known or process.limits.why_not:
        return []
    actual = process.limits.actual() or Allowance()
    found = []
    if "memory" in known and not _same(allowance.memory, actual.memory):
        less = allowance.memory is not None and (actual.memory is None or allowance.memory < actual.memory)
        # less room only together with what makes the engine need less
        cost = max((each.disruption for each in others), default=Disruption.NONE) if less else Disruption.NONE
        found.append(_difference(process, "memory", _bytes(allowance.memory), _bytes(actual.memory), cost))
    if "cpu" in known and _quota(allowance.cpu) != _quota(actual.cpu):
        found.append(_difference(process, "cpu", _cores(allowance.cpu), _cores(actual.cpu), Disruption.NONE))
    return found


def _difference(process: Process, name: str, desired: str, actual: str, cost: Disruption) -> Difference:
    field = f"spec.resources.limits.{name} of {process.name}"
    return Difference(field, desired, actual, cost, payload=(LIMITS, process.name))


def _same(one: int | None, other: int | None) -> bool:
    return one == other if one is None or other is None else abs(one - other) < _ROUNDING


def _quota(cpu: float | None) -> int | None:
    return None if cpu is None else max(LEAST_QUOTA, round(cpu * PERIOD))


def _bytes(size: int | None) -> str:
    return in_words(size) if size is not None else "none"


def _cores(cpu: float | None) -> str:
    return f"{cpu:g}" if cpu is not None else "none"


# -- acting


def split(changes: Sequence[Difference]) -> tuple[list[str], tuple[Difference, ...]]:
    """The processes whose limits a plan changes, and the rest of the plan."""
    mine = [each for each in changes if isinstance(each.payload, tuple) and each.payload[:1] == (LIMITS,)]
    names = list(dict.fromkeys(each.payload[1] for each in mine))
    return names, tuple(each for each in changes if each not in mine)


def raise_limits(instance: Instance, names: Sequence[str]) -> None:
    """What gets more gets it before anything else is done: the engine may be about to need it."""
    for name in names:
        process = instance.process(name)
        new, old = instance.allowance(name), process.limits.actual()
        if old is not None and old.memory is not None and (new.memory is None or new.memory >= old.memory):
            process.limits.change(new)


def set_limits(instance: Instance, names: Sequence[str]) -> None:
    """Raises `Unavailable` as `ProcessLimits.change` does."""
    for name in names:
        instance.process(name).limits.change(instance.allowance(name))


# -- telling


def _enforced(instance: Instance, limited: Sequence[Process], allowed: dict[str, Allowance], own: str) -> Condition:
    groups = instance.provider.cgroups
    wants = {name for each in allowed.values() for name in ("memory", "cpu") if getattr(each, name) is not None}
    missing = sorted(name for name in wants if name not in groups.controllers)
    if missing:
        why = "; ".join(dict.fromkeys(groups.why[name] for name in missing))
        message = f"The kernel doesn't limit {' and '.join(missing)} here ({why}). {own}"
        return Condition(type=ENFORCED, status=ConditionStatus.FALSE, reason="NotAllowed", message=message)
    refused = [f"{process.name}: {process.limits.why_not}" for process in limited if process.limits.why_not]
    if refused:
        message = f"The kernel refused the limits ({'; '.join(refused)}). {own}"
        return Condition(type=ENFORCED, status=ConditionStatus.FALSE, reason="Refused", message=message)
    told = dict.fromkeys(in_short(each) for each in allowed.values() if each)
    message = f"Each process may use at most {' or '.join(told)}."
    return Condition(type=ENFORCED, status=ConditionStatus.TRUE, reason="ControlGroups", message=message)


def _sufficient(instance: Instance, processes: Sequence[Process]) -> Condition:
    now = instance.provider.clock.now().timestamp()
    told = []
    for process in processes:
        state, allowance = process.state(), instance.allowance(process.name)
        if state.short_of_memory and now - state.short_at < REMEMBER_SECONDS and allowance.memory is not None:
            times = "once" if state.short_of_memory == 1 else f"{state.short_of_memory} times"
            told.append(f"{process.name} or a part of it was killed {times} for using more than its limit")
    if not told:
        return Condition(type=SUFFICIENT, status=ConditionStatus.TRUE, reason="Enough", message="")
    message = f"{'; '.join(told)}. Raise spec.resources.limits.memory, or give it less to do."
    return Condition(type=SUFFICIENT, status=ConditionStatus.FALSE, reason="OutOfMemory", message=message)
