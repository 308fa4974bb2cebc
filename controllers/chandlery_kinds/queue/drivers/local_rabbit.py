"""One queue inside RabbitMQ on this machine, in a broker of its own or another Queue's: definitions, users, facts."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from chandlery.driver.protocol import Binding, Difference, DriverContext, Observation
from chandlery.foundation.errors import ChandleryError, DependencyNotReady, InvalidSpec, Unauthenticated, Unavailable
from chandlery.model.base import Endpoint
from chandlery.providers.local import Instance, Process, ProcessState
from chandlery.providers.local.rotation import Password
from chandlery_kinds.queue import rabbitmq as rabbit
from chandlery_kinds.queue.drivers.broker_tls import BrokerTls
from chandlery_kinds.queue.drivers.local_queue import APPLICATION, DRIFT_POLL, HOST, LocalQueue
from chandlery_kinds.queue.drivers.rabbit_client import AmqpLogin, Declared, Management
from chandlery_kinds.queue.drivers.references import other
from chandlery_kinds.queue.model import Queue

STARTING_POLL = 0.2
SETTLING_POLL = 1.0


@dataclass(slots=True)
class Node:
    """One server."""

    index: int
    process: Process
    state: ProcessState
    port: int
    """That clients connect to."""
    plain_port: int | None
    """With TLS that isn't required: the other one."""
    management_port: int

    @property
    def name(self) -> str:
        return f"node-{self.index}"

    @property
    def full_name(self) -> str:
        """As Erlang has it."""
        return f"{self.name}@localhost"


@dataclass(slots=True)
class Inside:
    """What the broker said of itself."""

    definitions: rabbit.Definitions
    queue: Mapping[str, Any]
    running: frozenset[str]
    """Names of servers that the others see."""
    version: str
    alarm: str
    """Why it takes no messages now: it has too little memory or disk. Empty when it does."""


class RabbitQueue(LocalQueue, ABC):
    """Everything that one pass does with one queue."""

    def __init__(self, ctx: DriverContext, obj: Queue, instance: Instance) -> None:
        super().__init__(ctx, obj, instance)
        self.nowhere = ""
        """Why there is no Queue to take the dead letters."""

    # -- what differs between a broker of its own and a shared one

    @property
    @abstractmethod
    def broker(self) -> str:
        """The Queue whose servers these are."""

    @property
    @abstractmethod
    def vhost(self) -> str: ...

    @property
    @abstractmethod
    def mine(self) -> re.Pattern[str]:
        """Names of users that are this queue's."""

    @property
    @abstractmethod
    def security(self) -> BrokerTls | None: ...

    @abstractmethod
    def nodes(self) -> list[Node]: ...

    @abstractmethod
    def exists(self) -> bool: ...

    @abstractmethod
    async def create(self) -> None: ...

    @abstractmethod
    async def server_differences(self, nodes: list[Node], inside: Inside | None) -> list[Difference]:
        """What is not as it should be outside of the virtual host."""

    @abstractmethod
    async def act(self, what: str, rest: list[Any], change: Difference) -> None:
        """Mend one of them."""

    @abstractmethod
    def explain(self, nodes: list[Node], problem: str) -> tuple[str, str]:
        """Reason and sentence while it doesn't serve."""

    @property
    @abstractmethod
    def admin_password(self) -> str: ...

    # -- what is wanted

    async def wanted(self) -> dict[str, list[dict[str, Any]]]:
        """All definitions of this queue.

        Raises:
            DependencyNotReady: a Secret that a user names isn't there.
        """
        users = [
            rabbit.RabbitUser(self.login(password.name), password.value)
            for password in self.rotation.passwords(APPLICATION)
        ]
        for user in self.spec.users:
            users += [
                rabbit.RabbitUser(self.login(password.name), password.value, user.rights, user.subjects)
                for password in await self.passwords(user.name)
            ]
        return rabbit.wanted(self.name, self.spec, self.vhost, users, await self._shovel())

    async def _shovel(self) -> rabbit.Shovel | None:
        if self.spec.dead_letter is None or self.spec.dead_letter.queue is None:
            return None
        try:
            found = await other(self.ctx, self.obj, self.spec.dead_letter.queue.name, "spec.deadLetter.queue")
            from chandlery_kinds.queue.drivers.local_rabbit_guest import queue_of

            target = await queue_of(self.ctx, found.obj, found.instance)
            return rabbit.Shovel(self._uri(target), target.name, rabbit.publish_key(target.name, target.spec))
        except ChandleryError as error:
            self.nowhere = error.message
            return None

    def _uri(self, target: RabbitQueue) -> str:
        """How this broker reaches the target's virtual host."""
        vhost = quote(target.vhost, safe="")
        if target.broker == self.broker:
            return f"amqp:///{vhost}"
        node, login = target.nodes()[0], f"{rabbit.ADMIN}:{target.admin_password}"
        if target.security is None:
            return f"amqp://{login}@{HOST}:{node.port}/{vhost}"
        if target.security.certificates.requires_clients:
            raise InvalidSpec(
                f"the broker of Queue {target.name} asks for certificates, and this one has none to show",
                field="spec.deadLetter.queue",
                value=target.name,
            )
        return f"amqps://{login}@{HOST}:{node.port}/{vhost}?verify=verify_none"

    # -- observe

    def management(self, node: Node) -> Management:
        return Management(node.management_port, rabbit.ADMIN, self.admin_password, HOST)

    async def api(self) -> Management:
        """Of the first server that answers; to be entered.

        Raises:
            DependencyNotReady: none runs.
        """
        for node in self.nodes():
            if node.state.running:
                found = self.management(node)
                try:
                    async with found as asked:
                        await asked.get("vhosts")
                except Unauthenticated:
                    raise
                except ChandleryError:
                    continue
                return self.management(node)
        raise DependencyNotReady(f"no server of Queue {self.broker} answers", retry_after=0.5)

    async def _look(self, nodes: list[Node]) -> tuple[Inside | None, str]:
        """What is inside, or why nobody says."""
        problem = ""
        for node in nodes:
            if not node.state.running:
                continue
            try:
                async with self.management(node) as api:
                    return await self._inside(api), ""
            except ChandleryError as error:
                problem = f"{node.name}: {error.message}"
        return None, problem

    async def _inside(self, api: Management) -> Inside:
        definitions = await api.get("definitions")
        queues: list[dict[str, Any]] = []
        if any(vhost["name"] == self.vhost for vhost in definitions["vhosts"]):
            query = "disable_stats=true&enable_queue_totals=true"
            queues = await api.get(f"queues/{quote(self.vhost, safe='')}?{query}")
        running = frozenset(node["name"] for node in await api.get("nodes") if node.get("running"))
        queue = next((queue for queue in queues if queue["name"] == self.name), {})
        return Inside(definitions, queue, running, definitions["rabbitmq_version"], await self._alarm(api))

    @staticmethod
    async def _alarm(api: Management) -> str:
        try:
            await api.get("health/checks/alarms")
        except Unavailable as error:
            return error.message
        return ""

    async def observe(self) -> Observation:
        self.instance.reload()
        nodes, want = self.nodes(), await self.wanted()
        inside, problem = await self._look(nodes)
        differences = [*self.rotation.differences(), *await self.server_differences(nodes, inside)]
        if inside is not None and self._complete(nodes, inside):
            differences += rabbit.differences(want, inside.definitions, self.mine)
        if self.nowhere:
            said = f"{self.nowhere}; dead letters wait in {rabbit.dead_name(self.name)}"
            differences.append(Difference("spec.deadLetter.queue", "there", said, payload=("target",)))
        served = await self._works_with(nodes[0]) if inside is not None and inside.queue else None
        works = served is not None and inside is not None and all(node.full_name in inside.running for node in nodes)
        number = served[0] if served is not None else 0
        reason, message = ("", "") if works else self.explain(nodes, problem)
        if inside is not None:
            for node in nodes:
                if node.full_name in inside.running:
                    node.process.settled()
            if inside.alarm:
                works, reason = False, "Blocked"
                message = f"{inside.alarm}; it takes no messages until there is memory and disk again"
        return Observation(
            exists=self.exists(),
            ready=works,
            reason=reason,
            message=message,
            differences=tuple(differences),
            external_name=self.instance.name,
            endpoint=Endpoint(host=HOST, port=nodes[0].port),
            binding=self._binding(await self.bound(APPLICATION, number), nodes),
            user_bindings={
                f"{self.name}-user-{user.name}": self._binding(await self.bound(user.name, number), nodes)
                for user in self.spec.users
            },
            facts=self._facts(nodes, inside, served[1] if served is not None else None),
            poll_after=self.rotation.poll(self._poll_after(works and not number, nodes)),
        )

    def _complete(self, nodes: list[Node], inside: Inside) -> bool:
        """Whether the queue can be made: a new one gets its copies on the servers that are there at that moment."""
        return bool(inside.queue) or all(node.full_name in inside.running for node in nodes)

    async def _works_with(self, node: Node) -> tuple[int, Declared] | None:
        """The real thing: log in by AMQP with the binding's credentials and look at the queue.

        Which of its passwords, newest first, is the first that works, and what was seen; None when none does.
        """
        tls = self.security.context() if self.security is not None else None
        for number, password in enumerate(self.rotation.passwords(APPLICATION)):
            login = (self.login(password.name), password.value)
            try:
                return number, await AmqpLogin.ask(HOST, node.port, login, self.vhost, self.name, tls)
            except Unauthenticated:
                continue
            except ChandleryError:
                return None
        return None

    def _poll_after(self, ready: bool, nodes: list[Node]) -> float:
        if ready:
            return DRIFT_POLL
        waits = [node.state.wait for node in nodes if not node.state.running]
        return max(STARTING_POLL, min(waits, default=0.0))

    def _facts(self, nodes: list[Node], inside: Inside | None, seen: Declared | None) -> dict[str, Any]:
        running = inside.running if inside is not None else frozenset()
        members = [
            {
                "name": node.name,
                "role": "member",
                "ready": node.state.running and node.full_name in running,
                "address": f"{HOST}:{node.port}",
            }
            for node in nodes
        ]
        facts: dict[str, Any] = {
            "engine": "rabbitmq",
            "broker": self.broker,
            "replicas": self.spec.replicas,
            "readyReplicas": sum(1 for member in members if member["ready"]),
            "members": members,
            "users": self.user_facts(ready=inside is not None),
        }
        if inside is not None:
            facts["version"] = inside.version
            facts |= {
                key: inside.queue[name]
                for key, name in (("messages", "messages"), ("unacknowledged", "messages_unacknowledged"))
                if name in inside.queue
            }
            if inside.queue.get("leader"):
                facts["leader"] = str(inside.queue["leader"]).partition("@")[0]
        if seen is not None:
            facts["consumers"] = seen.consumers
        if self.spec.dead_letter is not None:
            named = self.spec.dead_letter.queue
            facts["deadLetterQueue"] = named.name if named is not None else rabbit.dead_name(self.name)
        return facts

    def _binding(self, password: Password, nodes: list[Node]) -> Binding:
        login, vhost = self.login(password.name), quote(self.vhost, safe="")
        scheme = "amqps" if self.security is not None else "amqp"

        def uri(scheme: str, port: int) -> str:
            return f"{scheme}://{login}:{password.value}@{HOST}:{port}/{vhost}"

        entries = {
            "host": HOST,
            "port": str(nodes[0].port),
            "username": login,
            "password": password.value,
            "virtual-host": self.vhost,
            "uri": uri(scheme, nodes[0].port),
            "addresses": ",".join(uri(scheme, node.port) for node in nodes),
            "exchange": self.name,
            "routing-key": rabbit.publish_key(self.name, self.spec),
            "queue": self.name,
        }
        if self.spec.dead_letter is not None and self.spec.dead_letter.queue is None:
            entries["dead-letter-queue"] = rabbit.dead_name(self.name)
        if self.security is not None:
            entries |= self.security.entries
            plain = nodes[0].plain_port
            if plain is not None:
                entries |= {"plain-port": str(plain), "plain-uri": uri("amqp", plain)}
        return Binding("rabbitmq", "chandlery", entries)

    # -- update

    async def update(self, observed: Observation) -> None:
        define, drops = False, []
        for change in observed.plan.changes:
            what, *rest = change.payload
            match what:
                case "rotate" | "expire":
                    self.rotation.apply(change.payload)
                    define = True
                case "define":
                    define = True
                case "drop":
                    drops.append(str(rest[0]))
                case "target":
                    pass  # after the rest: what can be done is done first
                case _:
                    await self.act(what, rest, change)
        if define or drops:
            await self._define(drops, post=define)
        if any(change.payload[0] == "target" for change in observed.plan.changes):
            await self.wanted()
            if self.nowhere:
                raise DependencyNotReady(self.nowhere, field="spec.deadLetter.queue", retry_after=SETTLING_POLL)

    async def _define(self, drops: list[str], *, post: bool) -> None:
        want = await self.wanted()
        async with await self.api() as api:
            if post:
                await api.post("definitions", rabbit.importable(want))
            for path in drops:
                await api.delete(path)
