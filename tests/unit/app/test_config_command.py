"""`chandlery config` lists every setting of every room and tells what was mistyped."""

from __future__ import annotations

import dataclasses
import json

import pytest
from typer.testing import CliRunner

from chandlery.app.cli import app
from chandlery.foundation.config import all_sections


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    import os

    for name in list(os.environ):
        if name.startswith("CHANDLERY_"):
            monkeypatch.delenv(name)


def run(*args: str):
    return CliRunner().invoke(app, ["config", *args])


def test_every_setting_of_every_room_is_listed():
    found = run()
    assert found.exit_code == 0, found.output
    for each in all_sections():
        assert each.title in found.stdout
        for row in each.rows():
            assert f"  {row.env} " in found.stdout
    rooms = {each.name for each in all_sections()}
    assert {"controlplane", "kubernetes", "local", "log", "loop", "operator", "telemetry"} <= rooms


def test_json_has_values_sources_and_defaults(monkeypatch):
    monkeypatch.setenv("CHANDLERY_LOOP_WORKERS", "7")
    found = {item["variable"]: item for item in json.loads(run("-o", "json").stdout)}
    workers = found["CHANDLERY_LOOP_WORKERS"]
    assert (workers["value"], workers["source"], workers["default"]) == ("7", "CHANDLERY_LOOP_WORKERS", "32")
    assert found["CHANDLERY_CONTROLPLANE_STORE"]["value"] == "sqlite"


def test_what_is_wrong_or_unknown_is_told(monkeypatch):
    monkeypatch.setenv("CHANDLERY_LOOP_WORKERS", "many")
    monkeypatch.setenv("CHANDLERY_LOOP_WORKER", "7")
    found = run("--changed")
    assert found.exit_code == 1
    assert "wrong: CHANDLERY_LOOP_WORKERS: input should be a valid integer" in found.stdout
    assert "CHANDLERY_LOG_LEVEL" not in found.stdout
    assert "CHANDLERY_LOOP_WORKER is not a setting. Did you mean CHANDLERY_LOOP_WORKERS?" in found.output


def test_another_format_is_refused():
    found = run("-o", "yaml")
    assert found.exit_code == 2
    assert "yaml: table or json" in found.output


def test_what_nobody_set_is_what_would_have_been_checked():
    from chandlery.foundation.config import reading

    run()  # every room's settings are known after that
    for each in all_sections():
        rows = each.rows()
        if not any(row.default is dataclasses.MISSING for row in rows):
            assert reading._checked(each, rows, {}) == reading.read(each, rows, {}), each.title
