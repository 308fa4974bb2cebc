"""What may happen now, what waits for a window, what waits for a person."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chandlery.driver.plan import APPROVE_ANNOTATION, Window, approvals, plan, token, window_of
from chandlery.driver.protocol import Difference, Disruption, Observation
from chandlery.foundation.errors import InvalidSpec
from chandlery.model.parts import MaintenanceWindow

NIGHT = Window(timedelta(hours=3), timedelta(hours=2))
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
THREE = datetime(2026, 11, 22, 3, 30, tzinfo=UTC)
ALL = tuple(Difference(f"spec.{d.label}", "b", "a", d) for d in Disruption)


def split(now=NOON, window=None, ready=True, **annotations):
    observed = Observation(exists=True, ready=ready, differences=ALL)
    found = plan(observed, uid="u", generation=3, now=now, window=window, annotations=annotations)
    return [d.disruption.label for d in found.changes], [d.disruption.label for d in found.held]


def test_without_a_window_only_loss_waits():
    assert split() == (["none", "reload", "restart", "failover"], ["replace", "data-loss"])


def test_outside_the_window_restarts_wait_too():
    assert split(window=NIGHT) == (["none", "reload"], ["restart", "failover", "replace", "data-loss"])


def test_inside_the_window_they_go_on():
    assert split(now=THREE, window=NIGHT)[0] == ["none", "reload", "restart", "failover"]


def test_what_serves_nobody_may_be_restarted_at_once():
    assert split(window=NIGHT, ready=False)[0] == ["none", "reload", "restart", "failover"]


def test_approval_is_of_single_changes():
    restart, loss = ALL[Disruption.RESTART], ALL[Disruption.DATA_LOSS]
    tokens = f"{token(loss, uid='u', generation=3)}, {token(restart, uid='u', generation=3)}"
    assert split(window=NIGHT, **{APPROVE_ANNOTATION: tokens}) == (
        ["none", "reload", "restart", "data-loss"],
        ["failover", "replace"],
    )


def test_a_token_is_good_for_that_very_change_only():
    change = Difference("spec.a", "2", "1", Disruption.REPLACE)
    good = token(change, uid="u", generation=1)
    others = [
        token(change, uid="v", generation=1),
        token(change, uid="u", generation=2),
        token(Difference("spec.a", "3", "1", Disruption.REPLACE), uid="u", generation=1),
        token(Difference("spec.a", "2", "0", Disruption.REPLACE), uid="u", generation=1),
        token(Difference("spec.b", "2", "1", Disruption.REPLACE), uid="u", generation=1),
        token(Difference("spec.a", "2", "1", Disruption.DATA_LOSS), uid="u", generation=1),
    ]
    assert good not in others
    assert len(set(others)) == len(others)


def test_a_token_does_not_depend_on_secret_values():
    one, two = (Difference("spec.p", text, "x", Disruption.REPLACE, sensitive=True) for text in ("a", "b"))
    assert token(one, uid="u", generation=1) == token(two, uid="u", generation=1)


def test_annotation_forms():
    assert approvals({APPROVE_ANNOTATION: "a,b  c,,\nd"}) == {"a", "b", "c", "d"}
    assert approvals({}) == frozenset()


def test_days_and_zones():
    window = Window(timedelta(hours=23), timedelta(hours=3), frozenset({4}), "Europe/Berlin")
    friday = datetime(2026, 11, 20, 21, 59, tzinfo=UTC)  # 22:59 in Berlin
    assert not window.open_at(friday)
    assert window.open_at(friday + timedelta(minutes=1))
    assert window.open_at(friday + timedelta(hours=3)), "past midnight it is still Friday's window"
    assert not window.open_at(friday + timedelta(hours=3, minutes=1))
    assert window.next_open(friday) == friday + timedelta(minutes=1)


YEAR = datetime(2026, 1, 1), datetime(2027, 1, 1)  # noqa: DTZ001 - hypothesis wants them naive


@given(st.datetimes(*YEAR), st.integers(0, 23), st.integers(1, 23))
def test_the_next_opening_is_open_and_not_in_the_past(moment, hour, hours):
    window = Window(timedelta(hours=hour), timedelta(hours=hours), frozenset({2, 5}), "America/New_York")
    now = moment.replace(tzinfo=UTC)
    opens = window.next_open(now)
    assert opens >= now
    assert window.open_at(opens)
    assert opens - now <= timedelta(days=8)


def test_from_the_model():
    spec = SimpleNamespace(
        maintenance_window=MaintenanceWindow.model_validate(
            {"days": ["Sat", "Sun"], "start": "04:30", "duration": "1h30m", "timeZone": "Europe/Berlin"}
        )
    )
    assert window_of(spec) == Window(
        timedelta(hours=4, minutes=30), timedelta(minutes=90), frozenset({5, 6}), "Europe/Berlin"
    )
    assert window_of(SimpleNamespace()) is None


def test_a_zone_that_the_machine_does_not_know():
    window = SimpleNamespace(start="04:00", duration=None, days=(), time_zone="Europe/Atlantis")
    with pytest.raises(InvalidSpec, match="Europe/Atlantis") as caught:
        window_of(SimpleNamespace(maintenance_window=window))
    assert caught.value.field == "spec.maintenanceWindow.timeZone"
