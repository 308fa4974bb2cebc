"""From the outcome of a pass to `status`. Pure; the same outcome gives the same status, but for transition times.

Conditions as kstatus reads them: Ready (serves clients now), Reconciling (we are working towards the spec) and Stalled
(only a person can get us further). All three are always there. Ready is Unknown when nobody could look.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from chandlery.driver.plan import APPROVE_ANNOTATION, NO_PLAN, Window, token
from chandlery.driver.protocol import Difference, Disruption, Observation, Plan
from chandlery.foundation.clock import rfc3339
from chandlery.foundation.errors import ChandleryError, sentence
from chandlery.model.base import Phase

RESERVED: Final = frozenset(
    {
        "observedGeneration",
        "conditions",
        "phase",
        "driver",
        "className",
        "externalName",
        "endpoint",
        "binding",
        "drift",
    }
)
_SERVED: Final = {Phase.READY, Phase.UPDATING, Phase.DEGRADED}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a pass found and did."""

    generation: int
    uid: str = ""
    resource: str = ""
    """As kubectl names it, for commands in messages: `cache/orders -n shop`."""
    class_name: str = ""
    driver: str = ""
    observed: Observation | None = None
    plan: Plan = NO_PLAN
    window: Window | None = None
    error: ChandleryError | None = None
    """What stopped the pass."""
    binding: str = ""
    paused: bool = False
    deleting: bool = False
    made: bool = False
    """Something was made for this object, now or earlier."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    status: str
    reason: str
    message: str = ""


def status_of(outcome: Outcome, previous: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """The whole status to write. `previous` gives transition times and the last known facts."""
    ready, reconciling = _ready(outcome), _reconciling(outcome, now)
    stalled = _stalled(outcome, working=reconciling.status == "True")
    verdicts = {"Ready": ready, "Reconciling": reconciling, "Stalled": stalled}
    status: dict[str, Any] = {
        "observedGeneration": outcome.generation,
        "phase": _phase(outcome, previous, ready, stalled).value,
        "conditions": _conditions(outcome, verdicts, previous, now),
    }
    _identity(status, outcome, previous)
    drift = _drift(outcome)
    if drift:
        status["drift"] = drift
    return status


def _identity(status: dict[str, Any], outcome: Outcome, previous: Mapping[str, Any]) -> None:
    """Class, driver, names, endpoint, binding and the kind's own facts; the last known ones while nobody can look."""
    observed = outcome.observed
    status.update({k: v for k, v in (("className", outcome.class_name), ("driver", outcome.driver)) if v})
    if observed is None:
        for field, value in previous.items():
            if field not in status and field != "drift":
                status[field] = value
        return
    if outcome.binding:
        status["binding"] = {"name": outcome.binding}
    elif "binding" in previous:
        status["binding"] = previous["binding"]
    if observed.external_name:
        status["externalName"] = observed.external_name
    if observed.exists:
        if observed.endpoint is not None:
            status["endpoint"] = observed.endpoint.model_dump(by_alias=True, exclude_none=True)
        status.update({k: v for k, v in observed.facts.items() if k not in RESERVED and v is not None})


def _ready(outcome: Outcome) -> _Verdict:
    observed, error = outcome.observed, outcome.error
    if outcome.deleting:
        return _Verdict("False", "Deleting", "Is being deleted.")
    if observed is None:
        reason = error.code if error else "Pending"
        why = error.condition_message() if error else "Has not been looked at yet."
        return _Verdict("Unknown" if outcome.made else "False", reason, why)
    if observed.exists and observed.ready:
        return _Verdict("True", "Available", sentence(observed.message) or _serves(observed))
    if error is not None and not observed.exists:
        return _Verdict("False", error.code, error.condition_message())
    if not observed.exists:
        why = sentence(observed.message) or "Nothing exists yet."
        return _Verdict("False", observed.reason or "NotCreated", why)
    return _Verdict("False", observed.reason or "Starting", sentence(observed.message) or "Does not serve clients yet.")


def _serves(observed: Observation) -> str:
    where = observed.endpoint
    return f"Serves clients at {where.host}:{where.port}." if where is not None else "Is as the spec asks for."


def _reconciling(outcome: Outcome, now: datetime) -> _Verdict:
    observed, error = outcome.observed, outcome.error
    if outcome.deleting:
        if error is not None and error.terminal:
            return _Verdict("False", error.code)
        message = error.condition_message() if error else "Is being deleted."
        return _Verdict("True", error.code if error else "Deleting", message)
    if outcome.paused:
        return _Verdict("False", "Paused", "Nothing is changed while spec.paused is true.")
    if error is not None:
        return (
            _Verdict("False", error.code) if error.terminal else _Verdict("True", error.code, error.condition_message())
        )
    if observed is None:
        return _Verdict("True", "Pending", "Has not been looked at yet.")
    if not observed.exists:
        return _Verdict("True", observed.reason or "Creating", sentence(observed.message) or "Is being created.")
    held = {d.field for d in outcome.plan.held}
    todo = [d.field for d in observed.differences if d.field not in held]
    if todo:
        return _Verdict("True", "Updating", f"Not yet as the spec asks: {', '.join(todo)}.")
    if not observed.ready:
        return _Verdict("True", observed.reason or "Starting", sentence(observed.message) or "Is starting.")
    waiting = _awaiting_window(outcome)
    if waiting and outcome.window is not None and not _awaiting_approval(outcome):
        opens = rfc3339(outcome.window.next_open(now))
        message = f"Waits for the maintenance window at {opens}: {_fields(waiting)}. {_approve(outcome, waiting)}"
        return _Verdict("True", "AwaitingMaintenanceWindow", message)
    return _Verdict("False", "Settled")


def _stalled(outcome: Outcome, *, working: bool) -> _Verdict:
    error = outcome.error
    if error is not None and error.terminal:
        return _Verdict("True", error.code, error.condition_message())
    # while there is still something that gets on by itself, nobody is asked yet
    if error is None and not (working or outcome.paused or outcome.deleting):
        waiting = _awaiting_approval(outcome)
        if waiting:
            message = f"Needs approval: {_fields(waiting)}. {_approve(outcome, waiting)}"
            return _Verdict("True", "ApprovalRequired", message)
    return _Verdict("False", "Progressing" if error is not None else "Settled")


def _awaiting_window(outcome: Outcome) -> list[Difference]:
    return [d for d in outcome.plan.held if d.disruption <= Disruption.FAILOVER]


def _awaiting_approval(outcome: Outcome) -> list[Difference]:
    return [d for d in outcome.plan.held if d.disruption > Disruption.FAILOVER]


def _fields(differences: Iterable[Difference]) -> str:
    return ", ".join(f"{d.field} ({_change(d)}{d.disruption.label})" for d in differences)


def _change(difference: Difference) -> str:
    return "" if difference.sensitive else f"{difference.actual or 'unset'} → {difference.desired or 'unset'}, "


def _approve(outcome: Outcome, differences: Iterable[Difference]) -> str:
    tokens = ",".join(token(d, uid=outcome.uid, generation=outcome.generation) for d in differences)
    return f"To do it now: kubectl annotate --overwrite {outcome.resource} {APPROVE_ANNOTATION}={tokens}"


def _phase(outcome: Outcome, previous: Mapping[str, Any], ready: _Verdict, stalled: _Verdict) -> Phase:
    observed = outcome.observed
    if outcome.deleting:
        return Phase.DELETING
    if outcome.paused:
        return Phase.PAUSED
    if stalled.status == "True":
        return Phase.DEGRADED if ready.status == "True" else Phase.FAILED
    if ready.status == "True":
        if outcome.error is not None:
            return Phase.DEGRADED
        held = {d.field for d in outcome.plan.held}
        todo = observed is not None and any(d.field not in held for d in observed.differences)
        return Phase.UPDATING if todo else Phase.READY
    if previous.get("phase") in _SERVED:
        return Phase.DEGRADED
    if observed is None or (not observed.exists and outcome.error is not None):
        return Phase.DEGRADED if outcome.made else Phase.PENDING
    return Phase.CREATING


def _conditions(
    outcome: Outcome, verdicts: Mapping[str, _Verdict], previous: Mapping[str, Any], now: datetime
) -> list[dict[str, Any]]:
    before = {c["type"]: c for c in previous.get("conditions", ()) if isinstance(c, dict) and "type" in c}
    found = [_condition(name, v, before.get(name), outcome.generation, now) for name, v in verdicts.items()]
    if outcome.observed is not None:
        for own in outcome.observed.conditions:
            if own.type not in verdicts:
                verdict = _Verdict(own.status.value, own.reason, own.message)
                found.append(_condition(own.type, verdict, before.get(own.type), outcome.generation, now))
    return found


def _condition(
    name: str, verdict: _Verdict, before: Mapping[str, Any] | None, generation: int, now: datetime
) -> dict[str, Any]:
    since = rfc3339(now)
    if before is not None and before.get("status") == verdict.status:
        since = before.get("lastTransitionTime") or since
    return {
        "type": name,
        "status": verdict.status,
        "reason": verdict.reason or "Unknown",
        "message": verdict.message,
        "observedGeneration": generation,
        "lastTransitionTime": since,
    }


def _drift(outcome: Outcome) -> list[dict[str, str]]:
    if outcome.observed is None or outcome.deleting:
        return []
    return [
        {
            "field": d.field,
            "desired": "" if d.sensitive else d.desired,
            "actual": "" if d.sensitive else d.actual,
            "disruption": d.disruption.label,
        }
        for d in _unique((*outcome.observed.differences, *outcome.plan.held))
    ]


def _unique(differences: Iterable[Difference]) -> list[Difference]:
    """By field; payloads may be of any type, so differences themselves can't be compared by hash."""
    return list({d.field: d for d in differences}.values())
