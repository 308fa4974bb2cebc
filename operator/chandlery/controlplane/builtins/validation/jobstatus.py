"""Rules of a Job's status: what a controller of Jobs may write.

Source: the field descriptions of batch/v1 and the Job documentation; the words are the API's.
"""

from __future__ import annotations

import re
from typing import Any

from chandlery.controlplane.builtins import internal
from chandlery.controlplane.builtins.validation.common import Errors, duplicate, invalid, non_negative, quote, required
from chandlery.controlplane.types import FieldError, Obj


class IndexListError(ValueError):
    """A list of indexes that can't be read; the text is the API's."""


def _index(text: str, completions: int) -> int:
    try:
        value = int(text) if re.fullmatch(r"[+-]?[0-9]+", text) else None
    except ValueError:
        value = None
    if value is None:
        raise IndexListError(f"cannot convert string to integer for index: {quote(text)}")
    if value >= completions:
        raise IndexListError(f"too large index: {quote(text)}")
    return value


def count_indexes(text: str, completions: int) -> int:
    """How many indexes `1,3-5,7` names. Raises IndexListError when it isn't such a list below `completions`."""
    total = 0
    last: int | None = None
    for part in text.split(",") if text else ():
        ends = part.split("-")
        if len(ends) > 2:
            raise IndexListError(
                f"the fragment {quote(part)} violates the requirement that an index interval can have at most two "
                "parts separated by '-'"
            )
        first = final = _index(ends[0], completions)
        if len(ends) == 2:
            final = _index(ends[1], completions)
            if first >= final:
                raise IndexListError(f"non-increasing order, previous: {first}, current: {final}")
        if last is not None and last >= first:
            raise IndexListError(f"non-increasing order, previous: {last}, current: {first}")
        total += final - first + 1
        last = final
    return total


def _true(status: Obj, kind: str) -> bool:
    return any(c.get("type") == kind and c.get("status") == "True" for c in status.get("conditions") or ())


def _conditions(text: str) -> FieldError:
    return FieldError("status.conditions", "FieldValueInvalid", f"Invalid value: {text}")


def _uncounted(found: Obj, path: str) -> Errors:
    errors: Errors = []
    seen: set[Any] = set()
    for field in ("succeeded", "failed"):
        for number, uid in enumerate(found.get(field) or ()):
            here = f"{path}.{field}[{number}]"
            if not uid:
                errors.append(invalid(here, uid, "must not be empty"))
            elif uid in seen:
                errors.append(duplicate(here, uid))
            seen.add(uid)
    return errors


def _changed(status: Obj, before: Obj, *names: str) -> bool:
    return any(status.get(name) != before.get(name) for name in names)


def job_status(obj: Obj, old: Obj) -> Errors:
    """The rules of an update of `/status`. Rules that old Jobs may break hold only for what the update changes."""
    status, before, spec = obj.get("status") or {}, old.get("status") or {}, obj.get("spec") or {}
    errors: Errors = []
    for name in ("active", "succeeded", "failed", "ready", "terminating"):
        errors += non_negative(f"status.{name}", status.get(name))
    errors += _uncounted(status.get("uncountedTerminatedPods") or {}, "status.uncountedTerminatedPods")
    errors += _finish(status, before, spec)
    errors += _indexes(status, before, spec)
    met, failed = _true(status, "SuccessCriteriaMet"), _true(status, "Failed")
    if met and failed:
        errors.append(_conditions("cannot set SuccessCriteriaMet=True and Failed=true conditions"))
    if met and _true(status, "FailureTarget"):
        errors.append(_conditions("cannot set SuccessCriteriaMet=True and FailureTarget=true conditions"))
    if spec.get("successPolicy") is not None and not met and _true(status, "Complete"):
        errors.append(_conditions("cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True"))
    return errors + _steps(status, before, spec)


def _finish(status: Obj, before: Obj, spec: Obj) -> Errors:
    errors: Errors = []
    complete, failed = _true(status, "Complete"), _true(status, "Failed")
    newly_complete = complete and not _true(before, "Complete")
    newly_failed = failed and not _true(before, "Failed")
    newly = newly_complete or newly_failed
    done = status.get("completionTime")
    if (newly_complete or newly_failed) and complete and failed:
        errors.append(_conditions("cannot set Complete=True and Failed=true conditions"))
    if complete and _true(status, "FailureTarget") and (newly_complete or not _true(before, "FailureTarget")):
        errors.append(_conditions("cannot set Complete=True and FailureTarget=true conditions"))
    times = _changed(status, before, "completionTime")
    if done is not None and not complete and (times or _true(before, "Complete")):
        text = "cannot set completionTime when there is no Complete=True condition"
        errors.append(invalid("status.completionTime", done, text))
    if done is None and complete and (newly_complete or times):
        errors.append(required("status.completionTime", "completionTime is required for Complete jobs"))
    start = status.get("startTime")
    if (
        start is not None
        and done is not None
        and done < start
        and _changed(status, before, "completionTime", "startTime")
    ):
        errors.append(invalid("status.completionTime", done, "completionTime cannot be set before startTime"))
    if newly_failed and not _true(status, "FailureTarget"):
        text = "cannot set Failed=True condition without the FailureTarget=true condition"
        errors.append(_conditions(text))
    if newly_complete and not _true(status, "SuccessCriteriaMet"):
        text = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition"
        errors.append(_conditions(text))
    if complete or failed:
        active, uncounted = status.get("active", 0), status.get("uncountedTerminatedPods") or {}
        if active > 0 and (newly or _changed(status, before, "active")):
            errors.append(invalid("status.active", active, "active>0 is invalid for finished job"))
        if start is None and (newly or _changed(status, before, "startTime")):
            errors.append(required("status.startTime", "startTime is required for finished job"))
        if (uncounted.get("failed") or uncounted.get("succeeded")) and (
            newly or _changed(status, before, "uncountedTerminatedPods")
        ):
            shown = internal.shown("io.k8s.api.batch.v1.UncountedTerminatedPods", uncounted)
            text = f"Invalid value: {shown}: uncountedTerminatedPods needs to be empty for finished job"
            errors.append(FieldError("status.uncountedTerminatedPods", "FieldValueInvalid", text))
    del spec
    return errors


def _indexes(status: Obj, before: Obj, spec: Obj) -> Errors:
    errors: Errors = []
    completions, per_index = spec.get("completions"), spec.get("backoffLimitPerIndex")
    done, failed = status.get("completedIndexes", ""), status.get("failedIndexes")
    if completions is not None and _changed(status, before, "completedIndexes"):
        try:
            count_indexes(done, completions)
        except IndexListError as error:
            errors.append(invalid("status.completedIndexes", done, f"error parsing completedIndexes: {error}"))
    if completions is not None and per_index is not None and failed is not None:
        try:
            count_indexes(failed, completions)
        except IndexListError as error:
            errors.append(invalid("status.failedIndexes", failed, f"error parsing failedIndexes: {error}"))
    if done and spec.get("completionMode") != "Indexed" and _changed(status, before, "completedIndexes"):
        text = "cannot set non-empty completedIndexes when non-indexed completion mode"
        errors.append(invalid("status.completedIndexes", done, text))
    if failed is not None and per_index is None and _changed(status, before, "failedIndexes"):
        text = "cannot set non-null failedIndexes when backoffLimitPerIndex is null"
        errors.append(invalid("status.failedIndexes", failed, text))
    terminating, ready, active = status.get("terminating"), status.get("ready"), status.get("active", 0)
    finished = _true(status, "Complete") or _true(status, "Failed")
    if terminating and finished and (_changed(status, before, "terminating", "conditions")):
        errors.append(invalid("status.terminating", terminating, "terminating>0 is invalid for finished job"))
    if ready is not None and ready > active and _changed(status, before, "ready", "active"):
        errors.append(invalid("status.ready", ready, "cannot set more ready pods than active"))
    return errors


def _steps(status: Obj, before: Obj, spec: Obj) -> Errors:
    """What may not go back."""
    errors: Errors = []
    for kind in ("Failed", "Complete", "FailureTarget"):
        if _true(before, kind) and not _true(status, kind):
            errors.append(_conditions(f"cannot disable the terminal {kind}=True condition"))
    for name in ("failed", "succeeded"):
        if status.get(name, 0) < before.get(name, 0) and not (name == "succeeded" and _scaled(spec)):
            errors.append(invalid(f"status.{name}", status.get(name, 0), f"cannot decrease the {name} counter"))
    done, done_before = status.get("completionTime"), before.get("completionTime")
    if done is not None and done_before is not None and done != done_before:
        errors.append(invalid("status.completionTime", done, "completionTime cannot be mutated"))
    if before.get("startTime") not in (None, status.get("startTime")) and not spec.get("suspend"):
        errors.append(required("status.startTime", "startTime cannot be removed for unsuspended job"))
    if _true(before, "SuccessCriteriaMet") and not _true(status, "SuccessCriteriaMet"):
        errors.append(_conditions("cannot disable the SuccessCriteriaMet=True condition"))
    if _true(before, "Complete") and not _true(before, "SuccessCriteriaMet") and _true(status, "SuccessCriteriaMet"):
        text = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions"
        errors.append(_conditions(text))
    return errors


def _scaled(spec: Obj) -> bool:
    """An Indexed Job may be scaled down, and then counts fewer successes."""
    return bool(spec.get("completionMode") == "Indexed")
