"""Groups of the Kubernetes community: a CRD there names the review that approved it.

Source: KEP 1111, "Ensure API changes of k8s.io groups are reviewed".
"""

from __future__ import annotations

from typing import Literal

from chandlery.controlplane.schema.gotext import quote
from chandlery.controlplane.schema.gourl import UrlError, parse_request_uri
from chandlery.controlplane.types import Obj

ANNOTATION = "api-approved.kubernetes.io"
_DEMAND = f'protected groups must have approval annotation "{ANNOTATION}"'
_SEE = "see https://github.com/kubernetes/enhancements/pull/1111"

State = Literal["missing", "invalid", "approved", "bypassed"]
_REASONS: dict[State, str] = {
    "missing": "MissingAnnotation",
    "invalid": "InvalidAnnotation",
    "approved": "ApprovedAnnotation",
    "bypassed": "UnapprovedAnnotation",
}


def is_protected(group: str) -> bool:
    return group in ("k8s.io", "kubernetes.io") or group.endswith((".k8s.io", ".kubernetes.io"))


def approval_state(crd: Obj) -> tuple[State, str]:
    """Where a CRD of a protected group stands, and the text for it."""
    text = ((crd.get("metadata") or {}).get("annotations") or {}).get(ANNOTATION) or ""
    if not text:
        return "missing", f"{_DEMAND}, {_SEE}"
    if text.startswith("unapproved"):
        return "bypassed", f"not approved: {quote(text)}"
    try:
        url = parse_request_uri(text)
    except UrlError:
        url = None
    if url is not None and url.scheme and url.host:
        return "approved", f"approved in {text}"
    return "invalid", f'{_DEMAND} with either a URL or a reason starting with "unapproved", {_SEE}'


def approval_condition(crd: Obj) -> tuple[str, str, str] | None:
    """Status, reason and message of KubernetesAPIApprovalPolicyConformant; None outside of protected groups."""
    if not is_protected(crd["spec"]["group"]):
        return None
    state, text = approval_state(crd)
    return "True" if state == "approved" else "False", _REASONS[state], text
