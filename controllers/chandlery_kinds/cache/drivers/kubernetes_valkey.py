"""One pass over the pods of a cache by Valkey or Redis.

Who is primary stands on record in the StatefulSet (an annotation, written with its resourceVersion, so that of two
deciders one loses). A pod of a replicated cache starts as a follower of nobody and takes no write until it is told; the
clients' Service selects by a label that the driver puts on the primary.

Two can't take writes, wherever a node or the network fails: a primary takes none unless a copy has just been heard of,
or unless it is on record that it is alone, and as long as that stands no copy takes over from a process that may live.
A primary that only we can't reach, but copies do, keeps its place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from chandlery.driver.protocol import Difference, Disruption, Observation
from chandlery.foundation.errors import ChandleryError
from chandlery.model.base import Endpoint
from chandlery.providers.kubernetes import certificates
from chandlery.providers.kubernetes.driver import AUTH
from chandlery.providers.kubernetes.pods import running
from chandlery.providers.kubernetes.templates import Kept
from chandlery.providers.kubernetes.types import ROLE, Obj
from chandlery_kinds.cache import acl
from chandlery_kinds.cache.drivers.kubernetes_engine import ValkeyWorkload
from chandlery_kinds.cache.kubernetes.children import children, workload
from chandlery_kinds.cache.kubernetes.config import FENCED, config
from chandlery_kinds.cache.kubernetes.inputs import PORT
from chandlery_kinds.cache.kubernetes.nodes import LAG_SECONDS, Node, given_up, role_differences
from chandlery_kinds.cache.kubernetes.services import READ
from chandlery_kinds.cache.resp import info

PRIMARY = "chandlery.dev/primary"
ALONE = "chandlery.dev/alone"
"""Annotation: the primary that may take writes while it has no copy."""

CATCH_UP_SECONDS = 5.0
ALONE_SECONDS = 2.0
"""A primary without a copy for so long goes on alone."""
STARTING_POLL = 0.5
REPLICATED_POLL = 2.0


class ValkeyPods(ValkeyWorkload):
    """Everything that one pass does with one cache. Made anew each time; keeps nothing."""

    _copies: Sequence[Node] = ()
    """Those that hold what the primary holds, as far as asked."""

    # -- what is on record

    @property
    def primary_name(self) -> str:
        return self.note_of(PRIMARY)

    @property
    def alone(self) -> bool:
        """Whether the primary on record may take writes without a copy."""
        return bool(self.primary_name) and self.note_of(ALONE) == self.primary_name

    # -- settings

    @property
    def guarded(self) -> bool:
        """Whether it is us who say how many copies a primary needs to take writes."""
        return self.inputs.replicated and self.spec.min_replicas_to_write is None

    def _settings(self) -> dict[str, str]:
        found = super()._settings()
        if not self.inputs.replicated:
            return found
        # a primary speaks every second, so that its copies are witnesses of whether it is there
        beside = {"repl-ping-replica-period": "1", "min-replicas-max-lag": str(LAG_SECONDS)}
        return {**beside, **found, **({"min-replicas-to-write": "1"} if self.guarded else {})}

    def _settings_of(self, node: Node) -> dict[str, str]:
        if self.guarded and self.alone and node.name == self.primary_name and not self._copies:
            return {**self.settings, "min-replicas-to-write": "0"}
        return self.settings

    # -- manifests

    async def _desired(self) -> tuple[list[Obj], Kept]:
        auth, kept = self.auth(), workload(self.inputs, self.stateful, instances=self._instances, upgrade=self.upgrade)
        users = await self.users()
        words = (auth["admin"], auth.get("metrics", ""))
        body = config(self.inputs, self._known_settings(), users, *words, restored=self.restored)
        more = await self.certificates.children() if self.certificates is not None else []
        made = children(self.inputs, body, kept.workload, more, monitors=self.monitors)
        return [*made, *self.backup_children()], kept

    # -- create

    # -- observe

    async def observe(self) -> Observation:
        if self.stateful is None and not self.there.pods:
            return Observation(exists=False, external_name=self.owner.identity)
        if self.missing_auth():
            missing = Difference(f"Secret {self.owner.base}{AUTH}", "present", "absent", payload=("auth",))
            return self._seen(differences=(missing,), reason="Starting", message="its passwords are missing")
        nodes = list(await asyncio.gather(*(self._ask(node) for node in self._nodes())))
        self._copies = [node for node in nodes if node.in_step and not node.primary]
        desired, kept = await self._desired()
        found = self._storage_differences() + self.rotation_differences() + await self._tls_differences(nodes)
        found += self._primary_differences(nodes)
        found += self.there.differences(desired, self._cost)
        found += self._live_differences(nodes, await self.users())
        found += self._restart_differences(nodes)
        primary = self._primary(nodes)
        found += self._company_differences(primary)
        served = await self._client_works(primary) if primary is not None else None
        ready = served is not None and all(node.in_step and node.reached for node in nodes)
        ready = ready and (not self.guarded or self._takes_writes(primary))
        loaded = [primary] if primary is not None and primary.primary else []
        found += self._restore_differences(loaded) + self.backup_differences(serves=served is not None)
        told = self.backup_facts()
        reason, message = ("", "") if ready else self._explain(nodes, primary)
        return self._seen(
            ready=ready,
            reason=reason,
            message=message,
            differences=tuple(found),
            endpoint=self._endpoint(),
            binding=await self._bound(acl.DEFAULT, served),
            user_bindings={
                f"{self.owner.name}-user-{user.name}": await self._bound(user.name, served) for user in self.spec.users
            },
            facts={**self._facts(nodes, primary), **told},
            conditions=(*self.told(kept.newer), *self.backup_conditions(told)),
            poll_after=self.poll(self._poll(ready, nodes), kept.newer),
        )

    def _poll(self, ready: bool, nodes: list[Node]) -> float | None:
        if not ready:
            return STARTING_POLL
        return REPLICATED_POLL if len(nodes) > 1 else None

    def _nodes(self) -> list[Node]:
        """The pods that there should be, and those that are about to go: one of them may be the primary still."""
        pods = {pod["metadata"]["name"]: pod for pod in self.there.pods}
        names = [f"{self.owner.base}-{index}" for index in range(self.spec.instances)]
        return [Node(name, pods.get(name)) for name in names] + self._leaving(pods, names)

    def _leaving(self, pods: dict[str, Obj], names: list[str]) -> list[Node]:
        if not self.inputs.replicated:
            return []
        going = [Node(name, pod) for name, pod in pods.items() if name not in names]
        return [node for node in going if node.name == self.primary_name or node.label == "primary"]

    @property
    def _instances(self) -> int:
        """How many pods there are to be now: as asked for, and the primary as long as it is one of those that go."""
        wanted: int = self.spec.instances
        ordinal = self.primary_name.rpartition("-")[2]
        return max(wanted, int(ordinal) + 1) if self.inputs.replicated and ordinal.isdigit() else wanted

    async def _client_works(self, node: Node) -> int | None:
        """As `_serves`, where the Service sends clients."""
        if not node.answers or node.pod is None or (self.inputs.replicated and node.label != "primary"):
            return None
        return await self._serves(node)

    def _primary(self, nodes: list[Node]) -> Node | None:
        if not self.inputs.replicated:
            return nodes[0]
        return next((node for node in nodes if node.name == self.primary_name and node.primary), None)

    def _explain(self, nodes: list[Node], primary: Node | None) -> tuple[str, str]:
        trouble = self.trouble()
        if trouble is not None:
            return trouble
        silent = [node for node in nodes if not node.answers]
        if silent and self.alone and silent[0].name == self.primary_name and running(silent[0].pod):
            pod = f"{silent[0].name} -n {self.owner.namespace}"
            return "PrimaryUnreachable", (
                f"{silent[0].name} took writes without a copy, doesn't answer, and may still run; nobody takes its "
                f"place until it answers or has ended. If its node is gone for good: kubectl delete pod {pod} --force"
            )
        if silent:
            why = f" ({silent[0].error})" if silent[0].error else ""
            return "Starting", f"waiting for {', '.join(node.name for node in silent)} to answer{why}"
        behind = [node for node in nodes if not node.in_step]
        if primary is not None and behind:
            return "Replicating", f"{', '.join(n.name for n in behind)} still copying from the primary"
        if primary is not None:
            return "Starting", f"waiting for {_unreached(nodes)} to pass readiness probes"
        return "Starting", "no instance is primary yet"

    def _endpoint(self) -> Endpoint:
        host = self.spec.exposure.hostname or f"{self.owner.base}.{self.owner.namespace}.svc"
        port = self.inputs.service_port
        if not self.inputs.replicated:
            return Endpoint(host=host, port=port)
        return Endpoint(
            host=host, port=port, read_host=f"{self.owner.base}{READ}.{self.owner.namespace}.svc", read_port=port
        )

    def _facts(self, nodes: list[Node], primary: Node | None) -> dict[str, Any]:
        members = [
            {
                "name": node.name,
                "role": ("primary" if node.primary else "replica") if node.answers else "unknown",
                "ready": node.in_step,
                **({"address": f"{node.ip}:{PORT}"} if node.ip else {}),
                **({"version": node.version} if node.answers else {}),
                **({"message": node.error} if node.error else {}),
            }
            for node in nodes
        ]
        facts: dict[str, Any] = {
            "engine": self.spec.engine.value,
            "instances": len(nodes),
            "readyInstances": sum(1 for member in members if member["ready"]),
            "members": members,
            "selector": ",".join(f"{key}={value}" for key, value in self.owner.selector.items()),
            "replicas": len(nodes) - 1,
            "users": self.user_facts(),
        }
        if primary is not None and primary.answers:
            facts["version"] = primary.version
            if self.inputs.replicated:
                facts["primary"] = primary.name
        return facts

    def _takes_writes(self, primary: Node | None) -> bool:
        """As far as that hangs on copies."""
        if primary is None:
            return False
        return primary.company > 0 or primary.config.get("min-replicas-to-write") == "0"

    # -- differences

    def _company_differences(self, primary: Node | None) -> list[Difference]:
        """A primary without copies goes on alone, on record; with copies it no longer does.

        Coming: first the record, then the setting. Going: first the setting, then the record.
        """
        if not self.guarded or primary is None or primary.pod is None:
            return []
        since = f"{primary.pod['metadata']['uid']}/alone"
        if self._copies:
            self.session.silent.pop(since, None)
            if self.alone and primary.config.get("min-replicas-to-write") != "0":
                return [Difference("primary", "with copies", "alone", payload=("alone", None))]
            return []
        now = self.ctx.base.clock.monotonic()
        if self.alone or now - self.session.silent.setdefault(since, now) < ALONE_SECONDS:
            return []
        return [Difference("primary", "alone", "without copies", payload=("alone", primary.name))]

    def _primary_differences(self, nodes: list[Node]) -> list[Difference]:
        if not self.inputs.replicated:
            return []
        newest = self.alone and self.inputs.persistent
        found = role_differences(nodes, self.primary_name, lambda node: self._lost(node, nodes), newest=newest)
        if len(nodes) > self.spec.instances and not any(change.payload[0] == "promote" for change in found):
            staying = [node for node in nodes[: self.spec.instances] if node.in_step and not node.primary]
            heir = max(staying, key=lambda node: node.offset, default=None)
            if heir is not None:  # it hands over before its pod goes
                change = Difference(
                    "primary", heir.name, self.primary_name, Disruption.FAILOVER, payload=("promote", heir.name)
                )
                found.append(change)
        return found

    def _lost(self, node: Node, nodes: list[Node]) -> bool:
        """Whether the primary is given up."""
        since = self.session.silent.get(node.pod["metadata"]["uid"]) if node.pod is not None else None
        silent = self.ctx.base.clock.monotonic() - since if since is not None else 0.0
        return given_up(node, [other for other in nodes if other is not node], silent, alone=self.alone)

    def _restart_differences(self, nodes: list[Node]) -> list[Difference]:
        """Pods of an older template, and pods that refuse our password; the primary comes last."""
        live = self.stateful
        if live is None:
            return []
        status = live.get("status") or {}
        current = status.get("observedGeneration") == live["metadata"].get("generation")
        revision = status.get("updateRevision") if current else None
        found = []
        for node in nodes:
            if node.pod is None or node.pod["metadata"].get("deletionTimestamp"):
                continue
            has = node.pod["metadata"]["labels"].get("controller-revision-hash", "")
            if node.locked_out or (revision and has != revision):
                cost = Disruption.RESTART
                if self.inputs.replicated:
                    cost = Disruption.FAILOVER if node.name == self.primary_name else Disruption.NONE
                what = "password" if node.locked_out else "template"
                found.append(
                    Difference(f"{what} of {node.name}", revision or "ours", has, cost, payload=("restart", node.name))
                )
        return sorted(found, key=lambda d: d.disruption)

    # -- update

    async def update(self, observed: Observation) -> None:
        """Do what the plan says: storage, then who is primary, then manifests, then settings, then one restart."""
        changes = observed.plan.changes
        restarts = []
        for change in sorted(changes, key=_order):
            what, *rest = change.payload
            if what == "promote":
                await self._promote(rest[0])
                return  # everything else looks different now
            if what == "alone":
                await self._take_note(ALONE, rest[0])
                return  # the setting follows from the record
            if what == "auth":
                await self.ensure_auth()
                return
            if what in ("rotate", "expire", "anchor"):
                await self.rotate(change.payload)
                return  # the users follow from the record
            if what == certificates.PAYLOAD and self.certificates is not None:
                await self.certificates.ensure()
            elif what == "tls-reload":
                await self._reload_tls(rest[0])
            elif what == "follow":
                await self._follow(rest[0])
            elif what == "label":
                await self._label(rest[0], rest[1])
            elif what == "acl":
                await self._load_acl()
            elif what == "restart" or (what == "set" and change.disruption >= Disruption.RESTART):
                restarts.append(rest[0])
            elif what == "set":
                await self._set(rest[0], rest[1], change)
            else:
                await self._act_beside(change.payload)
        await self._forget_defaults(observed.plan)
        if restarts:
            await self._restart(restarts)

    async def _promote(self, name: str) -> None:
        """Make a pod the primary: on record first, so that whoever comes next goes on from here."""
        was = self.primary_name
        old = next((node for node in self._nodes() if node.name == was and was != name), None)
        if was != name:
            others = [node for node in self._nodes() if node.name not in (name, was)]
            lonely = bool(was) and self.guarded and not [node for node in others if running(node.pod)]
            lonely = lonely and (old is None or not running(old.pod) or old.going)
            await self._take_note(PRIMARY, name, **{ALONE: name if lonely else None})
        heir = self._node(name)
        if old is not None and old.pod is not None:
            await self._step_down(old, heir)
        async with await self._connect(heir) as client:
            await client.command("REPLICAOF", "NO", "ONE")
        for node in self._nodes():
            if node.pod is not None and node.name != name and node.label != "replica":
                await self._label(node.name, "replica")
        await self._label(name, "primary")
        if was and was != name:
            self.ctx.event("Warning", "FailedOver", f"{was} no longer serves; {name} is the primary now")

    async def _step_down(self, old: Node, heir: Node) -> None:
        """An old primary that still answers loses nothing and follows; one that hangs must not wake up as a second."""
        await self._label(old.name, "replica")
        if not old.ip:
            return
        clock = self.ctx.base.clock
        try:
            async with await self._connect(old) as source, await self._connect(heir) as copy:
                if info(await source.command("INFO", "replication")).get("role") != "master":
                    return
                await source.command("CLIENT", "PAUSE", "10000", "WRITE")
                deadline = clock.monotonic() + CATCH_UP_SECONDS
                while clock.monotonic() < deadline:
                    sent = info(await source.command("INFO", "replication"))["master_repl_offset"]
                    if info(await copy.command("INFO", "replication")).get("slave_repl_offset") == sent:
                        break
                    await clock.sleep(0.02)
                if not heir.only_tls or old.only_tls:  # else it has no way to follow, and is replaced in a moment
                    await source.command("REPLICAOF", heir.ip, PORT)
                else:
                    await source.command("REPLICAOF", *FENCED)
        except ChandleryError:
            assert old.pod is not None
            if running(old.pod):
                await self.session.delete(old.pod)

    async def _follow(self, name: str) -> None:
        primary, copy = self._node(self.primary_name), self._node(name)
        async with await self._connect(copy) as client:
            if copy.only_tls or primary.only_tls:
                await client.command("CONFIG", "SET", "tls-replication", "yes" if primary.only_tls else "no")
            await client.command("REPLICAOF", primary.ip, PORT)

    async def _label(self, name: str, role: str) -> None:
        pod = self._node(name).pod
        if pod is not None:
            # this very pod: another one of the same name begins without a role
            await self.session.merge(pod, {"metadata": {"uid": pod["metadata"]["uid"], "labels": {ROLE: role}}})

    async def _restart(self, names: list[str]) -> None:
        """Replace one pod, when all others are in step; the primary hands over before it goes."""
        nodes = list(await asyncio.gather(*(self._ask(node) for node in self._nodes())))
        todo = [node for node in nodes if node.name in names and node.pod is not None]
        if not todo:
            return
        one = next((node for node in todo if node.name != self.primary_name), todo[0])
        others = [node for node in nodes if node is not one]
        if others and not all(node.in_step for node in others) and one.answers:
            return
        if self.inputs.replicated and one.name == self.primary_name and one.answers:
            heir = max(others, key=lambda node: node.offset)
            await self._promote(heir.name)
            return
        assert one.pod is not None
        copies = [node for node in others if node.in_step and not node.primary]
        primary = self._primary(nodes)
        if self.guarded and primary is not None and primary is not one and not copies:
            if not self.alone:
                await self._take_note(ALONE, primary.name)
            async with await self._connect(primary) as client:
                await client.command("CONFIG", "SET", "min-replicas-to-write", "0")
        self.ctx.event("Normal", "Restarting", f"{one.name} is replaced")
        await self.session.delete(one.pod)


def _unreached(nodes: list[Node]) -> str:
    return ", ".join(node.name for node in nodes if not node.reached)


def _order(change: Difference) -> int:
    """Storage first, then who is primary, then the rest as planned."""
    return _ORDER.get(change.payload[0], 5)


_ORDER = {
    **dict.fromkeys(("grow", "auth", "rotate", "expire", "anchor", certificates.PAYLOAD), 0),
    "promote": 1,
    "follow": 2,
    "label": 3,
    "apply": 4,
}
