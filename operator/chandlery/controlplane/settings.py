"""What a control plane can be told, with the real server's flag names where the option is the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from chandlery.foundation.config.sections import Seconds, section


@section("controlplane", title="The embedded control plane")
@dataclass(slots=True)
class ControlPlaneSettings:
    """All options of an embedded control plane. Everything it writes is under `data_dir`."""

    data_dir: Path
    """Where everything is kept; CHANDLERY_DATA_DIR says it for the whole of Chandlery."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 0
    """0: the port of the last run if that is free, else any free one."""
    store: Literal["sqlite", "memory", "etcd"] = "sqlite"
    """Where objects are kept."""
    synchronous: Literal["FULL", "NORMAL", "OFF"] = "FULL"
    """What a commit to SQLite survives: FULL a power cut, NORMAL a crash of the process, OFF neither."""
    etcd_servers: tuple[str, ...] = ()
    """URLs of etcd, for the store of that name."""
    etcd_prefix: str = "/registry"
    """Under which objects are kept in etcd."""
    etcd_cafile: Path | None = None
    """Whom to trust as etcd, PEM."""
    etcd_certfile: Path | None = None
    """Certificate to show to etcd, PEM."""
    etcd_keyfile: Path | None = None
    """Its key, PEM."""
    token_auth_file: Path | None = None
    """CSV lines of users that come with a token: token,user,uid[,"group1,group2"]."""
    anonymous_auth: bool = True
    """Requests without credentials are of system:anonymous instead of being refused."""
    service_cluster_ip_range: str = "10.96.0.0/16"
    """CIDR that Services get their addresses from."""
    service_account_issuer: str = "https://kubernetes.default.svc"
    """Issuer of service accounts' tokens."""
    audit_log_path: Path | None = None
    """Where the audit log goes; by default audit.log in the data directory."""
    audit: bool = True
    """Write an audit log."""
    audit_log_maxsize: int = 10
    """Megabytes after which the audit log goes on in a new file."""
    audit_log_maxbackup: int = 5
    """How many full files of the audit log are kept beside it."""
    client_ca_file: Path | None = None
    """Certificates of clients may be from this authority too, PEM: their CN is the user, their O are the groups."""
    tls_min_version: Literal["VersionTLS12", "VersionTLS13"] = "VersionTLS12"
    """The oldest version of TLS that clients may speak."""
    event_ttl: Seconds = 3600.0
    """How long events live after their last change."""
    kubeconfig: Path | None = None
    """Where the admin's kubeconfig goes; by default in the data directory."""
    max_request_bytes: int = 3 * 1024 * 1024
    """The largest body of a request."""
    max_watches: int = 10_000
    """Watches at a time."""
    history_seconds: float = 300.0
    """How long superseded revisions are kept before compaction."""
    controllers: bool = True
    """Run the garbage collector, namespace, service account and quota controllers."""
    tls_folder: Path | None = None
    """Where the CA and certificates are; by default pki in the data directory."""

    @property
    def kubeconfig_path(self) -> Path:
        return self.kubeconfig or self.data_dir / "kubeconfig"
