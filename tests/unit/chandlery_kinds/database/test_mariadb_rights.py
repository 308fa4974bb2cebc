import hashlib

import pytest

from chandlery_kinds.database.mariadb.configuration import plain, render, settings, sql_value
from chandlery_kinds.database.mariadb.rights import ALL, OPTION, Place, by_place, statements, wanted_rights
from chandlery_kinds.database.mariadb.sql import ident, literal, stored
from chandlery_kinds.database.model import DatabaseSpec
from chandlery_kinds.database.spec_parts import Role


def spec(**more):
    return DatabaseSpec.model_validate({"engine": "mariadb", **more})


def test_names_and_texts_cannot_break_out():
    assert ident("a`b") == "`a``b`"
    assert literal("it's") == "'it''s'"
    with pytest.raises(ValueError, match="backslash"):
        literal("a\\")


def test_a_password_goes_as_what_is_stored_for_it():
    inner = hashlib.sha1(b"secret").digest()
    assert stored("secret") == "*" + hashlib.sha1(inner).hexdigest().upper()
    assert stored("abc") == "*0D3CED9BEC10A777AEC23CCC353A8C08A633045E", "as MariaDB itself says of PASSWORD('abc')"


def test_an_underscore_in_a_database_is_no_wildcard():
    assert str(Place("my_db")) == "`my\\_db`.*"
    assert str(Place("my_db", "t_1")) == "`my_db`.`t_1`"
    assert str(Place()) == "*.*"
    assert by_place([("my\\_db", "", "SELECT", False)]) == {Place("my_db"): frozenset({"SELECT"})}


def test_owners_have_everything_in_their_database():
    found = wanted_rights(spec(), Role(name="app"))
    assert found == {Place("app"): frozenset({ALL, OPTION})}
    (statement,) = statements("`app`@'%'", found, {})
    assert statement == "GRANT ALL PRIVILEGES ON `app`.* TO `app`@'%' WITH GRANT OPTION"


def test_what_is_missing_is_granted_and_what_is_too_much_taken_away():
    role = Role.model_validate({"name": "r", "grants": [{"database": "app", "privileges": ["SELECT", "TRUNCATE"]}]})
    live = by_place([("app", "", "SELECT", False), ("app", "", "DELETE", False), ("", "", "FILE", False)])
    assert statements("r", wanted_rights(spec(roles=[role]), role), live) == [
        "REVOKE FILE ON *.* FROM r",
        "REVOKE DELETE ON `app`.* FROM r",
        "GRANT DROP ON `app`.* TO r",
    ]


def test_nothing_is_different_when_all_is_there():
    rows = [("app", "", word, True) for word in ("SELECT", "INSERT", "SOMETHING NEW")]
    live = dict(by_place(rows))
    role = Role(name="app")
    assert statements("app", wanted_rights(spec(), role), live) != []
    from chandlery_kinds.database.mariadb import rights

    every = rights._ON_TABLES | rights._ON_DATABASES | {"SOMETHING NEW"}
    whole = by_place([("app", "", word, True) for word in every])
    assert statements("app", wanted_rights(spec(), role), whole) == [], (
        "rights that only a newer engine knows are meant"
    )


def test_settings_mean_the_same_in_the_file_and_live():
    found = settings(spec(configuration={"sort_buffer_size": "1M", "time_zone": "SYSTEM"}), memory=1 << 30)
    assert found["sort_buffer_size"] == str(1 << 20)
    assert found["innodb_buffer_pool_size"] == str(1 << 28)
    assert 'default_time_zone = "SYSTEM"\n' in render(found)
    assert plain("long_query_time", "1.5") == "1.5"
    assert sql_value("sort_buffer_size", "1024") == "1024"
    assert sql_value("autocommit", "yes") == "ON"
    assert sql_value("sql_mode", "A'B") == "'A''B'"
    assert sql_value("sql_mode", None) == "DEFAULT"
