"""Pod templates stay as they are until the spec, a class or a person asks for something else. Pure.

A workload remembers, in annotations, what its template was asked for by (a digest of the inputs that people control)
and the template itself. A newer operator that would write the same request differently keeps what is there, and says
`UpgradeAvailable`; while the object's maintenance window is open, or once the annotation `chandlery.dev/upgrade` holds
the new template's digest, it goes ahead.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, NamedTuple

import orjson

from chandlery.foundation.clock import rfc3339
from chandlery.model.base import Condition, ConditionStatus
from chandlery.providers.kubernetes.drift import digest
from chandlery.providers.kubernetes.ownership import annotated
from chandlery.providers.kubernetes.types import Obj

ASKED = "chandlery.dev/asked"
TEMPLATE = "chandlery.dev/template"
UPGRADE = "chandlery.dev/upgrade"
ANY: Final = "*"
"""In place of a digest: whatever this operator would write."""


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
        upgrade: digest of the newer template that may be rolled out, or ANY.
    """
    template = desired["spec"]["template"]
    request = digest(asked)
    known = (live or {}).get("metadata", {}).get("annotations") or {}
    recorded = _load(known.get(TEMPLATE))
    newer = ""
    if recorded is not None and known.get(ASKED) == request and recorded != template:
        newer = digest(template)
        if upgrade not in (newer, ANY):
            desired = {**desired, "spec": {**desired["spec"], "template": recorded}}
        else:
            newer = ""
    text = orjson.dumps(desired["spec"]["template"], option=orjson.OPT_SORT_KEYS).decode()
    return Kept(annotated(desired, {ASKED: request, TEMPLATE: text}), newer)


def upgrade_condition(resource: str, newer: str, opens: datetime | None = None) -> tuple[Condition, ...]:
    """The condition that tells of a newer template; none without one.

    Args:
        resource: as kubectl is told: `cache/orders -n shop`.
        newer: digest of the newer template; empty without one.
        opens: when the maintenance window opens next, in which it is rolled out by itself.
    """
    if not newer:
        return ()
    when = f"until the maintenance window at {rfc3339(opens)}" if opens is not None else "as they are"
    how = "To roll the new form out now" if opens is not None else "To roll the new form out"
    message = (
        f"This operator would write the pods differently from the one that made them; they stay {when}. "
        f"{how}: kubectl annotate --overwrite {resource} {UPGRADE}={newer}"
    )
    return (Condition(type="UpgradeAvailable", status=ConditionStatus.TRUE, reason="NewTemplate", message=message),)


def _load(text: str | None) -> Any:
    try:
        return orjson.loads(text) if text else None
    except orjson.JSONDecodeError:
        return None
