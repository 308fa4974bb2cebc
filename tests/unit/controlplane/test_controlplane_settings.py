"""The control plane's options: flags before CHANDLERY_CONTROLPLANE_* before defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from chandlery.controlplane.__main__ import parser, settings_from
from chandlery.controlplane.settings import ControlPlaneSettings
from chandlery.foundation.errors import InvalidConfiguration


def read(*flags: str) -> ControlPlaneSettings:
    return settings_from(parser().parse_args(["--data-dir", "/d", *flags]))


def test_defaults_are_those_of_the_settings():
    assert read() == ControlPlaneSettings(data_dir=Path("/d"))


def test_flags_go_before_variables_before_defaults(monkeypatch):
    monkeypatch.setenv("CHANDLERY_CONTROLPLANE_STORE", "memory")
    monkeypatch.setenv("CHANDLERY_CONTROLPLANE_PORT", "6443")
    monkeypatch.setenv("CHANDLERY_CONTROLPLANE_CONTROLLERS", "false")
    found = read("--port", "7443", "--anonymous-auth", "false")
    assert (found.store, found.port, found.controllers, found.anonymous_auth) == ("memory", 7443, False, False)
    assert found.synchronous == "FULL"


def test_the_data_directory_may_come_from_a_variable(monkeypatch):
    monkeypatch.setenv("CHANDLERY_DATA_DIR", "/shared")
    assert settings_from(parser().parse_args([])).data_dir == Path("/shared")
    monkeypatch.setenv("CHANDLERY_CONTROLPLANE_DATA_DIR", "/own")
    assert settings_from(parser().parse_args([])).data_dir == Path("/own")


def test_etcd_servers_are_a_list(monkeypatch):
    both = ("http://127.0.0.1:1", "http://127.0.0.1:2")
    assert read("--store", "etcd", "--etcd-servers", ",".join(both)).etcd_servers == both
    monkeypatch.setenv("CHANDLERY_CONTROLPLANE_ETCD_SERVERS", ",".join(both))
    assert read("--store", "etcd").etcd_servers == both


def test_the_real_servers_flags_say_the_same_here():
    flags = (
        "--secure-port=7443 --bind-address=::1 --authorization-mode=Node,RBAC --anonymous-auth --event-ttl=1h30m0s"
        " --tls-min-version=VersionTLS13 --client-ca-file=/ca --audit-log-maxsize=100 --audit-log-maxbackup=2"
    )
    found = read(*flags.split())
    assert (found.port, found.host, found.anonymous_auth, found.event_ttl) == (7443, "::1", True, 5400.0)
    assert (found.tls_min_version, found.client_ca_file) == ("VersionTLS13", Path("/ca"))
    assert (found.audit_log_maxsize, found.audit_log_maxbackup) == (100, 2)


def test_a_time_that_is_none_is_named(capsys, monkeypatch):
    with pytest.raises(SystemExit):
        read("--event-ttl=soon")
    assert "'soon': must be a duration such as 30m or 1h0m0s" in capsys.readouterr().err
    monkeypatch.setenv("CHANDLERY_CONTROLPLANE_EVENT_TTL", "30m")
    assert read().event_ttl == 1800.0


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("STORE", "redis", 'CHANDLERY_CONTROLPLANE_STORE: input should be .* \\(got "redis"\\)'),
        ("PORT", "many", "CHANDLERY_CONTROLPLANE_PORT: input should be a valid integer"),
    ],
)
def test_wrong_variables_are_named(monkeypatch, variable, value, said):
    monkeypatch.setenv(f"CHANDLERY_CONTROLPLANE_{variable}", value)
    with pytest.raises(InvalidConfiguration, match=said):
        read()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--port", "65536"], "--port: 65536: must be from 0 to 65535"),
        (["--service-cluster-ip-range", "10.0.0.1/8"], "--service-cluster-ip-range: 10.0.0.1/8 has host bits set"),
        (["--store", "etcd"], "--store etcd: needs --etcd-servers"),
        (["--authorization-mode", "AlwaysAllow"], "--authorization-mode: AlwaysAllow: this control plane has RBAC"),
        (["--authorization-mode=RBAC,Webhook"], "has RBAC, and nothing else"),
        (["--audit-log-maxsize", "0"], "must be at least 1"),
    ],
)
def test_wrong_flags_are_named(flags, said):
    with pytest.raises(ValueError, match=said):
        read(*flags)
