"""What a pass does with any Valkey or Redis process: ask it, configure it, tell it who its users are, start it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from signal import SIGKILL, SIGTERM
from typing import Any

from chandlery.driver.protocol import Binding, Difference, Disruption, DriverContext, Observation
from chandlery.foundation.errors import ChandleryError, EngineFailed, InvalidSpec
from chandlery.providers.local import Instance, Process, ProcessSpec, ProcessState, StopStep
from chandlery.providers.local.driver import password_of, require_port
from chandlery.providers.local.rotation import Rotation
from chandlery.providers.local.versions import VersionLine
from chandlery_kinds.cache import acl
from chandlery_kinds.cache.binding import entries
from chandlery_kinds.cache.drivers.local_backup import DUMP, Restore
from chandlery_kinds.cache.drivers.local_front import HOST, Fronted
from chandlery_kinds.cache.model import Cache, CacheSpec, CacheUser, PersistenceMode
from chandlery_kinds.cache.resp import RespClient, info, pairs
from chandlery_kinds.cache.valkey import (
    RESTART_SETTINGS,
    NodeConfig,
    desired_settings,
    field_of,
    reads,
    render,
    setting_differences,
)

STARTING_POLL = 0.02
ANSWER_SECONDS = 1.0
SAVE_SECONDS = 60.0
DRIFT_POLL = 10.0
# SIGTERM saves what persistence asks for, then ends; data in memory only is gone in any case.
# It refuses while it writes its first append-only file, and has to be asked again.
STOP = (*[StopStep(SIGTERM, 0.5)] * 20, StopStep(SIGKILL, 5.0))


def generated(spec: CacheSpec) -> dict[str, str]:
    """Users with a generated password -> its name in the record. The binding's user is called default."""
    own = {user.name: f"user-{user.name}" for user in spec.users if user.password_secret is None}
    return {acl.DEFAULT: "password", **own}


@dataclass(slots=True)
class Node:
    """One server process and what it said of itself."""

    name: str
    process: Process
    port: int
    state: ProcessState
    index: int = 0
    """Its number within its primary's group."""
    info: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, str] = field(default_factory=dict)
    acl: Mapping[str, str] = field(default_factory=dict)
    topology: str = ""
    """The reply of CLUSTER NODES, in a sharded cache."""
    error: str = ""

    @property
    def answers(self) -> bool:
        return bool(self.info)

    @property
    def role(self) -> str:
        return "primary" if self.info.get("role") == "master" else "replica"

    @property
    def offset(self) -> int:
        """How much of the primary's stream it has."""
        key = "master_repl_offset" if self.role == "primary" else "slave_repl_offset"
        return int(self.info.get(key, "-1"))

    @property
    def stream(self) -> str:
        """The name of the primary's stream of writes that its data are of."""
        return self.info.get("master_replid", "")

    @property
    def in_step(self) -> bool:
        return self.info.get("master_link_status") == "up"

    @property
    def version(self) -> str:
        return self.info.get("valkey_version") or self.info.get("redis_version", "")


class ValkeyNodes(Fronted):
    """What is the same for one server, for copies and for shards. Made anew for each pass; keeps nothing."""

    def __init__(self, ctx: DriverContext, obj: Cache, instance: Instance) -> None:
        super().__init__(ctx, obj, instance)
        self.settings = self.wanted_settings()
        self.restore = Restore(self)

    def wanted_settings(self) -> dict[str, str]:
        return desired_settings(self.spec)

    @abstractmethod
    def node_config(self, node: Node) -> NodeConfig:
        """What differs from node to node in its configuration file."""

    # -- users

    # -- versions

    @cached_property
    def versions(self) -> VersionLine:
        return VersionLine(self.instance, self.spec.engine.value, self.spec.version)

    def version_difference(self, node: Node) -> list[Difference]:
        if self.versions.runs(node.version):
            return []
        cost = Disruption.FAILOVER if node.role == "primary" and self.spec.replicas_per_primary else Disruption.RESTART
        return [Difference("spec.version", self.versions.line, node.version, cost, payload=("version", node.name))]

    def check_version(self, nodes: Sequence[Node]) -> None:
        """Before anything is stopped: the engine is here, and can read what the present one wrote.

        Raises:
            InstallingEngine: it is on its way.
            InvalidSpec: an older version that can't.
        """
        engine = self.instance.engine(self.spec.engine.value, self.versions.line)
        for node in nodes:
            if not reads(engine.name, engine.version, node.version):
                raise InvalidSpec(
                    f"{engine.name} {engine.version} can't read what {node.version} wrote",
                    field="spec.version",
                    value=self.spec.version,
                    hint=f"Go back to {node.version}, or restore a backup that {engine.version} made.",
                )

    async def restart(self, node: Node) -> None:
        """Stop and start. What is in memory only is put on the disk for as long as that takes.

        Where a copy is in step somebody else has the data; the caller has seen to it that it took over.
        """
        carried = self.spec.persistence.mode is PersistenceMode.NONE and node.role == "primary"
        if carried:
            self._carried = sorted({*self._carried, node.name})
            async with await self.connect(node.port, SAVE_SECONDS) as client:
                await client.command("CLIENT", "PAUSE", int(SAVE_SECONDS * 1000), "WRITE")
                await client.command("SAVE")
        await node.process.stop()
        await self.start(replace(node, state=node.process.state()))

    @property
    def _carried(self) -> list[str]:
        """Processes that find their data of before on the disk once, though nothing is kept there."""
        found: list[str] = self.instance.record.get("carried", [])
        return found

    @_carried.setter
    def _carried(self, names: list[str]) -> None:
        self.instance.record["carried"] = names
        self.instance.save()

    def carried_differences(self, nodes: Sequence[Node]) -> list[Difference]:
        """Those that have loaded what they carried over: it must not be loaded a second time one day."""
        return [
            Difference(f"data of {node.name}", "in memory only", "on the disk too", payload=("carried", node.name))
            for node in nodes
            if node.name in self._carried and node.answers and node.info.get("loading") == "0"
        ]

    def forget_carried(self, name: str) -> None:
        (self.instance.data_dir / name / DUMP).unlink(missing_ok=True)
        self._carried = [other for other in self._carried if other != name]

    @property
    def admin_password(self) -> str:
        return self.instance.secret("admin")

    @property
    def rotation(self) -> Rotation:
        return Rotation(self.ctx, self.obj, self.instance, generated(self.spec))

    async def users(self) -> list[acl.AclUser]:
        """All users as they should be; during a rotation's grace period the old password works too.

        Raises:
            DependencyNotReady: a password's Secret isn't there.
        """
        rotation = self.rotation
        found = [
            acl.admin(self.admin_password),
            acl.application([password.value for password in rotation.passwords(acl.DEFAULT)]),
        ]
        for user in self.spec.users:
            if user.password_secret is None:
                passwords = [password.value for password in rotation.passwords(user.name)]
            else:
                passwords = [await self._given_password(user)]
            found.append(acl.from_spec(user, passwords))
        return found

    async def _given_password(self, user: CacheUser) -> str:
        assert user.password_secret is not None
        field = f"spec.users[{user.name}].passwordSecret"
        return await password_of(self.ctx.reader, self.obj.metadata.namespace, user.password_secret.name, field)

    def user_facts(self, *, ready: bool) -> list[dict[str, Any]]:
        """What status says of each user."""
        times, own, name = self.rotation.times(), self.spec.connection_secret, self.obj.metadata.name
        secrets = {acl.DEFAULT: own.name if own is not None else name}
        secrets |= {user.name: f"{name}-user-{user.name}" for user in self.spec.users}
        return [
            {
                "name": user,
                "secretName": secret,
                "ready": ready,
                **({"lastRotatedTime": times[user]} if user in times else {}),
            }
            for user, secret in secrets.items()
        ]

    def write_acl(self, users: list[acl.AclUser]) -> bool:
        return self.instance.write_config("users.acl", acl.render_file(users))

    def remember_acl(self, users: list[acl.AclUser], seen: Mapping[str, str] | None) -> None:
        """What was wanted, and how the engine prints it: it words rules in its own way."""
        record = self.instance.record
        before = dict(record.get("acl", {}))
        record["acl"] = {
            "wanted": acl.digest(acl.render_file(users)),
            "seen": acl.fingerprint(seen) if seen else before.get("seen", ""),
        }
        if record["acl"] != before:
            self.instance.save()

    def acl_differences(self, users: list[acl.AclUser], nodes: Sequence[Node]) -> list[Difference]:
        known = self.instance.record.get("acl", {})
        wanted = acl.digest(acl.render_file(users))
        for node in nodes:
            seen = acl.fingerprint(node.acl)
            if not known.get("seen") and known.get("wanted") == wanted:
                self.remember_acl(users, node.acl)  # just started from the file: that is how it prints it
                known = self.instance.record["acl"]
            if known.get("wanted") != wanted or known.get("seen") != seen:
                return [Difference("spec.users", "as in spec", "other rules", Disruption.NONE, True, ("acl",))]
        return []

    async def load_acl(self, nodes: Sequence[Node]) -> None:
        """Have the engines take the users over one by one: loading the file as a whole ends connections in Redis."""
        users = await self.users()
        self.write_acl(users)
        seen: Mapping[str, str] | None = None
        for node in nodes:
            async with await self.connect(node.port) as client:
                there = acl.parse_list(await client.command("ACL", "LIST"))
                gone = sorted(there.keys() - {user.name for user in users})
                await client.pipeline([("ACL", "SETUSER", user.name, "reset", *user.rules) for user in users])
                if gone:
                    await client.command("ACL", "DELUSER", *gone)
                for user in self.spec.users:
                    if user.disabled:  # an engine lets who is connected go on
                        await client.command("CLIENT", "KILL", "USER", user.name)
                seen = acl.parse_list(await client.command("ACL", "LIST"))
        self.remember_acl(users, seen)

    def apply_rotation(self, observed: Observation) -> bool:
        """Put new passwords on record; True when the engines have to learn of them now."""
        due = [change.payload for change in observed.plan.changes if change.payload[0] in ("rotate", "expire")]
        for payload in due:
            self.rotation.apply(payload)
        return bool(due)

    # -- settings

    @property
    def _defaults(self) -> dict[str, str]:
        """What settings of spec.configuration were before they were set; they go back to it when taken out."""
        found: dict[str, str] = self.instance.record.setdefault("defaults", {})
        return found

    def _known_settings(self) -> dict[str, str]:
        """What may stand in the file: a setting that can be changed live is set live first, to learn its default."""
        configuration = self.spec.configuration
        known = {
            name: value
            for name, value in self.settings.items()
            if name not in configuration or name in RESTART_SETTINGS or name in self._defaults
        }
        return known | self.restore.overrides()

    def settings_of(self, node: Node) -> list[Difference]:
        back = {name: value for name, value in self._defaults.items() if name not in self.settings}
        return setting_differences({**back, **self.settings}, node.config, node.name)

    def forget_defaults(self, observed: Observation) -> None:
        """A setting that is back at its default on every node is no longer ours."""
        pending = {change.payload[2] for change in observed.plan.held if change.payload[0] == "set"}
        for name in [n for n in self._defaults if n not in self.settings and n not in pending]:
            del self._defaults[name]
        self.instance.save()

    async def set_live(self, node: Node, name: str, change: Difference) -> None:
        value = change.desired
        if name in self.spec.configuration and name not in self._defaults:
            self._defaults[name] = change.actual
            self.instance.save()
        async with await self.connect(node.port) as client:
            try:
                await client.command("CONFIG", "SET", name, value)
            except ChandleryError as error:
                raise EngineFailed(
                    f"{self.spec.engine.value} refused the value: {error.message}",
                    field=field_of(name),
                    value=value,
                    hint="Correct the value; the engine goes on with its old one.",
                    retry_after=None,
                ) from error

    # -- processes

    def write_config(self, node: Node) -> bool:
        (self.instance.data_dir / node.name).mkdir(mode=0o700, exist_ok=True)
        text = render(self._known_settings(), self.node_config(node), acl.ADMIN)
        return self.instance.write_config(f"{node.name}.conf", text)

    def data_dir(self, node: Node) -> str:
        return str(self.instance.data_dir / node.name)

    async def start(self, node: Node) -> None:
        if not node.state.running:
            require_port(node.port)
        engine = self.instance.engine(self.spec.engine.value, self.versions.line)
        self.write_config(node)
        argv = [str(engine.binary), str(self.instance.config_dir / f"{node.name}.conf")]
        await node.process.start(ProcessSpec(argv, env=engine.env, stop=STOP))
        self.listens(node, node.port)

    def listens(self, node: Node, port: int) -> None:
        """On record where an engine really listens: its claim may be another already when we die in between."""
        listening = self.instance.record.setdefault("listening", {})
        if listening.get(node.name) != port:
            listening[node.name] = port
            self.instance.save()

    # -- asking

    async def ask(self, node: Node, *more: str, seconds: float = ANSWER_SECONDS) -> list[Any]:
        """Log in as the driver's own user and read everything in one round trip; answers of `more` are returned."""
        if not node.state.running:
            return []
        commands: list[Sequence[str | bytes | int]] = [("INFO",), ("CONFIG", "GET", "*"), ("ACL", "LIST")]
        commands += [line.split() for line in more]
        listening = self.instance.record.get("listening", {}).get(node.name, node.port)
        for port in dict.fromkeys((node.port, listening)):
            try:
                async with await self.connect(port, seconds) as client:
                    text, config, users, *rest = await client.pipeline(commands)
                break
            except ChandleryError as error:
                node.error = node.error or error.message
        else:
            return []
        node.error = ""
        node.info, node.config, node.acl = info(text), pairs(config), acl.parse_list(users)
        node.process.settled()
        return rest

    async def connect(self, port: int, seconds: float = ANSWER_SECONDS) -> RespClient:
        return await RespClient.connect(HOST, port, user=acl.ADMIN, password=self.admin_password, seconds=seconds)

    async def client_works(self, port: int) -> bool:
        """The real thing: what an application would do, with the binding's own credentials, by TLS where it must."""
        context = self.client_context()
        password = self.instance.secret("password")
        if context is not None:
            port = self.endpoint_port
        try:
            async with await RespClient.connect(
                HOST, port, password=password, seconds=ANSWER_SECONDS, tls=context
            ) as client:
                return bool(await client.command("PING") == "PONG")
        except ChandleryError:
            return False

    # -- the binding

    def binding(self, user: str, password: str) -> Binding:
        return Binding("redis", "chandlery", entries(self.address(), user, password))

    async def user_bindings(self) -> dict[str, Binding]:
        name = self.obj.metadata.name
        return {
            f"{name}-user-{user.name}": self.binding(user.name, await self._bound_password(user))
            for user in self.spec.users
        }

    async def _bound_password(self, user: CacheUser) -> str:
        if user.password_secret is not None:
            return await self._given_password(user)
        return self.rotation.password(user.name).value
