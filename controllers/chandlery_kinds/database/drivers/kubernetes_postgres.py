"""One pass over a single PostgreSQL in a StatefulSet of ours."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import orjson

from chandlery.driver.protocol import Difference, Disruption, DriverContext, Observation
from chandlery.driver.schedule import due, requested, stamp
from chandlery.foundation.errors import (
    AlreadyExists,
    ChandleryError,
    DependencyNotReady,
    EngineFailed,
    NotSupported,
    Unavailable,
)
from chandlery.foundation.validation.quantity import Quantity
from chandlery.model.base import Endpoint
from chandlery.model.parts import ExposureType
from chandlery.providers.kubernetes.children import GENERATED, Children
from chandlery.providers.kubernetes.driver import AUTH, Workload
from chandlery.providers.kubernetes.ownership import annotated
from chandlery.providers.kubernetes.pods import problem
from chandlery.providers.kubernetes.templates import Kept, keep, upgrade_condition
from chandlery.providers.kubernetes.types import (
    CLAIMS,
    CONFIG_MAPS,
    CRON_JOBS,
    JOBS,
    NETWORK_POLICIES,
    PODS,
    SECRETS,
    SERVICES,
    STATEFUL_SETS,
    Obj,
)
from chandlery_kinds.database.kubernetes.backup import SUFFIX, job
from chandlery_kinds.database.kubernetes.backup import facts as backups
from chandlery_kinds.database.kubernetes.children import children
from chandlery_kinds.database.kubernetes.config import revision, split
from chandlery_kinds.database.kubernetes.inputs import PORT, Inputs
from chandlery_kinds.database.kubernetes.statefulset import stateful_set
from chandlery_kinds.database.model import Database, DatabaseSpec
from chandlery_kinds.database.postgres.binding import binding, secret_part, user_bindings
from chandlery_kinds.database.postgres.connection import connect
from chandlery_kinds.database.postgres.content import Content
from chandlery_kinds.database.postgres.live_settings import KEPT, setting_differences, statement
from chandlery_kinds.database.postgres.roles import wanted_roles
from chandlery_kinds.database.settings import TABLES

KINDS = (STATEFUL_SETS, SERVICES, SECRETS, CONFIG_MAPS, NETWORK_POLICIES, CRON_JOBS, JOBS, PODS, CLAIMS)
RECORD = "-record"
BACKUP = "chandlery.dev/backup-requested-at"
"""Annotation: any text; a new one is a backup."""
STARTING_POLL = 0.5
DRIFT_POLL = 30.0
"""What is inside of the engine tells nobody when it changes."""

_STATE = """
SELECT current_setting('server_version') AS version,
       current_setting('chandlery.revision', true) AS revision,
       (SELECT timeline_id FROM pg_control_checkpoint()) AS timeline,
       array(SELECT name FROM pg_settings WHERE pending_restart) AS pending_restart,
       (SELECT sum(pg_database_size(oid)) FROM pg_database)::bigint
         + (SELECT coalesce(sum(size), 0) FROM pg_ls_waldir())::bigint AS used
"""


class PostgresPod(Workload[Database]):
    """Everything that one pass does with one database. Made anew each time; keeps nothing."""

    kinds: ClassVar = KINDS
    grace: ClassVar[bool] = False
    """PostgreSQL holds one password for each role."""

    def __init__(self, ctx: DriverContext, obj: Database, there: Children) -> None:
        super().__init__(ctx, obj, there)
        self.spec: DatabaseSpec = obj.spec
        self.notes = self._notes()
        self._noted = orjson.dumps(self.notes, option=orjson.OPT_SORT_KEYS)
        self.inputs = Inputs.of(
            obj,
            ctx.parameters,
            self.session.images,
            self.session.pull_secrets,
            major=self.notes.get("major", ""),
            restore=self.notes.get("restore"),
        )
        self.live: Mapping[str, Any] = {}
        self.kept: Mapping[str, str] = {}
        self.error = ""

    # -- what is on record

    @property
    def stateful(self) -> Obj | None:
        return self.there.get(STATEFUL_SETS)

    @property
    def pod(self) -> Obj | None:
        return next((p for p in self.there.pods if p["metadata"]["name"] == f"{self.owner.base}-0"), None)

    def _notes(self) -> dict[str, Any]:
        """Which roles, databases and grants are ours, and which major version made the data."""
        live = self.there.get(CONFIG_MAPS, RECORD)
        found: dict[str, Any] = orjson.loads(((live or {}).get("data") or {}).get("record") or "{}")
        return found

    async def _save(self) -> None:
        text = orjson.dumps(self.notes, option=orjson.OPT_SORT_KEYS)
        if text != self._noted:
            body = self.owner.child(CONFIG_MAPS, RECORD, data={"record": text.decode()})
            await self.session.apply(annotated(body, {GENERATED: "true"}))
            self._noted = text

    def generated(self) -> dict[str, str]:
        roles = [r.name for r in wanted_roles(self.spec) if r.login and r.password_secret is None]
        return {name: f"role-{name}" for name in roles}

    def auth_keys(self) -> list[str]:
        return ["admin", *self.generated().values()]

    async def role_passwords(self) -> dict[str, str]:
        """One for each role with a login.

        Raises:
            DependencyNotReady: a Secret that a role names isn't there.
        """
        found, auth = {}, self.auth()
        for role in wanted_roles(self.spec):
            if not role.login:
                continue
            if role.password_secret is None:
                found[role.name] = auth[f"role-{role.name}"]
                continue
            data = await self.ctx.reader.secret(self.owner.namespace, role.password_secret.name)
            password = (data or {}).get("password", b"").decode()
            if not password:
                raise DependencyNotReady(
                    f"Secret {role.password_secret.name} with the key `password` isn't there",
                    field=f"spec.roles[{role.name}].passwordSecret",
                    hint="Create it, or leave passwordSecret out to have a password generated.",
                )
            found[role.name] = password
        return found

    # -- create

    async def create(self) -> None:
        await self.ensure_auth()
        if self.spec.restore_from is not None and "restore" not in self.notes:
            # on record, so that the object whose backup it is may go
            self.notes["restore"] = await self._restore()
            await self._save()
            self.inputs = replace(self.inputs, restore=self.notes["restore"])
        await self.act_all(self._desired()[0])

    async def _restore(self) -> dict[str, str]:
        """Where the backup is.

        Raises:
            DependencyNotReady: the object that made it isn't there.
            NotSupported: it isn't in a claim.
        """
        given = self.spec.restore_from
        assert given is not None
        destination: Any = given.destination
        field = "spec.restoreFrom.destination"
        if given.object_name is not None:
            field = "spec.restoreFrom.objectName"
            group, kind = self.obj.names.group, self.obj.names.kind
            other = await self.ctx.reader.get(group, kind, self.owner.namespace, given.object_name)
            if other is None:
                raise DependencyNotReady(f"the Database {given.object_name} isn't there", field=field)
            backup = type(self.obj).model_validate(other).spec.backup
            destination = backup.destination if backup is not None else None
        if destination is None or destination.volume is None:
            raise NotSupported("databases on Kubernetes begin with backups in a claim only", field=field)
        name = {"name": str(given.backup)} if given.backup else {}
        return {"claim": str(destination.volume.claim_name), "path": str(destination.volume.path).strip("/"), **name}

    def _desired(self) -> tuple[list[Obj], Kept]:
        stateful = stateful_set(self.inputs, self.stateful)
        kept = keep(stateful, self.stateful, self.inputs.asked, upgrade=self.upgrade)
        return [*children(self.inputs, self.ctx.parameters), kept.workload], kept

    # -- observe

    async def observe(self) -> Observation:
        if self.stateful is None and not self.there.pods:
            return Observation(exists=False, external_name=self.owner.identity)
        if self.missing_auth():
            missing = Difference(f"Secret {self.owner.base}{AUTH}", "present", "absent", payload=("auth",))
            return Observation(
                exists=True, external_name=self.owner.identity, differences=(missing,), reason="Starting"
            )
        await self._look()
        self._check_major()
        passwords = await self.role_passwords()
        manifests, kept = self._desired()
        found = self.there.growth(self._size())
        found += self.rotation_differences()
        found += self.there.differences(manifests, _cost)
        content = Content(self.spec, self._connect, passwords, self.notes.setdefault("content", {}))
        inside: list[Difference] = []
        if self.live:
            _, wanted = split(self.inputs)
            found += setting_differences(wanted, self.kept, self.spec.configuration, TABLES["postgres"])
            try:
                inside = await content.differences()
            except Unavailable as error:  # it has just gone down
                self.live, self.error = {}, error.message
        found += self._backup_differences()
        found += self._restart_differences(found)
        host = self._host()
        ready = bool(self.live and host) and not inside and await self._client_works(passwords)
        reason, message = ("", "") if ready else self._explain(inside, host)
        owner = self.spec.owner_of(self.spec.databases[0])
        port, where = self.inputs.service_port, host or self._name()
        return Observation(
            exists=True,
            ready=ready,
            reason=reason,
            message=message,
            differences=(*found, *inside),
            external_name=self.owner.identity,
            endpoint=Endpoint(host=where, port=port),
            binding=binding(self.spec, where, port, owner, passwords),
            user_bindings=user_bindings(self.spec, self.owner.name, where, port, passwords),
            facts={**self._facts(ready), **self._told(content.facts())},
            conditions=upgrade_condition(self.address, kept.newer, self.opens),
            poll_after=self.poll(DRIFT_POLL if ready else STARTING_POLL, kept.newer),
        )

    async def _look(self) -> None:
        """Ask the running server for everything."""
        if self.pod is None or self.pod["metadata"].get("deletionTimestamp"):
            return
        try:
            connection = await self._connect("postgres")
        except ChandleryError as error:
            self.error = error.message
            return
        try:
            state = dict(await connection.fetchrow(_STATE))
            self.kept = {row["name"]: row["setting"] for row in await connection.fetch(KEPT)}
            self.live = state
        except Exception as error:  # noqa: BLE001
            # A server that is going down cuts connections in any way it likes; the next pass looks again.
            self.error = str(error)
        finally:
            await connection.close(timeout=2)

    async def _connect(self, database: str, user: str = "", password: str = "") -> Any:
        if self.pod is None:
            raise Unavailable("the pod isn't there yet", retry_after=0.5)
        host, port = self.session.resolve(self.pod, PORT)
        seconds = max(self.ctx.base.remaining() or 60.0, 1.0)
        if user:
            return await connect(host, port, database=database, user=user, password=password)
        return await connect(host, port, database=database, password=self.auth()["admin"], command_seconds=seconds)

    async def _client_works(self, passwords: Mapping[str, str]) -> bool:
        """The real thing: log in as the binding's role, into the binding's database."""
        item = self.spec.databases[0]
        owner = self.spec.owner_of(item)
        if owner not in passwords:
            return True  # an owner that can't log in: the spec wants no binding by it
        try:
            connection = await self._connect(item.name, owner, passwords[owner])
        except ChandleryError:
            return False
        try:
            return bool(await connection.fetchval("SELECT 1") == 1)
        except Exception:  # noqa: BLE001
            return False
        finally:
            await connection.close(timeout=2)

    def _check_major(self) -> None:
        """Raise when another major version is asked for: its programs can't read the data."""
        if self.live:
            self.notes["major"] = str(self.live["version"]).split(".")[0]
        has, wants = self.notes.get("major"), str(self.spec.version or "").split(".")[0]
        if has and wants and has != wants:
            raise NotSupported(
                f"the data are of PostgreSQL {has}; another major version can't read them",
                field="spec.version",
                value=self.spec.version,
                hint=f"Set spec.version to {has}, or dump the data and restore them into a new Database.",
            )

    def _size(self) -> str:
        """Of the volume: as asked, or more when it fills up and may grow by itself."""
        storage = self.spec.storage
        size = Quantity(str(storage.size))
        claim = next(iter(self.there.all(CLAIMS)), None)
        grow = storage.autogrow
        capacity = ((claim or {}).get("status") or {}).get("capacity", {}).get("storage")
        if grow is None or not grow.enabled or not self.live or not capacity:
            return str(size)
        has = int(Quantity(capacity))
        if self.live["used"] * 100 < has * grow.threshold_percent:
            return str(size)
        more = min(int(has * (100 + grow.step_percent) / 100), grow.limit.bytes)
        return str(max(size, Quantity.bytes(more)))

    def _restart_differences(self, others: list[Difference]) -> list[Difference]:
        """A pod of an older template, or a server that has begun with older settings."""
        stateful, pod = self.stateful, self.pod
        if stateful is None or pod is None or pod["metadata"].get("deletionTimestamp"):
            return []
        status = stateful.get("status") or {}
        current = status.get("observedGeneration") == stateful["metadata"].get("generation")
        template = status.get("updateRevision") if current else None
        has = pod["metadata"]["labels"].get("controller-revision-hash", "")
        name = pod["metadata"]["name"]
        if template and has != template:
            return [Difference(f"template of {name}", template, has, Disruption.RESTART, payload=("restart", pod))]
        if not self.live:
            if problem(pod) and any(_cost(*_place(change)) for change in others):
                # It can't start with what it was given: it doesn't wait for the kubelet to bring the better file.
                return [
                    Difference(f"settings of {name}", "new", "refused", Disruption.RESTART, payload=("restart", pod))
                ]
            return []
        wanted, begun = revision(self.inputs), str(self.live["revision"] or "")
        pending = ", ".join(self.live["pending_restart"])
        if begun != wanted or pending:
            what = pending or "settings"
            return [Difference(f"{what} of {name}", wanted, begun, Disruption.RESTART, payload=("restart", pod))]
        return []

    def _backup_differences(self) -> list[Difference]:
        """A backup that a person asks for, once."""
        backup, done = self.spec.backup, self.notes.get("backup")
        asked = requested(self.obj.metadata.annotations, BACKUP, done) if backup is not None else None
        if asked is None or not self.live:
            return []
        return [Difference("backup", asked, str(done or "none"), payload=("backup", asked))]

    def _name(self) -> str:
        return f"{self.owner.base}.{self.owner.namespace}.svc"

    def _host(self) -> str:
        """Where clients connect; empty while the cluster hasn't given an address yet."""
        live = self.there.get(SERVICES)
        if self.spec.exposure.hostname:
            return str(self.spec.exposure.hostname)
        if self.spec.exposure.type is ExposureType.LOAD_BALANCER:
            for entry in (((live or {}).get("status") or {}).get("loadBalancer") or {}).get("ingress") or ():
                return str(entry.get("ip") or entry.get("hostname") or "")
            return ""
        return self._name() if live is not None else ""

    def _explain(self, inside: list[Difference], host: str) -> tuple[str, str]:
        wrong = problem(self.pod)
        if wrong:
            return wrong[0], f"{self.owner.base}-0: {wrong[1]}"
        if not self.live:
            why = f" ({self.error})" if self.error else ""
            return "Starting", f"waiting for {self.owner.base}-0 to answer{why}"
        if not host:
            return "AddressPending", "the cluster has not given the Service an address yet"
        if inside:
            return "Configuring", f"{len(inside)} roles, databases or rights are not as in spec yet"
        return "Starting", "the binding's role can't log in yet"

    def _told(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Databases and roles, with the Secrets of these and when their passwords were replaced."""
        times = self.rotation.times()
        for role in facts["roles"]:
            if role["name"] in self.generated():
                role["secretName"] = f"{self.owner.name}-role-{secret_part(role['name'])}"
            if role["name"] in times:
                role["lastRotatedTime"] = times[role["name"]]
        return facts

    def _facts(self, ready: bool) -> dict[str, Any]:
        pod = self.pod
        member: dict[str, Any] = {
            "name": f"{self.owner.base}-0",
            "role": "primary" if self.live else "unknown",
            "ready": bool(self.live),
        }
        if pod is not None and (pod.get("status") or {}).get("podIP"):
            member["address"] = f"{pod['status']['podIP']}:{PORT}"
        facts: dict[str, Any] = {
            "engine": "postgres",
            "instances": 1 if pod is not None else 0,
            "readyInstances": 1 if ready else 0,
            "primary": f"{self.owner.base}-0",
            "selector": ",".join(f"{key}={value}" for key, value in self.owner.selector.items()),
        }
        backup = self.spec.backup
        if backup is not None:
            told = backups(self.there.all(JOBS), self.there.pods, self.there.get(CRON_JOBS, SUFFIX))
            now, zone = self.ctx.base.now(), str(backup.time_zone)
            coming = due(
                str(backup.schedule) if backup.schedule else None,
                since=now,
                now=now,
                zone=zone,
                suspended=backup.suspended,
            ).next
            facts["backup"] = told | ({"nextScheduledTime": stamp(coming)} if coming is not None else {})
        for claim in self.there.all(CLAIMS):
            capacity = (claim.get("status") or {}).get("capacity", {}).get("storage")
            if capacity:
                facts["storageSize"] = capacity
        if self.live:
            member["version"] = self.live["version"].split(" ")[0]
            facts |= {
                "version": member["version"],
                "timeline": self.live["timeline"],
                "storageUsed": f"{-(-self.live['used'] // (1 << 20))}Mi",
            }
        elif self.error:
            member["message"] = self.error
        return {**facts, "members": [member]}

    # -- update

    async def update(self, observed: Observation) -> None:
        """Do what the plan says: storage first, then manifests, then settings and what is inside, then a restart."""
        inside, restart, reload, rotated = [], None, False, False
        for change in sorted(observed.plan.changes, key=_order):
            if not (isinstance(change.payload, tuple) and isinstance(change.payload[0], str)):
                inside.append(change)
                continue
            what, *rest = change.payload
            if what == "auth":
                await self.ensure_auth()
                return
            if what == "backup":
                await self._back_up(rest[0])
            elif what in ("rotate", "anchor"):
                await self.rotate(change.payload)
                rotated = True
            elif what == "set":
                await self._set(change)
                reload = True
            elif what == "restart":
                restart = rest[0]
            else:
                await self.there.act(what, *rest)
        if reload:
            await self._run("SELECT pg_reload_conf()")
        if inside or (rotated and self.pod is not None):
            passwords = await self.role_passwords()
            content = Content(self.spec, self._connect, passwords, self.notes.setdefault("content", {}))
            try:
                await content.apply(await content.differences() if rotated else inside)
            finally:
                await self._save()
        await self._save()
        if restart is not None:
            self.ctx.event("Normal", "Restarting", f"{restart['metadata']['name']} is replaced")
            await self.session.delete(restart)

    async def _back_up(self, asked: str) -> None:
        assert self.spec.backup is not None
        with contextlib.suppress(AlreadyExists):
            await self.session.create(job(self.inputs, self.spec.backup, asked))
        self.notes["backup"] = asked

    async def _set(self, change: Difference) -> None:
        import asyncpg

        _, name, value = change.payload
        try:
            await self._run(statement(name, value))
        except asyncpg.PostgresError as error:
            raise EngineFailed(
                f"PostgreSQL refuses the value: {error.args[0]}",
                field=change.field,
                value=value,
                hint="Correct it; the server goes on with the old value.",
                retry_after=None,
            ) from error

    async def _run(self, sql: str) -> None:
        connection = await self._connect("postgres")
        try:
            await connection.execute(sql)
        finally:
            await connection.close(timeout=2)


def _cost(kind: str, path: str) -> Disruption:
    """Settings in the file take effect at a start: both wait for the same moment."""
    return Disruption.RESTART if kind == CONFIG_MAPS.kind and "postgresql.conf" in path else Disruption.NONE


def _place(change: Difference) -> tuple[str, str]:
    """Kind and path of a child's difference."""
    kind, _, rest = change.field.partition(" ")
    return kind, rest


def _order(change: Difference) -> int:
    payload = change.payload
    what = payload[0] if isinstance(payload, tuple) else ""
    return (
        {"grow": 0, "auth": 0, "rotate": 0, "anchor": 0, "apply": 1, "delete": 1}.get(what, 2)
        if isinstance(what, str)
        else 2
    )
