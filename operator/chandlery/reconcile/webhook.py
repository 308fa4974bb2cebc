"""The admission webhook's own life: a certificate, files for the TLS server, registration with the API server."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from chandlery.driver.kind import Kind
from chandlery.foundation.clock import Clock
from chandlery.foundation.context import Logger
from chandlery.foundation.errors import ChandleryError
from chandlery.reconcile.admission import PATH, SETTINGS_NAME, WEBHOOK_CONFIGURATION, WEBHOOK_NAME, configuration
from chandlery.reconcile.api import Api, ResourceType
from chandlery.reconcile.certificates import Certificate, shared_certificate

CONFIGURATIONS: Final = ResourceType(
    "admissionregistration.k8s.io",
    "v1",
    "validatingwebhookconfigurations",
    "ValidatingWebhookConfiguration",
    namespaced=False,
)
_SECRET: Final = "chandlery-webhook"  # noqa: S105 - the name of a Secret
_CHECK: Final = 3600.0


class Webhook:
    """Keeps certificate and registration in order.

    Args:
        api: the API server.
        kinds: what to be asked about.
        namespace: where the certificate's Secret is.
        service: `name.namespace` of the Service before the replicas; without it the API server is given a URL.
        host: address in that URL.
        files: a folder with webhook.crt, webhook.key and ca.crt that somebody else made, for this machine alone; the
            registration goes with us then. Without it a certificate is made and shared through a Secret.
        registration: a configuration that somebody else keeps, as a chart; without it we make our own.
        clock: the only source of time.
        logger: for what goes wrong.
    """

    def __init__(
        self,
        api: Api,
        kinds: Mapping[str, Kind],
        *,
        namespace: str,
        service: str,
        host: str,
        registration: str = "",
        files: Path | None = None,
        clock: Clock,
        logger: Logger,
    ) -> None:
        self._api = api
        self._kinds = kinds
        self._namespace = namespace
        self._service = service
        self._host = host
        self._registration = registration
        self._clock = clock
        self._logger = logger
        self._files = files
        self._folder = files or Path(tempfile.mkdtemp(prefix="chandlery-webhook-"))
        self._current: Certificate | None = None

    @property
    def certificate(self) -> Path:
        return self._folder / ("webhook.crt" if self._files else "tls.crt")

    @property
    def key(self) -> Path:
        return self._folder / ("webhook.key" if self._files else "tls.key")

    async def prepare(self) -> None:
        """A certificate in files, for the server to load."""
        if self._files is not None:
            chain, key, authority = self.certificate, self.key, self._files / "ca.crt"
            self._current = Certificate(chain.read_bytes(), key.read_bytes(), authority.read_bytes())
            return
        hosts = [f"{self._service}.svc"] if self._service else [self._host]
        made = await shared_certificate(self._api, self._namespace, _SECRET, hosts, self._clock.now())
        if made != self._current:
            _write(self.key, made.key)
            _write(self.certificate, made.chain)
            self._current = made

    async def register(self, port: int) -> None:
        """Tell the API server to ask us."""
        assert self._current is not None
        client: dict[str, Any] = {"caBundle": base64.b64encode(self._current.authority).decode()}
        if self._registration:
            await self._trust(client)
            return
        if self._service:
            name, _, namespace = self._service.partition(".")
            client["service"] = {"name": name, "namespace": namespace, "path": PATH, "port": 443}
        else:
            client["url"] = f"https://{self._host}:{port}{PATH}"
        await self._api.apply(CONFIGURATIONS, configuration(self._kinds, client))

    async def _trust(self, client: dict[str, Any]) -> None:
        """Write the CA into the configuration that somebody else keeps, and nothing more."""
        live = await self._api.get(CONFIGURATIONS, "", self._registration)
        if live is None:
            self._logger.warning("there is no such webhook configuration: nothing is checked", name=self._registration)
            return
        await self._api.apply(
            CONFIGURATIONS,
            {
                "apiVersion": CONFIGURATIONS.api_version,
                "kind": CONFIGURATIONS.kind,
                "metadata": {"name": self._registration},
                "webhooks": [{"name": name, "clientConfig": client} for name in (WEBHOOK_NAME, SETTINGS_NAME)],
            },
        )

    async def keep(self, port: int) -> None:
        """Renew in time; runs until cancelled."""
        while True:
            await self._clock.sleep(_CHECK)
            try:
                await self.prepare()
                await self.register(port)
            except (ChandleryError, OSError) as error:
                self._logger.warning("the webhook's certificate could not be checked", error=error)

    async def remove(self) -> None:
        """Remove our files; and the registration, where no other replica answers to it."""
        if self._files is None:
            shutil.rmtree(self._folder, ignore_errors=True)
            return
        with contextlib.suppress(ChandleryError):  # the API server may have been stopped before us
            await self._api.delete(CONFIGURATIONS, "", WEBHOOK_CONFIGURATION)


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, for our eyes only."""
    part = path.with_suffix(".part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    part.replace(path)
