"""Which fields a selector may name, kind by kind, and the words for others."""

from __future__ import annotations

import pytest

from chandlery.controlplane.builtins import builtin_resources
from chandlery.controlplane.selectors import parse_fields
from chandlery.controlplane.types import ApiError
from chandlery.controlplane.verbs.options import check_fields

RESOURCES = {(resource.group, resource.plural): resource for resource in builtin_resources()}
PLAIN = "field label not supported: "
SLICE = "field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: "


@pytest.mark.parametrize(
    ("group", "plural", "field", "refusal"),
    [
        ("", "pods", "spec.host", ""),
        ("", "pods", "metadata.namespace", ""),
        ("", "pods", "metadata.labels", PLAIN + "metadata.labels"),
        ("", "nodes", "spec.unschedulable", ""),
        ("", "nodes", "metadata.namespace", PLAIN + "metadata.namespace"),
        ("", "namespaces", "metadata.namespace", PLAIN + "metadata.namespace"),
        ("", "namespaces", "status.phase", ""),
        ("batch", "jobs", "status.successful", ""),
        ("batch", "jobs", "status.succeeded", 'field label "status.succeeded" not supported for Job'),
        ("batch", "cronjobs", "spec.a", '"spec.a" is not a known field selector: only "metadata.name", "metadata.nam'),
        ("rbac.authorization.k8s.io", "clusterroles", "metadata.namespace", ""),
        ("certificates.k8s.io", "certificatesigningrequests", "metadata.namespace", PLAIN + "metadata.namespace"),
        ("resource.k8s.io", "resourceslices", "spec.driver", ""),
        ("resource.k8s.io", "resourceslices", "spec.pool", SLICE + "spec.pool"),
        ("resource.k8s.io", "resourceslices", "metadata.namespace", SLICE + "metadata.namespace"),
    ],
)
def test_a_field_that_a_kind_does_not_know_is_refused(group: str, plural: str, field: str, refusal: str) -> None:
    selector = parse_fields(f"{field}=x")
    if not refusal:
        check_fields(selector, RESOURCES[group, plural])
        return
    with pytest.raises(ApiError) as caught:
        check_fields(selector, RESOURCES[group, plural])
    assert caught.value.code == 400
    assert caught.value.message.startswith(refusal)
