import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Lt

from chandlery.foundation import config
from chandlery.foundation.config import Seconds, all_sections, current, load, render_markdown, section, unknown
from chandlery.foundation.errors import InvalidConfiguration
from chandlery.foundation.secret import Secret
from chandlery.foundation.settings import LogSettings


@dataclass(frozen=True, slots=True)
class Nested:
    observe: Seconds = 30.0
    """For a look."""


@section("tea-shop", title="Tea")
@dataclass(frozen=True, slots=True)
class TeaSettings:
    home: Path
    """Where the leaves
    are."""
    cups: Annotated[int, Ge(1), Lt(100)] = 4
    "How many | at once."
    sort: Literal["green", "black"] = "green"
    milk: bool = False
    wait: Seconds = 180.0
    guests: tuple[str, ...] = ()
    password: Secret = field(default_factory=lambda: Secret(""))
    note: Path | None = None
    deadlines: Nested = field(default_factory=Nested)

    def __post_init__(self) -> None:
        if self.milk and self.sort == "green":
            raise ValueError("green tea is not taken with milk")


TEA = next(each for each in config.sections.SECTIONS.values() if each.cls is TeaSettings)


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("CHANDLERY_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CHANDLERY_TEA_SHOP_HOME", "~/tea")


def set_all(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"CHANDLERY_TEA_SHOP_{name.upper()}", value)


def test_defaults() -> None:
    assert load(TeaSettings) == TeaSettings(home=Path("~/tea").expanduser())


def test_every_type_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(
        monkeypatch,
        cups="7",
        sort="black",
        milk="yes",
        wait="2m30s",
        guests="ann, bob,",
        password="hunter2",
        note="",
        deadlines_observe="5",
    )
    got = load(TeaSettings)
    assert (got.cups, got.sort, got.milk, got.wait, got.guests, got.note) == (
        7,
        "black",
        True,
        150.0,
        ("ann", "bob"),
        None,
    )
    assert got.password.reveal() == "hunter2"
    assert got.deadlines.observe == 5.0
    assert type(got.deadlines.observe) is float


def test_flags_go_before_the_environment_and_none_means_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, cups="7", wait="9")
    got = load(TeaSettings, cups=9, wait=None, deadlines_observe=1.5, note=Path("/n"))
    assert (got.cups, got.wait, got.deadlines.observe, got.note) == (9, 9.0, 1.5, Path("/n"))
    with pytest.raises(TypeError, match="spoons"):
        load(TeaSettings, spoons=1)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("cups", "many", "valid integer"),
        ("cups", "0", "greater than or equal to 1"),
        ("sort", "blue", "'green' or 'black'"),
        ("milk", "perhaps", "boolean"),
        ("wait", "soon", "length of time"),
        ("deadlines_observe", "1 fortnight", "length of time"),
    ],
)
def test_a_wrong_value_is_named_with_its_variable_and_the_way_out(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_all(monkeypatch, **{name: value})
    with pytest.raises(InvalidConfiguration) as caught:
        load(TeaSettings)
    text = caught.value.condition_message()
    for word in (f"CHANDLERY_TEA_SHOP_{name.upper()}", value, said, "Set it to"):
        assert word in text


def test_all_that_is_wrong_is_said_at_once_and_what_is_missing_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHANDLERY_TEA_SHOP_HOME")
    set_all(monkeypatch, cups="x", sort="blue")
    with pytest.raises(InvalidConfiguration) as caught:
        load(TeaSettings)
    assert len(caught.value.causes) == 3
    assert "CHANDLERY_TEA_SHOP_HOME: must be set" in caught.value.condition_message()


def test_what_the_dataclass_itself_objects_to(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, milk="true")
    with pytest.raises(InvalidConfiguration, match="Tea: green tea is not taken with milk"):
        load(TeaSettings)


def test_secrets_may_come_from_files_and_are_never_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("hunter2\n")
    set_all(monkeypatch, password_file=str(path))
    assert load(TeaSettings).password.reveal() == "hunter2"
    assert "hunter2" not in str(current(TEA))
    set_all(monkeypatch, password_file=str(tmp_path / "none"))
    with pytest.raises(InvalidConfiguration, match="CHANDLERY_TEA_SHOP_PASSWORD_FILE"):
        load(TeaSettings)
    monkeypatch.delenv("CHANDLERY_TEA_SHOP_PASSWORD_FILE")
    set_all(monkeypatch, password="hunter2")
    assert "hunter2" not in str(current(TEA))
    assert "hunter2" not in repr(load(TeaSettings))


def test_current_says_value_and_source_even_when_a_value_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, cups="7", sort="blue", wait="1m")
    shown = {row.path[-1]: (value, source) for row, value, source in current(TEA)}
    assert shown["cups"] == ("7", "CHANDLERY_TEA_SHOP_CUPS")
    assert shown["wait"] == ("60", "CHANDLERY_TEA_SHOP_WAIT")
    assert shown["observe"] == ("30", "default")
    assert shown["sort"][0].startswith("wrong: CHANDLERY_TEA_SHOP_SORT")


def test_the_page_lists_everything_with_defaults_and_meanings() -> None:
    page = render_markdown([TEA])
    assert "## Tea" in page
    assert "| `CHANDLERY_TEA_SHOP_HOME` | path | (required) | Where the leaves are. |" in page
    assert (
        "| `CHANDLERY_TEA_SHOP_CUPS` | whole number, at least 1, less than 100 | `4` | How many \\| at once. |" in page
    )
    assert "| `CHANDLERY_TEA_SHOP_DEADLINES_OBSERVE` | seconds | `30` | For a look. |" in page
    assert "| `CHANDLERY_TEA_SHOP_SORT` | green, black | `green` |  |" in page
    assert "| `CHANDLERY_TEA_SHOP_GUESTS` | list of text |  |  |" in page


def test_variables_that_mean_nothing_are_found_with_what_was_probably_meant() -> None:
    environ = {
        "CHANDLERY_TEA_SHOP_CUP": "1",
        "CHANDLERY_TEA_SHOP_PASSWORD_FILE": "x",
        "CHANDLERY_LOG_LEVEL": "x",
        "HOME": "y",
    }
    assert unknown(environ) == [("CHANDLERY_TEA_SHOP_CUP", "CHANDLERY_TEA_SHOP_CUPS")]


def test_every_rooms_settings_are_found_documented_and_loadable() -> None:
    sections = all_sections()
    names = [each.name for each in sections]
    assert names == sorted(names)
    assert {"log", "telemetry"} <= set(names)
    for each in sections:
        if each is TEA:
            continue
        for row in each.rows():
            assert row.doc, f"{row.env} needs a docstring below its field"
    assert load(LogSettings).level == "info"
    assert LogSettings().resolved(terminal=True) == "console"
    assert LogSettings().resolved(terminal=False) == "json"


def test_only_dataclasses_and_no_two_of_one_name() -> None:
    with pytest.raises(TypeError, match="dataclass"):
        section("x")(int)
    with pytest.raises(ValueError, match="TeaSettings already"):
        section("tea-shop")(LogSettings)
    with pytest.raises(TypeError, match="no @section"):
        load(Nested)
