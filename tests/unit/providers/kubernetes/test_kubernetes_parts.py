"""Drift, kept templates, names: the pure parts of the kubernetes provider."""

from copy import deepcopy

import pytest

from chandlery.driver.permissions import Rule, merged
from chandlery.providers.kubernetes.drift import changes, stamped
from chandlery.providers.kubernetes.ownership import LONGEST, base_name
from chandlery.providers.kubernetes.templates import keep, upgrade_condition

BODY = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "a", "labels": {"x": "y"}},
    "spec": {
        "replicas": 2,
        "template": {
            "spec": {"containers": [{"name": "main", "image": "i:1", "resources": {"limits": {"memory": "1Gi"}}}]}
        },
    },
}


def live(change=lambda _obj: None):
    made = deepcopy(stamped(BODY))
    made["status"] = {"replicas": 2}
    made["spec"]["progressDeadlineSeconds"] = 600
    change(made)
    return made


def test_what_the_server_and_others_add_is_no_drift():
    def others(obj):
        obj["metadata"]["labels"]["team"] = "web"
        obj["spec"]["template"]["spec"]["containers"].append({"name": "sidecar", "image": "mesh:1"})
        obj["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"] = "1024Mi"

    assert changes(stamped(BODY), live(others)) == []


def test_a_changed_field_is_named():
    def edit(obj):
        obj["spec"]["template"]["spec"]["containers"][0]["image"] = "i:2"

    [found] = changes(stamped(BODY), live(edit))
    assert found == (".spec.template.spec.containers[main].image", "i:1", "i:2")


def test_a_field_that_we_took_out_is_a_change():
    less = deepcopy(BODY)
    del less["metadata"]["labels"]
    assert changes(stamped(less), live()) != []


def workload(image):
    body = deepcopy(BODY)
    body["spec"]["template"]["spec"]["containers"][0]["image"] = image
    return body


def image_of(kept):
    return kept.workload["spec"]["template"]["spec"]["containers"][0]["image"]


def test_a_newer_operator_leaves_the_pods_of_an_unchanged_spec_alone():
    old = keep(workload("i:1"), None, {"memory": "1Gi"})
    assert (image_of(old), old.newer) == ("i:1", "")

    newer = keep(workload("i:2"), old.workload, {"memory": "1Gi"})
    assert image_of(newer) == "i:1"
    assert newer.newer
    [condition] = upgrade_condition("cache/a -n b", newer.newer)
    assert newer.newer in condition.message

    agreed = keep(workload("i:2"), newer.workload, {"memory": "1Gi"}, upgrade=newer.newer)
    assert (image_of(agreed), agreed.newer) == ("i:2", "")
    assert upgrade_condition("cache/a", agreed.newer) == ()


def test_a_changed_spec_takes_the_newer_form_along():
    old = keep(workload("i:1"), None, {"memory": "1Gi"})
    assert image_of(keep(workload("i:2"), old.workload, {"memory": "2Gi"})) == "i:2"


@pytest.mark.parametrize("name", ["orders", "a" * 200, "with.dots", "9lives", "x" * 38])
def test_names_are_labels_with_room_for_suffixes(name):
    base = base_name(name, "LoadBalancer")
    assert len(base) <= LONGEST
    assert base.replace("-", "").isalnum()
    assert base[0].isalpha()
    assert base == base_name(name, "LoadBalancer")


def test_short_names_stay_readable():
    assert base_name("orders", "Cache") == "orders-cache"
    assert base_name("a.b", "Cache") != base_name("a-b", "Cache")


def test_permissions_are_merged_by_resource():
    rules = [Rule(("",), ("pods", "secrets"), ("get",)), Rule(("",), ("pods",), ("list", "get"))]
    assert merged(rules) == (Rule(("",), ("pods",), ("get", "list")), Rule(("",), ("secrets",), ("get",)))
