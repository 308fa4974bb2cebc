"""A MariaDB server on this machine: one instance with databases, users, rights, settings and TLS of its own."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlencode

from chandlery.driver.protocol import Binding, Difference, Disruption, DriverContext, Observation, Unsupported
from chandlery.foundation.errors import ChandleryError, EngineFailed
from chandlery.model.base import Endpoint
from chandlery.providers.local import Instance
from chandlery.providers.local.backups import Backups
from chandlery.providers.local.certificates import Certificates
from chandlery.providers.local.driver import crash_loop
from chandlery_kinds.database.drivers.local_mariadb_backup import Restore, take
from chandlery_kinds.database.drivers.local_mariadb_server import HOST, MariaServer
from chandlery_kinds.database.drivers.local_roles import passwords, rotation_of, secret_part, with_times
from chandlery_kinds.database.mariadb.configuration import settings, sql_value
from chandlery_kinds.database.mariadb.connection import serves
from chandlery_kinds.database.mariadb.content import Content, fetch
from chandlery_kinds.database.mariadb.rights import refused_roles
from chandlery_kinds.database.mariadb.settings import differences, tell
from chandlery_kinds.database.model import Database

STARTING_POLL = 0.02
DRIFT_POLL = 15.0
RESTORING_POLL = 1.0


class MariaServers:
    """Everything that one pass does with one database's server. Made anew each time; keeps nothing."""

    def __init__(self, ctx: DriverContext, obj: Database, instance: Instance) -> None:
        self.ctx = ctx
        self.obj = obj
        self.spec = obj.spec
        self.instance = instance
        self.server = MariaServer(instance, obj.spec, ctx.base.remaining() or 60.0)
        self.rotation = rotation_of(ctx, obj, instance)
        self.restore = Restore(self)
        self.backups = Backups(ctx, obj, instance, partial(take, self))
        tls = obj.spec.tls
        self.certificates = Certificates(ctx, obj, instance) if tls is not None and tls.enabled else None

    # -- configuration

    def wanted_settings(self) -> dict[str, str]:
        limits = self.spec.resources.limits
        memory = limits.memory if limits is not None else None
        wanted = settings(self.spec, memory=memory.bytes if memory is not None else None)
        return {**wanted, "require_secure_transport": "ON" if self._secure else "OFF"}

    @property
    def _secure(self) -> bool:
        return self.certificates is not None and self.certificates.tls.required

    @property
    def applied(self) -> dict[str, str]:
        """The settings in the server's file; what a plan holds back isn't among them yet."""
        if "settings" not in self.instance.record:
            self.instance.record["settings"] = self.wanted_settings()
            self.instance.save()
        found: dict[str, str] = self.instance.record["settings"]
        return found

    def _tls(self) -> dict[str, str]:
        found = self.certificates
        if found is None:
            return {}
        versions = ["TLSv1.2", "TLSv1.3"] if found.minimum_version == "1.2" else ["TLSv1.3"]
        return {
            "ssl_cert": str(found.certificate_file),
            "ssl_key": str(found.key_file),
            "tls_version": ",".join(versions),
            **({"ssl_ca": str(found.client_ca_file)} if found.client_ca_file is not None else {}),
        }

    def _configuration(self) -> str:
        return self.server.configuration(self.applied, self.instance.record.get("tls_options", {}))

    # -- create

    async def create(self) -> None:
        if self.spec.restore_from is not None and not self.server.made:
            await self.restore.begin()
            return
        await self.server.initialise()
        if self.certificates is not None:
            await self.certificates.write()
        self.instance.record["tls_options"] = self._tls()
        self.instance.write_config(self.server.config_file.name, self._configuration())
        await self.server.start()

    # -- observe

    async def observe(self) -> Observation:
        self.instance.reload()
        job = self.restore.job
        if job is not None and job.running:
            name, told = self.instance.name, job.message
            return Observation(
                exists=True, reason="Restoring", message=told, external_name=name, poll_after=RESTORING_POLL
            )
        state = self.server.process.state()
        secrets = await passwords(self.ctx, self.obj, self.instance)
        content, live, problem = self._content(secrets), {}, ""
        inside: list[Difference] = []
        if state.running:
            try:
                live = await self._look()
                inside = await content.differences()
            except ChandleryError as error:
                problem = error.message
        differences = self._server_differences(running=state.running, wait=state.wait)
        differences += await self._live_differences(live) if live else []
        differences += self.rotation.differences() if live else []
        if live:
            self.server.process.settled()
        backups = await self.backups.look(serves=bool(live))
        ready = bool(live) and not inside and await self._client_works(secrets)
        if ready and not self.instance.record.get("served"):
            self.instance.record["served"] = True
            self.instance.save()
        reason, message = crash_loop("mariadb", self.server.process, state) or (
            ("Configuring", f"{len(inside)} users, databases or rights are not as in spec yet")
            if inside
            else ("Starting", "waiting for mariadb to answer" + (f" ({problem})" if problem else ""))
        )
        names = {name: f"{self.obj.metadata.name}-role-{secret_part(name)}" for name in secrets}
        return Observation(
            exists=self.server.made,
            ready=ready,
            reason="" if ready else reason,
            message="" if ready else message,
            differences=(*differences, *inside, *backups.differences),
            external_name=self.instance.name,
            endpoint=Endpoint(host=HOST, port=self.server.port),
            binding=self._binding(self.spec.owner_of(self.spec.databases[0]), secrets),
            user_bindings={names[name]: self._binding(name, secrets) for name in secrets},
            facts={
                **self._facts(live, ready=ready),
                **with_times(content.facts(), self.rotation.times(), names),
                **backups.facts,
            },
            conditions=backups.conditions,
            poll_after=self.rotation.poll(backups.poll(DRIFT_POLL)) if ready else max(STARTING_POLL, state.wait),
        )

    def _content(self, secrets: Mapping[str, str]) -> Content:
        record = self.instance.record.setdefault("content", {})
        shown = self.certificates is not None and self.certificates.requires_clients
        return Content(self.spec, self.server.connect, secrets, record, certificates=shown)

    async def _look(self) -> dict[str, Any]:
        connection = await self.server.connect()
        try:
            (version,) = (await fetch(connection, "SELECT VERSION()"))[0]
        finally:
            connection.close()
        return {"version": str(version).partition("-")[0]}

    async def _client_works(self, secrets: Mapping[str, str]) -> bool:
        """The real thing: log in as the binding's user, into the binding's database, by the binding's port."""
        item = self.spec.databases[0]
        owner = self.spec.owner_of(item)
        if owner not in secrets or (self.certificates is not None and self.certificates.requires_clients):
            return True
        return await serves(self.server.connect_as(owner, secrets[owner], item.name, self._context()))

    def _context(self) -> ssl.SSLContext | None:
        if self.certificates is None:
            return None
        context = ssl.create_default_context(cadata=self.certificates.authority or None)
        if self.certificates.tls.certificate_secret is not None:
            context.check_hostname = False  # it is for the names that its owner chose
            if not self.certificates.authority:
                context.verify_mode = ssl.CERT_NONE
        return context

    def _facts(self, live: Mapping[str, Any], *, ready: bool) -> dict[str, Any]:
        member = {"name": "node-0", "role": "primary", "ready": ready, "address": f"{HOST}:{self.server.port}", **live}
        facts = {"engine": "mariadb", "instances": 1, "readyInstances": int(ready), "primary": "node-0"}
        return {**facts, "members": [member], **live}

    def _binding(self, role: str, secrets: Mapping[str, str]) -> Binding:
        names = [d.name for d in self.spec.databases if self.spec.owner_of(d) == role]
        database = (names or [self.spec.databases[0].name])[0]
        password, port = secrets.get(role, ""), self.server.port
        client = {"host": HOST, "port": str(port), "user": role, "password": password, "database": database}
        query, java = {}, {}
        found = self.certificates
        if found is not None:
            whole = found.tls.certificate_secret is None
            query = {"ssl-mode": "VERIFY_IDENTITY" if whole else "REQUIRED"}
            java = {"sslMode": "verify-full" if whole else "trust"}
            client["ssl"] = "on"
            if found.authority:
                query["ssl-ca"] = java["serverSslCert"] = client["ssl-ca"] = str(found.ca_file)
            if whole:
                client["ssl-verify-server-cert"] = "on"
        option_file = "[client]\n" + "".join(f'{key} = "{value}"\n' for key, value in client.items())
        entries = {
            "host": HOST,
            "port": str(port),
            "database": database,
            "username": role,
            "password": password,
            "uri": f"mysql://{role}:{password}@{HOST}:{port}/{database}" + _query(query),
            "jdbc-uri": f"jdbc:mariadb://{HOST}:{port}/{database}" + _query(java),
            "my.cnf": option_file,
            **(found.entries if found is not None else {}),
        }
        return Binding("mysql", "chandlery", entries)

    # -- differences

    def _server_differences(self, *, running: bool, wait: float) -> list[Difference]:
        found = differences(self.spec, self.wanted_settings(), self.applied)
        port = self.spec.exposure.port
        if port is not None and port != self.server.port:
            cost = Disruption.RESTART
            found.append(
                Difference("spec.exposure.port", str(port), str(self.server.port), cost, payload=("port", port))
            )
        if not running and wait <= 0:
            found.append(Difference("instance node-0", "running", "stopped", payload=("start",)))
        return found

    async def _live_differences(self, live: Mapping[str, Any]) -> list[Difference]:
        """What a running server must be told: files, certificates."""
        found = []
        if self.instance.record.get("tls_options", {}) != self._tls():
            found.append(Difference("spec.tls", "as in spec", "older", Disruption.RESTART, payload=("tls",)))
        elif self.certificates is not None and (stale := await self.certificates.due()):
            found.append(Difference("spec.tls", "as in spec", stale, Disruption.RELOAD, payload=("certificates",)))
        if not self.server.is_current(self._configuration()):
            found.append(Difference("configuration", "current", "older", payload=("write",)))
        return found

    # -- update

    async def update(self, observed: Observation) -> None:
        """Do what the plan says: passwords on record first, then settings, then what is inside, then restarts."""
        inside, live = [], []
        restart = started = rotated = False
        before = dict(self.applied)
        for change in observed.plan.changes:
            payload = change.payload
            match payload[0]:
                case "rotate" | "expire":
                    self.rotation.apply(payload)
                    rotated = True
                case "start":
                    started = True
                case "set" if change.disruption >= Disruption.RESTART:
                    self._set(payload[1], payload[2])
                    restart = True
                case "set":
                    live.append(change)
                case "tls":
                    if self.certificates is not None:
                        await self.certificates.write()
                    self.instance.record["tls_options"] = self._tls()
                    self.instance.save()
                    restart = True
                case "port":
                    self.instance.claim_port("client", payload[1])
                    restart = True
                case "certificates":
                    assert self.certificates is not None
                    await self.certificates.write()
                    await self._execute("FLUSH SSL")
                case "backup":
                    self.backups.start(payload[1])
                case "write":
                    pass
                case _:
                    inside.append(change)
        await self._set_live(live)
        content = self._content(await passwords(self.ctx, self.obj, self.instance))
        if inside:
            await content.apply(inside)
        if rotated:
            await content.apply(await content.differences())
        if inside or rotated:
            self.instance.save()
        await self._reconfigure(before, restart=restart)
        if started:
            await self.server.start()

    # -- before deletion

    async def last_backup(self) -> bool:
        """True when there is a backup that began after the deletion did, or nothing to back up."""
        if not self.server.made:
            return True
        if not self.server.process.state().running:
            self.instance.write_config(self.server.config_file.name, self._configuration())
            await self.server.start()
            return False
        try:
            await self._look()
        except ChandleryError:
            return False
        return await self.backups.last()

    async def _set_live(self, changes: Sequence[Difference]) -> None:
        """One by one: each is in the file only when the engine took it."""
        for change in changes:
            _, name, value = change.payload
            await self._execute(f"SET GLOBAL {name} = {sql_value(name, value)}", change)
            self._set(name, value)

    async def _execute(self, statement: str, change: Difference | None = None) -> None:
        await tell(await self.server.connect(), statement, change)

    def _set(self, name: str, value: str | None) -> None:
        if value is None:
            self.applied.pop(name, None)
        else:
            self.applied[name] = value
        self.instance.save()

    async def _reconfigure(self, before: Mapping[str, str], *, restart: bool) -> None:
        text = self._configuration()
        if restart:
            try:
                await self.server.check(text)
            except EngineFailed:
                # A value that it refuses must not wait in the file for the next start, which would fail on it.
                self.instance.record["settings"] = dict(before)
                self.instance.save()
                raise
        self.instance.write_config(self.server.config_file.name, text)
        if restart:
            await self.server.process.stop()
            await self.server.start()


def _query(values: Mapping[str, str]) -> str:
    return f"?{urlencode(values, safe='/')}" if values else ""


def refused(obj: Database) -> list[Unsupported]:
    """What the spec can say and MariaDB on this machine can't do."""
    spec, found = obj.spec, []
    if spec.instances > 1:
        found.append(Unsupported("spec.instances", str(spec.instances), "MariaDB runs as one instance on this machine"))
    if spec.pooler is not None and spec.pooler.enabled:
        found.append(Unsupported("spec.pooler.enabled", "true", "there is no pooler for MariaDB on this machine"))
    if spec.initialization.sql_secrets:
        why = "MariaDB can't undo a script that stops half-way, so none is run here"
        found.append(Unsupported("spec.initialization.sqlSecrets", "set", why))
    return [*found, *refused_roles(spec)]
