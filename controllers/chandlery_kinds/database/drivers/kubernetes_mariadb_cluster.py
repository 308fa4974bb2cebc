"""Several instances of MariaDB: handed over to mariadb-operator, and told back as our own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from chandlery.driver.protocol import Binding, Difference, Disruption, DriverContext, Observation, Unsupported
from chandlery.foundation.errors import ChandleryError
from chandlery.model.base import DeletionPolicy, Endpoint
from chandlery.model.parts import ExposureType
from chandlery.providers.kubernetes.children import Children
from chandlery.providers.kubernetes.driver import AUTH
from chandlery.providers.kubernetes.ownership import Owner
from chandlery.providers.kubernetes.session import KubernetesSession
from chandlery.providers.kubernetes.types import CONFIG_MAPS, MARIADBS, PODS, SECRETS, SERVICES, STATEFUL_SETS, Obj
from chandlery_kinds.database.drivers.kubernetes_delegate import DRIFT_POLL, POLL, Delegated, not_handed_over
from chandlery_kinds.database.kubernetes.mariadb_cluster import (
    BUNDLE,
    PORT,
    PRIMARY,
    SECONDARY,
    SUPERUSER,
    cluster,
)
from chandlery_kinds.database.mariadb.binding import binding, encrypted
from chandlery_kinds.database.mariadb.connection import connect, serves
from chandlery_kinds.database.mariadb.content import Content, fetch
from chandlery_kinds.database.model import Database
from chandlery_kinds.database.postgres.binding import secret_part

CRD = "mariadbs.k8s.mariadb.com"
LINE = "line"
"""In the record: the line of versions that made the data."""


def refused(obj: Database) -> list[Unsupported]:
    """What is not handed over."""
    spec = obj.spec
    found = []

    def no(field: str, value: object, why: str) -> None:
        found.append(Unsupported(field, str(value), why))

    for field, value in (("backup", spec.backup), ("restoreFrom", spec.restore_from)):
        if value is not None:
            no(f"spec.{field}", "set", "it is not handed over to mariadb-operator yet")
    if spec.metrics is not None and spec.metrics.enabled:
        no("spec.metrics", "set", "it is not handed over to mariadb-operator yet")
    if spec.pooler is not None and spec.pooler.enabled:
        no("spec.pooler", "set", "MariaDB on Kubernetes has none")
    tls = spec.tls
    if tls is not None and tls.enabled:
        for name, given in (("certificateSecret", tls.certificate_secret), ("issuerRef", tls.issuer_ref)):
            if given is not None:
                no(f"spec.tls.{name}", given.name, "mariadb-operator makes the certificates")
    found += not_handed_over(spec, "mariadb-operator")
    exposure = spec.exposure
    if exposure.port not in (None, PORT):
        no("spec.exposure.port", exposure.port, f"mariadb-operator's Services have the port {PORT}")
    if exposure.node_port is not None:
        no("spec.exposure.nodePort", exposure.node_port, "mariadb-operator's Services get any free one")
    if (spec.replication.synchronous_instances or 1) > 1:
        why = "in MariaDB a commit waits for one copy"
        no("spec.replication.synchronousInstances", spec.replication.synchronous_instances, why)
    if spec.deletion_policy is DeletionPolicy.SNAPSHOT:
        why = "backups are not handed over to mariadb-operator yet: use Retain, which keeps volumes and passwords"
        no("spec.deletionPolicy", spec.deletion_policy.value, why)
    return found


class MariaCluster(Delegated):
    """Everything that one pass does with one database that mariadb-operator runs."""

    superuser: ClassVar[str] = SUPERUSER
    by: ClassVar[tuple[str, str, str]] = (
        "MariaDB",
        "mariadb-operator",
        "https://github.com/mariadb-operator/mariadb-operator",
    )
    port: ClassVar[int] = PORT

    @classmethod
    async def of(cls, ctx: DriverContext, obj: Database) -> MariaCluster:
        """Read what is there."""
        session: KubernetesSession = ctx.provider
        served = await session.served(CRD)
        kinds = (MARIADBS, SERVICES, SECRETS, CONFIG_MAPS, PODS) if served else (SECRETS,)
        return cls(ctx, obj, await Children(session, Owner.of(obj, "mariadb"), kinds).look(), served=served)

    @property
    def live(self) -> Obj | None:
        return self.there.get(MARIADBS)

    # -- the primary

    async def _connect(self, user: str = "", password: str = "", database: str = "") -> Any:
        host, port, tls = await self._where_and_how()
        return await connect(
            host,
            port,
            user=user or SUPERUSER,
            password=password or self._admin()["password"],
            database=database,
            tls=tls,
        )

    def _authority_secret(self) -> str:
        return self.owner.base + BUNDLE if self._encrypted else ""

    async def _serves(self, database: str, user: str, password: str) -> bool:
        return await serves(self._connect(user, password, database))

    def _content(self, passwords: Mapping[str, str]) -> Content:
        return Content(self.spec, self._connect, passwords, self.notes.setdefault("content", {}))

    # -- observe

    async def observe(self) -> Observation:
        owner, live = self.owner, self.live
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
        inside = await self._inside(content)
        found = [*self._given_password(passwords), *self.rotation_differences()]
        found += self.there.differences(self._wanted(), _cost)
        host = self._host()
        ready = bool(works and host and self.version) and not inside and await self._client_works(passwords)
        reason, message = ("", "") if ready else self._explain(conditions.get("Ready", {}), inside, host, works=works)
        where = host or f"{owner.base}{PRIMARY}.{owner.namespace}.svc"
        authority = await self._ca()
        made = {role: self._binding(role, where, passwords, authority) for role in passwords}
        return Observation(
            exists=True,
            ready=ready,
            reason=reason,
            message=message,
            differences=(*found, *inside),
            external_name=owner.identity,
            endpoint=Endpoint(
                host=where, port=PORT, read_host=f"{owner.base}{SECONDARY}.{owner.namespace}.svc", read_port=PORT
            ),
            binding=made.get(self.first_owner) or self._binding(self.first_owner, where, passwords, authority),
            user_bindings={f"{owner.name}-role-{secret_part(role)}": one for role, one in made.items()},
            facts={**self._facts(status), **self._told(content.facts())},
            poll_after=self.poll(DRIFT_POLL if ready else POLL, ""),
        )

    async def _inside(self, content: Content) -> list[Difference]:
        """What isn't as in the spec inside of the engine; nothing while it doesn't answer."""
        if self.primary is None:
            return []
        try:
            connection = await self._connect()
            try:
                [(version,)] = await fetch(connection, "SELECT VERSION()")
            finally:
                connection.close()
            self.version = str(version).partition("-")[0]
            return await content.differences()
        except ChandleryError as error:
            self.version, self.error = "", error.message
            return []

    def _host(self) -> str:
        """Where clients connect; empty while the cluster hasn't given an address yet."""
        exposure, owner = self.spec.exposure, self.owner
        if exposure.hostname:
            return str(exposure.hostname)
        if exposure.type is ExposureType.LOAD_BALANCER:
            live = self.there.get(SERVICES, PRIMARY)
            for entry in (((live or {}).get("status") or {}).get("loadBalancer") or {}).get("ingress") or ():
                return str(entry.get("ip") or entry.get("hostname") or "")
            return ""
        return f"{owner.base}{PRIMARY}.{owner.namespace}.svc"

    def _binding(self, role: str, host: str, passwords: Mapping[str, str], authority: str) -> Binding:
        made = binding(self.spec, host, PORT, role, passwords)
        if not self._encrypted:
            return made
        own = self.spec.exposure.type is ExposureType.INTERNAL and not self.spec.exposure.hostname
        return encrypted(made, authority, own=own and bool(authority))

    def _explain(
        self, condition: Mapping[str, Any], inside: Sequence[Difference], host: str, *, works: bool
    ) -> tuple[str, str]:
        if not works:
            return "Starting", str(condition.get("message") or "mariadb-operator has not begun yet")
        if not self.version:
            return "Starting", "waiting for the primary to answer" + (f" ({self.error})" if self.error else "")
        if inside:
            return "Configuring", f"{len(inside)} users, databases or rights are not as in spec yet"
        if not host:
            return "AddressPending", "the cluster has not given the Service an address yet"
        return "Starting", "the binding's user can't log in yet"

    def _facts(self, status: Mapping[str, Any]) -> dict[str, Any]:
        primary, members, ready = status.get("currentPrimary"), [], 0
        for pod in self.there.pods:
            name, state = pod["metadata"]["name"], pod.get("status") or {}
            up = any(c["type"] == "Ready" and c["status"] == "True" for c in state.get("conditions") or ())
            ready += up
            member = {"name": name, "role": "primary" if name == primary else "replica", "ready": up}
            members.append({**member, **({"address": f"{state['podIP']}:{PORT}"} if state.get("podIP") else {})})
        return {
            "engine": "mariadb",
            "instances": len(members),
            "readyInstances": ready,
            "primary": primary,
            "members": members,
            "selector": ",".join(f"{key}={value}" for key, value in self.owner.selector.items()),
            **({"version": self.version} if self.version else {}),
        }

    # -- acts

    async def _volumes_stay(self) -> bool:
        """As its StatefulSet says: it learns of another policy from the other operator."""
        if self.live is not None:
            await self.act_all(self._wanted())
        stateful = await self.session.api.get(STATEFUL_SETS, self.owner.namespace, self.owner.base)
        rules = ((stateful or {}).get("spec") or {}).get("persistentVolumeClaimRetentionPolicy") or {}
        return str(rules.get("whenDeleted") or "Retain") == "Retain"

    def _learn(self, observed: Observation) -> None:
        version = str(observed.facts.get("version") or "")
        if version:
            self.notes[LINE] = ".".join(version.split(".")[:2])

    def _wanted(self) -> list[Obj]:
        session = self.session
        words = (self.ctx.parameters, session.images, session.pull_secrets)
        return [cluster(self.owner, self.spec, *words, version=str(self.notes.get(LINE, "")))]


def _cost(_kind: str, path: str) -> Disruption:
    """mariadb-operator changes copies first and then switches over."""
    moves = (".spec.image", ".spec.resources", ".spec.myCnf", ".spec.replication", ".spec.tls")
    return Disruption.FAILOVER if path.startswith(moves) else Disruption.NONE
