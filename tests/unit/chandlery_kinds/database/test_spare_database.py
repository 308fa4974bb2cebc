"""An empty database that is there already becomes the first one asked for that it fits."""

from chandlery_kinds.database.model import DatabaseSpec
from chandlery_kinds.database.postgres.catalog import Catalog, LiveDatabase
from chandlery_kinds.database.postgres.roles import database_differences

SPARE = "empty"


def statements(spec, *there, spare=SPARE):
    live = {name: LiveDatabase(name, "chandlery", -1, 0) for name in there}
    found = database_differences(DatabaseSpec.model_validate(spec), Catalog({}, live), spare)
    return [statement for difference in found for statement in difference.payload.statements]


def test_the_first_that_it_fits_takes_it_and_the_others_are_made():
    spec = {
        "databases": [
            {"name": "german", "owner": "o", "locale": "de_DE.UTF-8"},
            {"name": "app", "owner": "o", "connectionLimit": 5},
            {"name": "other", "owner": "o"},
        ]
    }
    german, _, rename, owner, limit, other, _ = statements(spec, SPARE)
    assert german.startswith('CREATE DATABASE "german"')
    assert rename == 'ALTER DATABASE "empty" RENAME TO "app"'
    assert owner == 'ALTER DATABASE "app" OWNER TO "o"'
    assert limit == 'ALTER DATABASE "app" CONNECTION LIMIT 5'
    assert other.startswith('CREATE DATABASE "other"')


def test_one_of_another_encoding_is_made():
    spec = {"databases": [{"name": "app", "owner": "o"}], "initialization": {"encoding": "LATIN1"}}
    assert statements(spec, SPARE)[0].startswith('CREATE DATABASE "app"')


def test_one_that_nobody_needs_goes_once_all_others_are_there():
    spec = {"databases": [{"name": "app", "owner": "chandlery"}]}
    assert statements(spec, "app", SPARE) == ['DROP DATABASE "empty"']


def test_a_database_of_that_name_that_is_not_ours_stays():
    spec = {"databases": [{"name": "app", "owner": "chandlery"}]}
    assert statements(spec, "app", SPARE, spare="") == []
    assert statements({"databases": [{"name": "new", "owner": "o"}]}, SPARE, spare="")[0].startswith("CREATE")
