"""Databases on Kubernetes: handed over to CloudNativePG, and told back as our own."""

from __future__ import annotations

import secrets
from base64 import b64decode
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from chandlery.driver.permissions import Rule
from chandlery.driver.protocol import Binding, Difference, Disruption, DriverContext, Observation, Unsupported
from chandlery.foundation.errors import FailedPrecondition
from chandlery.model.base import DeletionPolicy, Endpoint
from chandlery.model.parts import ExposureType
from chandlery.providers.kubernetes.children import Children
from chandlery.providers.kubernetes.ownership import Owner
from chandlery.providers.kubernetes.session import KubernetesSession
from chandlery.providers.kubernetes.types import CNPG_CLUSTERS, SECRETS, Obj
from chandlery_kinds.database.kubernetes.cluster import AUTH, cluster
from chandlery_kinds.database.model import Database, DatabaseEngine

CRD = "clusters.postgresql.cnpg.io"
PORT = 5432
POLL = 10.0
"""CloudNativePG's objects wake us when they change; this is for what they don't tell."""


class DatabaseDriver:
    """The `kubernetes` driver of Database."""

    name: ClassVar[str] = "kubernetes"
    permissions: ClassVar[tuple[Rule, ...]] = (
        Rule(("",), ("secrets",), ("get", "list", "watch", "create", "patch", "delete")),
        Rule(("apiextensions.k8s.io",), ("customresourcedefinitions",), ("get",)),
        Rule(("postgresql.cnpg.io",), ("clusters",), ("get", "list", "watch", "create", "patch", "delete")),
    )

    def unsupported(self, obj: Database, parameters: Mapping[str, Any]) -> Sequence[Unsupported]:
        spec = obj.spec
        found = []

        def no(field: str, value: object, why: str) -> None:
            found.append(Unsupported(field, str(value), why))

        if spec.engine is not DatabaseEngine.POSTGRES:
            no("spec.engine", spec.engine.value, "it is not run on Kubernetes yet")
        if len(spec.databases) > 1:
            no("spec.databases", f"{len(spec.databases)} databases", "one database each on Kubernetes so far")
        first = spec.databases[0]
        if first.extensions or first.schemas:
            no("spec.databases", first.name, "extensions and schemas are not set up on Kubernetes yet")
        if spec.roles:
            no("spec.roles", "set", "roles besides the owner are not set up on Kubernetes yet")
        absent: dict[str, Any] = {"pooler": spec.pooler, "backup": spec.backup, "restoreFrom": spec.restore_from}
        absent |= {"rotation": spec.rotation, "metrics": spec.metrics, "tls": spec.tls, "adopt": spec.adopt}
        for field, value in absent.items():
            if value is not None and getattr(value, "enabled", True):
                no(f"spec.{field}", "set", "it is not handed over to CloudNativePG yet")
        if spec.exposure.type is not ExposureType.INTERNAL:
            no("spec.exposure.type", spec.exposure.type.value, "databases are reached from inside of the cluster only")
        if spec.deletion_policy is not DeletionPolicy.DELETE:
            why = "CloudNativePG deletes the volumes with the cluster"
            no("spec.deletionPolicy", spec.deletion_policy.value, why)
        return found

    async def observe(self, ctx: DriverContext, obj: Database) -> Observation:
        there = await _there(ctx, obj)
        owner, live = there.owner, there.get(CNPG_CLUSTERS)
        if live is None:
            return Observation(exists=False, external_name=owner.identity)
        auth = _auth(there)
        if "password" not in auth:
            missing = Difference(f"Secret {owner.base}{AUTH}", "present", "absent", payload=("auth",))
            return Observation(exists=True, external_name=owner.identity, differences=(missing,), reason="Starting")
        status = live.get("status") or {}
        conditions = {c.get("type"): c for c in status.get("conditions") or ()}
        works = conditions.get("Ready", {}).get("status") == "True"
        ready = works and int(status.get("readyInstances") or 0) >= obj.spec.instances
        host = f"{owner.base}-rw.{owner.namespace}.svc"
        read = {"read_host": f"{owner.base}-ro.{owner.namespace}.svc", "read_port": PORT}
        return Observation(
            exists=True,
            ready=ready,
            reason="" if ready else "Starting",
            message="" if ready else _told(status),
            differences=tuple(there.differences([_wanted(ctx, obj, owner)], _cost)),
            external_name=owner.identity,
            endpoint=Endpoint(host=host, port=PORT, **(read if obj.spec.instances > 1 else {})),
            binding=_binding(obj, host, auth["password"]),
            facts=_facts(status),
            poll_after=POLL if not ready else None,
        )

    async def create(self, ctx: DriverContext, obj: Database) -> None:
        there = await _there(ctx, obj, needed=True)
        await _ensure_auth(there, obj)
        for change in there.differences([_wanted(ctx, obj, there.owner)], _cost):
            await there.act(*change.payload)

    async def update(self, ctx: DriverContext, obj: Database, observed: Observation) -> None:
        there = await _there(ctx, obj, needed=True)
        for change in observed.plan.changes:
            what, *rest = change.payload
            if what == "auth":
                await _ensure_auth(there, obj)
            else:
                await there.act(what, *rest)

    async def delete(self, ctx: DriverContext, obj: Database) -> bool:
        return await (await _there(ctx, obj)).remove()


async def _there(ctx: DriverContext, obj: Database, *, needed: bool = False) -> Children:
    session: KubernetesSession = ctx.provider
    owner = Owner.of(obj, "postgresql")
    if await session.served(CRD):
        return await Children(session, owner, (CNPG_CLUSTERS, SECRETS)).look()
    if needed:
        raise FailedPrecondition(
            "PostgreSQL on Kubernetes is run by CloudNativePG, which is not installed in this cluster",
            hint="Install it (https://cloudnative-pg.io/docs); this object goes on by itself then.",
            retry_after=30.0,
        )
    return await Children(session, owner, (SECRETS,)).look()


def _wanted(ctx: DriverContext, obj: Database, owner: Owner) -> Obj:
    session: KubernetesSession = ctx.provider
    return cluster(owner, obj.spec, ctx.parameters, session.images, session.pull_secrets)


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


def _binding(obj: Database, host: str, password: str) -> Binding:
    first = obj.spec.databases[0]
    owner = obj.spec.owner_of(first)
    entries = {
        "host": host,
        "port": str(PORT),
        "database": first.name,
        "username": owner,
        "password": password,
        "uri": f"postgresql://{owner}:{password}@{host}:{PORT}/{first.name}",
        "jdbc-uri": f"jdbc:postgresql://{host}:{PORT}/{first.name}",
        "pgpass": f"{host}:{PORT}:{first.name}:{owner}:{password}",
    }
    return Binding("postgresql", "chandlery", entries)


def _cost(_kind: str, path: str) -> Disruption:
    """CloudNativePG changes copies first and then switches over."""
    return Disruption.FAILOVER if path.startswith((".spec.imageName", ".spec.resources")) else Disruption.NONE
