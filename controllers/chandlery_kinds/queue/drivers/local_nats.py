"""One queue inside NATS servers of this machine, its own or another Queue's: streams, users, rights, dead letters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from chandlery.driver.protocol import Binding, Difference, DriverContext, Observation
from chandlery.foundation.errors import ChandleryError, DependencyNotReady, Unauthenticated
from chandlery.model.base import Endpoint
from chandlery.providers.local import Instance, Process, ProcessState
from chandlery.providers.local.backups import Backups
from chandlery.providers.local.rotation import Password
from chandlery.providers.local.versions import VersionLine
from chandlery_kinds.queue import content
from chandlery_kinds.queue import jetstream as js
from chandlery_kinds.queue.drivers.broker_tls import BrokerTls
from chandlery_kinds.queue.drivers.jetstream_client import JetStream
from chandlery_kinds.queue.drivers.local_queue import APPLICATION, DRIFT_POLL, HOST, LocalQueue
from chandlery_kinds.queue.drivers.nats_backup import Restore, take
from chandlery_kinds.queue.drivers.references import other
from chandlery_kinds.queue.model import Queue

STARTING_POLL = 0.02
DEAD_LETTER_POLL = 2.0


@dataclass(slots=True)
class Node:
    """One server."""

    index: int
    process: Process
    state: ProcessState
    port: int
    version: str = ""
    """What it says that it is; empty when it doesn't answer."""

    @property
    def name(self) -> str:
        return f"node-{self.index}"


NO_ROOM = ("no space left on device", "disk quota exceeded")
"""What the system says to a program that finds no room."""
FULL_POLL = 1.0


class NatsQueue(LocalQueue, ABC):
    """Everything that one pass does with one queue. Made anew each time; keeps nothing."""

    def __init__(self, ctx: DriverContext, obj: Queue, instance: Instance) -> None:
        super().__init__(ctx, obj, instance)
        self.stream = js.stream_name(self.name)
        self.backups = Backups(ctx, obj, instance, partial(take, self))
        self.restore = Restore(self)
        self.full: dict[str, str] = {}
        """Servers that found no room on the disk, with what that means."""
        self.stale: list[str] = []
        """Servers that show another certificate than they should."""

    # -- what differs between a broker of its own and a shared one

    @property
    @abstractmethod
    def broker(self) -> str:
        """The Queue whose servers these are."""

    @property
    @abstractmethod
    def versions(self) -> VersionLine:
        """Which version of NATS the servers are."""

    @property
    @abstractmethod
    def security(self) -> BrokerTls | None:
        """TLS of the servers; None where they have none."""

    @abstractmethod
    def nodes(self) -> list[Node]:
        """The servers."""

    @abstractmethod
    def exists(self) -> bool: ...

    @abstractmethod
    async def create(self) -> None: ...

    @abstractmethod
    async def server_differences(self, nodes: list[Node], users: list[js.NatsUser]) -> list[Difference]:
        """What is not as it should be outside of JetStream."""

    @abstractmethod
    def version_differences(self, nodes: list[Node], *, in_step: bool) -> list[Difference]:
        """The next server that should be of another version. It has to wait until every copy is in step."""

    def write_error(self, node: Node) -> str:
        """Why a server has stopped writing, in the system's words; "" when it hasn't.

        NATS holds on to the first error until it is started anew, also when there is room again.
        """
        own = f"[{node.state.pid}]"
        known = self.instance.record.get("write_errors", {}).get(node.name)
        if known is not None and known[0] == node.state.pid:
            return str(known[1])
        for line in reversed(node.process.log_tail(200).splitlines()):
            reason = next((words for words in NO_ROOM if line.endswith(words)), "")
            if reason and line.startswith(own) and "[ERR]" in line:
                self.instance.record.setdefault("write_errors", {})[node.name] = [node.state.pid, reason]
                self.instance.save()
                return reason
        return ""

    @abstractmethod
    async def act(self, what: str, rest: list[Any], users: list[js.NatsUser], change: Difference) -> None:
        """Mend one of them."""

    @abstractmethod
    def explain(self, nodes: list[Node], problems: Mapping[str, str]) -> tuple[str, str]:
        """Reason and sentence while it doesn't serve."""

    # -- users

    async def users(self) -> list[js.NatsUser]:
        """All users of the account, with their twins while a rotation's grace period lasts.

        Raises:
            DependencyNotReady: a Secret that a user names isn't there.
        """
        found = [js.NatsUser(self.login(js.ADMIN), self.instance.secret("admin"))]
        for password in self.rotation.passwords(APPLICATION):
            login = self.login(password.name)
            found.append(js.application_user(login, password.value, self.name, self.spec))
        for user in self.spec.users:
            for password in await self.passwords(user.name):
                login = self.login(password.name)
                found.append(js.queue_user(user, password.value, self.name, self.spec, login=login))
        return found

    # -- connections

    async def connect(self, node: Node, login: str = "", password: str = "") -> JetStream:
        """As the driver's own user, or as another."""
        login, password = login or self.login(js.ADMIN), password or self.instance.secret("admin")
        tls = self.security.context() if self.security is not None else None
        return await JetStream.connect(HOST, node.port, login, password, tls=tls)

    async def connect_any(self) -> JetStream:
        """A connection to the first server that answers.

        Raises:
            ChandleryError: none does.
        """
        problem: ChandleryError = DependencyNotReady(f"no server of Queue {self.broker} runs", retry_after=0.5)
        for node in self.nodes():
            if node.state.running:
                try:
                    return await self.connect(node)
                except ChandleryError as error:
                    problem = error
        raise problem

    # -- observe

    async def observe(self) -> Observation:
        self.instance.reload()
        nodes, users = self.nodes(), await self.users()
        problems, live = await self._look(nodes)
        differences = [*self.rotation.differences(), *await self.server_differences(nodes, users)]
        if not differences:
            differences += self.version_differences(nodes, in_step=content.in_step(live))
        restoring = bool(live) and self.restore.wanted
        if restoring and not differences:
            differences += self.restore.differences()
        elif live and not restoring:
            differences += content.differences(self.name, self.spec, live)
            differences += await self._dead_letter_differences(live)
        answering = [node for node in nodes if node.state.running and node.name not in problems]
        served = await self._works_with(nodes[0]) if content.serves(live) and not restoring else None
        works = served is not None and len(answering) == len(nodes)
        reason, message = ("", "") if works else self.explain(nodes, problems)
        if restoring:
            reason, message = "Restoring", self.restore.explain()
        copies = await self.backups.look(serves=works)
        return Observation(
            exists=self.exists(),
            ready=works,
            reason=reason,
            message=message,
            differences=(*differences, *copies.differences),
            external_name=self.instance.name,
            endpoint=Endpoint(host=HOST, port=nodes[0].port),
            binding=self._binding(self.rotation.passwords(APPLICATION)[served or 0], nodes),
            user_bindings={
                f"{self.name}-user-{user.name}": self._binding(await self.bound(user.name, served or 0), nodes)
                for user in self.spec.users
            },
            facts={**self._facts(nodes, problems, live), **copies.facts},
            conditions=copies.conditions,
            poll_after=self.rotation.poll(copies.poll(self._poll_after(works and not served, nodes))),
        )

    async def _look(self, nodes: list[Node]) -> tuple[dict[str, str], dict[str, Any]]:
        """Which servers don't answer, with their words, and what JetStream holds."""
        problems: dict[str, str] = {}
        live: dict[str, Any] = {}
        # JetStream has no leader for some seconds after one died: whoever is to be started again doesn't wait for that.
        to_start = any(not node.state.running and node.state.wait <= 0 for node in nodes)
        for node in nodes:
            if not node.state.running:
                continue
            if reason := self.write_error(node):
                self.full[node.name] = problems[node.name] = f"it can't write ({reason})"
                continue  # it answers as if nothing were wrong, but takes no message any more
            try:
                async with await self.connect(node) as api:
                    node.process.settled()
                    node.version = api.server_version
                    if self.security is not None and api.shown != self.security.fingerprint:
                        self.stale.append(node.name)
                        if not api.shown:
                            problems[node.name] = "it doesn't speak TLS yet"
                    if not live and not to_start:
                        live = await content.read(api, self.name, self.spec)
            except ChandleryError as error:
                problems[node.name] = error.message
        return problems, live

    async def _works_with(self, node: Node) -> int | None:
        """The real thing: log in with the binding's credentials and ask for the queue.

        Which of its passwords, newest first, is the first that works; None when none does. An older one is bound until
        the servers know the newest.
        """
        for number, password in enumerate(self.rotation.passwords(APPLICATION)):
            try:
                async with await self.connect(node, self.login(password.name), password.value) as api:
                    return number if await api.consumer(self.stream, js.CONSUMER) is not None else None
            except Unauthenticated:
                continue
            except ChandleryError:
                return None
        return None

    def _poll_after(self, ready: bool, nodes: list[Node]) -> float:
        if ready:
            return DEAD_LETTER_POLL if self.spec.dead_letter is not None else DRIFT_POLL
        if self.full:
            return FULL_POLL
        waits = [node.state.wait for node in nodes if not node.state.running]
        return max(STARTING_POLL, min(waits, default=0.0))

    def _facts(self, nodes: list[Node], problems: Mapping[str, str], live: Mapping[str, Any]) -> dict[str, Any]:
        members = [
            {
                "name": node.name,
                "role": "member",
                "ready": node.state.running and node.name not in problems,
                "address": f"{HOST}:{node.port}",
                **({"version": node.version} if node.version else {}),
                **({"message": problems[node.name]} if node.name in problems else {}),
            }
            for node in nodes
        ]
        facts: dict[str, Any] = {
            "engine": "nats",
            "broker": self.broker,
            "replicas": self.spec.replicas,
            "readyReplicas": sum(1 for member in members if member["ready"]),
            "members": members,
            "users": self.user_facts(ready=bool(live)),
            **content.facts(self.name, self.spec, live),
        }
        if self.versions.available:
            facts["availableVersion"] = self.versions.available
        if self.spec.dead_letter is not None and self.spec.dead_letter.queue is not None:
            facts["deadLetterQueue"] = self.spec.dead_letter.queue.name
        return facts

    def _binding(self, password: Password, nodes: list[Node]) -> Binding:
        login = f"{self.login(password.name)}:{password.value}"
        secure = self.security
        scheme = "tls" if secure is not None else "nats"
        entries = {
            "host": HOST,
            "port": str(nodes[0].port),
            "username": self.login(password.name),
            "password": password.value,
            "uri": f"{scheme}://{login}@{HOST}:{nodes[0].port}",
            "servers": ",".join(f"{scheme}://{login}@{HOST}:{node.port}" for node in nodes),
            **content.entries(self.name, self.spec),
        }
        if secure is not None:
            entries |= secure.entries
        return Binding("nats", "chandlery", entries)

    # -- update

    async def update(self, observed: Observation) -> None:
        for change in observed.plan.changes:
            if change.payload[0] in ("rotate", "expire"):
                self.rotation.apply(change.payload)
        users, puts, moves = await self.users(), {}, False
        for change in observed.plan.changes:
            what, *rest = change.payload
            match what:
                case "put":
                    puts[rest[0]] = bool(rest[1])
                case "move":
                    moves = True
                case "backup":
                    self.backups.start(str(rest[0]))
                case "restore":
                    await self.restore.begin()
                case "target":
                    pass  # after the rest: what can be done is done first
                case "rotate" | "expire":
                    for difference in await self.server_differences(self.nodes(), users):
                        await self.act(difference.payload[0], list(difference.payload[1:]), users, difference)
                case _:
                    await self.act(what, rest, users, change)
        if puts or moves:
            await self._put(puts, moves)
        if any(change.payload[0] == "target" for change in observed.plan.changes):
            await self._target()

    async def _put(self, puts: Mapping[str, bool], moves: bool) -> None:
        async with AsyncExitStack() as stack:
            api = await stack.enter_async_context(await self.connect_any())
            await content.put(api, self.name, self.spec, puts)
            if not moves:
                return
            target = await self._target()
            if target is None:
                await content.move_dead_letters(api, self.name)
                return
            there = await stack.enter_async_context(await target.connect_any())
            subject = js.publish_subject(target.name, target.spec)
            await content.move_dead_letters(api, self.name, content.Target(there, target.stream, subject))

    async def last_backup(self) -> bool:
        """The backup before it goes; servers that don't run are started for it."""
        async with await self.connect_any():
            return await self.backups.last()

    # -- dead letters in another Queue

    async def _target(self) -> NatsQueue | None:
        """The Queue that takes the dead letters; None where they stay with this one.

        Raises:
            DependencyNotReady: it isn't there yet.
            InvalidSpec: it can't take them.
        """
        if self.spec.dead_letter is None or self.spec.dead_letter.queue is None:
            return None
        found = await other(self.ctx, self.obj, self.spec.dead_letter.queue.name, "spec.deadLetter.queue")
        from chandlery_kinds.queue.drivers.local_nats_guest import queue_of

        return await queue_of(self.ctx, found.obj, found.instance)

    async def _dead_letter_differences(self, live: Mapping[str, Any]) -> list[Difference]:
        """Dead letters have nowhere to go: said, while the queue itself goes on and none of them is lost."""
        try:
            await self._target()
        except ChandleryError as error:
            waiting = content.to_move(live)
            return [
                Difference("spec.deadLetter.queue", "there", f"{error.message}, {waiting} waiting", payload=("target",))
            ]
        return []
