"""One pass over the NATS pods of a queue."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, ClassVar

import orjson

from chandlery.driver.protocol import Binding, Difference, Disruption, DriverContext, Observation
from chandlery.foundation.errors import (
    AlreadyExists,
    ChandleryError,
    DependencyNotReady,
    EngineFailed,
    NotSupported,
    Unauthenticated,
    Unavailable,
)
from chandlery.model.base import Endpoint
from chandlery.providers.kubernetes import backup as backups
from chandlery.providers.kubernetes import certificates
from chandlery.providers.kubernetes.backing import PAYLOADS, BackedEngine
from chandlery.providers.kubernetes.backup import RESTORE
from chandlery.providers.kubernetes.children import Cost
from chandlery.providers.kubernetes.drift import digest
from chandlery.providers.kubernetes.driver import AUTH
from chandlery.providers.kubernetes.ownership import annotated
from chandlery.providers.kubernetes.templates import Kept, keep
from chandlery.providers.kubernetes.types import (
    JOBS,
    SECRETS,
    STATEFUL_SETS,
    Obj,
)
from chandlery_kinds.queue import content
from chandlery_kinds.queue import jetstream as js
from chandlery_kinds.queue.drivers.jetstream_client import JetStream
from chandlery_kinds.queue.kubernetes import backup
from chandlery_kinds.queue.kubernetes.children import children
from chandlery_kinds.queue.kubernetes.config import SYSTEM_USER, Configuration, text
from chandlery_kinds.queue.kubernetes.inputs import PORT, Inputs
from chandlery_kinds.queue.kubernetes.statefulset import REVISION, stateful_set, storage_size
from chandlery_kinds.queue.kubernetes.tidy import forgotten, scale_differences
from chandlery_kinds.queue.model import Queue

APPLICATION = "app"
STARTING_POLL = 0.5
RELOAD_POLL = 3.0
"""While the kubelet brings a new file to the pods."""
DEAD_LETTER_POLL = 2.0
RESTORE_SECONDS = 30.0
"""After so long a restore that failed is tried again."""


class Server:
    """One pod, and what its server said of itself."""

    def __init__(self, pod: Obj) -> None:
        self.pod = pod
        self.name = str(pod["metadata"]["name"])
        self.facts: Mapping[str, Any] = {}
        self.shown = ""
        self.problem = ""


class NatsPods(BackedEngine[Queue, Inputs]):
    """Everything that one pass does with one queue. Made anew each time; keeps nothing."""

    application: ClassVar[str] = APPLICATION

    @property
    def name(self) -> str:
        return str(self.obj.metadata.name)

    @classmethod
    def inputs_of(cls, ctx: DriverContext, obj: Queue) -> Inputs:
        return Inputs.of(obj, ctx.parameters, ctx.provider.images, ctx.provider.pull_secrets)

    # -- users

    def auth_keys(self) -> list[str]:
        return [*super().auth_keys(), "cluster", "system"]

    async def users(self) -> list[js.NatsUser]:
        """All users of the account, with their twins while a rotation's grace period lasts."""
        found = [js.NatsUser(js.ADMIN, self.auth()["admin"])]
        for password in self.rotation.passwords(APPLICATION):
            found.append(js.application_user(password.name, password.value, self.name, self.spec))
        for user in self.spec.users:
            if user.password_secret is not None:
                found.append(js.queue_user(user, await self.user_password(user.name), self.name, self.spec))
                continue
            for password in self.rotation.passwords(user.name):
                found.append(js.queue_user(user, password.value, self.name, self.spec, login=password.name))
        return found

    # -- manifests

    @property
    def servers_now(self) -> int:
        """How many servers there are, or are being made."""
        live = self.stateful
        return int(live["spec"]["replicas"]) if live is not None else int(self.spec.replicas)

    async def _desired(self, servers: int) -> tuple[list[Obj], Kept, Configuration]:
        users, auth = await self.users(), self.auth()
        words = text(self.inputs, users, auth["cluster"], auth["system"], servers)
        asked = {**self.inputs.asked, "messages": digest(self.spec.configuration)}
        body = stateful_set(self.inputs, words.fixed, self.stateful, servers=servers)
        if self.inputs.restore is not None:
            body = annotated(body, {RESTORE: orjson.dumps(self.inputs.restore).decode()})
        kept = keep(body, self.stateful, asked, upgrade=self.upgrade)
        more = await self.certificates.children() if self.certificates is not None else []
        made = children(self.inputs, words, kept.workload, more, monitors=self.monitors)
        return [*made, *self.backup_children()], kept, words

    # -- backups, and the one that it begins with

    def backup_template(self) -> Obj:
        return backup.template(self.inputs)

    @property
    def waits_for_backup(self) -> bool:
        """Whether the messages that it begins with are not there yet: until then nothing else is made inside."""
        return self.inputs.restore is not None and not self.restored

    def _restore_differences(self) -> list[Difference]:
        """The Job that fills a new queue: made, looked at, and made again after a while where it failed."""
        jobs = backups.mine(self.there.all(JOBS), backup.RESTORE.lstrip("-"))
        if not jobs:
            return [Difference("spec.restoreFrom", "restored", "not yet", payload=("restore",))]
        [entry] = backups.entries(jobs[:1], self.there.pods)
        if entry["phase"] == "Completed":
            return [Difference("spec.restoreFrom", "restored", "loaded", payload=("restored",))]
        if entry["phase"] == "Failed" and backups.ended_seconds(jobs[0], self.ctx.base.now()) > RESTORE_SECONDS:
            return [Difference("spec.restoreFrom", "restored", "failed", payload=("delete", jobs[0]))]
        return []

    def _restore_problem(self) -> str:
        """Why the last attempt failed; empty while one is under way."""
        for entry in backups.entries(backups.mine(self.there.all(JOBS), backup.RESTORE.lstrip("-")), self.there.pods):
            if entry["phase"] == "Failed":
                return str(entry.get("message") or "its pod said nothing")
        return ""

    # -- verbs

    async def first(self) -> list[Obj]:
        desired, _, _ = await self._desired(self.spec.replicas)
        return desired

    async def update(self, observed: Observation) -> None:
        puts, move = {}, False
        for change in observed.plan.changes:
            what, *rest = change.payload
            if what == "auth":
                await self.ensure_auth()
                return
            if what in ("rotate", "expire", "anchor"):
                await self.rotate(change.payload)
                return  # the configuration follows from the record
            if what == "scale":
                raise NotSupported(
                    "one server can't become several, nor several one: JetStream keeps its messages differently",
                    field="spec.replicas",
                    value=self.spec.replicas,
                    hint=f"Set replicas back to {change.actual}, or make a new Queue and move the messages.",
                )
            if what == "wait":
                continue
            if what == certificates.PAYLOAD and self.certificates is not None:
                await self.certificates.ensure()
            elif what == "reload":
                await self._reload(rest[0])
            elif what in ("evacuate", "forget"):
                await self._tidy(what, *rest)
            elif what == "put":
                puts[rest[0]] = bool(rest[1])
            elif what == "move":
                move = True
            elif what == "restore":
                with contextlib.suppress(AlreadyExists):
                    made = backup.restore_template(self.inputs)
                    await self.session.create(backups.job(self.owner, made, "restore", backup.RESTORE))
            elif what in PAYLOADS:
                await self.act_on_backup(change.payload)
            else:
                await self.there.act(what, *rest)
        if puts or move:
            async with await self._any() as api:
                await content.put(api, self.name, self.spec, puts)
                if move:
                    await content.move_dead_letters(api, self.name)

    async def _reload(self, name: str) -> None:
        """The server reads its file again; it may be the old one still, then this comes again."""
        pod = next((pod for pod in self.servers() if pod["metadata"]["name"] == name), None)
        if pod is None:
            return
        try:
            async with await self._connect(pod, SYSTEM_USER) as api:
                await api.system("RELOAD")
        except Unavailable:
            return  # the connection may be one of those that the new file ends; the server is asked again
        except EngineFailed as error:
            raise EngineFailed(
                f"{name} did not take its new configuration: {error.message}",
                field="spec.configuration",
                hint="Correct the value; the server goes on with its old one.",
                retry_after=30.0,
            ) from error

    async def _tidy(self, what: str, *rest: Any) -> None:
        if what == "evacuate":
            async with await self._any() as api:
                await api.ask(f"STREAM.PEER.REMOVE.{rest[0]}", {"peer": rest[1]})
            return
        async with await self._any(SYSTEM_USER) as api:
            await api.ask("SERVER.REMOVE", {"peer": rest[0]})

    # -- observe

    async def observe(self) -> Observation:
        live, identity = self.stateful, self.owner.identity
        if live is None and not self.there.pods:
            return Observation(exists=False, external_name=identity)
        if self.missing_auth():
            gone = Difference(f"Secret {self.owner.base}{AUTH}", "complete", "incomplete", payload=("auth",))
            return Observation(exists=True, external_name=identity, differences=(gone,), reason="Starting")
        found = self.there.growth(storage_size(self.inputs)) + self.rotation_differences()
        if self.certificates is not None:
            found += await self.certificates.differences()
        servers = await self._ask_all()
        inside = await self._inside(servers)
        names = sorted(server.name for server in servers)
        changes, wanted = scale_differences(self.spec.replicas, self.servers_now, names, inside)
        desired, kept, words = await self._desired(wanted)
        found += changes
        if not any(change.payload[0] == "scale" for change in changes):
            found += self.there.differences(desired, self._cost(kept))
            if len(servers) == self.servers_now:
                found += forgotten([server.facts for server in servers], names)
        found += self._reload_differences(servers, words, kept)
        if inside and not self.waits_for_backup:
            found += content.differences(self.name, self.spec, inside)
        elif inside and self.complete(self.spec.replicas):
            found += self._restore_differences()
        problems = {server.name: server.problem for server in servers if server.problem}
        served = await self._works_with() if inside else None
        found += self.backup_differences(serves=served is not None)
        told = self.backup_facts()
        works = served is not None and not self.waits_for_backup and not problems and self.complete(self.spec.replicas)
        reason, message = ("", "") if works else self._explain(problems)
        return Observation(
            exists=True,
            ready=works,
            reason=reason,
            message=message,
            differences=tuple(found),
            external_name=identity,
            endpoint=Endpoint(host=self.host, port=self.inputs.service_port),
            binding=await self._bound(APPLICATION, served or 0),
            user_bindings={
                f"{self.name}-user-{u.name}": await self._bound(u.name, served or 0) for u in self.spec.users
            },
            facts={**self._facts(inside, servers), **told},
            conditions=(*self.told(kept.newer), *self.backup_conditions(told)),
            poll_after=self.poll(self._poll(works, found), kept.newer),
        )

    def _poll(self, works: bool, found: list[Difference]) -> float | None:
        if not works:
            return STARTING_POLL
        if any(change.payload[0] in ("evacuate", "wait") for change in found):
            return STARTING_POLL
        if any(change.payload[0] == "reload" for change in found):
            return RELOAD_POLL
        return DEAD_LETTER_POLL if self.spec.dead_letter else None

    async def _connect(self, pod: Obj, login: str = js.ADMIN, password: str = "") -> JetStream:
        host, port = self.session.resolve(pod, PORT)
        password = password or self.auth()[{js.ADMIN: "admin", SYSTEM_USER: "system"}[login]]
        return await JetStream.connect(host, port, login, password, tls=self.context_for(pod))

    async def _any(self, user: str = js.ADMIN) -> JetStream:
        """A connection to the first server that answers."""
        problem_: ChandleryError = DependencyNotReady("no server of the queue answers", retry_after=0.5)
        for pod in self.servers():
            try:
                return await self._connect(pod, user)
            except ChandleryError as error:
                problem_ = error
        raise problem_

    async def _ask_all(self) -> list[Server]:
        """What each server says of itself."""
        servers = [Server(pod) for pod in self.servers()]
        for server in servers:
            try:
                async with await self._connect(server.pod, SYSTEM_USER) as api:
                    server.facts, server.shown = await api.system("VARZ"), api.shown
            except ChandleryError as error:
                server.problem = error.message
        return servers

    async def _inside(self, servers: list[Server]) -> dict[str, Any]:
        """What JetStream holds; empty while no server tells. A server that doesn't get its problem noted."""
        for server in servers:
            if server.problem:
                continue
            try:
                async with await self._connect(server.pod) as api:
                    return await content.read(api, self.name, self.spec)
            except ChandleryError as error:
                server.problem = error.message
        return {}

    def _cost(self, kept: Kept) -> Cost:
        """A file that needs new pods goes out with them: a server that ended in between would not come back."""
        together = self.stateful is not None and _revision(self.stateful) != _revision(kept.workload)

        def cost(kind: str, path: str) -> Disruption:
            restarts = kind == STATEFUL_SETS.kind and ".template" in path
            return Disruption.RESTART if restarts or (together and kind == SECRETS.kind) else Disruption.NONE

        return cost

    def _reload_differences(self, servers: list[Server], words: Configuration, kept: Kept) -> list[Difference]:
        """Servers that haven't read the present file or certificate."""
        material = self.certificates.present if self.certificates is not None else None
        found = []
        for server in servers:
            replaced = server.pod["metadata"].get("annotations", {}).get(REVISION) != _revision(kept.workload)
            if not server.facts or replaced:  # a new pod reads the file by itself
                continue
            old = words.tag not in (server.facts.get("tags") or ())
            stale = bool(server.shown and material is not None and server.shown != material.fingerprint)
            if old or stale:
                what = f"{'configuration' if old else 'certificate'} of {server.name}"
                found.append(Difference(what, "the present one", "an earlier one", payload=("reload", server.name)))
        return found

    async def _works_with(self) -> int | None:
        """The real thing: log in with the binding's credentials and ask for the queue.

        Which of its passwords, newest first, is the first that works; None when none does. A new one is told in the
        binding when the servers have it.
        """
        pods = self.servers()
        for number, password in enumerate(self.rotation.passwords(APPLICATION) if pods else ()):
            try:
                for pod in pods:
                    async with await self._connect(pod, password.name, password.value) as api:
                        if await api.consumer(js.stream_name(self.name), js.CONSUMER) is None:
                            return None
            except Unauthenticated:
                continue
            except ChandleryError:
                return None
            return number
        return None

    def _explain(self, problems: Mapping[str, str]) -> tuple[str, str]:
        trouble = self.trouble()
        if trouble is not None:
            return trouble
        if problems:
            return "Starting", "; ".join(f"{name}: {words}" for name, words in problems.items())
        if self.waits_for_backup:
            why = self._restore_problem()
            return ("RestoreFailed", why) if why else ("Restoring", "the messages of the backup are being loaded")
        return "Starting", "the queue isn't there yet, or not all servers are in step"

    async def _bound(self, name: str, number: int | None) -> Binding:
        """The binding of a user, where this one of the passwords works (None: who knows; then the oldest may)."""
        if name not in self.generated():
            return self._binding(name, await self.user_password(name))
        passwords = self.rotation.passwords(name)
        chosen = passwords[-1 if number is None else min(number, len(passwords) - 1)]
        return self._binding(chosen.name, chosen.value)

    def _binding(self, user: str, password: str) -> Binding:
        host, port = self.host, self.inputs.service_port
        scheme = "tls" if self.inputs.tls is not None else "nats"
        uri = f"{scheme}://{user}:{password}@{host}:{port}"
        found = {
            "host": host,
            "port": str(port),
            "username": user,
            "password": password,
            "uri": uri,
            "servers": uri,
            **content.entries(self.name, self.spec),
        }
        material = self.certificates.present if self.certificates is not None else None
        if material is not None:
            found |= {"tls": "true", **({"ca.crt": material.authority} if material.authority else {})}
        return Binding("nats", "chandlery", found)

    def _facts(self, inside: Mapping[str, Any], servers: list[Server]) -> dict[str, Any]:
        members = []
        for server in servers:
            ip = (server.pod.get("status") or {}).get("podIP")
            member: dict[str, Any] = {"name": server.name, "role": "member", "ready": bool(ip) and not server.problem}
            if ip:
                member["address"] = f"{ip}:{PORT}"
            if server.problem:
                member["message"] = server.problem
            members.append(member)
        return {
            "engine": "nats",
            "broker": self.name,
            "replicas": self.spec.replicas,
            "readyReplicas": sum(1 for member in members if member["ready"]),
            "members": members,
            "users": self.user_facts(),
            "selector": ",".join(f"{key}={value}" for key, value in self.owner.selector.items()),
            **content.facts(self.name, self.spec, inside),
        }


def _revision(workload: Obj) -> str:
    """What stands for the part of the configuration that the pods of a StatefulSet started with."""
    return str((workload["spec"]["template"]["metadata"].get("annotations") or {}).get(REVISION, ""))
