"""Validating admission: what a schema and CEL can't say. Pure, but for the webhook's envelope.

Deletion of a protected object is refused, a spec that our models refuse although its CRD lets it pass, and parameters
that a class's driver or a configuration's provider doesn't know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chandlery.driver.kind import Kind
from chandlery.driver.parameters import check, parameters_of
from chandlery.driver.plan import window_of
from chandlery.driver.provider import ProviderFactory
from chandlery.foundation.errors import ChandleryError, DeletionProtected
from chandlery.model.platform import GROUP, PLATFORM
from chandlery.reconcile.parse import parse

NAMESPACE_CONTROLLER = "system:serviceaccount:kube-system:namespace-controller"
WEBHOOK_CONFIGURATION = "chandlery"
"""The ValidatingWebhookConfiguration that the operator makes itself."""
WEBHOOK_NAME = "validate.chandlery.dev"
SETTINGS_NAME = "settings.chandlery.dev"
"""Asks about ResourceClasses and ProviderConfigs."""
PATH = "/admission/validate"


def review(
    body: Mapping[str, Any], kinds: Mapping[str, Kind], providers: Mapping[str, ProviderFactory] | None = None
) -> dict[str, Any]:
    """An AdmissionReview's answer.

    Args:
        body: the review.
        kinds: the kinds that are switched on, by name.
        providers: the providers that this operator has.
    """
    request = body["request"]
    answer: dict[str, Any] = {"uid": request["uid"], "allowed": True}
    asked = request.get("kind", {})
    group, name = asked.get("group", ""), asked.get("kind", "")
    kind = kinds.get(name)
    if not request.get("subResource"):
        try:
            if group == GROUP:
                _check_platform(name, request, kinds, providers or {})
            elif kind is not None and kind.names.group == group:
                _check(request, kind)
        except ChandleryError as error:
            status = error.status(name=request.get("name", ""), kind=name, group=group)
            answer = {"uid": request["uid"], "allowed": False, "status": status}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer}


def _check(request: Mapping[str, Any], kind: Kind) -> None:
    if request["operation"] == "DELETE":
        old = request.get("oldObject") or {}
        # a namespace that goes takes the object with it, or it would never be gone; the loop then keeps the resource
        going = (request.get("userInfo") or {}).get("username") == NAMESPACE_CONTROLLER
        if (old.get("spec") or {}).get("deletionProtection") and not going:
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


def _check_platform(
    name: str, request: Mapping[str, Any], kinds: Mapping[str, Kind], providers: Mapping[str, ProviderFactory]
) -> None:
    """Parameters that are new or others than before, where it is known who reads them."""
    if request["operation"] == "DELETE":
        return
    spec = (request.get("object") or {}).get("spec") or {}
    before = (request.get("oldObject") or {}).get("spec") or {}
    given = spec.get("parameters") or {}
    if before and given == (before.get("parameters") or {}):
        return  # what is stored already must stay editable
    if name == "ProviderConfig":
        provider = str(spec.get("provider", ""))
        if provider in providers:
            check(parameters_of(providers[provider]), given, reader=f"the provider {provider}")
        return
    kind, driver = kinds.get(str(spec.get("kind", ""))), str(spec.get("driver", ""))
    if kind is None or driver not in kind.driver_names():
        return  # its status tells
    try:
        model = parameters_of(kind.load_driver(driver))
    except (ImportError, AttributeError):
        return  # the same
    check(model, given, reader=f"the driver {driver} of {kind.name}")


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
    settings = {
        "apiGroups": [GROUP],
        "apiVersions": ["v1alpha1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": sorted(model.names.plural for model in PLATFORM),
        "scope": "Cluster",
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": WEBHOOK_CONFIGURATION, "labels": {"app.kubernetes.io/managed-by": "chandlery"}},
        # Two of them: a chart may have objects refused while no operator answers, but not the classes that it brings.
        "webhooks": [_hook(WEBHOOK_NAME, client, rules), _hook(SETTINGS_NAME, client, [settings])],
    }


def _hook(name: str, client: Mapping[str, Any], rules: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": name,
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "timeoutSeconds": 5,
        # the loop checks the same again, so an operator that is away must not stop anybody's work
        "failurePolicy": "Ignore",
        "matchPolicy": "Equivalent",
        "clientConfig": dict(client),
        "rules": rules,
    }
