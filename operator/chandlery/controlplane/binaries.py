"""A real kube-apiserver and etcd in the embedded one's place, behind the same command, files and "ready" line.

For those who have the binaries at hand (`--binaries DIR`, or KUBEBUILDER_ASSETS as controller-runtime's envtest
sets it) and want to compare, or need what the embedded one doesn't do.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import signal
import socket
import ssl
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

from chandlery.controlplane import tls
from chandlery.controlplane.files import write_private
from chandlery.controlplane.settings import ControlPlaneSettings

log = logging.getLogger(__name__)

READY_SECONDS = 120.0
_POLL_SECONDS = 0.1
_STOP_SECONDS = 15.0


class BinariesError(RuntimeError):
    """The real servers can't be started; the text says why."""


def find(folder: Path) -> tuple[Path, Path]:
    """The etcd and kube-apiserver in a folder. Raises BinariesError that names what is missing."""
    found = (folder / "etcd", folder / "kube-apiserver")
    for path in found:
        if not os.access(path, os.X_OK) or not path.is_file():
            raise BinariesError(
                f"--binaries {folder}: there is no program {path.name}; the folder must hold etcd and kube-apiserver, "
                "as `setup-envtest use` makes one"
            )
    return found


def _free_port() -> int:
    with closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def etcd_argv(binary: Path, data: Path, client: str, peer: str) -> list[str]:
    return [
        str(binary),
        f"--data-dir={data}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--log-level=warn",
    ]


def apiserver_argv(
    binary: Path, settings: ControlPlaneSettings, files: tls.Certificates, port: int, etcd: str
) -> list[str]:
    """kube-apiserver's flags for the same settings."""
    pki = files.ca.parent
    clients = files.ca
    if settings.client_ca_file is not None:  # it takes one file
        clients = pki / "clients.crt"
        write_private(clients, files.ca.read_bytes() + b"\n" + settings.client_ca_file.read_bytes())
    argv = [
        str(binary),
        f"--etcd-servers={etcd}",
        f"--bind-address={settings.host}",
        f"--secure-port={port}",
        f"--tls-cert-file={files.server_cert}",
        f"--tls-private-key-file={files.server_key}",
        f"--client-ca-file={clients}",
        f"--tls-min-version={settings.tls_min_version}",
        f"--event-ttl={settings.event_ttl:.0f}s",
        f"--service-account-issuer={settings.service_account_issuer}",
        f"--service-account-key-file={pki / 'sa.key'}",
        f"--service-account-signing-key-file={pki / 'sa.key'}",
        f"--service-cluster-ip-range={settings.service_cluster_ip_range}",
        "--authorization-mode=RBAC",
        f"--anonymous-auth={'true' if settings.anonymous_auth else 'false'}",
        f"--cert-dir={pki}",
        # nobody makes ServiceAccounts beside it, and without one of them the plugin lets no pod be made
        "--disable-admission-plugins=ServiceAccount",
    ]
    if settings.host not in ("", "0.0.0.0", "::"):  # noqa: S104 - else it finds its own, where there is a default route
        argv.append(f"--advertise-address={settings.host}")
    if settings.token_auth_file is not None:
        argv.append(f"--token-auth-file={settings.token_auth_file}")
    return argv


def _signing_key(path: Path) -> None:
    """The key of ServiceAccount tokens, made when it is missing."""
    if path.exists():
        return
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_private(path, key.private_bytes(*form))


def _is_ready(url: str, context: ssl.SSLContext) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", context=context, timeout=2) as answer:  # noqa: S310 - our own URL
            return int(answer.status) == 200
    except (urllib.error.URLError, OSError):
        return False


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), _STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()


async def serve_binaries(settings: ControlPlaneSettings, folder: Path) -> None:
    """Run both until SIGINT or SIGTERM. Raises BinariesError."""
    etcd_binary, apiserver_binary = find(folder)
    data = settings.data_dir
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    service_ip = str(next(ipaddress.ip_network(settings.service_cluster_ip_range).hosts()))
    files = tls.prepare(settings.tls_folder or data / "pki", tls.server_hosts(settings.host, service_ip))
    _signing_key(files.ca.parent / "sa.key")
    client, peer = f"http://127.0.0.1:{_free_port()}", f"http://127.0.0.1:{_free_port()}"
    port = settings.port or _free_port()
    url = f"https://{'127.0.0.1' if settings.host in ('', '0.0.0.0') else settings.host}:{port}"  # noqa: S104 - shown
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    running: list[asyncio.subprocess.Process] = []
    try:
        for name, argv in (
            ("etcd", etcd_argv(etcd_binary, data / "etcd", client, peer)),
            ("kube-apiserver", apiserver_argv(apiserver_binary, settings, files, port, client)),
        ):
            descriptor = os.open(data / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                running.append(await asyncio.create_subprocess_exec(*argv, stdout=stream, stderr=stream))
        context = ssl.create_default_context(cafile=str(files.ca))
        context.load_cert_chain(files.admin_cert, files.admin_key)
        deadline = loop.time() + READY_SECONDS
        while not await asyncio.to_thread(_is_ready, url, context):
            for name, process in zip(("etcd", "kube-apiserver"), running, strict=True):
                if process.returncode is not None:
                    tail = (data / f"{name}.log").read_text(errors="replace").strip().splitlines()[-3:]
                    raise BinariesError(f"{name} ended with code {process.returncode}: {' / '.join(tail)}")
            if stop.is_set():
                return
            if loop.time() > deadline:
                raise BinariesError(f"kube-apiserver was not ready within {READY_SECONDS:.0f} s: see {data}/*.log")
            await asyncio.sleep(_POLL_SECONDS)
        user = {"client-certificate": str(files.admin_cert), "client-key": str(files.admin_key)}
        tls.write_kubeconfig(settings.kubeconfig_path, server=url, ca=files.ca.read_bytes(), user=user)
        print(f"ready: {url} (KUBECONFIG={settings.kubeconfig_path})", flush=True)  # noqa: T201 - for people and scripts
        waits = [asyncio.create_task(stop.wait()), *(asyncio.create_task(process.wait()) for process in running)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        if not stop.is_set():
            raise BinariesError(f"one of the servers ended by itself: see the logs in {data}")
    finally:
        for process in reversed(running):
            await _stop(process)


def run_binaries(settings: ControlPlaneSettings, folder: Path) -> None:
    """Be the process that runs them. Raises BinariesError."""
    asyncio.run(serve_binaries(settings, folder))
