"""Where admission webhooks are served: beside an embedded control plane always, elsewhere where a port says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from chandlery.app.compose import admission
from chandlery.app.settings import RunSettings


@pytest.fixture
def made(tmp_path: Path) -> Path:
    pki = tmp_path / "controlplane" / "pki"
    pki.mkdir(parents=True)
    (pki / "webhook.crt").touch()
    return pki


def test_beside_an_embedded_control_plane_with_the_certificate_that_it_made(tmp_path: Path, made: Path) -> None:
    listen, files = admission(RunSettings(), tmp_path / "kubeconfig", tmp_path)
    assert (listen.host, listen.port, files) == ("127.0.0.1", 0, made)


def test_without_such_a_certificate_one_is_made(tmp_path: Path) -> None:
    listen, files = admission(RunSettings(), tmp_path / "kubeconfig", tmp_path)
    assert (listen.port, files) == (0, None)


def test_a_cluster_of_somebody_else_is_not_told_of_a_loopback_address(tmp_path: Path, made: Path) -> None:
    assert admission(RunSettings(), tmp_path / "other", tmp_path)[0].port is None
    assert admission(RunSettings(), None, None)[0].port is None


def test_settings_say_otherwise(tmp_path: Path, made: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    listen, files = admission(RunSettings(webhooks=False, webhook_port=9443), kubeconfig, tmp_path)
    assert (listen.port, files) == (None, None)
    listen, files = admission(RunSettings(webhook_port=9443), kubeconfig, tmp_path)
    assert (listen.port, files) == (9443, made)
    listen, files = admission(RunSettings(webhook_host="10.0.0.1"), kubeconfig, tmp_path)
    assert (listen.host, listen.port, files) == ("10.0.0.1", 0, None), "the certificate isn't for that address"
    own = RunSettings(webhook_certificate=tmp_path / "a", webhook_key=tmp_path / "b")
    listen, files = admission(own, kubeconfig, tmp_path)
    assert (listen.certificate, files) == (tmp_path / "a", None)
