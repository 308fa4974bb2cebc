"""Databases on Kubernetes: one instance by a StatefulSet of ours, several ones by CloudNativePG."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from chandlery.driver.permissions import Rule
from chandlery.driver.protocol import DriverContext, Unsupported
from chandlery.foundation.errors import NotSupported
from chandlery.providers.kubernetes.backup import refused
from chandlery.providers.kubernetes.driver import KubernetesDriver, Pass, child_rules
from chandlery.providers.kubernetes.foreign import FURTHER_RULES
from chandlery_kinds.database.drivers import kubernetes_cnpg as cnpg
from chandlery_kinds.database.drivers import kubernetes_mariadb as mariadb
from chandlery_kinds.database.drivers import kubernetes_mariadb_cluster as mariadb_cluster
from chandlery_kinds.database.drivers.kubernetes_postgres import PostgresPod
from chandlery_kinds.database.kubernetes.inputs import Inputs
from chandlery_kinds.database.kubernetes.parameters import DatabaseParameters
from chandlery_kinds.database.model import Database, DatabaseEngine, DatabaseSpec
from chandlery_kinds.database.postgres.pooler import refused as pooler_refused
from chandlery_kinds.database.postgres.scripts import needs_login


class DatabaseDriver(KubernetesDriver[Database, DatabaseParameters]):
    """The `kubernetes` driver of Database."""

    parameters: ClassVar[type[DatabaseParameters]] = DatabaseParameters
    permissions: ClassVar[tuple[Rule, ...]] = (
        *child_rules(
            ("", ("services", "secrets", "configmaps")),
            ("apps", ("statefulsets", "deployments")),
            ("batch", ("cronjobs", "jobs")),
            ("policy", ("poddisruptionbudgets",)),
            ("networking.k8s.io", ("networkpolicies",)),
            ("postgresql.cnpg.io", ("clusters", "poolers", "scheduledbackups")),
            ("barmancloud.cnpg.io", ("objectstores",)),
            ("k8s.mariadb.com", ("mariadbs",)),
        ),
        Rule(("postgresql.cnpg.io",), ("backups",), ("list", "watch", "create", "delete")),
        Rule(("",), ("pods",), ("list", "watch", "patch", "delete")),
        Rule(("",), ("persistentvolumeclaims",), ("list", "watch", "patch", "delete")),
        *FURTHER_RULES,
    )

    def refused(self, obj: Database, parameters: DatabaseParameters) -> Iterator[Unsupported]:
        spec = obj.spec
        if spec.engine is DatabaseEngine.POSTGRES and spec.instances == 1:
            yield from pooler_refused(spec.pooler)
        if needs_login(obj):
            yield Unsupported("spec.initialization.sqlSecrets", "set", "the owner that runs them can't log in")
        if spec.initialization.sql_secrets and Inputs.of(obj, parameters, {}).clients_show:
            why = "clients must show a certificate, and the driver has none of the owner's"
            yield Unsupported("spec.initialization.sqlSecrets", "set", why)
        if spec.engine is DatabaseEngine.MARIADB:
            yield from mariadb.refused(obj)
            if spec.instances > 1:
                yield from mariadb_cluster.refused(obj)
        if spec.instances == 1:
            yield from _backups(spec)
        elif spec.engine is DatabaseEngine.POSTGRES:
            yield from cnpg.refused(obj)

    async def begin(self, ctx: DriverContext, obj: Database) -> Pass:
        return await _way(ctx, obj)


def _backups(spec: DatabaseSpec) -> Iterator[Unsupported]:
    backup, restore = spec.backup, spec.restore_from
    yield from refused(spec)
    why = "the write-ahead log of a single database is not archived on Kubernetes yet"
    if backup is not None and backup.continuous_archiving:
        yield Unsupported("spec.backup.continuousArchiving", "true", why)
    if restore is not None and restore.point_in_time is not None:
        yield Unsupported("spec.restoreFrom.pointInTime", str(restore.point_in_time), why)


async def _way(ctx: DriverContext, obj: Database) -> Pass:
    """By what runs already, else by the number of instances.

    Raises:
        NotSupported: more instances are asked of a database that was made as a single one.
    """
    maria = obj.spec.engine is DatabaseEngine.MARIADB
    single = await (mariadb.MariaPod if maria else PostgresPod).of(ctx, obj)
    if single.stateful is None:
        handed_over = await (mariadb_cluster.MariaCluster if maria else cnpg.CnpgCluster).of(ctx, obj)
        if handed_over.live is not None or obj.spec.instances > 1:
            return handed_over
    elif obj.spec.instances > 1 and not obj.metadata.deletion_timestamp:
        raise NotSupported(
            f"this database was made with one instance, which {'mariadb-operator' if maria else 'CloudNativePG'} "
            "doesn't take over",
            field="spec.instances",
            value=obj.spec.instances,
            hint="Set it back to 1, or make a new Database with several instances and move the data.",
        )
    return single
