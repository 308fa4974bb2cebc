"""`python -m chandlery.controlplane`: an embedded control plane, alone, for tests and tools."""

from __future__ import annotations

import argparse
import ipaddress
import logging
import sys
from pathlib import Path

from chandlery.controlplane.plane import ControlPlaneError, run
from chandlery.controlplane.settings import ControlPlaneSettings


def parser() -> argparse.ArgumentParser:
    """The flags; the same names as kube-apiserver's where the option is the same."""
    flags = argparse.ArgumentParser(prog="python -m chandlery.controlplane", description=__doc__)
    flags.add_argument("--data-dir", type=Path, required=True, help="where everything is kept")
    flags.add_argument("--bind-address", default="127.0.0.1", help="address to listen on (default: loopback)")
    flags.add_argument("--port", "--secure-port", type=int, default=0, help="0: the last one, or any free one")
    flags.add_argument("--store", choices=["sqlite", "memory", "etcd"], default="sqlite")
    flags.add_argument("--synchronous", choices=["FULL", "NORMAL", "OFF"], default="FULL")
    flags.add_argument("--etcd-servers", default="", help="comma-separated URLs")
    flags.add_argument("--etcd-prefix", default="/registry")
    flags.add_argument("--token-auth-file", type=Path)
    flags.add_argument("--anonymous-auth", choices=["true", "false"], default="true")
    flags.add_argument("--service-cluster-ip-range", default="10.96.0.0/16")
    flags.add_argument("--service-account-issuer", default="https://kubernetes.default.svc")
    flags.add_argument("--audit-log-path", type=Path)
    flags.add_argument("--kubeconfig", type=Path)
    flags.add_argument("--no-controllers", action="store_true", help="a kube-controller-manager does their work")
    flags.add_argument("-v", "--verbose", action="store_true")
    return flags


def settings_from(args: argparse.Namespace) -> ControlPlaneSettings:
    ipaddress.ip_network(args.service_cluster_ip_range)
    return ControlPlaneSettings(
        data_dir=args.data_dir,
        host=args.bind_address,
        port=args.port,
        store=args.store,
        synchronous=args.synchronous,
        etcd_servers=tuple(part for part in args.etcd_servers.split(",") if part),
        etcd_prefix=args.etcd_prefix,
        token_auth_file=args.token_auth_file,
        anonymous_auth=args.anonymous_auth == "true",
        service_cluster_ip_range=args.service_cluster_ip_range,
        service_account_issuer=args.service_account_issuer,
        audit_log_path=args.audit_log_path,
        kubeconfig=args.kubeconfig,
        controllers=not args.no_controllers,
    )


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    logging.basicConfig(
        level=logging.DEBUG if args.verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    try:
        run(settings_from(args))
    except (ControlPlaneError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - a command line
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
