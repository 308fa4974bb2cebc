import pytest

from chandlery.model.settings import Setting, SettingTable, check_configuration, load
from chandlery.model.settings_rules import configuration_rules

TABLE = SettingTable(
    "demo",
    {
        "maxclients": Setting("maxclients", "int", "reload", 1, 100),
        "ratio": Setting("ratio", "float", "reload", 0, 1),
        "save": Setting("save", "text", "owned", instead="use spec.persistence"),
        "level": Setting("level", "enum", "restart", values=("debug", "notice")),
        "buffer": Setting("buffer", "size", "reload"),
        "wait": Setting("wait", "duration", "reload"),
        "fast": Setting("fast", "bool", "reload"),
        "motto": Setting("motto", "text", "reload"),
    },
    custom="[a-z]+[.][a-z]+",
)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("maxclient", "5", "demo has no setting maxclient: did you mean maxclients?"),
        ("nonsense", "5", "demo has no setting nonsense"),
        ("save", "1 1", "save belongs to the driver: use spec.persistence"),
        ("maxclients", "many", "maxclients must be a whole number"),
        ("maxclients", "0", "maxclients must be 1 or more"),
        ("maxclients", "101", "maxclients must be 100 or less"),
        ("ratio", "1.5", "ratio must be 1 or less"),
        ("level", "loud", "level must be one of debug, notice"),
        ("buffer", "big", "buffer must be a size, such as 64MB or 1gb"),
        ("wait", "soon", "wait must be a time, such as 30s, 500ms or 5min"),
        ("fast", "very", "fast must be yes, no, on, off, true or false"),
        ("motto", "two\nlines", "motto must be on one line"),
    ],
)
def test_problems_name_the_setting_and_the_way_out(name: str, value: str, problem: str) -> None:
    assert TABLE.problems({name: value}) == {name: problem}
    with pytest.raises(ValueError, match="^" + problem.split(":", maxsplit=1)[0].replace("(", r"\(")[:30]):
        check_configuration(TABLE, {name: value})


def test_good_values_pass() -> None:
    good = {
        "maxclients": "50", "ratio": "0.5", "level": "DEBUG", "buffer": "64MB", "wait": "5min", "fast": "On",
        "motto": "all's well", "extension.thing": "anything",
    }  # fmt: skip
    assert check_configuration(TABLE, good) == good


def test_effects() -> None:
    assert (TABLE.effect("maxclients"), TABLE.effect("level"), TABLE.effect("ext.x")) == (
        "reload",
        "restart",
        "restart",
    )


def test_rules_of_names_are_for_their_engine_and_those_of_values_are_shared() -> None:
    other = SettingTable("other", {**TABLE.settings, "maxclients": Setting("maxclients", "int", "reload", 1, 5)})
    rules = [r.rule for r in configuration_rules({"demo": TABLE, "other": other})]
    assert sum("self.engine != 'demo'" in r for r in rules) == 4
    assert sum("self.engine != 'other'" in r for r in rules) == 4
    shared = [r for r in rules if "self.engine" not in r]
    assert len(shared) == 6
    assert not any("maxclients" in r for r in shared)


def test_a_damaged_table_names_its_line(tmp_path, monkeypatch) -> None:
    (tmp_path / "damaged_tables").mkdir()
    (tmp_path / "damaged_tables" / "__init__.py").write_text("")
    (tmp_path / "damaged_tables" / "x.tsv").write_text("# head\nport\tnumber\treload\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"damaged_tables: x\.tsv, line 2"):
        load("damaged_tables", "x")
