"""Decisions of a pass over a living object: from what was observed to what is done. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from chandlery.driver.plan import NO_PLAN, Window, plan
from chandlery.driver.protocol import Difference, Disruption, Observation, Plan, Unsupported
from chandlery.foundation.errors import ChandleryError, InvalidSpec, NotFound, NotSupported
from chandlery.model.base import AnyResource

_POLL_AT_LEAST: Final = 0.01
_UNREADY_POLL_AT_MOST: Final = 5.0


class Act(StrEnum):
    """What a pass does to the outside."""

    NOTHING = "nothing"
    CREATE = "create"
    UPDATE = "update"
    MOVE = "move"
    """Take it away from the driver or provider that made it, so that another can make it anew."""


@dataclass(frozen=True, slots=True)
class Decision:
    act: Act
    plan: Plan = NO_PLAN
    error: ChandleryError | None = None
    """Why nothing can be done, for a person to settle."""


def decide(
    obj: AnyResource,
    observed: Observation,
    *,
    now: datetime,
    window: Window | None = None,
    refused: ChandleryError | None = None,
    moving: Difference | None = None,
) -> Decision:
    """What to do about an object that isn't being deleted.

    Args:
        obj: the object.
        observed: what the driver found.
        now: wall time, for the maintenance window.
        window: the object's maintenance window.
        refused: the driver can't honour the spec.
        moving: the class asks for another driver or provider than the one that made it.
    """
    if moving is not None:
        # until it may move, it is kept in order where it is
        observed = replace(observed, differences=(*observed.differences, moving))
    planned = plan(
        observed,
        uid=obj.metadata.uid,
        generation=obj.metadata.generation,
        now=now,
        window=window,
        annotations=obj.metadata.annotations,
    )
    if getattr(obj.spec, "paused", False):
        return Decision(Act.NOTHING, Plan(held=(*planned.changes, *planned.held)))
    if refused is not None:
        return Decision(Act.NOTHING, Plan(held=(*planned.changes, *planned.held)), refused)
    if moving is not None and (moving in planned.changes or not observed.exists):
        return Decision(Act.MOVE, Plan((moving,)))  # what was never made, or is gone already, moves at no cost
    if not observed.exists:
        adopt = getattr(obj.spec, "adopt", None)
        if adopt is not None:
            return Decision(Act.NOTHING, error=_nothing_to_adopt(str(adopt.external_name)))
        return Decision(Act.CREATE)
    return Decision(Act.UPDATE if planned.changes else Act.NOTHING, planned)


def _nothing_to_adopt(name: str) -> ChandleryError:
    return NotFound(
        "nothing of this name exists at the driver's substrate",
        field="spec.adopt.externalName",
        value=name,
        hint="Correct the name, or remove spec.adopt to have a new one made.",
    )


def refusal(driver: str, unsupported: Sequence[Unsupported], able: Sequence[str]) -> ChandleryError | None:
    """The error for fields that the driver can't honour; None when there are none.

    Args:
        driver: the driver that refuses.
        unsupported: its findings.
        able: the drivers of this kind that can.
    """
    causes = [
        NotSupported(item.why, driver=driver, drivers=able, field=item.field, value=item.value or None)
        for item in unsupported
    ]
    if len(causes) < 2:
        return causes[0] if causes else None
    fields = ", ".join(item.field for item in unsupported)
    return NotSupported(f"the driver {driver} can't honour {fields}", driver=driver, drivers=able, causes=causes)


def next_look(
    obj: AnyResource,
    observed: Observation | None,
    planned: Plan,
    *,
    now: datetime,
    window: Window | None,
    interval: float,
    jitter: float,
) -> float:
    """Seconds until the object is looked at again although nothing was heard of it.

    Args:
        obj: the object.
        observed: the last observation.
        planned: what was done and what is held.
        now: wall time.
        window: the object's maintenance window.
        interval: seconds between looks for drift, of the class.
        jitter: 0 to 1, spreads looks by a fifth either way.
    """
    wait = interval * (0.8 + 0.4 * jitter)
    if observed is None or getattr(obj.spec, "paused", False):
        return wait
    if observed.poll_after is not None:
        wait = min(wait, max(_POLL_AT_LEAST, observed.poll_after))
    elif not observed.ready:
        wait = min(wait, _UNREADY_POLL_AT_MOST)
    if window is not None and any(d.disruption <= Disruption.FAILOVER for d in planned.held):
        wait = min(wait, max(_POLL_AT_LEAST, (window.next_open(now) - now).total_seconds()))
    return wait


def describe_invalid(kind: str, problems: Sequence[Mapping[str, Any]]) -> ChandleryError:
    """Pydantic's findings about a stored object as one error of ours."""
    causes = [
        InvalidSpec(str(problem["msg"]).removeprefix("Value error, "), field=_path(problem["loc"]))
        for problem in problems
    ]
    return InvalidSpec.of(causes) if causes else InvalidSpec(f"not a valid {kind}")


def _path(loc: Sequence[Any]) -> str:
    path = ""
    for part in loc:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path
