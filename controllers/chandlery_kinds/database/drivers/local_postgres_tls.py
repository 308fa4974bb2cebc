"""Encryption between clients and a PostgreSQL on this machine.

Debian's build does TLS itself. The wheel's has none: an HAProxy in front takes TLS off, on a port of its own. It can
do so only for clients that begin with TLS at once (`sslnegotiation=direct`, libpq 17 and later, asyncpg's
`direct_tls`, JDBC 42.7.5 and later); older ones ask in plain text first and get no answer. Then the engine's own port
takes passwords of the driver's users only: clients come from the front, which has an address of its own.

Sources: PostgreSQL manual, "SSL Support" of libpq, "The pg_hba.conf File".
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from chandlery.driver.protocol import Difference, Disruption
from chandlery.foundation.errors import Unavailable
from chandlery.providers.local.certificates import Certificates
from chandlery.providers.local.tls_front import PROCESS as FRONT_PROCESS
from chandlery.providers.local.tls_front import Front, FrontState, TlsFront
from chandlery_kinds.database.drivers.local_postgres_node import ANSWER_SECONDS, HOST
from chandlery_kinds.database.postgres.configuration import ADMIN, REPLICATOR

if TYPE_CHECKING:
    from chandlery_kinds.database.drivers.local_postgres import PostgresServers

FRONT_HOST = "127.0.0.2"
"""From where the front connects; the whole of 127/8 is loopback on Linux, where the front can run."""
_LOOPBACK = ("127.0.0.1/32", "::1/128")


class Encryption:
    """TLS of one database in one pass."""

    def __init__(self, servers: PostgresServers) -> None:
        self._servers = servers
        self._instance = servers.instance
        tls = servers.spec.tls
        self.wanted = tls is not None and tls.enabled
        self._required = tls is not None and tls.required
        self.certificates = Certificates(servers.ctx, servers.obj, servers.instance) if self.wanted else None

    @property
    def in_front(self) -> bool:
        """Whether the engine has no TLS of its own."""
        return self.wanted and self._servers.files.engine.source.type == "wheel"

    @property
    def port(self) -> int:
        """Where clients connect to the engine."""
        return self._servers.port_of("tls") if self.in_front else self._servers.client_port

    def front(self, reader: int | None = None) -> TlsFront:
        """The front; `reader` is the port of a copy that may be read from."""
        fronts = [self._front("client", "tls", self._servers.client_port)]
        if reader is not None:
            fronts.append(self._front("read", "tls-read", reader))
        return TlsFront(self._servers.ctx, self._instance, fronts, self.certificates)

    def _front(self, name: str, key: str, backend: int) -> Front:
        return Front(name, self._servers.port_of(key), f"{HOST}:{backend} source {FRONT_HOST}", alpn="postgresql")

    # -- what the servers are told

    def settings(self) -> dict[str, str]:
        """The engine's own TLS; read again without a restart."""
        if not self.wanted or self.certificates is None or self.in_front:
            return {}
        found = self.certificates
        return {
            "ssl": "on",
            "ssl_cert_file": str(found.certificate_file),
            "ssl_key_file": str(found.key_file),
            "ssl_min_protocol_version": f"TLSv{found.minimum_version}",
            **({"ssl_ca_file": str(found.client_ca_file)} if found.client_ca_file is not None else {}),
        }

    def rules(self) -> str:
        """pg_hba.conf: who may come from where, always with a password."""
        lines = [f"host replication {REPLICATOR} {_LOOPBACK[0]} scram-sha-256"]
        if self.wanted:
            lines.append(f"host all {ADMIN} {_LOOPBACK[0]} scram-sha-256")
        if self.in_front:
            lines.append(f"host all all {FRONT_HOST}/32 scram-sha-256")
        # The pooler comes from there too; with it the engine's own port is in no binding, but takes passwords.
        if not self.wanted or not self._required or (self.in_front and self._servers.pooler.wanted):
            lines += [f"host all all {network} scram-sha-256" for network in _LOOPBACK]
        elif not self.in_front:
            shown = self.certificates is not None and self.certificates.requires_clients
            option = " clientcert=verify-ca" if shown else ""
            lines += [f"hostssl all all {network} scram-sha-256{option}" for network in _LOOPBACK]
        return "\n".join(lines) + "\n"

    # -- looking and acting

    async def observe(self, reader: int | None) -> FrontState:
        """What is different about certificates and the front.

        Raises:
            DependencyNotReady: a Secret that spec.tls names isn't there.
        """
        if self.certificates is None:
            if FRONT_PROCESS in self._instance.process_names():
                gone = Difference("spec.tls", "absent", "present", Disruption.RELOAD, payload=("tls", "remove"))
                return FrontState(True, (gone,))
            return FrontState(True)
        if self.in_front:
            return await self.front(reader).observe()
        stale = await self.certificates.due()
        if stale:
            change = Difference("spec.tls", "as in spec", stale, Disruption.RELOAD, payload=("tls", "write"))
            return FrontState(True, (change,))
        return FrontState(True)

    async def prepare(self) -> None:
        """The files that the engine needs for its start."""
        if self.certificates is not None and not self.in_front:
            await self.certificates.write()

    async def remove(self) -> None:
        """TLS was taken out of the spec."""
        await TlsFront(self._servers.ctx, self._instance, (), None).remove()

    # -- what clients are told

    async def connect(self, database: str, role: str, password: str) -> Any:
        """Log in as a client does: through TLS, with the certificate checked.

        Raises:
            Unavailable: it doesn't work now.
        """
        import asyncpg

        try:
            return await asyncpg.connect(
                host=HOST,
                port=self.port,
                user=role,
                password=password,
                database=database,
                timeout=ANSWER_SECONDS,
                ssl=self.context(),
                direct_tls=self.in_front,
            )
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise Unavailable(
                f"{HOST}:{self.port} doesn't take connections by TLS: {error}", retry_after=0.05
            ) from error

    @property
    def shuts_us_out(self) -> bool:
        """Only clients with a certificate of their own get in, and we have none."""
        return self.certificates is not None and self.certificates.requires_clients and self._required

    def context(self) -> ssl.SSLContext:
        """How a client checks the certificate."""
        assert self.certificates is not None
        context = ssl.create_default_context(cadata=self.certificates.authority or None)
        if self.certificates.tls.certificate_secret is not None:
            context.check_hostname = False  # it is for the names that its owner chose
            if not self.certificates.authority:
                context.verify_mode = ssl.CERT_NONE  # nobody said by whom it was signed
        return context

    def parameters(self, *, pooled: bool = False) -> dict[str, str]:
        """Libpq's connection parameters for TLS; the pooler speaks it in the usual way."""
        if self.certificates is None:
            return {}
        found: dict[str, str] = {"sslmode": "verify-full"}
        if self.certificates.tls.certificate_secret is not None:
            # Its names are its owner's choice; who knows that they hold the host can ask for verify-full.
            found["sslmode"] = "verify-ca" if self.certificates.authority else "require"
        if self.certificates.authority:
            found["sslrootcert"] = str(self.certificates.ca_file)
        if self.in_front and not pooled:
            found["sslnegotiation"] = "direct"
        return found

    def encrypted(self, entries: Mapping[str, str], *, pooled: bool = False) -> dict[str, str]:
        """A binding's entries with what TLS changes in them."""
        if self.certificates is None:
            return dict(entries)
        found = self.parameters(pooled=pooled)
        java = {"sslNegotiation" if key == "sslnegotiation" else key: value for key, value in found.items()}
        plain: dict[str, str] = {}
        if not self._required and not pooled:
            port = str(self._servers.client_port)
            plain = {"plain-port": port, "plain-uri": entries["uri"].replace(f":{self.port}/", f":{port}/", 1)}
        return {
            **entries,
            **self.certificates.entries,
            **found,
            "uri": f"{entries['uri']}?{urlencode(found, safe='/')}",
            "jdbc-uri": f"{entries['jdbc-uri']}?{urlencode({'ssl': 'true', **java}, safe='/')}",
            **plain,
        }
