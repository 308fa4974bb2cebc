"""What a control plane can be told, with the real server's flag names where the option is the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True)
class ControlPlaneSettings:
    """All options of an embedded control plane. Everything it writes is under `data_dir`."""

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 0
    """0: the port of the last run if that is free, else any free one."""
    store: str = "sqlite"
    """sqlite, memory or etcd."""
    synchronous: str = "FULL"
    """SQLite's PRAGMA synchronous: FULL survives a power cut, NORMAL a crash of the process only."""
    etcd_servers: tuple[str, ...] = ()
    etcd_prefix: str = "/registry"
    etcd_cafile: Path | None = None
    etcd_certfile: Path | None = None
    etcd_keyfile: Path | None = None
    token_auth_file: Path | None = None
    anonymous_auth: bool = True
    service_cluster_ip_range: str = "10.96.0.0/16"
    service_account_issuer: str = "https://kubernetes.default.svc"
    audit_log_path: Path | None = None
    """Default: `data_dir`/audit.log."""
    audit: bool = True
    kubeconfig: Path | None = None
    """Where the admin's kubeconfig goes; default `data_dir`/kubeconfig."""
    max_request_bytes: int = 3 * 1024 * 1024
    max_watches: int = 10_000
    history_seconds: float = 300.0
    """How long superseded revisions are kept before compaction."""
    controllers: bool = True
    """Run the garbage collector, namespace, service account and quota controllers."""
    tls_folder: Path | None = field(default=None)
    """Where the CA and certificates are; default `data_dir`/pki."""

    @property
    def kubeconfig_path(self) -> Path:
        return self.kubeconfig or self.data_dir / "kubeconfig"
