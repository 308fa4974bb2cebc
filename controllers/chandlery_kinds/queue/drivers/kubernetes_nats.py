"""One pass over the NATS pods of a queue."""

from __future__ import annotations

import secrets
from base64 import b64decode
from collections.abc import Mapping
from typing import Any

from chandlery.driver.protocol import Binding, Difference, Disruption, DriverContext, Observation
from chandlery.foundation.errors import ChandleryError, DependencyNotReady, NotSupported
from chandlery.model.base import DeletionPolicy, Endpoint
from chandlery.providers.kubernetes.children import Children
from chandlery.providers.kubernetes.drift import digest
from chandlery.providers.kubernetes.pods import budget, problem
from chandlery.providers.kubernetes.templates import UPGRADE, Kept, keep, upgrade_condition
from chandlery.providers.kubernetes.types import BUDGETS, CLAIMS, PODS, SECRETS, SERVICES, STATEFUL_SETS, Obj
from chandlery_kinds.queue import content
from chandlery_kinds.queue import jetstream as js
from chandlery_kinds.queue.drivers.jetstream_client import JetStream
from chandlery_kinds.queue.kubernetes.config import config, text
from chandlery_kinds.queue.kubernetes.inputs import PORT, Inputs
from chandlery_kinds.queue.kubernetes.services import services
from chandlery_kinds.queue.kubernetes.statefulset import stateful_set, storage_size
from chandlery_kinds.queue.model import Queue

KINDS = (STATEFUL_SETS, SERVICES, SECRETS, BUDGETS, PODS, CLAIMS)
AUTH = "-auth"
APPLICATION = "app"
STARTING_POLL = 0.5
DEAD_LETTER_POLL = 2.0


class NatsPods:
    """Everything that one pass does with one queue. Made anew each time; keeps nothing."""

    def __init__(self, ctx: DriverContext, obj: Queue, there: Children, inputs: Inputs) -> None:
        self.ctx = ctx
        self.obj = obj
        self.spec = obj.spec
        self.name = obj.metadata.name
        self.there = there
        self.session = there.session
        self.inputs = inputs
        self.owner = inputs.owner

    @classmethod
    async def of(cls, ctx: DriverContext, obj: Queue) -> NatsPods:
        """Read what is there."""
        session = ctx.provider
        inputs = Inputs.of(obj, ctx.parameters, session.images, session.pull_secrets)
        return cls(ctx, obj, await Children(session, inputs.owner, KINDS).look(), inputs)

    # -- passwords

    def _auth(self) -> dict[str, str]:
        live = self.there.get(SECRETS, AUTH)
        return {key: b64decode(value).decode() for key, value in ((live or {}).get("data") or {}).items()}

    def _missing(self) -> list[str]:
        own = [f"user-{user.name}" for user in self.spec.users if user.password_secret is None]
        known = self._auth()
        return [key for key in ("admin", "password", "cluster", *own) if key not in known]

    async def _ensure_auth(self) -> None:
        missing = self._missing()
        if missing:
            await self.there.secret_once(AUTH, {key: secrets.token_urlsafe(24) for key in missing})
            await self.there.look()

    async def _password(self, name: str) -> str:
        user = next(u for u in self.spec.users if u.name == name)
        if user.password_secret is None:
            return self._auth()[f"user-{name}"]
        found = await self.ctx.reader.secret(self.owner.namespace, user.password_secret.name)
        password = (found or {}).get("password", b"").decode()
        if not password:
            raise DependencyNotReady(
                f"Secret {user.password_secret.name} with the key `password` isn't there",
                field=f"spec.users[{name}].passwordSecret",
                hint="Create it, or leave passwordSecret out to have a password generated.",
            )
        return password

    async def users(self) -> list[js.NatsUser]:
        """All users of the account."""
        auth = self._auth()
        found = [
            js.NatsUser(js.ADMIN, auth["admin"]),
            js.application_user(APPLICATION, auth["password"], self.name, self.spec),
        ]
        for user in self.spec.users:
            found.append(js.queue_user(user, await self._password(user.name), self.name, self.spec))
        return found

    # -- manifests

    async def _desired(self) -> tuple[list[Obj], Kept]:
        users, live = await self.users(), self.there.get(STATEFUL_SETS)
        words = text(self.inputs, users, self._auth()["cluster"])
        upgrade = self.obj.metadata.annotations.get(UPGRADE, "")
        # passwords are people's choice too, where a Secret of theirs holds them
        asked = {**self.inputs.asked, "passwords": digest([(user.name, user.password) for user in users])}
        kept = keep(stateful_set(self.inputs, digest(words), live), live, asked, upgrade=upgrade)
        manifests = [
            config(self.inputs, words),
            *services(self.inputs),
            *budget(self.owner, self.spec.replicas),
            kept.workload,
        ]
        return manifests, kept

    # -- verbs

    async def create(self) -> None:
        await self._ensure_auth()
        desired, _ = await self._desired()
        for change in self.there.differences(desired):
            await self.there.act(*change.payload)

    async def delete(self) -> bool:
        keep_them = set()
        if self.spec.deletion_policy is DeletionPolicy.RETAIN:
            keep_them = {key for key in self.there.live if key[0] == CLAIMS.kind}
        return await self.there.remove(keep=keep_them)

    async def update(self, observed: Observation) -> None:
        puts, move = {}, False
        for change in observed.plan.changes:
            what, *rest = change.payload
            if what == "auth":
                await self._ensure_auth()
                return
            if what == "scale":
                raise NotSupported(
                    "the servers of a queue can't be made more or fewer yet",
                    field="spec.replicas",
                    value=self.spec.replicas,
                    hint=f"Set replicas back to {change.actual}, or make a new Queue and move the messages.",
                )
            if what == "put":
                puts[rest[0]] = bool(rest[1])
            elif what == "move":
                move = True
            else:
                await self.there.act(what, *rest)
        if puts or move:
            async with await self._any() as api:
                await content.put(api, self.name, self.spec, puts)
                if move:
                    await content.move_dead_letters(api, self.name)

    # -- observe

    async def observe(self) -> Observation:
        live = self.there.get(STATEFUL_SETS)
        identity = self.owner.identity
        if live is None and not self.there.pods:
            return Observation(exists=False, external_name=identity)
        if self._missing():
            gone = Difference(f"Secret {self.owner.base}{AUTH}", "complete", "incomplete", payload=("auth",))
            return Observation(exists=True, external_name=identity, differences=(gone,), reason="Starting")
        desired, kept = await self._desired()
        found = self.there.growth(storage_size(self.inputs))
        has = int(live["spec"]["replicas"]) if live is not None else self.spec.replicas
        if has != self.spec.replicas:
            found.append(
                Difference("spec.replicas", str(self.spec.replicas), str(has), Disruption.REPLACE, payload=("scale",))
            )
        else:
            found += self.there.differences(desired, _cost)
        inside, problems = await self._inside()
        if inside:
            found += content.differences(self.name, self.spec, inside)
        works = bool(inside) and not problems and self._in_step(live) and await self._client_works()
        reason, message = ("", "") if works else self._explain(problems)
        singular = f"{self.obj.names.singular}/{self.owner.name} -n {self.owner.namespace}"
        return Observation(
            exists=True,
            ready=works,
            reason=reason,
            message=message,
            differences=tuple(found),
            external_name=identity,
            endpoint=Endpoint(host=self._host(), port=self.inputs.service_port),
            binding=self._binding(APPLICATION, self._auth()["password"]),
            user_bindings={
                f"{self.name}-user-{user.name}": self._binding(user.name, await self._password(user.name))
                for user in self.spec.users
            },
            facts=self._facts(inside, problems),
            conditions=upgrade_condition(singular, kept.newer),
            poll_after=STARTING_POLL if not works else DEAD_LETTER_POLL if self.spec.dead_letter else None,
        )

    def _pods(self) -> list[Obj]:
        return [pod for pod in self.there.pods if not pod["metadata"].get("deletionTimestamp")]

    async def _connect(self, pod: Obj, user: str = js.ADMIN) -> JetStream:
        host, port = self.session.resolve(pod, PORT)
        secret = {js.ADMIN: "admin", APPLICATION: "password"}[user]
        return await JetStream.connect(host, port, user, self._auth()[secret])

    async def _any(self) -> JetStream:
        """A connection to the first server that answers."""
        problem_: ChandleryError = DependencyNotReady("no server of the queue answers", retry_after=0.5)
        for pod in self._pods():
            try:
                return await self._connect(pod)
            except ChandleryError as error:
                problem_ = error
        raise problem_

    async def _inside(self) -> tuple[dict[str, Any], dict[str, str]]:
        """What JetStream holds, and which servers don't answer, with their words."""
        inside: dict[str, Any] = {}
        problems: dict[str, str] = {}
        for pod in self._pods():
            try:
                async with await self._connect(pod) as api:
                    if not inside:
                        inside = await content.read(api, self.name, self.spec)
            except ChandleryError as error:
                problems[pod["metadata"]["name"]] = error.message
        return inside, problems

    async def _client_works(self) -> bool:
        """The real thing: log in with the binding's credentials and ask for the queue."""
        try:
            async with await self._connect(self._pods()[0], APPLICATION) as api:
                return await api.consumer(js.stream_name(self.name), js.CONSUMER) is not None
        except (ChandleryError, IndexError):
            return False

    def _in_step(self, live: Obj | None) -> bool:
        """All servers are there, and of the present template."""
        meta, status = (live or {}).get("metadata") or {}, (live or {}).get("status") or {}
        revision = status.get("updateRevision")
        same = all(p["metadata"]["labels"].get("controller-revision-hash") == revision for p in self._pods())
        current = status.get("observedGeneration") == meta.get("generation")
        return bool(current and same and int(status.get("readyReplicas") or 0) >= self.spec.replicas)

    def _explain(self, problems: Mapping[str, str]) -> tuple[str, str]:
        for pod in self._pods():
            wrong = problem(pod)
            if wrong:
                return wrong[0], f"{pod['metadata']['name']}: {wrong[1]}"
        if problems:
            return "Starting", "; ".join(f"{name}: {words}" for name, words in problems.items())
        return "Starting", "the queue isn't there yet, or not all servers are in step"

    def _host(self) -> str:
        return str(self.spec.exposure.hostname or f"{self.owner.base}.{self.owner.namespace}.svc")

    def _binding(self, user: str, password: str) -> Binding:
        host, port = self._host(), self.inputs.service_port
        uri = f"nats://{user}:{password}@{host}:{port}"
        entries = {
            "host": host,
            "port": str(port),
            "username": user,
            "password": password,
            "uri": uri,
            "servers": uri,
            "stream": js.stream_name(self.name),
            "consumer": js.CONSUMER,
            "subject": js.publish_subject(self.name, self.spec),
        }
        if self.spec.dead_letter is not None:
            entries |= {"dead-letter-stream": js.dead_name(self.name), "dead-letter-consumer": js.DEAD_CONSUMER}
        return Binding("nats", "chandlery", entries)

    def _facts(self, inside: Mapping[str, Any], problems: Mapping[str, str]) -> dict[str, Any]:
        members = []
        for pod in self._pods():
            name, ip = pod["metadata"]["name"], (pod.get("status") or {}).get("podIP")
            member: dict[str, Any] = {"name": name, "role": "member", "ready": bool(ip) and name not in problems}
            if ip:
                member["address"] = f"{ip}:{PORT}"
            if name in problems:
                member["message"] = problems[name]
            members.append(member)
        facts: dict[str, Any] = {
            "engine": "nats",
            "broker": self.name,
            "replicas": self.spec.replicas,
            "readyReplicas": sum(1 for member in members if member["ready"]),
            "members": members,
        }
        if inside:
            facts["version"] = inside["version"]
        if inside.get("stream"):
            state, cluster = inside["stream"]["state"], inside["stream"].get("cluster") or {}
            facts |= {"messages": state["messages"], "bytes": str(state["bytes"])}
            if cluster.get("leader"):
                facts["leader"] = cluster["leader"]
        if inside.get("consumer"):
            facts["unacknowledged"] = inside["consumer"].get("num_ack_pending", 0)
            facts["consumers"] = inside["consumer"].get("num_waiting", 0)
        if self.spec.dead_letter is not None:
            facts["deadLetterQueue"] = js.dead_name(self.name)
        return facts


def _cost(kind: str, path: str) -> Disruption:
    return Disruption.RESTART if kind == STATEFUL_SETS.kind and ".template" in path else Disruption.NONE
