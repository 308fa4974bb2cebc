"""How a new PostgreSQL cluster begins: made by initdb or copied from a template, and then brought to the disk.

Nothing of it is synced while it is made; once it is there all of it is, in one go and while the server starts. Nobody
is told of the server before. A machine that stops in between has an empty cluster, perhaps a damaged one: as nobody
ever used it, it is made anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container
from typing import TYPE_CHECKING

from chandlery.driver.protocol import Difference
from chandlery.providers.local.files import remove_tree
from chandlery.providers.local.trees import sync_tree
from chandlery_kinds.database.drivers.local_postgres_node import BORROWED, Node
from chandlery_kinds.database.drivers.local_postgres_template import SPARE, UNFINISHED, Template
from chandlery_kinds.database.postgres.configuration import ADMIN
from chandlery_kinds.database.postgres.scram import verifier
from chandlery_kinds.database.postgres.sql import ident, literal

if TYPE_CHECKING:
    from chandlery_kinds.database.drivers.local_postgres import PostgresServers

_UNSYNCED = "unsynced"


class Beginning:
    """The beginning of one database in one pass."""

    def __init__(self, servers: PostgresServers) -> None:
        self._servers = servers
        self._files = servers.files
        self._instance = servers.instance

    @property
    def on_disk(self) -> bool:
        """Whether the cluster would survive if the machine stopped now."""
        return not self._instance.record.get(_UNSYNCED)

    def lasts(self, node: Node) -> bool:
        """Whether there is a cluster, and nothing stands against going on with it."""
        return self._files.made(node) and (self.on_disk or node.state.running)

    @property
    def spare(self) -> str:
        """The name of an empty database that the first one asked for may be made of; empty when there is none."""
        return SPARE if self._instance.record.get("spare") else ""

    def taken(self, databases: Container[str]) -> None:
        """Note when the spare database isn't there any more."""
        if self.spare and self.spare not in databases:
            self._instance.record.pop("spare")
            self._instance.save()

    async def make(self, node: Node) -> None:
        """A new cluster, in a directory that gets its name when it is whole. Safe to repeat.

        Raises:
            EngineFailed: initdb's own words say why.
        """
        if self.lasts(node):
            return
        files, record = self._files, self._instance.record
        remove_tree(files.data(node))
        unfinished = self._instance.data_dir / f"{node.name}.unfinished"
        remove_tree(unfinished)
        borrowed = await Template(files).copy_to(unfinished)
        remove_tree(self._instance.data_dir / UNFINISHED)  # of an operator that was cut short
        if borrowed is None:
            await files.initdb(files.engine, unfinished, self._instance.secret("admin"))
            self._instance.drop_secret(BORROWED)
        else:
            record.setdefault("secrets", {})[BORROWED] = borrowed
        record["spare"] = borrowed is not None
        record[_UNSYNCED] = True
        self._instance.save()
        self._instance.flush()
        unfinished.rename(files.data(node))

    async def bring_to_disk(self) -> None:
        """Wait until all of it is there.

        Raises:
            QuotaExceeded, Unavailable: the disk refused.
        """
        await asyncio.to_thread(sync_tree, self._instance.data_dir)
        self._instance.record.pop(_UNSYNCED, None)
        self._instance.save()

    def differences(self) -> list[Difference]:
        """The password that came with the template is still the driver's."""
        if BORROWED not in self._instance.record.get("secrets", {}):
            return []
        field = f"password of {ADMIN}"
        return [Difference(field, "its own", "the template's", sensitive=True, payload=("own-password",))]

    async def own_password(self) -> None:
        """Give the driver's user the password that is on record for this database alone."""
        statement = f"ALTER ROLE {ident(ADMIN)} PASSWORD {literal(verifier(self._instance.secret('admin')))}"
        connection = await self._files.connect(self._servers.client_port)
        try:
            await connection.execute(statement)
        finally:
            await connection.close(timeout=2)
        self._instance.drop_secret(BORROWED)
