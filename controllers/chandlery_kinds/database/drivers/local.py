"""Databases as processes on this machine: PostgreSQL, alone or with copies of which one takes over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from chandlery.driver.protocol import DriverContext, Observation, Unsupported, external_name
from chandlery.foundation.errors import NotSupported
from chandlery.model.base import DeletionPolicy
from chandlery.providers.local import Instance, LocalProvider
from chandlery_kinds.database.drivers.local_postgres import PostgresServers
from chandlery_kinds.database.model import Database, DatabaseEngine


class DatabaseDriver:
    """The `local` driver of Database."""

    name: ClassVar[str] = "local"

    def unsupported(self, obj: Database, parameters: Mapping[str, Any]) -> Sequence[Unsupported]:
        spec = obj.spec
        found = []

        def no(field: str, value: object, why: str) -> None:
            found.append(Unsupported(field, str(value), why))

        if spec.engine is not DatabaseEngine.POSTGRES:
            no("spec.engine", spec.engine.value, "it is not run on this machine yet")
        if spec.tls is not None and spec.tls.enabled:
            no("spec.tls.enabled", "true", "the engine's build for this machine has no TLS")
        if spec.pooler is not None and spec.pooler.enabled:
            no("spec.pooler.enabled", "true", "there is no pooler for this machine")
        if spec.exposure.type.value != "Internal":
            no("spec.exposure.type", spec.exposure.type.value, "engines on this machine listen on loopback only")
        if spec.backup is not None:
            no("spec.backup", "set", "databases on this machine are not backed up yet")
        if spec.restore_from is not None:
            no("spec.restoreFrom", "set", "databases on this machine can't be restored yet")
        if spec.metrics is not None:
            no("spec.metrics", "set", "there is no exporter for this machine")
        if spec.rotation is not None:
            no("spec.rotation", "set", "passwords of databases on this machine are not rotated on a schedule yet")
        if spec.initialization.sql_secrets:
            no("spec.initialization.sqlSecrets", "set", "scripts are not run on this machine yet")
        return found

    async def observe(self, ctx: DriverContext, obj: Database) -> Observation:
        instance = _instance(ctx, obj)
        if not instance.exists:
            return Observation(exists=False, external_name=instance.name)
        return await PostgresServers(ctx, obj, instance).observe()

    async def create(self, ctx: DriverContext, obj: Database) -> None:
        instance = _instance(ctx, obj)
        meta = obj.metadata
        instance.create(kind=obj.kind, namespace=meta.namespace, name=meta.name, uid=meta.uid)
        await PostgresServers(ctx, obj, instance).create()

    async def update(self, ctx: DriverContext, obj: Database, observed: Observation) -> None:
        await PostgresServers(ctx, obj, _instance(ctx, obj)).update(observed)

    async def delete(self, ctx: DriverContext, obj: Database) -> bool:
        if obj.spec.deletion_policy is DeletionPolicy.SNAPSHOT:
            raise NotSupported(
                "databases on this machine can't be backed up yet",
                field="spec.deletionPolicy",
                value="Snapshot",
                hint="Set deletionPolicy to Delete, or to Retain to keep the data directory.",
            )
        instance = _instance(ctx, obj)
        keep = obj.spec.deletion_policy is DeletionPolicy.RETAIN
        await instance.remove(keep_data=keep)
        if keep:
            ctx.event("Normal", "Retained", f"the data stays in {instance.data_dir}")
        return True


def _instance(ctx: DriverContext, obj: Database) -> Instance:
    provider: LocalProvider = ctx.provider
    return provider.instance(external_name(obj))
