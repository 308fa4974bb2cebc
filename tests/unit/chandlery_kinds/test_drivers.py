"""Every driver in a kind's table can be loaded and is what the contract asks for."""

import inspect

import pytest

from chandlery.driver.protocol import Driver
from chandlery_kinds import KINDS

TABLE = [(kind, name) for kind in KINDS for name in kind.drivers]


@pytest.mark.parametrize(("kind", "name"), TABLE, ids=[f"{k.name}-{n}" for k, n in TABLE])
def test_it_loads_and_has_the_verbs(kind, name: str) -> None:
    driver = kind.load_driver(name)
    assert driver.name == name
    for verb in ("observe", "create", "update", "delete"):
        assert inspect.iscoroutinefunction(getattr(driver, verb)), verb
    assert not inspect.iscoroutinefunction(driver.unsupported)
    assert isinstance(driver(), Driver)


def test_every_kind_can_be_tried_without_anything() -> None:
    for kind in KINDS:
        assert "memory" in kind.drivers, kind.name


def test_no_two_kinds_share_a_name() -> None:
    for attribute in ("kind", "plural", "singular"):
        names = [getattr(kind.names, attribute) for kind in KINDS]
        assert len(set(names)) == len(names)
    short = [name for kind in KINDS for name in kind.names.short_names]
    assert len(set(short)) == len(short)
    # names of kubectl's own and of what is often installed beside us: a clash would hide one of the two
    taken = {
        "vm",
        "vms",
        "vmi",
        "po",
        "svc",
        "cm",
        "pv",
        "sc",
        "hpa",
        "pdb",
        "cj",
        "rs",
        "ds",
        "kt",
        "gw",
        "gc",
        "pg",
        "db",
    }
    assert not taken & {*short}
