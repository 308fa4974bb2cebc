from datetime import UTC, datetime, timedelta

import pytest

from chandlery.driver.schedule import NEVER, due, moment, requested, stamp
from chandlery.foundation.errors import InvalidSpec

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def test_nothing_is_due_before_the_moment_and_it_is_at_the_moment():
    since = NOON - timedelta(hours=1)
    early = due("0 12 * * *", since=since, now=NOON - timedelta(seconds=1))
    assert early.at is None
    assert early.next == NOON
    assert early.wait(NOON - timedelta(seconds=1)) == 1.0
    there = due("0 12 * * *", since=since, now=NOON)
    assert there.at == NOON
    assert there.wait(NOON) == 0.0
    assert there.next == NOON + timedelta(days=1)


def test_what_was_missed_many_times_is_due_once():
    found = due("*/5 * * * *", since=NOON - timedelta(days=3), now=NOON)
    assert found.at == NOON - timedelta(days=3) + timedelta(minutes=5)
    again = due("*/5 * * * *", since=NOON, now=NOON + timedelta(minutes=1))
    assert again.at is None


def test_the_zone_is_the_one_whose_clock_is_meant():
    found = due("0 3 * * *", since=NOON, now=NOON, zone="Asia/Tokyo")
    assert found.next == datetime(2026, 11, 22, 18, tzinfo=UTC)


def test_no_schedule_and_a_suspended_one_never_come():
    assert due(None, since=NOON, now=NOON) is NEVER
    assert due("@daily", since=NOON - timedelta(days=9), now=NOON, suspended=True) is NEVER
    assert NEVER.wait(NOON) is None


def test_nonsense_is_refused():
    with pytest.raises(InvalidSpec):
        due("0 0 31 2 *", since=NOON, now=NOON)
    with pytest.raises(InvalidSpec):
        due("@daily", since=NOON, now=NOON, zone="Mars/Base")


def test_a_request_counts_once():
    name = "chandlery.dev/backup-requested-at"
    assert requested({}, name, None) is None
    assert requested({name: " now "}, name, None) == "now"
    assert requested({name: "now"}, name, "now") is None
    assert requested({name: "again"}, name, "now") == "again"


def test_stamps_go_both_ways():
    assert stamp(NOON) == "2026-11-22T12:00:00Z"
    assert moment(stamp(NOON)) == NOON
    assert moment("2026-11-22T13:00:00+01:00") == NOON
