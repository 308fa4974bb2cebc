"""How to reach an API server, and as whom: kubeconfig files, and a pod's own service account.

Client certificates, tokens and token files are read here. Exec plugins and auth providers, which few need and which
cost a large import, are left to the `kubernetes` package when a kubeconfig asks for them.
"""

from __future__ import annotations

import base64
import os
import ssl
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from chandlery.foundation.clock import SYSTEM, Clock
from chandlery.foundation.errors import InvalidConfiguration, Unauthenticated

IN_CLUSTER: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_REREAD: Final = 60.0

Token = Callable[[], Awaitable[str]]


async def _no_token() -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Everything that a client needs to connect."""

    server: str
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    token: Token = field(default=_no_token, repr=False)
    """Gives the bearer token, "" for none; called before each request, so it is cheap when nothing changed."""
    namespace: str = "default"


class FileToken:
    """A token in a file, which is rotated there: read again every minute."""

    def __init__(self, path: Path, clock: Clock = SYSTEM) -> None:
        self._path = path
        self._clock = clock
        self._token = ""
        self._read_at = float("-inf")

    async def __call__(self) -> str:
        now = self._clock.monotonic()
        if now - self._read_at > _REREAD:
            try:
                self._token = self._path.read_text().strip()
            except OSError as error:
                if not self._token:
                    raise Unauthenticated(f"the token file can't be read: {error}") from error
            self._read_at = now
        return self._token


def load(path: str | Path | None = None, context: str | None = None, clock: Clock = SYSTEM) -> Credentials:
    """As kubectl does it: the file given, else $KUBECONFIG, else a pod's service account, else ~/.kube/config.

    Raises:
        InvalidConfiguration: nothing is there, or what is there can't be read.
    """
    if path is None and os.environ.get("KUBECONFIG"):
        path = os.environ["KUBECONFIG"].split(os.pathsep)[0]
    if path is None and (IN_CLUSTER / "token").exists() and os.environ.get("KUBERNETES_SERVICE_HOST"):
        return in_cluster(clock=clock)
    return from_kubeconfig(Path(path) if path is not None else Path.home() / ".kube" / "config", context, clock)


def in_cluster(folder: Path = IN_CLUSTER, clock: Clock = SYSTEM) -> Credentials:
    """A pod's own service account."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise InvalidConfiguration("KUBERNETES_SERVICE_HOST is not set: this is not a pod")
    host = f"[{host}]" if ":" in host else host
    namespace = folder / "namespace"
    return Credentials(
        f"https://{host}:{port}",
        ssl.create_default_context(cafile=str(folder / "ca.crt")),
        FileToken(folder / "token", clock),
        namespace.read_text().strip() if namespace.exists() else "default",
    )


def from_kubeconfig(path: Path, context: str | None = None, clock: Clock = SYSTEM) -> Credentials:
    """One context of a kubeconfig file; the current one unless named."""
    try:
        config = yaml.safe_load(path.read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise InvalidConfiguration(
            f"the kubeconfig can't be read: {error}", hint="Name one with --kubeconfig or KUBECONFIG."
        ) from error
    name = context or config.get("current-context", "")
    chosen = _named(config, "contexts", name, "context")
    cluster = _named(config, "clusters", chosen.get("cluster", ""), "cluster")
    user = _named(config, "users", chosen.get("user", ""), "user") if chosen.get("user") else {}
    tls = _tls(cluster, user, path.parent) if str(cluster.get("server", "")).startswith("https") else None
    return Credentials(
        str(cluster["server"]).rstrip("/"), tls, _token(user, path, name, clock), chosen.get("namespace") or "default"
    )


def _named(config: Mapping[str, Any], section: str, name: str, key: str) -> dict[str, Any]:
    for item in config.get(section) or ():
        if item.get("name") == name:
            found: dict[str, Any] = item.get(key) or {}
            return found
    raise InvalidConfiguration(f"the kubeconfig has no {key} of this name", field=section, value=name)


def _tls(cluster: Mapping[str, Any], user: Mapping[str, Any], folder: Path) -> ssl.SSLContext:
    ca = _material(cluster, "certificate-authority", folder)
    tls = ssl.create_default_context(cadata=ca.decode() if ca else None)
    if cluster.get("insecure-skip-tls-verify"):
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    certificate, key = _material(user, "client-certificate", folder), _material(user, "client-key", folder)
    if certificate and key:
        # ssl reads client certificates from files only: one that only we can read, for as long as that takes
        with tempfile.NamedTemporaryFile() as file:
            file.write(certificate + b"\n" + key)
            file.flush()
            tls.load_cert_chain(file.name)
    return tls


def _material(section: Mapping[str, Any], name: str, folder: Path) -> bytes:
    if section.get(f"{name}-data"):
        return base64.b64decode(section[f"{name}-data"])
    if section.get(name):
        return (folder / str(section[name])).read_bytes()
    return b""


def _token(user: Mapping[str, Any], path: Path, context: str, clock: Clock) -> Token:
    if user.get("tokenFile"):
        return FileToken(path.parent / user["tokenFile"], clock)
    if user.get("token"):
        fixed = str(user["token"])

        async def token() -> str:
            return fixed

        return token
    if user.get("username"):
        raise InvalidConfiguration("user names with passwords are no longer known to Kubernetes", field="users")
    if user.get("exec") or user.get("auth-provider"):
        return _PluginToken(path, context, clock)
    return _no_token


class _PluginToken:
    """A token from an exec plugin or an auth provider, by way of the kubernetes package."""

    def __init__(self, path: Path, context: str, clock: Clock) -> None:
        self._path = path
        self._context = context
        self._clock = clock
        self._token = ""
        self._until = float("-inf")

    async def __call__(self) -> str:
        if self._clock.monotonic() < self._until:
            return self._token
        from kubernetes.aio import client, config

        made = client.Configuration()
        await config.load_kube_config(  # type: ignore[no-untyped-call]
            config_file=str(self._path), context=self._context, client_configuration=made, persist_config=False
        )
        header = str(made.api_key.get("BearerToken") or made.api_key.get("authorization") or "")
        self._token = header.removeprefix("Bearer ")
        self._until = self._clock.monotonic() + _REREAD
        return self._token
