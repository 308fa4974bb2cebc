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

from chandlery.controlplane.settings import ControlPlaneSettings

PROGRAM = "chandlery controlplane"


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a command line


def _common(flags: argparse.ArgumentParser) -> None:
    flags.add_argument(
        "--data-dir",
        type=Path,
        default=os.environ.get("CHANDLERY_DATA_DIR"),
        required="CHANDLERY_DATA_DIR" not in os.environ,
        help="where everything is kept (CHANDLERY_DATA_DIR)",
    )


def parser() -> argparse.ArgumentParser:
    """The flags of the server; the same names as kube-apiserver's where the option is the same."""
    flags = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Serve the Kubernetes API from one process.",
        epilog="Also: `backup --data-dir DIR FILE` copies the store as it runs, `stop --data-dir DIR` stops a server.",
    )
    _common(flags)
    flags.add_argument("--bind-address", default="127.0.0.1", help="address to listen on (default: loopback)")
    flags.add_argument("--port", "--secure-port", type=int, default=0, help="0: the last one, or any free one")
    flags.add_argument("--store", choices=["sqlite", "memory", "etcd"], default="sqlite", help="default: sqlite")
    flags.add_argument(
        "--synchronous",
        choices=["FULL", "NORMAL", "OFF"],
        default="FULL",
        help="what a commit survives: FULL a power cut, NORMAL a crash of the process, OFF neither (default: FULL)",
    )
    flags.add_argument("--etcd-servers", default="", help="comma-separated URLs")
    flags.add_argument("--etcd-prefix", default="/registry")
    flags.add_argument("--etcd-cafile", type=Path)
    flags.add_argument("--etcd-certfile", type=Path)
    flags.add_argument("--etcd-keyfile", type=Path)
    flags.add_argument("--token-auth-file", type=Path, help='CSV lines: token,user,uid[,"group1,group2"]')
    flags.add_argument("--anonymous-auth", choices=["true", "false"], default="true")
    flags.add_argument("--service-cluster-ip-range", default="10.96.0.0/16")
    flags.add_argument("--service-account-issuer", default="https://kubernetes.default.svc")
    flags.add_argument("--audit-log-path", type=Path, help="default: audit.log in the data directory")
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


def settings_from(args: argparse.Namespace) -> ControlPlaneSettings:
    """Raises ValueError that names the flag."""
    try:
        ipaddress.ip_network(args.service_cluster_ip_range)
    except ValueError as error:
        raise ValueError(f"--service-cluster-ip-range: {error}") from error
    if not 0 <= args.port < 65536:
        raise ValueError(f"--port: {args.port}: must be from 0 to 65535")
    if args.store == "etcd" and not args.etcd_servers:
        raise ValueError("--store etcd: needs --etcd-servers, such as http://127.0.0.1:2379")
    return ControlPlaneSettings(
        data_dir=args.data_dir,
        host=args.bind_address,
        port=args.port,
        store=args.store,
        synchronous=args.synchronous,
        etcd_servers=tuple(part for part in args.etcd_servers.split(",") if part),
        etcd_prefix=args.etcd_prefix,
        etcd_cafile=args.etcd_cafile,
        etcd_certfile=args.etcd_certfile,
        etcd_keyfile=args.etcd_keyfile,
        token_auth_file=args.token_auth_file,
        anonymous_auth=args.anonymous_auth == "true",
        service_cluster_ip_range=args.service_cluster_ip_range,
        service_account_issuer=args.service_account_issuer,
        audit_log_path=args.audit_log_path,
        kubeconfig=args.kubeconfig,
        controllers=not args.no_controllers,
    )


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

    try:
        if command is not None:
            command(arguments[1:])
        else:
            _serve(arguments)
    except (StoreError, ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - a command line
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
