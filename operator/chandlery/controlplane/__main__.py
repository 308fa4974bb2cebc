"""The control plane's command line: `chandlery controlplane`, also `python -m chandlery.controlplane`.

chandlery controlplane --data-dir DIR [--port N] [--store sqlite|memory|etcd] [--detach]
chandlery controlplane backup --data-dir DIR FILE
chandlery controlplane stop --data-dir DIR
"""

from __future__ import annotations

import argparse
import ipaddress
import logging
import os
import sys
from pathlib import Path
from typing import Any

from chandlery.controlplane.settings import ControlPlaneSettings

PROGRAM = "chandlery controlplane"


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a command line


_VARIABLES = "CHANDLERY_CONTROLPLANE_"


def _common(flags: argparse.ArgumentParser) -> None:
    known = os.environ.get(f"{_VARIABLES}DATA_DIR") or os.environ.get("CHANDLERY_DATA_DIR")
    flags.add_argument(
        "--data-dir",
        type=Path,
        default=known,
        required=known is None,
        help="where everything is kept (CHANDLERY_DATA_DIR)",
    )


def _duration(text: str) -> float:
    """A duration as Go writes it, in seconds."""
    from chandlery.controlplane.schema.goduration import parse_duration

    found = parse_duration(text)
    if found is None or found <= 0:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a duration such as 30m or 1h0m0s")
    return found / 1e9


def parser() -> argparse.ArgumentParser:
    """The flags of the server; the same names as kube-apiserver's where the option is the same."""
    flags = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Serve the Kubernetes API from one process.",
        epilog="Also: `backup --data-dir DIR FILE` copies the store as it runs, `stop --data-dir DIR` stops a server.",
    )
    _common(flags)
    # no defaults here: what isn't given comes from CHANDLERY_CONTROLPLANE_* or from the settings themselves
    flags.add_argument("--bind-address", dest="host", help="address to listen on (default: loopback)")
    flags.add_argument("--port", "--secure-port", type=int, help="0: the last one, or any free one (default: 0)")
    flags.add_argument("--store", choices=["sqlite", "memory", "etcd"], help="default: sqlite")
    flags.add_argument(
        "--synchronous",
        choices=["FULL", "NORMAL", "OFF"],
        help="what a commit survives: FULL a power cut, NORMAL a crash of the process, OFF neither (default: FULL)",
    )
    flags.add_argument("--etcd-servers", help="comma-separated URLs")
    flags.add_argument("--etcd-prefix", help="default: /registry")
    flags.add_argument("--etcd-cafile", type=Path)
    flags.add_argument("--etcd-certfile", type=Path)
    flags.add_argument("--etcd-keyfile", type=Path)
    flags.add_argument("--token-auth-file", type=Path, help='CSV lines: token,user,uid[,"group1,group2"]')
    flags.add_argument("--anonymous-auth", choices=["true", "false"], nargs="?", const="true", help="default: true")
    flags.add_argument("--authorization-mode", help="RBAC, which is always on; Node may stand before it")
    flags.add_argument("--client-ca-file", type=Path, help="PEM: client certificates may be from this authority too")
    flags.add_argument(
        "--cert-dir", dest="tls_folder", type=Path, help="CA, certificates and keys; default: pki in the data directory"
    )
    flags.add_argument("--tls-min-version", choices=["VersionTLS12", "VersionTLS13"], help="default: VersionTLS12")
    flags.add_argument("--service-cluster-ip-range", help="default: 10.96.0.0/16")
    flags.add_argument("--service-account-issuer", help="default: https://kubernetes.default.svc")
    flags.add_argument("--audit-log-path", type=Path, help="default: audit.log in the data directory")
    flags.add_argument(
        "--audit-log-maxsize", type=int, help="megabytes before the log goes on in a new file (default: 10)"
    )
    flags.add_argument("--audit-log-maxbackup", type=int, help="full files of it that are kept (default: 5)")
    flags.add_argument("--event-ttl", type=_duration, help="how long events live, such as 30m or 1h0m0s (default: 1h)")
    flags.add_argument(
        "--kubeconfig", type=Path, help="where the admin's kubeconfig goes; default: in the data directory"
    )
    flags.add_argument("--no-controllers", action="store_true", help="a kube-controller-manager does their work")
    flags.add_argument("--detach", action="store_true", help="start in the background; return when it is ready")
    flags.add_argument(
        "--binaries",
        type=Path,
        default=os.environ.get("KUBEBUILDER_ASSETS"),
        help="start the real kube-apiserver and etcd of this folder instead (KUBEBUILDER_ASSETS)",
    )
    flags.add_argument("-v", "--verbose", action="store_true")
    return flags


_FLAGS = (
    "host", "port", "store", "synchronous", "etcd_prefix", "etcd_cafile", "etcd_certfile", "etcd_keyfile",
    "token_auth_file", "service_cluster_ip_range", "service_account_issuer", "audit_log_path", "kubeconfig",
    "audit_log_maxsize", "audit_log_maxbackup", "client_ca_file", "tls_min_version", "tls_folder", "event_ttl",
)  # fmt: skip


def settings_from(args: argparse.Namespace) -> ControlPlaneSettings:
    """Flags before variables before defaults. Raises ValueError that names the flag or the variable."""
    given: dict[str, Any] = {name: getattr(args, name) for name in _FLAGS}
    given["data_dir"] = Path(args.data_dir)
    given["etcd_servers"] = tuple(part for part in (args.etcd_servers or "").split(",") if part) or None
    given["anonymous_auth"] = None if args.anonymous_auth is None else args.anonymous_auth == "true"
    given["controllers"] = False if args.no_controllers else None
    if any(name.startswith(_VARIABLES) for name in os.environ):
        from chandlery.foundation.config import load  # takes as long as everything else here together

        settings = load(ControlPlaneSettings, **given)
    else:
        settings = ControlPlaneSettings(**{name: value for name, value in given.items() if value is not None})
    if not 0 <= settings.port < 65536:
        raise ValueError(f"--port: {settings.port}: must be from 0 to 65535")
    try:
        ipaddress.ip_network(settings.service_cluster_ip_range)
    except ValueError as error:
        raise ValueError(f"--service-cluster-ip-range: {error}") from error
    modes = [mode for mode in (args.authorization_mode or "RBAC").split(",") if mode != "Node"]
    if modes != ["RBAC"]:
        raise ValueError(
            f"--authorization-mode: {args.authorization_mode}: this control plane has RBAC, and nothing else"
        )
    if settings.audit_log_maxsize < 1 or settings.audit_log_maxbackup < 1:
        raise ValueError("--audit-log-maxsize and --audit-log-maxbackup: must be at least 1")
    if settings.store == "etcd" and not settings.etcd_servers:
        raise ValueError("--store etcd: needs --etcd-servers, such as http://127.0.0.1:2379")
    return settings


def _serve(argv: list[str]) -> None:
    args = parser().parse_args(argv)
    logging.basicConfig(
        level=logging.DEBUG if args.verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    settings = settings_from(args)
    if args.detach:
        from chandlery.controlplane.detach import start_detached

        _say(start_detached(args.data_dir, [flag for flag in argv if flag != "--detach"]))
        return
    if args.binaries:
        from chandlery.controlplane.binaries import run_binaries

        run_binaries(settings, Path(args.binaries))
        return
    from chandlery.controlplane.plane import run

    run(settings)


def _backup(argv: list[str]) -> None:
    flags = argparse.ArgumentParser(prog=f"{PROGRAM} backup", description="Copy the store while it runs.")
    _common(flags)
    flags.add_argument("file", type=Path, help="the copy; it may not exist yet")
    args = flags.parse_args(argv)
    from chandlery.controlplane.store.sqlite import backup

    size = backup(args.data_dir / "store.db", args.file)
    _say(f"{args.file}: {size:,} bytes")


def _stop(argv: list[str]) -> None:
    flags = argparse.ArgumentParser(prog=f"{PROGRAM} stop", description="Stop the control plane of a data directory.")
    _common(flags)
    args = flags.parse_args(argv)
    from chandlery.controlplane.detach import stop_detached

    _say(stop_detached(args.data_dir))


def main(argv: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    command = {"backup": _backup, "stop": _stop}.get(arguments[0] if arguments else "")
    from chandlery.controlplane.store.base import StoreError
    from chandlery.foundation.errors import ChandleryError

    try:
        if command is not None:
            command(arguments[1:])
        else:
            _serve(arguments)
    except (StoreError, ChandleryError, ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - a command line
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
