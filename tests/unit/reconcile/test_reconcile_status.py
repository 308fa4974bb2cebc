"""Conditions as kstatus reads them, from outcomes alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chandlery.driver.plan import Window
from chandlery.driver.protocol import Difference, Disruption, Observation, Plan, Unsupported
from chandlery.foundation.errors import InvalidSpec, NotSupported, Unavailable
from chandlery.model.base import Condition, ConditionStatus, Endpoint
from chandlery.reconcile.decide import refusal
from chandlery.reconcile.status import Outcome, status_of

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
UP = Observation(exists=True, ready=True, endpoint=Endpoint(host="h", port=1), external_name="x")


def outcome(**given):
    base = {"generation": 2, "uid": "u", "resource": "cache one -n shop", "class_name": "c", "driver": "memory"}
    return Outcome(**{**base, **given})


def said(status):
    return {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]}


CASES = {
    "ready": (
        outcome(observed=UP, made=True),
        {"Ready": ("True", "Available"), "Reconciling": ("False", "Settled"), "Stalled": ("False", "Settled")},
        "Ready",
    ),
    "starting": (
        outcome(observed=Observation(exists=True, reason="Booting"), made=True),
        {"Ready": ("False", "Booting"), "Reconciling": ("True", "Booting"), "Stalled": ("False", "Settled")},
        "Creating",
    ),
    "nothing there": (
        outcome(observed=Observation(exists=False)),
        {"Ready": ("False", "NotCreated"), "Reconciling": ("True", "Creating"), "Stalled": ("False", "Settled")},
        "Creating",
    ),
    "not as asked": (
        outcome(
            observed=Observation(exists=True, ready=True, differences=(Difference("spec.a", "1", "2"),)), made=True
        ),
        {"Ready": ("True", "Available"), "Reconciling": ("True", "Updating"), "Stalled": ("False", "Settled")},
        "Updating",
    ),
    "nobody could look": (
        outcome(error=Unavailable("away"), made=True),
        {
            "Ready": ("Unknown", "Unavailable"),
            "Reconciling": ("True", "Unavailable"),
            "Stalled": ("False", "Progressing"),
        },
        "Degraded",
    ),
    "nobody could look and nothing was made": (
        outcome(error=Unavailable("away")),
        {
            "Ready": ("False", "Unavailable"),
            "Reconciling": ("True", "Unavailable"),
            "Stalled": ("False", "Progressing"),
        },
        "Pending",
    ),
    "a wrong spec": (
        outcome(error=InvalidSpec("no", field="spec.a")),
        {
            "Ready": ("False", "InvalidSpec"),
            "Reconciling": ("False", "InvalidSpec"),
            "Stalled": ("True", "InvalidSpec"),
        },
        "Failed",
    ),
    "a wrong spec for what runs": (
        outcome(observed=UP, error=NotSupported("no", field="spec.a"), made=True),
        {"Ready": ("True", "Available"), "Reconciling": ("False", "NotSupported"), "Stalled": ("True", "NotSupported")},
        "Degraded",
    ),
    "paused": (
        outcome(observed=UP, paused=True, made=True),
        {"Ready": ("True", "Available"), "Reconciling": ("False", "Paused"), "Stalled": ("False", "Settled")},
        "Paused",
    ),
    "deleting": (
        outcome(deleting=True, made=True),
        {"Ready": ("False", "Deleting"), "Reconciling": ("True", "Deleting"), "Stalled": ("False", "Settled")},
        "Deleting",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_said(name):
    found, conditions, phase = CASES[name]
    status = status_of(found, {}, NOW)
    assert said(status) == conditions
    assert status["phase"] == phase
    assert status["observedGeneration"] == 2
    for condition in status["conditions"]:
        assert condition["observedGeneration"] == 2
        assert condition["lastTransitionTime"] == "2026-11-22T12:00:00Z"


@pytest.mark.parametrize("name", CASES)
def test_saying_it_again_changes_nothing(name):
    found, _, _ = CASES[name]
    first = status_of(found, {}, NOW)
    second = status_of(found, first, LATER)
    assert status_of(found, second, LATER + timedelta(days=1)) == second
    assert [c["lastTransitionTime"] for c in second["conditions"]] == ["2026-11-22T12:00:00Z"] * 3


def test_transition_times_move_with_the_status_only():
    first = status_of(CASES["ready"][0], {}, NOW)
    second = status_of(CASES["nobody could look"][0], first, LATER)
    times = {c["type"]: c["lastTransitionTime"] for c in second["conditions"]}
    assert times == {
        "Ready": "2026-11-22T13:00:00Z",
        "Reconciling": "2026-11-22T13:00:00Z",
        "Stalled": "2026-11-22T12:00:00Z",
    }


def test_what_was_known_last_is_kept_while_nobody_can_look():
    facts = {"replicas": 2, "phase": "cheating"}
    seen = Observation(exists=True, ready=True, endpoint=Endpoint(host="h", port=1), external_name="x", facts=facts)
    first = status_of(outcome(observed=seen, binding="secret", made=True), {}, NOW)
    assert first["phase"] == "Ready", "a driver can't set what is the loop's"
    second = status_of(CASES["nobody could look"][0], first, LATER)
    for name in ("endpoint", "externalName", "replicas", "binding", "className", "driver"):
        assert second[name] == first[name]


def test_drift_shows_fields_but_no_secrets():
    differences = (Difference("spec.a", "1", "2"), Difference("spec.p", "secret", "old", sensitive=True))
    seen = Observation(exists=True, ready=True, differences=differences)
    status = status_of(outcome(observed=seen, plan=Plan((), differences), made=True), {}, NOW)
    assert status["drift"] == [
        {"field": "spec.a", "desired": "1", "actual": "2", "disruption": "none"},
        {"field": "spec.p", "desired": "", "actual": "", "disruption": "none"},
    ]
    assert "secret" not in str(status)


def test_waiting_for_a_person_or_a_window_says_how_to_go_on():
    window = Window(timedelta(hours=3), timedelta(hours=1))
    restart = Difference("spec.version", "9", "8", Disruption.RESTART)
    loss = Difference("spec.engine", "redis", "valkey", Disruption.DATA_LOSS)

    def held(*differences):
        seen = Observation(exists=True, ready=True, differences=differences)
        return status_of(outcome(observed=seen, plan=Plan((), differences), window=window, made=True), {}, NOW)

    waits = held(restart)
    assert said(waits)["Reconciling"] == ("True", "AwaitingMaintenanceWindow")
    message = waits["conditions"][1]["message"]
    assert "2026-11-23T03:00:00Z" in message
    assert "spec.version (8 → 9, restart)" in message
    asks = held(restart, loss)
    assert said(asks)["Stalled"] == ("True", "ApprovalRequired")
    assert said(asks)["Reconciling"][0] == "False"
    assert "kubectl annotate --overwrite cache one -n shop chandlery.dev/approve=" in asks["conditions"][2]["message"]


def test_a_kinds_own_conditions_ride_along():
    own = Condition(type="BackedUp", status=ConditionStatus.TRUE, reason="Fresh", message="An hour ago.")
    fake = Condition(type="Ready", status=ConditionStatus.TRUE, reason="Cheating")
    status = status_of(outcome(observed=Observation(exists=True, conditions=(own, fake)), made=True), {}, NOW)
    assert said(status)["BackedUp"] == ("True", "Fresh")
    assert said(status)["Ready"][0] == "False"


@given(
    exists=st.booleans(),
    ready=st.booleans(),
    differs=st.booleans(),
    held=st.booleans(),
    error=st.sampled_from([None, Unavailable("away"), InvalidSpec("no", field="spec.a")]),
    looked=st.booleans(),
    paused=st.booleans(),
    deleting=st.booleans(),
)
def test_no_outcome_makes_conditions_contradict_each_other(
    exists, ready, differs, held, error, looked, paused, deleting
):
    change = (Difference("spec.a", "1", "2", Disruption.DATA_LOSS if held else Disruption.NONE),) if differs else ()
    seen = Observation(exists=exists, ready=ready, differences=change) if looked else None
    found = outcome(
        observed=seen, plan=Plan((), change if held else ()), error=error, paused=paused, deleting=deleting, made=True
    )
    status = status_of(found, {}, NOW)
    conditions = said(status)
    assert not (conditions["Reconciling"][0] == "True" and conditions["Stalled"][0] == "True")
    if conditions["Ready"][0] == "True":
        assert exists
        assert ready
        assert looked
    if not (paused or deleting) and conditions["Ready"][0] != "True":
        assert "True" in {conditions["Reconciling"][0], conditions["Stalled"][0]}, (
            "somebody must be at it, or be called"
        )
    for condition in status["conditions"]:
        assert condition["reason"]
        if condition["status"] == "True" and condition["type"] != "Ready":
            assert condition["message"]


def test_a_refusal_names_every_field_and_who_can():
    one = refusal("local", [Unsupported("spec.tls", "true", "no certificates here")], ["kubernetes", "aws"])
    message = one.condition_message()
    assert "spec.tls" in message
    assert "driver local" in message
    assert "kubernetes, aws" in message
    many = refusal("local", [Unsupported("spec.a", "", "no"), Unsupported("spec.b", "", "no")], [])
    assert "spec.a, spec.b" in many.condition_message()
    assert refusal("local", [], []) is None
