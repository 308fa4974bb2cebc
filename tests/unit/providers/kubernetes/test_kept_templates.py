"""When a newer operator's pod template goes out: in the maintenance window, or when a person says so; never before."""

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from chandlery.driver.protocol import DriverContext
from chandlery.foundation.clock import FakeClock
from chandlery.foundation.context import Context
from chandlery.providers.kubernetes.driver import Workload
from chandlery.providers.kubernetes.templates import UPGRADE, keep, upgrade_condition
from chandlery_kinds.cache.model import Cache

BEFORE = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
WITHIN = datetime(2026, 11, 22, 3, 30, tzinfo=UTC)  # a Sunday
SPEC = {"maintenanceWindow": {"days": ["Sun"], "start": "03:00", "duration": "1h"}}


def workload(spec, now, **annotations):
    obj = Cache.model_validate(
        {
            "apiVersion": Cache.names.api_version,
            "kind": "Cache",
            "metadata": {"name": "orders", "namespace": "shop", "uid": "u", "annotations": annotations},
            "spec": spec,
            "status": {},
        }
    )
    ctx = DriverContext(replace(Context(), clock=FakeClock(now)), SimpleNamespace(), None)
    there = SimpleNamespace(session=None, owner=SimpleNamespace(name="orders", namespace="shop"), get=lambda *_: None)
    return Workload(ctx, obj, there)


def image_after(one):
    """What runs after a newer operator looked at pods that an earlier one made."""

    def manifest(image):
        return {"metadata": {"name": "x"}, "spec": {"template": {"spec": {"containers": [{"image": image}]}}}}

    made = keep(manifest("i:1"), None, {"memory": "1Gi"}).workload
    kept = keep(manifest("i:2"), made, {"memory": "1Gi"}, upgrade=one.upgrade)
    return kept.workload["spec"]["template"]["spec"]["containers"][0]["image"], kept.newer


@pytest.mark.parametrize(("spec", "now"), [({}, WITHIN), (SPEC, BEFORE)])
def test_pods_stay_as_they_are_outside_of_the_window_and_without_one(spec, now):
    image, newer = image_after(workload(spec, now))
    assert image == "i:1"
    assert newer


def test_they_are_replaced_in_the_window():
    assert image_after(workload(SPEC, WITHIN)) == ("i:2", "")


def test_or_when_a_person_agrees_to_this_very_template():
    _, newer = image_after(workload({}, BEFORE))
    assert image_after(workload({}, BEFORE, **{UPGRADE: newer})) == ("i:2", "")
    assert image_after(workload({}, BEFORE, **{UPGRADE: "another"}))[0] == "i:1"


def test_it_looks_again_when_the_window_opens():
    one = workload(SPEC, BEFORE)
    assert one.poll(None, "") is None
    assert one.poll(None, "digest") == 15 * 3600
    assert one.poll(10.0, "digest") == 10.0
    [condition] = upgrade_condition(one.address, "digest", one.opens)
    assert "2026-11-22T03:00:00Z" in condition.message
    assert f"cache/orders -n shop {UPGRADE}=digest" in condition.message
