"""Settings by ALTER SYSTEM: what is set, what is reset, and how lists are spelled."""

from chandlery.driver.protocol import Disruption
from chandlery_kinds.database.postgres.live_settings import setting_differences, statement
from chandlery_kinds.database.settings import TABLES

TABLE = TABLES["postgres"]


def differences(wanted, kept, given=()):
    return setting_differences(wanted, kept, dict.fromkeys(given, ""), TABLE)


def test_a_value_is_set_once_and_named_by_its_field():
    [change] = differences({"work_mem": "8MB"}, {}, ["work_mem"])
    assert (change.field, change.actual, change.disruption) == (
        "spec.configuration[work_mem]",
        "default",
        Disruption.RELOAD,
    )
    assert differences({"work_mem": "8MB"}, {"work_mem": "8MB"}) == []
    assert differences({"TimeZone": "UTC"}, {"timezone": "UTC"}) == []


def test_what_nobody_asks_for_is_reset_and_costs_what_it_costs():
    light, heavy = differences({}, {"work_mem": "1GB", "max_connections": "5"})[::-1]
    assert light.payload == ("set", "work_mem", None)
    assert (light.disruption, heavy.disruption) == (Disruption.RELOAD, Disruption.RESTART)


def test_lists_are_compared_and_written_element_by_element():
    assert differences({"search_path": "audit, public"}, {"search_path": '"audit",public'}) == []
    assert statement("search_path", '"$user", public') == "ALTER SYSTEM SET \"search_path\" = '$user', 'public'"
    assert statement("DateStyle", "ISO, MDY") == "ALTER SYSTEM SET \"DateStyle\" = 'ISO, MDY'"
    assert statement("search_path", "") == "ALTER SYSTEM SET \"search_path\" = ''"


def test_nothing_can_be_smuggled_into_a_statement():
    assert statement('a"b', "c'; DROP DATABASE app; --") == (
        "ALTER SYSTEM SET \"a\"\"b\" = 'c''; DROP DATABASE app; --'"
    )
    assert statement("plan.x", None) == 'ALTER SYSTEM RESET "plan"."x"'
