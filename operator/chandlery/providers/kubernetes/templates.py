"""Pod templates stay as they are until the spec, a class or a person asks for something else. Pure.

A workload remembers, in annotations, what its template was asked for by (a digest of the inputs that people control)
and the template itself. A newer operator that would write the same request differently keeps what is there, and says
`UpgradeAvailable`; in a maintenance window, or once the annotation `chandlery.dev/upgrade` holds the new template's
digest, it goes ahead.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from chandlery.model.base import Condition, ConditionStatus
from chandlery.providers.kubernetes.drift import digest
from chandlery.providers.kubernetes.ownership import annotated
from chandlery.providers.kubernetes.types import Obj

ASKED = "chandlery.dev/asked"
TEMPLATE = "chandlery.dev/template"
UPGRADE = "chandlery.dev/upgrade"


class Kept(NamedTuple):
    """A workload to apply."""

    workload: Obj
    newer: str = ""
    """Digest of the template that a newer operator would write; empty when there is none."""


def keep(desired: Obj, live: Obj | None, asked: Any, *, upgrade: str = "") -> Kept:
    """The workload with the template that it should have now.

    Args:
        desired: as this operator would write it.
        live: as it is, None when it isn't there.
        asked: everything about the template that people decide (spec, class, chart), JSON-like.
        upgrade: digest of the newer template that may be rolled out.
    """
    template = desired["spec"]["template"]
    request = digest(asked)
    known = (live or {}).get("metadata", {}).get("annotations") or {}
    recorded = _load(known.get(TEMPLATE))
    newer = ""
    if recorded is not None and known.get(ASKED) == request and recorded != template:
        newer = digest(template)
        if upgrade != newer:
            desired = {**desired, "spec": {**desired["spec"], "template": recorded}}
        else:
            newer = ""
    text = orjson.dumps(desired["spec"]["template"], option=orjson.OPT_SORT_KEYS).decode()
    return Kept(annotated(desired, {ASKED: request, TEMPLATE: text}), newer)


def upgrade_condition(resource: str, newer: str) -> tuple[Condition, ...]:
    """The condition that tells of a newer template; none without one."""
    if not newer:
        return ()
    message = (
        "This operator would write the pods differently from the one that made them; they stay as they are. To roll "
        f"the new form out: kubectl annotate --overwrite {resource} {UPGRADE}={newer}"
    )
    return (Condition(type="UpgradeAvailable", status=ConditionStatus.TRUE, reason="NewTemplate", message=message),)


def _load(text: str | None) -> Any:
    try:
        return orjson.loads(text) if text else None
    except orjson.JSONDecodeError:
        return None
