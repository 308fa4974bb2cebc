"""Validating admission: what a schema and CEL can't say. Pure, but for the webhook's envelope.

Deletion of a protected object is refused, and a spec that our models refuse although its CRD lets it pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chandlery.driver.kind import Kind
from chandlery.driver.plan import window_of
from chandlery.foundation.errors import ChandleryError, DeletionProtected
from chandlery.reconcile.parse import parse

WEBHOOK_NAME = "validate.chandlery.dev"
PATH = "/admission/validate"


def review(body: Mapping[str, Any], kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """An AdmissionReview's answer."""
    request = body["request"]
    answer: dict[str, Any] = {"uid": request["uid"], "allowed": True}
    kind = kinds.get(request.get("kind", {}).get("kind", ""))
    if kind is not None and not request.get("subResource"):
        try:
            _check(request, kind)
        except ChandleryError as error:
            names = kind.names
            status = error.status(name=request.get("name", ""), kind=names.kind, group=names.group)
            answer = {"uid": request["uid"], "allowed": False, "status": status}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer}


def _check(request: Mapping[str, Any], kind: Kind) -> None:
    if request["operation"] == "DELETE":
        old = request.get("oldObject") or {}
        if (old.get("spec") or {}).get("deletionProtection"):
            raise DeletionProtected(
                f"{kind.name} {old['metadata']['name']} is protected", field="spec.deletionProtection", value=True
            )
        return
    raw = request.get("object") or {}
    meta = raw.get("metadata") or {}
    if meta.get("deletionTimestamp") or raw.get("spec") == (request.get("oldObject") or {}).get("spec"):
        return  # what is stored already must stay editable: its finalizers, its labels
    obj = parse(kind, {**raw, "metadata": {**meta, "name": meta.get("name") or "generated"}})
    window_of(obj.spec)


def configuration(kinds: Mapping[str, Kind], client: Mapping[str, Any]) -> dict[str, Any]:
    """The ValidatingWebhookConfiguration for these kinds.

    Args:
        kinds: the kinds that are switched on.
        client: `clientConfig`: url or service, with caBundle.
    """
    groups = sorted({kind.names.group for kind in kinds.values()})
    rules = [
        {
            "apiGroups": [group],
            "apiVersions": ["v1alpha1"],
            "operations": ["CREATE", "UPDATE", "DELETE"],
            "resources": sorted(kind.names.plural for kind in kinds.values() if kind.names.group == group),
            "scope": "Namespaced",
        }
        for group in groups
    ]
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "chandlery", "labels": {"app.kubernetes.io/managed-by": "chandlery"}},
        "webhooks": [
            {
                "name": WEBHOOK_NAME,
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "timeoutSeconds": 5,
                # the loop checks the same again, so an operator that is away must not stop anybody's work
                "failurePolicy": "Ignore",
                "matchPolicy": "Equivalent",
                "clientConfig": dict(client),
                "rules": rules,
            }
        ],
    }
