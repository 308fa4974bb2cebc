"""Several instances of PostgreSQL: handed over to CloudNativePG, and told back as our own.

CloudNativePG makes and moves the servers; what is inside of them (databases, roles, grants, extensions) is kept over a
real connection to the primary, as its superuser, by the same rules as everywhere.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

from chandlery.driver.objects import ResourceType
from chandlery.driver.protocol import Binding, Difference, Disruption, DriverContext, Observation, Unsupported
from chandlery.driver.schedule import due, requested, stamp
from chandlery.foundation.errors import (
    AlreadyExists,
    ChandleryError,
    DependencyNotReady,
    FailedPrecondition,
    NotSupported,
)
from chandlery.model.backup import PointInTimeRestore
from chandlery.model.base import Condition, DeletionPolicy, Endpoint
from chandlery.model.parts import ExposureType
from chandlery.providers.kubernetes.backing import last_failed
from chandlery.providers.kubernetes.children import Children
from chandlery.providers.kubernetes.foreign import look
from chandlery.providers.kubernetes.ownership import Owner, base_name
from chandlery.providers.kubernetes.session import KubernetesSession
from chandlery.providers.kubernetes.types import (
    CNPG_BACKUPS,
    CNPG_CLUSTERS,
    CNPG_POOLERS,
    CNPG_SCHEDULES,
    CONFIG_MAPS,
    OBJECT_STORES,
    PODS,
    SECRETS,
    SERVICE_MONITORS,
    SERVICES,
    Obj,
)
from chandlery_kinds.database.drivers.kubernetes_delegate import BACKUP, DRIFT_POLL, POLL, Delegated, not_handed_over
from chandlery_kinds.database.kubernetes.cluster import AUTH, POOLER, PORT, SUPERUSER, children, pooled
from chandlery_kinds.database.kubernetes.cluster_backup import CRD as PLUGIN_CRD
from chandlery_kinds.database.kubernetes.cluster_backup import asked_for
from chandlery_kinds.database.kubernetes.cluster_backup import facts as backup_facts
from chandlery_kinds.database.model import Database
from chandlery_kinds.database.postgres.binding import binding, encrypted, secret_part
from chandlery_kinds.database.postgres.connection import connect, serves
from chandlery_kinds.database.postgres.content import Content
from chandlery_kinds.database.postgres.scripts import Scripts
from chandlery_kinds.database.spec_parts import BackupMethod, PoolMode

CRD = "clusters.postgresql.cnpg.io"
CA = "-ca"
"""Suffix of the Secret with CloudNativePG's own CA."""


def refused(obj: Database) -> list[Unsupported]:
    """What is not handed over."""
    spec = obj.spec
    found = []

    def no(field: str, value: object, why: str) -> None:
        found.append(Unsupported(field, str(value), why))

    found += _backups(obj)
    if spec.pooler is not None and spec.pooler.enabled and spec.pooler.mode is PoolMode.STATEMENT:
        no("spec.pooler.mode", "statement", "CloudNativePG's pooler knows session and transaction")
    tls = spec.tls
    if tls is not None and tls.enabled and tls.issuer_ref is not None:
        why = "CloudNativePG takes certificates from a Secret: name cert-manager's as certificateSecret"
        no("spec.tls.issuerRef", tls.issuer_ref.name, why)
    found += not_handed_over(spec, "CloudNativePG")
    exposure = spec.exposure
    if exposure.port is not None and exposure.type is ExposureType.INTERNAL:
        no("spec.exposure.port", exposure.port, f"CloudNativePG's Services have the port {PORT}")
    if spec.deletion_policy is DeletionPolicy.RETAIN:
        why = "CloudNativePG deletes the volumes with the cluster: use Snapshot, which leaves a last backup"
        no("spec.deletionPolicy", spec.deletion_policy.value, why)
    if spec.deletion_policy is DeletionPolicy.SNAPSHOT and spec.backup is None:
        no("spec.deletionPolicy", "Snapshot", "it takes a last backup: say in spec.backup where to")
    return found


def _backups(obj: Database) -> list[Unsupported]:
    """What the Barman Cloud plugin doesn't do."""
    spec, found = obj.spec, []

    def no(field: str, value: object, why: str) -> None:
        found.append(Unsupported(field, str(value), why))

    backup, restore = spec.backup, spec.restore_from
    if backup is not None:
        if backup.destination.s3 is None:
            no("spec.backup.destination", "set", "CloudNativePG's backups go to an S3-compatible store: use s3")
        if backup.method is not BackupMethod.PHYSICAL:
            no("spec.backup.method", backup.method.value, "CloudNativePG copies the files and archives the log")
        if backup.retention is not None and backup.retention.count is not None:
            no("spec.backup.retention.count", backup.retention.count, "CloudNativePG keeps backups by age: use days")
        if backup.schedule is not None and str(backup.time_zone) != "UTC":
            no("spec.backup.timeZone", backup.time_zone, "CloudNativePG's schedules mean UTC")
    if restore is not None and restore.destination is not None:
        s3 = restore.destination.s3
        if s3 is None:
            no("spec.restoreFrom.destination", "set", "CloudNativePG's backups are in an S3-compatible store: use s3")
        elif not str(s3.prefix).strip("/"):
            why = "its last part is the folder that the backups are in: the name of the cluster that made them"
            no("spec.restoreFrom.destination.s3.prefix", "none", why)
    return found


class CnpgCluster(Delegated):
    """Everything that one pass does with one database that CloudNativePG runs."""

    superuser: ClassVar[str] = SUPERUSER
    by: ClassVar[tuple[str, str, str]] = ("PostgreSQL", "CloudNativePG", "https://cloudnative-pg.io/docs")
    port: ClassVar[int] = PORT

    def __init__(self, ctx: DriverContext, obj: Database, there: Children, *, served: bool) -> None:
        super().__init__(ctx, obj, there, served=served)
        self.scripts = Scripts(ctx, obj, self.notes.setdefault("scripts", {}), self._save, self._connect)

    @classmethod
    async def of(cls, ctx: DriverContext, obj: Database) -> CnpgCluster:
        """Read what is there."""
        session: KubernetesSession = ctx.provider
        served = await session.served(CRD)
        owner = Owner.of(obj, "postgresql")
        if not served:
            return cls(ctx, obj, await Children(session, owner, (SECRETS,)).look(), served=False)
        further = SimpleNamespace(tls=None, metrics=obj.spec.metrics)  # certificates are CloudNativePG's own
        kinds: Sequence[ResourceType] = (CNPG_POOLERS, CNPG_CLUSTERS, SERVICES, SECRETS, CONFIG_MAPS, PODS)
        there = await look(session, owner, kinds, further)
        had = ((there.get(CNPG_CLUSTERS) or {}).get("spec") or {}).keys() & {"plugins", "externalClusters"}
        wants = obj.spec.backup is not None or obj.spec.restore_from is not None
        if (wants or had) and await session.served(PLUGIN_CRD):
            kinds = (CNPG_SCHEDULES, CNPG_BACKUPS, OBJECT_STORES, *there.kinds)
            there = await Children(session, owner, kinds).look()
        elif wants and not obj.metadata.deletion_timestamp:
            raise FailedPrecondition(
                "backups of several instances are made by CloudNativePG's Barman Cloud plugin, which is not installed "
                "in this cluster",
                field="spec.backup" if obj.spec.backup is not None else "spec.restoreFrom",
                hint="Install it (https://cloudnative-pg.io/plugin-barman-cloud), and this object goes on by itself.",
                retry_after=30.0,
            )
        return cls(ctx, obj, there, served=True)

    @property
    def live(self) -> Obj | None:
        return self.there.get(CNPG_CLUSTERS)

    async def _prepare(self) -> None:
        self.scripts.begin()
        if self.spec.restore_from is not None and "restore" not in self.notes:
            # on record, so that the object whose backup it is may go
            self.notes["restore"] = await self._origin(self.spec.restore_from)

    async def _origin(self, given: PointInTimeRestore) -> dict[str, Any]:
        """Where the backups are: of another Database, or in a folder of a store.

        Raises:
            DependencyNotReady: the Database isn't there.
            NotSupported: its backups aren't in a store.
        """
        if given.destination is not None and given.destination.s3 is not None:
            place = given.destination.s3.model_dump(mode="json", by_alias=True, exclude_none=True)
            prefix, _, server = str(place["prefix"]).strip("/").rpartition("/")
            return {"server": server, "s3": {**place, "prefix": prefix}}
        name, field = str(given.object_name), "spec.restoreFrom.objectName"
        names = self.obj.names
        other = await self.ctx.reader.get(names.group, names.kind, self.owner.namespace, name)
        if other is None:
            raise DependencyNotReady(f"the Database {name} isn't there", field=field)
        backup = Database.model_validate(other).spec.backup
        if backup is None or backup.destination.s3 is None:
            raise NotSupported(f"the Database {name} has no backups in an S3-compatible store", field=field)
        s3 = backup.destination.s3.model_dump(mode="json", by_alias=True, exclude_none=True)
        return {"server": base_name(name, self.owner.kind), "s3": s3}

    async def _back_up(self, asked: str) -> None:
        with contextlib.suppress(AlreadyExists):
            await self.session.create(asked_for(self.owner, asked))
        self.notes["backup"] = asked

    async def _last_backup(self) -> bool:
        if CNPG_BACKUPS not in self.there.kinds:
            raise FailedPrecondition(
                "the last backup is made by CloudNativePG's Barman Cloud plugin, which is not in this cluster",
                field="spec.deletionPolicy",
                value="Snapshot",
                hint="Install it (https://cloudnative-pg.io/plugin-barman-cloud), and this object goes on by itself; "
                "or set deletionPolicy to Delete.",
                retry_after=30.0,
            )
        meta = self.obj.metadata
        wanted = asked_for(self.owner, f"deletion {meta.deletion_timestamp} {meta.annotations.get(BACKUP, '')}".strip())
        found = self.there.live.get((CNPG_BACKUPS.kind, wanted["metadata"]["name"]))
        if found is None:
            with contextlib.suppress(AlreadyExists):
                await self.session.create(wanted)
            return False
        [entry] = backup_facts(self.owner, None, [found])["list"]
        if entry["phase"] == "Failed":
            raise last_failed(entry.get("message") or wanted["metadata"]["name"])
        return bool(entry["phase"] == "Completed")

    async def _run_script(self, name: str, field: str) -> None:
        await self.scripts.run(name, field, await self.role_passwords())

    # -- the primary

    async def _connect(self, database: str, user: str = "", password: str = "") -> Any:
        host, port, tls = await self._where_and_how()
        seconds = max(self.ctx.base.remaining() or 60.0, 1.0)
        return await connect(
            host,
            port,
            database=database,
            user=user or SUPERUSER,
            password=password or self._admin()["password"],
            command_seconds=seconds,
            tls=tls,
        )

    def _authority_secret(self) -> str:
        tls = self.spec.tls
        given = tls.certificate_secret if tls is not None and tls.enabled else None
        return str(given.name) if given is not None else self.owner.base + CA

    async def _serves(self, database: str, user: str, password: str) -> bool:
        return await serves(self._connect(database, user, password))

    def _content(self, passwords: Mapping[str, str]) -> Content:
        return Content(self.spec, self._connect, passwords, self.notes.setdefault("content", {}))

    # -- observe

    async def observe(self) -> Observation:
        obj, owner, live = self.obj, self.owner, self.live
        if live is None:
            return Observation(exists=False, external_name=owner.identity)
        if self.missing_auth() or "password" not in self._admin():
            missing = Difference(f"Secret {owner.base}{AUTH}", "present", "absent", payload=("auth",))
            return Observation(exists=True, external_name=owner.identity, differences=(missing,), reason="Starting")
        status = live.get("status") or {}
        conditions = {c.get("type"): c for c in status.get("conditions") or ()}
        works = conditions.get("Ready", {}).get("status") == "True"
        passwords = await self.role_passwords()
        content = self._content(passwords)
        inside, told = await self._inside(content)
        found = [*self._given_password(passwords), *self.rotation_differences()]
        found += self.there.differences(self._wanted(), _cost)
        if self.version and self.spec.backup is not None:
            done = self.notes.get("backup")
            asked = requested(obj.metadata.annotations, BACKUP, done)
            if asked is not None:
                found.append(Difference("backup", asked, str(done or "none"), payload=("backup", asked)))
        whole = works and int(status.get("readyInstances") or 0) >= obj.spec.instances
        host, port = self._where()
        ready = bool(whole and host and self._pooler_works() and self.version) and not inside
        if ready:
            ready = await self._client_works(passwords)
        reason, message = ("", "") if ready else self._explain(status, inside, whole=whole, host=host)
        where = host or f"{owner.base}-rw.{owner.namespace}.svc"
        read = {"read_host": f"{owner.base}-ro.{owner.namespace}.svc", "read_port": PORT}
        authority = await self._ca() if self._encrypted else ""
        made = {role: self._binding(role, where, port, passwords, authority) for role in passwords}
        return Observation(
            exists=True,
            ready=ready,
            reason=reason,
            message=message,
            differences=(*found, *inside),
            external_name=owner.identity,
            endpoint=Endpoint(host=where, port=port, **(read if obj.spec.instances > 1 else {})),
            binding=made.get(self.first_owner) or self._binding(self.first_owner, where, port, passwords, authority),
            user_bindings={f"{owner.name}-role-{secret_part(role)}": one for role, one in made.items()},
            facts={**self._facts(status), **self._told(content.facts())},
            conditions=told,
            poll_after=self.poll(DRIFT_POLL if ready else POLL, ""),
        )

    async def _inside(self, content: Content) -> tuple[list[Difference], tuple[Condition, ...]]:
        """What isn't as in the spec inside of the engine; nothing while it doesn't answer."""
        if self.primary is None:
            return [], ()
        try:
            connection = await self._connect("postgres")
            try:
                self.version = str(await connection.fetchval("SHOW server_version")).split(" ", maxsplit=1)[0]
            finally:
                await connection.close(timeout=2)
            inside = await content.differences()
        except ChandleryError as error:
            self.version, self.error = "", error.message
            return [], ()
        left, conditions = self.scripts.look()
        return inside or left, conditions

    def _where(self) -> tuple[str, int]:
        """Where clients connect; an empty host while the cluster hasn't given an address yet."""
        exposure, owner = self.spec.exposure, self.owner
        if exposure.type is ExposureType.INTERNAL:
            suffix = POOLER if pooled(self.spec) else "-rw"
            return str(exposure.hostname or f"{owner.base}{suffix}.{owner.namespace}.svc"), PORT
        port = exposure.port or PORT
        if exposure.hostname:
            return str(exposure.hostname), port
        live = self.there.get(SERVICES)
        if exposure.type is ExposureType.LOAD_BALANCER:
            for entry in (((live or {}).get("status") or {}).get("loadBalancer") or {}).get("ingress") or ():
                return str(entry.get("ip") or entry.get("hostname") or ""), port
            return "", port
        return f"{owner.base}.{owner.namespace}.svc" if live is not None else "", port

    def _binding(self, role: str, host: str, port: int, passwords: Mapping[str, str], authority: str) -> Binding:
        made = binding(self.spec, host, port, role, passwords)
        if not self._encrypted:
            return made
        # the servers' certificates are for the names of CloudNativePG's own Services
        own = self.spec.exposure.type is ExposureType.INTERNAL and not pooled(self.spec)
        given = self.spec.tls is not None and self.spec.tls.certificate_secret is not None
        return encrypted(made, authority, own=own and not given and bool(authority))

    def _pooler_works(self) -> bool:
        if not pooled(self.spec):
            return True
        status = (self.there.get(CNPG_POOLERS, POOLER) or {}).get("status") or {}
        return int(status.get("instances") or 0) >= 1

    def _explain(
        self, status: Mapping[str, Any], inside: Sequence[Difference], *, whole: bool, host: str
    ) -> tuple[str, str]:
        if not whole:
            words = [
                str(status.get("phase") or "CloudNativePG has not begun yet"),
                str(status.get("phaseReason") or ""),
            ]
            return "Starting", ": ".join(word for word in words if word)
        if not self.version:
            why = f" ({self.error})" if self.error else ""
            return "Starting", f"waiting for the primary {status.get('currentPrimary')} to answer{why}"
        if inside:
            return "Configuring", f"{len(inside)} roles, databases, rights or scripts are not as in spec yet"
        if not host:
            return "AddressPending", "the cluster has not given the Service an address yet"
        if not self._pooler_works():
            return "Starting", "waiting for CloudNativePG's pooler"
        return "Starting", "the binding's role can't log in yet"

    def _facts(self, status: Mapping[str, Any]) -> dict[str, Any]:
        primary = status.get("currentPrimary")
        healthy = (status.get("instancesStatus") or {}).get("healthy") or ()
        addresses = {p["metadata"]["name"]: (p.get("status") or {}).get("podIP") for p in self.there.pods}
        members = []
        for name in status.get("instanceNames") or ():
            member = {"name": name, "role": "primary" if name == primary else "replica", "ready": name in healthy}
            if addresses.get(name):
                member["address"] = f"{addresses[name]}:{PORT}"
            members.append(member)
        found = {
            "engine": "postgres",
            "instances": status.get("instances"),
            "readyInstances": status.get("readyInstances"),
            "primary": primary,
            "members": members,
            "selector": ",".join(f"{key}={value}" for key, value in self.owner.selector.items()),
        }
        if self.version:
            found["version"] = self.version
        if status.get("timelineID"):
            found["timeline"] = status["timelineID"]
        if self.spec.backup is not None:
            told = backup_facts(self.owner, self.there.get(OBJECT_STORES), self.there.all(CNPG_BACKUPS))
            coming = due(
                str(self.spec.backup.schedule) if self.spec.backup.schedule else None,
                since=self.ctx.base.now(),
                now=self.ctx.base.now(),
                suspended=self.spec.backup.suspended,
            ).next
            found["backup"] = told | ({"nextScheduledTime": stamp(coming)} if coming is not None else {})
        if pooled(self.spec):
            found["poolerReady"] = self._pooler_works()
        return found

    def _wanted(self) -> list[Obj]:
        session = self.session
        return children(
            self.owner,
            self.spec,
            self.ctx.parameters,
            session.images,
            session.pull_secrets,
            live=self.live,
            monitors=SERVICE_MONITORS in self.there.kinds,
            restore=self.notes.get("restore"),
        )


def _cost(_kind: str, path: str) -> Disruption:
    """CloudNativePG changes copies first and then switches over."""
    return Disruption.FAILOVER if path.startswith((".spec.imageName", ".spec.resources")) else Disruption.NONE
