"""What may change in a pod whose scheduling is held back by gates.

Source: Kubernetes documentation, "Pod Scheduling Readiness": gates are only taken away; while there are some, the
places where a pod may go can be narrowed.
"""

from __future__ import annotations

from typing import Any

from chandlery.controlplane.builtins.validation.common import Errors, forbidden, invalid
from chandlery.controlplane.types import Obj

_TERMS = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"


def only_fewer(new: Any, old: Any) -> Errors:
    """Gates may be removed, not added."""
    known = {gate.get("name") for gate in old or ()}
    errors: Errors = []
    for index, gate in enumerate(new or ()):
        name = gate.get("name", "")
        if name not in known:
            text = f"only deletion is allowed, but found new scheduling gate '{name}'"
            errors.append(forbidden(f"spec.schedulingGates[{index}].name", text))
    return errors


def while_gated(spec: Obj, before: Obj) -> Errors:
    """Check nodeSelector and nodeAffinity of a gated pod and put the former ones back into `spec`."""
    errors: Errors = []
    selector, old = spec.get("nodeSelector") or {}, before.get("nodeSelector") or {}
    if any(selector.get(key) != value for key, value in old.items()):
        text = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
        errors.append(invalid("spec.nodeSelector", selector or None, text))
    _put_back(spec, "nodeSelector", before)
    affinity, known = dict(spec.get("affinity") or {}), before.get("affinity") or {}
    if affinity.get("nodeAffinity") != known.get("nodeAffinity"):
        errors += _narrowed(affinity.get("nodeAffinity") or {}, known.get("nodeAffinity") or {})
        _put_back(affinity, "nodeAffinity", known)
        if affinity or "affinity" in before:
            spec["affinity"] = affinity
        else:
            spec.pop("affinity", None)
    return errors


def _put_back(obj: Obj, field: str, before: Obj) -> None:
    if field in before:
        obj[field] = before[field]
    else:
        obj.pop(field, None)


def _narrowed(new: Obj, old: Obj) -> Errors:
    terms = (old.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms") or []
    now = (new.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms") or []
    if not terms:
        return []
    if len(terms) != len(now):
        text = "no additions/deletions to non-empty NodeSelectorTerms list are allowed"
        return [invalid(_TERMS, [_shown(term) for term in now] or None, text)]
    errors: Errors = []
    for index, (term, known) in enumerate(zip(now, terms, strict=True)):
        if not _only_added(term, known):
            text = "only additions are allowed (no mutations or deletions)"
            errors.append(invalid(f"{_TERMS}[{index}]", _shown(term), text))
    return errors


def _only_added(term: Obj, known: Obj) -> bool:
    lists = [(term.get(field) or [], known.get(field) or []) for field in ("matchExpressions", "matchFields")]
    if not any(old for _, old in lists):
        return not any(new for new, _ in lists)
    return all(new[: len(old)] == old for new, old in lists)


def _shown(term: Obj) -> Obj:
    """A term as the server's own types marshal."""

    def rules(field: str) -> list[Obj] | None:
        found = term.get(field) or []
        return [
            {"Key": rule.get("key", ""), "Operator": rule.get("operator", ""), "Values": rule.get("values") or None}
            for rule in found
        ] or None

    return {"MatchExpressions": rules("matchExpressions"), "MatchFields": rules("matchFields")}
