"""Databases as processes on this machine: PostgreSQL, alone or with copies of which one takes over, and MariaDB."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from chandlery.driver.protocol import DriverContext, Unsupported
from chandlery.model.parts import ClientAuthentication, Tls
from chandlery.providers.local import Instance, limits, rotation
from chandlery.providers.local.cgroups import Allowance
from chandlery.providers.local.driver import LocalDriver
from chandlery_kinds.database.drivers import local_postgres_pooler
from chandlery_kinds.database.drivers.local_postgres import PostgresServers
from chandlery_kinds.database.drivers.local_roles import generated
from chandlery_kinds.database.model import Database, DatabaseEngine
from chandlery_kinds.database.postgres import pooler
from chandlery_kinds.database.spec_parts import BackupMethod

if TYPE_CHECKING:
    from chandlery_kinds.database.drivers.local_mariadb import MariaServers


class DatabaseDriver(LocalDriver):
    """The `local` driver of Database."""

    own_limits: ClassVar[str] = "The server's buffers follow from spec.resources.limits.memory."
    abilities: ClassVar[frozenset[str]] = frozenset({"backup", "restoreFrom", "rotation", "tls"})

    def servers(self, ctx: DriverContext, obj: Database, instance: Instance) -> PostgresServers | MariaServers:
        if obj.spec.engine is DatabaseEngine.MARIADB:
            from chandlery_kinds.database.drivers.local_mariadb import MariaServers  # most machines never run it

            return MariaServers(ctx, obj, instance)
        return PostgresServers(ctx, obj, instance)

    def allowance(self, obj: Database, process: str) -> Allowance:
        if process.startswith(local_postgres_pooler.PREFIX):
            return limits.asked(obj.spec.pooler.resources) if obj.spec.pooler is not None else Allowance()
        return super().allowance(obj, process)

    def refused(self, obj: Database) -> Sequence[Unsupported]:
        spec = obj.spec
        found: list[Unsupported] = []
        if spec.engine is DatabaseEngine.MARIADB:
            from chandlery_kinds.database.drivers.local_mariadb import refused

            found += refused(obj)
        else:
            found += pooler.refused(spec.pooler)
            if spec.initialization.sql_secrets and spec.tls is not None and _shuts_out(spec.tls):
                why = "clients must show a certificate, and the driver that would run the scripts has none"
                found.append(Unsupported("spec.initialization.sqlSecrets", "set", why))
        found += rotation.refused(spec, generated(spec))
        if spec.backup is not None and spec.backup.method is BackupMethod.LOGICAL:
            found.append(Unsupported("spec.backup.method", "logical", "copies of the files are made here: physical"))
        return found


def _shuts_out(tls: Tls) -> bool:
    return tls.enabled and tls.required and tls.client_authentication is ClientAuthentication.REQUIRED
