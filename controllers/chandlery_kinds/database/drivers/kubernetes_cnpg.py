"""Several instances of PostgreSQL: handed over to CloudNativePG, and told back as our own."""

from __future__ import annotations

import secrets
from base64 import b64decode
from collections.abc import Mapping, Sequence
from typing import Any

from chandlery.driver.protocol import Difference, Disruption, DriverContext, Observation, Unsupported
from chandlery.foundation.errors import FailedPrecondition
from chandlery.model.base import DeletionPolicy, Endpoint
from chandlery.model.parts import ExposureType
from chandlery.providers.kubernetes.children import Children
from chandlery.providers.kubernetes.ownership import Owner
from chandlery.providers.kubernetes.session import KubernetesSession
from chandlery.providers.kubernetes.types import CNPG_CLUSTERS, SECRETS, Obj
from chandlery_kinds.database.kubernetes.cluster import AUTH, cluster
from chandlery_kinds.database.model import Database
from chandlery_kinds.database.postgres.binding import binding

CRD = "clusters.postgresql.cnpg.io"
PORT = 5432
POLL = 10.0
"""CloudNativePG's objects wake us when they change; this is for what they don't tell."""


def refused(obj: Database) -> list[Unsupported]:
    """What is not handed over."""
    spec = obj.spec
    found = []

    def no(field: str, value: object, why: str) -> None:
        found.append(Unsupported(field, str(value), why))

    if len(spec.databases) > 1:
        no("spec.databases", f"{len(spec.databases)} databases", "one database each with several instances so far")
    first = spec.databases[0]
    if first.extensions or first.schemas:
        no("spec.databases", first.name, "extensions and schemas are not set up with several instances yet")
    if spec.roles:
        no("spec.roles", "set", "roles besides the owner are not set up with several instances yet")
    for field, value in (("backup", spec.backup), ("restoreFrom", spec.restore_from)):
        if value is not None:
            no(f"spec.{field}", "set", "it is not handed over to CloudNativePG yet")
    if spec.rotation is not None:
        no("spec.rotation", "set", "passwords with several instances are not rotated yet")
    if spec.exposure.type is not ExposureType.INTERNAL:
        why = "databases with several instances are reached from inside of the cluster only"
        no("spec.exposure.type", spec.exposure.type.value, why)
    if spec.deletion_policy is not DeletionPolicy.DELETE:
        why = "CloudNativePG deletes the volumes with the cluster"
        no("spec.deletionPolicy", spec.deletion_policy.value, why)
    return found


class CnpgCluster:
    """Everything that one pass does with one database that CloudNativePG runs."""

    def __init__(self, ctx: DriverContext, obj: Database, there: Children, *, served: bool) -> None:
        self.ctx = ctx
        self.obj = obj
        self.there = there
        self.served = served

    @classmethod
    async def of(cls, ctx: DriverContext, obj: Database) -> CnpgCluster:
        """Read what is there."""
        session: KubernetesSession = ctx.provider
        served = await session.served(CRD)
        kinds = (CNPG_CLUSTERS, SECRETS) if served else (SECRETS,)
        return cls(ctx, obj, await Children(session, Owner.of(obj, "postgresql"), kinds).look(), served=served)

    @property
    def live(self) -> Obj | None:
        return self.there.get(CNPG_CLUSTERS)

    async def observe(self) -> Observation:
        obj, owner, live = self.obj, self.there.owner, self.live
        if live is None:
            return Observation(exists=False, external_name=owner.identity)
        auth = _auth(self.there)
        if "password" not in auth:
            missing = Difference(f"Secret {owner.base}{AUTH}", "present", "absent", payload=("auth",))
            return Observation(exists=True, external_name=owner.identity, differences=(missing,), reason="Starting")
        status = live.get("status") or {}
        conditions = {c.get("type"): c for c in status.get("conditions") or ()}
        works = conditions.get("Ready", {}).get("status") == "True"
        ready = works and int(status.get("readyInstances") or 0) >= obj.spec.instances
        host = f"{owner.base}-rw.{owner.namespace}.svc"
        read = {"read_host": f"{owner.base}-ro.{owner.namespace}.svc", "read_port": PORT}
        user = obj.spec.owner_of(obj.spec.databases[0])
        return Observation(
            exists=True,
            ready=ready,
            reason="" if ready else "Starting",
            message="" if ready else _told(status),
            differences=tuple(self.there.differences([self._wanted()], _cost)),
            external_name=owner.identity,
            endpoint=Endpoint(host=host, port=PORT, **(read if obj.spec.instances > 1 else {})),
            binding=binding(obj.spec, host, PORT, user, {user: auth["password"]}),
            facts=_facts(status),
            poll_after=POLL if not ready else None,
        )

    async def create(self) -> None:
        self._need()
        await _ensure_auth(self.there, self.obj)
        for change in self.there.differences([self._wanted()], _cost):
            await self.there.act(*change.payload)

    async def update(self, observed: Observation) -> None:
        self._need()
        for change in observed.plan.changes:
            what, *rest = change.payload
            if what == "auth":
                await _ensure_auth(self.there, self.obj)
            else:
                await self.there.act(what, *rest)

    async def delete(self) -> bool:
        return await self.there.remove()

    def _need(self) -> None:
        if not self.served:
            raise FailedPrecondition(
                "several instances of PostgreSQL on Kubernetes are run by CloudNativePG, which is not installed in "
                "this cluster",
                field="spec.instances",
                hint="Install it (https://cloudnative-pg.io/docs), and this object goes on by itself; or set "
                "instances: 1, which needs nothing else.",
                retry_after=30.0,
            )

    def _wanted(self) -> Obj:
        session = self.there.session
        return cluster(self.there.owner, self.obj.spec, self.ctx.parameters, session.images, session.pull_secrets)


def _auth(there: Children) -> dict[str, str]:
    live = there.get(SECRETS, AUTH)
    return {key: b64decode(value).decode() for key, value in ((live or {}).get("data") or {}).items()}


async def _ensure_auth(there: Children, obj: Database) -> None:
    if "password" not in _auth(there):
        owner = obj.spec.owner_of(obj.spec.databases[0])
        data = {"username": owner, "password": secrets.token_urlsafe(24)}
        await there.secret_once(AUTH, data, "kubernetes.io/basic-auth")


def _told(status: Mapping[str, Any]) -> str:
    words = [str(status.get("phase") or "CloudNativePG has not begun yet"), str(status.get("phaseReason") or "")]
    return ": ".join(word for word in words if word)


def _facts(status: Mapping[str, Any]) -> dict[str, Any]:
    primary = status.get("currentPrimary")
    members = [
        {"name": name, "role": "primary" if name == primary else "replica", "ready": name in _healthy(status)}
        for name in status.get("instanceNames") or ()
    ]
    return {
        "engine": "postgres",
        "instances": status.get("instances"),
        "readyInstances": status.get("readyInstances"),
        "primary": primary,
        "members": members,
    }


def _healthy(status: Mapping[str, Any]) -> Sequence[str]:
    return (status.get("instancesStatus") or {}).get("healthy") or ()


def _cost(_kind: str, path: str) -> Disruption:
    """CloudNativePG changes copies first and then switches over."""
    return Disruption.FAILOVER if path.startswith((".spec.imageName", ".spec.resources")) else Disruption.NONE
