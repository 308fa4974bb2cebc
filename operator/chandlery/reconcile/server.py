"""HTTP of every replica: /metrics, /livez, /readyz, and admission webhooks over TLS."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from chandlery.driver.kind import Kind
from chandlery.driver.provider import ProviderFactory
from chandlery.foundation.clock import Clock, Timer
from chandlery.reconcile.admission import PATH, review

_RELOAD: Final = 60.0
_AGAIN: Final = 1.0
_LARGEST: Final = 8 * 1024 * 1024  # a request holds the old and the new object; each may have 1.5 MiB

Check = Callable[[], Mapping[str, str]]
"""What is wrong, by name; empty when all is well."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to listen; port 0 takes a free one, None listens nowhere."""

    host: str = "127.0.0.1"
    port: int | None = 0
    certificate: Path | None = None
    key: Path | None = None


class Server:
    """Two sites on one process: plain for probes and metrics, TLS for webhooks."""

    def __init__(
        self,
        *,
        registry: CollectorRegistry,
        kinds: Mapping[str, Kind],
        providers: Mapping[str, ProviderFactory] | None = None,
        live: Check,
        ready: Check,
        plain: Listen,
        webhook: Listen,
        clock: Clock,
    ) -> None:
        self._registry = registry
        self._kinds = kinds
        self._providers = providers or {}
        self._live = live
        self._ready = ready
        self._plain = plain
        self._webhook = webhook
        self._clock = clock
        self._runners: list[web.AppRunner] = []
        self._timer: Timer | None = None
        self.port: int | None = None
        self.webhook_port: int | None = None

    async def start(self) -> None:
        """Listen."""
        if self._plain.port is not None:
            app = web.Application()
            app.router.add_get("/metrics", self._metrics)
            app.router.add_get("/livez", self._probe(self._live))
            app.router.add_get("/readyz", self._probe(self._ready))
            self.port = await self._listen(app, self._plain, None)
        if self._webhook.port is not None and self._webhook.certificate is not None:
            app = web.Application(client_max_size=_LARGEST)
            app.router.add_post(PATH, self._admit)
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._load(tls)
            self.webhook_port = await self._listen(app, self._webhook, tls)

    async def stop(self) -> None:
        """Listen no more."""
        if self._timer is not None:
            self._timer.cancel()
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()

    async def _listen(self, app: web.Application, where: Listen, tls: ssl.SSLContext | None) -> int:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
        await runner.setup()
        site = web.TCPSite(runner, where.host, where.port, ssl_context=tls)
        await site.start()
        self._runners.append(runner)
        return int(runner.addresses[0][1])

    def _load(self, tls: ssl.SSLContext) -> None:
        """Certificates are renewed in place; new connections get the new one within a minute."""
        assert self._webhook.certificate is not None
        tls.load_cert_chain(self._webhook.certificate, self._webhook.key)
        self._timer = self._clock.call_later(_RELOAD, self._reload, tls)

    def _reload(self, tls: ssl.SSLContext) -> None:
        """Both files are replaced while we read: a pair that doesn't fit is left alone, and read again soon."""
        assert self._webhook.certificate is not None
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self._webhook.certificate, self._webhook.key)
            self._load(tls)
        except OSError:
            self._timer = self._clock.call_later(_AGAIN, self._reload, tls)

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self._registry), headers={"Content-Type": content})

    @staticmethod
    def _probe(check: Check) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def probe(_: web.Request) -> web.StreamResponse:
            wrong = check()
            lines = [f"[-] {name}: {why}" for name, why in sorted(wrong.items())]
            return web.Response(text="\n".join(lines or ["ok"]) + "\n", status=503 if wrong else 200)

        return probe

    async def _admit(self, request: web.Request) -> web.Response:
        body = orjson.loads(await request.read())
        answer = review(body, self._kinds, self._providers)
        return web.Response(body=orjson.dumps(answer), content_type="application/json")
