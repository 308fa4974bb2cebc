"""Databases on Kubernetes: one PostgreSQL by a StatefulSet of ours, several instances by CloudNativePG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from chandlery.driver.permissions import Rule
from chandlery.driver.protocol import DriverContext, Observation, Unsupported
from chandlery.foundation.errors import NotSupported
from chandlery.model.base import DeletionPolicy
from chandlery.model.parts import ExposureType
from chandlery.providers.kubernetes.children import Children
from chandlery.providers.kubernetes.ownership import Owner
from chandlery_kinds.database.drivers import kubernetes_cnpg as cnpg
from chandlery_kinds.database.drivers.kubernetes_postgres import PostgresPod
from chandlery_kinds.database.model import Database, DatabaseEngine


class DatabaseDriver:
    """The `kubernetes` driver of Database."""

    name: ClassVar[str] = "kubernetes"
    permissions: ClassVar[tuple[Rule, ...]] = (
        Rule(("",), ("services", "secrets", "configmaps"), ("get", "list", "watch", "create", "patch", "delete")),
        Rule(("",), ("pods",), ("get", "list", "watch", "patch", "delete")),
        Rule(("",), ("persistentvolumeclaims",), ("get", "list", "watch", "patch", "delete")),
        Rule(("apps",), ("statefulsets",), ("get", "list", "watch", "create", "patch", "delete")),
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
        absent: dict[str, Any] = {"pooler": spec.pooler, "backup": spec.backup, "restoreFrom": spec.restore_from}
        absent |= {"rotation": spec.rotation, "metrics": spec.metrics, "tls": spec.tls, "adopt": spec.adopt}
        for field, value in absent.items():
            if value is not None and getattr(value, "enabled", True):
                no(f"spec.{field}", "set", "databases on Kubernetes don't have it yet")
        if spec.initialization.sql_secrets:
            no("spec.initialization.sqlSecrets", "set", "scripts are not run on Kubernetes yet")
        if spec.deletion_policy is DeletionPolicy.SNAPSHOT:
            no("spec.deletionPolicy", "Snapshot", "databases on Kubernetes can't be backed up yet")
        exposure = spec.exposure
        if exposure.allowed_cidrs and exposure.type is not ExposureType.LOAD_BALANCER:
            no("spec.exposure.allowedCidrs", "set", "only a Service of type LoadBalancer can restrict who connects")
        return [*found, *(cnpg.refused(obj) if spec.instances > 1 else ())]

    async def observe(self, ctx: DriverContext, obj: Database) -> Observation:
        return await (await _way(ctx, obj)).observe()

    async def create(self, ctx: DriverContext, obj: Database) -> None:
        await (await _way(ctx, obj)).create()

    async def update(self, ctx: DriverContext, obj: Database, observed: Observation) -> None:
        await (await _way(ctx, obj)).update(observed)

    async def delete(self, ctx: DriverContext, obj: Database) -> bool:
        return await (await _way(ctx, obj, ending=True)).delete()


async def _way(ctx: DriverContext, obj: Database, *, ending: bool = False) -> PostgresPod | cnpg.CnpgCluster:
    """By what runs already, else by the number of instances.

    Raises:
        NotSupported: more instances are asked of a database that was made as a single one.
    """
    there = await Children(ctx.provider, Owner.of(obj, "postgresql"), PostgresPod.kinds).look()
    single = PostgresPod(ctx, obj, there)
    if single.stateful is None:
        handed_over = await cnpg.CnpgCluster.of(ctx, obj)
        if handed_over.live is not None or obj.spec.instances > 1:
            return handed_over
    elif obj.spec.instances > 1 and not ending:
        raise NotSupported(
            "this database was made with one instance, which CloudNativePG doesn't take over",
            field="spec.instances",
            value=obj.spec.instances,
            hint="Set it back to 1, or make a new Database with several instances and move the data.",
        )
    return single
