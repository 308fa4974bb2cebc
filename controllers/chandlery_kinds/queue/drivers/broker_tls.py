"""TLS of brokers on this machine: the engines' own, with certificates that are read again while they run."""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

from chandlery.driver.protocol import Difference, Disruption, DriverContext
from chandlery.providers.local import Instance
from chandlery.providers.local.certificates import Certificates
from chandlery.providers.local.files import write_atomic
from chandlery_kinds.queue.model import Queue

TRUST = "client-trust.crt"
OWN = "driver.pem"
PAYLOAD = ("certificates",)


class BrokerTls:
    """The TLS of one broker in one pass."""

    def __init__(self, ctx: DriverContext, obj: Queue, instance: Instance) -> None:
        """`obj.spec.tls` is there and enabled."""
        assert obj.spec.tls is not None
        self.ctx = ctx
        self.instance = instance
        self.certificates = Certificates(ctx, obj, instance)

    @property
    def entries(self) -> dict[str, str]:
        """What a binding says of it."""
        return self.certificates.entries

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate that servers should show; empty while there is none."""
        try:
            pem = self.certificates.certificate_file.read_text()
        except OSError:
            return ""
        first = pem[: pem.find(ssl.PEM_FOOTER) + len(ssl.PEM_FOOTER)]
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).hexdigest()

    @property
    def trust_file(self) -> Path:
        """Whose certificates are taken from clients; written where clients are asked for one."""
        return self.instance.config_dir / TRUST

    async def differences(self) -> list[Difference]:
        """Whether the files are as they should be."""
        why = await self.certificates.due()
        if not why and self.certificates.asks_clients and self._trust() != self._trust_present():
            why = "the clients' authority changed"
        return [Difference("spec.tls", "as in spec", why, Disruption.RELOAD, payload=PAYLOAD)] if why else []

    async def write(self) -> None:
        """Write the files; the servers must read them then.

        Raises:
            DependencyNotReady, InvalidSpec: as `Certificates.write`.
        """
        await self.certificates.write()
        if self.certificates.asks_clients:
            self._introduce()
            self.instance.write_config(TRUST, self._trust())

    # -- the driver as a client

    def _introduce(self) -> None:
        """A certificate for the driver itself, by an authority that servers trust for this only."""
        from chandlery.foundation import x509

        now, record = self.ctx.base.now(), self.instance.record
        known = record.get("driver")
        if known is None or x509.expires(known["ca"][0]) - now < x509.RENEW_BEFORE:
            known = record["driver"] = {"ca": list(x509.make_ca("chandlery driver", now))}
        if "pem" not in known or x509.expires(known["pem"]) - now < x509.RENEW_BEFORE:
            known["pem"] = x509.make_certificate((known["ca"][0], known["ca"][1]), ["chandlery"], now, client=True)
            self.instance.save()

    def _trust(self) -> str:
        """Whose certificates the servers take."""
        given = self.certificates.client_ca_file
        clients = given.read_text() if given is not None and given.exists() else ""
        own: str = self.instance.record.get("driver", {}).get("ca", ("",))[0]
        return clients + own

    def _trust_present(self) -> str:
        try:
            return self.trust_file.read_text()
        except OSError:
            return ""

    def context(self) -> ssl.SSLContext:
        """TLS as the driver speaks it with its own servers."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # a given certificate may name another host than loopback
        authority = self.certificates.authority
        if authority:
            context.load_verify_locations(cadata=authority)
        else:
            context.verify_mode = ssl.CERT_NONE  # of a public CA, and it listens on loopback
        if self.certificates.asks_clients and "pem" in self.instance.record.get("driver", {}):
            path = self.instance.root / OWN
            write_atomic(path, self.instance.record["driver"]["pem"])
            context.load_cert_chain(path)
        return context
