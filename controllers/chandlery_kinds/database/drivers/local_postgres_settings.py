"""The configuration of one database's PostgreSQL servers: what their files hold, what differs, how it is applied."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from chandlery.driver.protocol import Difference, Disruption
from chandlery.foundation.errors import EngineFailed
from chandlery.providers.local.tools import run_tool
from chandlery_kinds.database.drivers.local_postgres_node import Node
from chandlery_kinds.database.postgres.configuration import REPLICATOR, settings, synchronous_standby_names
from chandlery_kinds.database.settings import TABLES

if TYPE_CHECKING:
    from chandlery_kinds.database.drivers.local_postgres import PostgresServers


class Settings:
    """The settings of one database in one pass."""

    def __init__(self, servers: PostgresServers) -> None:
        self._servers = servers
        self._instance = servers.instance
        self._files = servers.files

    @property
    def applied(self) -> dict[str, str]:
        """The settings in the servers' files; what a plan holds back isn't among them yet."""
        if "settings" not in self._instance.record:
            self._instance.record["settings"] = self.wanted()
            self._instance.save()
        found: dict[str, str] = self._instance.record["settings"]
        return found

    def wanted(self) -> dict[str, str]:
        """What the spec asks for."""
        spec = self._servers.spec
        limits = spec.resources.limits
        memory = limits.memory if limits is not None else None
        return settings(spec, memory=memory.bytes if memory is not None else None)

    def text(self, node: Node, nodes: list[Node]) -> str:
        """A node's whole file. `nodes` tells which copies are in step."""
        servers, own = self._servers, {}
        if node.index == servers.primary_index:
            standbys = [f"node-{i}" for i in range(servers.count) if i != servers.primary_index]
            in_step = [n.name for n in nodes if n.live.get("streaming")]
            own["synchronous_standby_names"] = synchronous_standby_names(servers.spec, standbys, in_step)
        else:
            conninfo = self._files.conninfo(servers.client_port, REPLICATOR, application_name=node.name)
            own["primary_conninfo"] = conninfo
            own["primary_slot_name"] = node.slot
        return self._files.configuration(node, self.applied, {**own, **servers.encryption.settings()})

    # -- looking

    def differences(self) -> list[Difference]:
        """Settings that the files don't hold as the spec says."""
        wanted = self.wanted()
        return [
            self._difference(name, wanted.get(name))
            for name in sorted({*wanted, *self.applied})
            if self.applied.get(name) != wanted.get(name)
        ]

    def _difference(self, name: str, value: str | None) -> Difference:
        cost = Disruption.RELOAD if TABLES["postgres"].effect(name) == "reload" else Disruption.RESTART
        given = name in self._servers.spec.configuration or value is None
        field = f"spec.configuration[{name}]" if given else name
        actual = self.applied.get(name, "default")
        desired = value if value is not None else "default"
        return Difference(field, desired, actual, cost, payload=("set", name, value))

    def of_node(self, node: Node, nodes: list[Node]) -> Difference | None:
        """Whether a running node's file is older, or the node hasn't taken over all of it."""
        if not self._files.is_current(node, self.text(node, nodes)):
            field = f"configuration of {node.name}"
            return Difference(field, "current", "older", Disruption.RELOAD, payload=("reload", node.index))
        if node.live.get("pending_restart"):
            field = f"{', '.join(node.live['pending_restart'])} of {node.name}"
            return Difference(field, "new", "old", Disruption.RESTART, payload=("restart", node.index))
        return None

    # -- acting

    def note(self, name: str, value: str | None) -> None:
        """Note a setting for the files; None: the engine's default."""
        if value is None:
            self.applied.pop(name, None)
        else:
            self.applied[name] = value
        self._instance.save()

    async def apply(self, before: dict[str, str], reload: Iterable[int], restart: Iterable[int]) -> None:
        """Write, let PostgreSQL check what it would read, and only then have it read.

        Raises:
            EngineFailed: it refuses a value; the servers go on with what `before` holds.
        """
        again = set(restart)
        indices = sorted({*reload, *again})
        try:
            await self._apply(indices, again)
        except EngineFailed:
            # A value that it refuses must not wait in the file for the next start, which would fail on it.
            self._instance.record["settings"] = before
            self._instance.save()
            for index in indices:
                node = self._servers.node(index)
                self._files.write(node, self.text(node, []))
            raise

    async def _apply(self, indices: list[int], restart: set[int]) -> None:
        if not indices:
            return
        servers = self._servers
        nodes = [await self._files.look(servers.node(index)) for index in range(servers.count)]
        for index in sorted(indices, key=lambda index: index == servers.primary_index):  # copies first
            node = nodes[index]
            self._files.write(node, self.text(node, nodes))
            if node.answers:
                await self._check(node)
            if index in restart:
                await self._check_start(node)
                await node.process.stop()
                await self._files.start(servers.node(index))
            elif node.answers:
                connection = await self._files.connect(node.port)
                try:
                    await connection.execute("SELECT pg_reload_conf()")
                finally:
                    await connection.close(timeout=2)

    async def _check(self, node: Node) -> None:
        """Raise when the new file holds a value that PostgreSQL refuses; the server goes on with what it has."""
        connection = await self._files.connect(node.port)
        try:
            row = await connection.fetchrow(
                "SELECT f.name, f.setting, f.error FROM pg_file_settings f LEFT JOIN pg_settings s USING (name) "
                "WHERE f.error IS NOT NULL AND s.context IS DISTINCT FROM 'postmaster' LIMIT 1"
            )
        finally:
            await connection.close(timeout=2)
        if row is not None:
            raise EngineFailed(
                f"PostgreSQL refuses the value: {row['error']}",
                field=f"spec.configuration[{row['name']}]",
                value=row["setting"],
                hint="Correct it; the server goes on with the old value.",
                retry_after=None,
            )

    async def _check_start(self, node: Node) -> None:
        """Raise when the server would not start with the new file; it is still running with the old one."""
        argv = [str(self._files.engine.binary), "-C", "port", "-D", str(self._files.data(node))]
        argv += ["-c", f"config_file={self._files.config_file(node)}"]
        done = await run_tool(self._instance, argv, env=self._files.engine.env, check=False)
        if done.code != 0:
            raise EngineFailed(
                f"PostgreSQL would not start with it: {done.tail()}",
                field="spec.configuration",
                hint="Correct it; the server goes on with the old values.",
                retry_after=None,
            )
