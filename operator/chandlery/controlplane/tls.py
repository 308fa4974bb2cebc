"""The certificates of a control plane, the TLS that it speaks, and the kubeconfig of its admin."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chandlery.controlplane.files import write_private

_RENEW_SECONDS = 30 * 86_400
_LEAF_SECONDS = 365 * 86_400
_NOTE = "issued.json"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class Certificates:
    """Where the certificates and keys are."""

    ca: Path
    server_cert: Path
    server_key: Path
    admin_cert: Path
    admin_key: Path
    webhook_cert: Path
    """For webhooks that are served on this machine: whoever can read it need not make certificates of their own."""
    webhook_key: Path


def prepare(folder: Path, hosts: tuple[str, ...]) -> Certificates:
    """The certificates in a folder, made where they are missing, near their end, or not for these hosts.

    A note beside them says until when they are good: as long as it matches, nothing needs to be
    parsed at start-up, and the package that makes certificates is not even imported.
    """
    found = _files(folder)
    if _are_good(found, folder, hosts):
        return found
    from chandlery.controlplane.pki import Authority

    authority = Authority(folder)
    authority.issue("apiserver", "kube-apiserver", hosts=hosts)
    authority.issue("admin", "admin", organizations=("system:masters",))
    authority.issue("webhook", "webhook", hosts=LOOPBACK)
    told = {"until": int(time.time()) + _LEAF_SECONDS, "hosts": list(hosts), "digest": _digest(found)}
    write_private(folder / _NOTE, json.dumps(told).encode())
    return found


def prepare_apart(folder: Path, hosts: tuple[str, ...]) -> Callable[[], Certificates]:
    """Begin with `prepare` in a child process, where there is something to make; what is returned waits for it.

    The package that makes certificates takes 8 MB, which this process would carry for as long as it runs, and a tenth
    of a second, for which it has something else to do. Only for a process that has no threads yet.
    """
    found = _files(folder)
    if _are_good(found, folder, hosts):
        return lambda: found
    child = os.fork()
    if not child:
        try:
            signal.set_wakeup_fd(-1)  # the parent's event loop is told by this one
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            prepare(folder, hosts)
        finally:
            os._exit(0)  # whatever went wrong goes wrong for the parent as well, which can tell of it

    def wait() -> Certificates:
        os.waitpid(child, 0)
        return prepare(folder, hosts)

    return wait


def _files(folder: Path) -> Certificates:
    names = ("ca.crt", "apiserver.crt", "apiserver.key", "admin.crt", "admin.key", "webhook.crt", "webhook.key")
    return Certificates(*(folder / name for name in names))


def _are_good(found: Certificates, folder: Path, hosts: tuple[str, ...]) -> bool:
    try:
        told = json.loads((folder / _NOTE).read_text())
        return (
            told["until"] - time.time() > _RENEW_SECONDS
            and set(hosts) <= set(told["hosts"])
            and told["digest"] == _digest(found)
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False  # something is missing or was exchanged: make anew what depends on it


def _digest(files: Certificates) -> str:
    parts: tuple[Path, ...] = (files.ca, files.server_cert, files.server_key, files.admin_cert, files.admin_key)
    parts += (files.webhook_cert, files.webhook_key)
    return hashlib.sha256(b"".join(path.read_bytes() for path in parts)).hexdigest()


def server_hosts(host: str, service_ip: str) -> tuple[str, ...]:
    """The names and addresses that the server's certificate is for."""
    names = ["127.0.0.1", "::1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    names += ["kubernetes.default.svc.cluster.local", service_ip]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - the user asked for it
        names.append(socket.gethostname())
        names += sorted({str(info[4][0]).split("%")[0] for info in _local_addresses()})
    elif host not in names:
        names.append(host)
    return tuple(dict.fromkeys(names))


def _local_addresses() -> list[Any]:
    try:
        return list(socket.getaddrinfo(socket.gethostname(), None))
    except OSError:
        return []


def server_context(
    cert_file: Path, key_file: Path, ca_file: Path, *, other_ca: Path | None = None, minimum: str = "VersionTLS12"
) -> ssl.SSLContext:
    """TLS for the server; client certificates are optional and must be from our CA, or from `other_ca`.

    `minimum` is VersionTLS12 or VersionTLS13. Raises OSError, also for what is no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if minimum == "VersionTLS13" else ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert_file, key_file)
    context.load_verify_locations(ca_file)
    if other_ca is not None:
        context.load_verify_locations(other_ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
    # OpenSSL would keep some 20 KB for each session that a client could resume, 20,000 of them. kubectl resumes none.
    context.num_tickets = 0
    return context


def write_kubeconfig(path: Path, *, server: str, ca: bytes, user: dict[str, str], name: str = "chandlery") -> None:
    """A kubeconfig with one cluster, user and context, mode 0600. JSON is YAML."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": name,
                "cluster": {"server": server, "certificate-authority-data": base64.b64encode(ca).decode()},
            }
        ],
        "users": [{"name": "admin", "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": "admin", "namespace": "default"}}],
        "current-context": name,
    }
    write_private(path, (json.dumps(config, indent=2) + "\n").encode())
