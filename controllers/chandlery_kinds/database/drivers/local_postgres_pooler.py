"""PgBouncer in front of a PostgreSQL on this machine. The binding leads to it, and names the engine's own port too.

Who may log in is asked of the engine at each login (auth_query), so new passwords count at once and no list of them
lies about; the file holds the password of the driver's own user only. Sizes and modes are read again while clients
stay.
Source: the PgBouncer 1.18 manual, "Configuration settings", "Signals".
"""

from __future__ import annotations

import hashlib
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chandlery.driver.protocol import Difference, Disruption
from chandlery.foundation.errors import Unavailable
from chandlery.providers.local import Process, ProcessSpec, StopStep
from chandlery.providers.local.driver import crash_loop, require_port
from chandlery_kinds.database.drivers.local_postgres_node import ANSWER_SECONDS, HOST
from chandlery_kinds.database.postgres.configuration import ADMIN
from chandlery_kinds.database.postgres.pooler import QUERY
from chandlery_kinds.database.spec_parts import Pooler as PoolerSpec

if TYPE_CHECKING:
    from chandlery_kinds.database.drivers.local_postgres import PostgresServers

PORT = "pooler"
PREFIX = "pooler-"
SETTLED_SECONDS = 5.0
STOP = (StopStep(signal.SIGTERM, 5.0), StopStep(signal.SIGKILL, 5.0))


@dataclass(frozen=True, slots=True)
class PoolerView:
    """What one look found."""

    ready: bool = True
    differences: tuple[Difference, ...] = ()
    reason: str = ""
    message: str = ""


class Pooler:
    """The pooler of one database in one pass."""

    def __init__(self, servers: PostgresServers) -> None:
        self._servers = servers
        self._instance = servers.instance
        self.spec: PoolerSpec | None = servers.spec.pooler

    @property
    def wanted(self) -> bool:
        return self.spec is not None and self.spec.enabled

    @property
    def port(self) -> int:
        return self._servers.port_of(PORT)

    def _processes(self) -> list[Process]:
        names = [name for name in self._instance.process_names() if name.startswith(PREFIX)]
        return [self._instance.process(name) for name in names]

    def _wanted_names(self) -> list[str]:
        return [f"{PREFIX}{index}" for index in range(self.spec.instances)] if self.spec and self.wanted else []

    # -- looking

    def look(self) -> PoolerView:
        """Processes and configuration."""
        wanted = self._wanted_names()
        extra = [process.name for process in self._processes() if process.name not in wanted]
        found = [Difference("spec.pooler", "absent", name, Disruption.RESTART, payload=("pooler", "stop", name))
                 for name in extra]  # fmt: skip
        view = PoolerView(differences=tuple(found))
        missing = []
        for name in wanted:
            process = self._instance.process(name)
            state = process.state()
            if state.running:
                continue
            looping = crash_loop(f"the pooler {name}", process, state)
            if looping is not None:
                view = PoolerView(False, view.differences, *looping)
            if state.wait <= 0:
                missing.append(Difference(f"instance {name}", "running", "stopped", payload=("pooler", "start", name)))
        if missing:
            reason = (view.reason, view.message) if view.reason else ("Starting", "the pooler is not running")
            return PoolerView(False, (*found, *missing), *reason)
        if wanted and view.ready:
            mark, marks = self._mark(self._text()), self._instance.record.get("pooler", {})
            found += [
                Difference("spec.pooler", "as in spec", "older", Disruption.RELOAD, payload=("pooler", "reload", name))
                for name in wanted
                if marks.get(name) != mark
            ]
        return PoolerView(view.ready, tuple(found), view.reason, view.message)

    def _mark(self, text: str) -> str:
        """Stands for the configuration and the certificates that it names."""
        digest = hashlib.sha256(text.encode())
        certificates = self._servers.encryption.certificates
        if certificates is not None:
            for path in (certificates.certificate_file, certificates.client_ca_file):
                digest.update(path.read_bytes() if path is not None and path.exists() else b"")
        return digest.hexdigest()[:16]

    def _text(self) -> str:
        assert self.spec is not None
        config = self._instance.config_dir
        values: dict[str, str] = {
            "ignore_startup_parameters": "extra_float_digits",
            "server_reset_query": "DISCARD ALL",
            **self.spec.configuration,
            "listen_addr": HOST,
            "listen_port": str(self.port),
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": str(config / "pooler-users.txt"),
            "auth_user": ADMIN,
            "auth_query": QUERY,
            "pool_mode": self.spec.mode.value,
            "max_client_conn": str(self.spec.max_client_connections),
            "default_pool_size": str(self.spec.pool_size),
            "so_reuseport": "1",  # from the beginning, so that a second process can join the first
            **self._tls(),
        }
        lines = "".join(f"{name} = {value}\n" for name, value in sorted(values.items()))
        return f"[databases]\n* = host={HOST} port={self._servers.client_port}\n\n[pgbouncer]\n{lines}"

    def _tls(self) -> Mapping[str, str]:
        encryption = self._servers.encryption
        found = encryption.certificates
        if found is None:
            return {}
        mode = "require" if found.tls.required else "allow"
        return {
            "client_tls_sslmode": "verify-ca" if found.requires_clients else mode,
            "client_tls_cert_file": str(found.certificate_file),
            "client_tls_key_file": str(found.key_file),
            "client_tls_protocols": "secure" if found.minimum_version == "1.2" else "tlsv1.3",
            **({"client_tls_ca_file": str(found.client_ca_file)} if found.client_ca_file else {}),
            "server_tls_sslmode": "disable" if encryption.in_front else "require",
        }

    # -- acting

    async def apply(self, what: str, name: str) -> None:
        """Do what `look` found.

        Raises:
            NotSupported: this platform has no PgBouncer.
            InstallingEngine: it is on its way.
            Unavailable: another program has the port.
        """
        if what == "stop":
            process = self._instance.process(name)
            await process.stop()
            process.forget()
            return
        certificates = self._servers.encryption.certificates
        if certificates is not None:
            await certificates.write()
        text = self._text()
        self._instance.write_config("pooler.ini", text)
        password = self._instance.secret("admin")
        self._instance.write_config("pooler-users.txt", f'"{ADMIN}" "{password}"\n')
        process = self._instance.process(name)
        if what == "start":
            await self._start(name)
        elif not _catches_hangup(process):
            return  # it has just been started and would die of the signal; the next pass comes back to it
        else:
            process.signal(signal.SIGHUP)
        self._instance.record.setdefault("pooler", {})[name] = self._mark(text)
        self._instance.save()

    async def stop(self) -> None:
        """End all processes; the next pass starts what is wanted."""
        for process in self._processes():
            await process.stop()

    async def works(self, database: str, role: str, password: str) -> bool:
        """Log in through it and be answered by the engine.

        Raises:
            Unavailable, Unauthenticated: it can't be used now.
        """
        import asyncpg

        certificates = self._servers.encryption.certificates
        try:
            connection = await asyncpg.connect(
                host=HOST,
                port=self.port,
                user=role,
                password=password,
                database=database,
                timeout=ANSWER_SECONDS,
                command_timeout=ANSWER_SECONDS,
                ssl=self._servers.encryption.context() if certificates is not None else False,
                statement_cache_size=0,  # prepared ones don't outlive a transaction here
            )
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise Unavailable(f"the pooler doesn't take connections: {error}", retry_after=0.05) from error
        try:
            return bool(await connection.execute("SELECT 1"))
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise Unavailable(f"the pooler doesn't reach the engine: {error}", retry_after=0.05) from error
        finally:
            connection.terminate()

    async def _start(self, name: str) -> None:
        process = self._instance.process(name)
        if not any(other.state().running for other in self._processes()):
            require_port(self.port)
        engine = self._instance.engine("pgbouncer")
        argv = [str(engine.binary), str(self._instance.config_dir / "pooler.ini")]
        await process.start(ProcessSpec(argv, env=engine.env, cwd=self._instance.data_dir, stop=STOP))


def _catches_hangup(process: Process) -> bool:
    state = process.state()
    try:
        status = Path(f"/proc/{state.pid}/status").read_text()
    except OSError:
        return state.started_at is not None and time.time() - state.started_at > SETTLED_SECONDS
    caught = next((line for line in status.splitlines() if line.startswith("SigCgt:")), "SigCgt: 0")
    return bool(int(caught.split()[1], 16) >> (signal.SIGHUP - 1) & 1)
