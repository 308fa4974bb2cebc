"""The operator before there is an API server: nothing to wait for is told at once, whom it waits for after a while."""

import pytest

from chandlery.app import run
from chandlery.foundation.errors import InvalidConfiguration, Timeout


async def test_nothing_that_says_where_the_api_server_is_is_told_at_once(tmp_path, monkeypatch):
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InvalidConfiguration, match="kubeconfig"):
        await run.wait_for_api(run.parse([]))


async def test_a_file_that_was_named_is_waited_for_and_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "READY_SECONDS", 0.05)
    monkeypatch.setattr(run, "AT_ONCE", 0.0)
    monkeypatch.setattr(run, "PATIENT_POLL", 0.01)
    with pytest.raises(Timeout, match="serve our kinds"):
        await run.wait_for_api(run.parse(["--kubeconfig", str(tmp_path / "later")]))
    assert "waiting for the API server" in capsys.readouterr().err
