"""CRDs in groups of the Kubernetes community say whether they were approved."""

from __future__ import annotations

import time
from typing import Any

NAME = "buoys.sea.k8s.io"
PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
ANNOTATION = "api-approved.kubernetes.io"
REVIEW = "https://github.com/kubernetes/enhancements/pull/1111"


def crd(approval: str) -> dict[str, Any]:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": NAME, "annotations": {ANNOTATION: approval}},
        "spec": {
            "group": "sea.k8s.io",
            "scope": "Namespaced",
            "names": {"kind": "Buoy", "plural": "buoys"},
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
            ],
        },
    }


def condition(api: Any, reason: str) -> dict[str, Any]:
    """The condition once it has this reason."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        conditions = api("GET", f"{PATH}/{NAME}")[1].get("status", {}).get("conditions") or []
        for found in conditions:
            if found["reason"] == reason:
                return found  # type: ignore[no-any-return]
        time.sleep(0.02)
    raise AssertionError(f"no condition with reason {reason}: {conditions}")


def test_the_condition_follows_the_annotation(api: Any) -> None:
    code, made = api("POST", PATH, crd("unapproved, an experiment"))
    assert code == 201, made
    found = condition(api, "UnapprovedAnnotation")
    assert (found["status"], found["message"]) == ("False", 'not approved: "unapproved, an experiment"')
    patch = {"metadata": {"annotations": {ANNOTATION: REVIEW}}}
    assert api("PATCH", f"{PATH}/{NAME}", patch, "application/merge-patch+json")[0] == 200
    found = condition(api, "ApprovedAnnotation")
    assert (found["status"], found["message"]) == ("True", f"approved in {REVIEW}")
    assert found["type"] == "KubernetesAPIApprovalPolicyConformant"
    assert condition(api, "InitialNamesAccepted")["type"] == "Established"
