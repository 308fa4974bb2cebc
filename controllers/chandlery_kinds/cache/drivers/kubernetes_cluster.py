"""One pass over the pods of a sharded cache: Valkey's or Redis's own cluster mode.

A shard is a StatefulSet `<base>-s<shard>`. The cluster keeps its topology itself; the driver introduces pods to one
another (by the addresses that they have now), gives out slots, moves them when the number of shards changes, forgets
pods that are gone, and names a new primary where the cluster can't agree on one or would trust an empty one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from chandlery.driver.protocol import Difference, Disruption, DriverContext, Observation
from chandlery.foundation.errors import ChandleryError, EngineFailed, Unavailable
from chandlery.model.base import Condition, ConditionStatus, Endpoint
from chandlery.providers.kubernetes import certificates
from chandlery.providers.kubernetes.children import Children
from chandlery.providers.kubernetes.driver import AUTH
from chandlery.providers.kubernetes.templates import Kept
from chandlery.providers.kubernetes.types import CLAIMS, STATEFUL_SETS, Obj
from chandlery_kinds.cache import acl, cluster
from chandlery_kinds.cache.drivers.kubernetes_engine import ANSWER_SECONDS, ValkeyWorkload
from chandlery_kinds.cache.drivers.slots import SlotMover
from chandlery_kinds.cache.kubernetes.children import children, workload
from chandlery_kinds.cache.kubernetes.config import closed_users, config, replica
from chandlery_kinds.cache.kubernetes.inputs import PORT, Inputs
from chandlery_kinds.cache.kubernetes.nodes import Node
from chandlery_kinds.cache.kubernetes.shards import Shards, place, shard_suffix
from chandlery_kinds.cache.model import Cache
from chandlery_kinds.cache.resp import RespClient, info

STARTING_POLL = 0.5
WATCHING_POLL = 2.0
MOVING_POLL = 0.2
HUNG_SECONDS = 5.0
"""The cluster names a new primary by itself in less, as long as most primaries are there."""
FAILOVER_SECONDS = 5.0
STEP_POLL = 0.02
_INSIDE = frozenset({"failover", "meet", "follow", "forget", "assign", "move", "handover", "restart"})


class PodMover(SlotMover):
    """Moves slots between pods."""

    def __init__(self, pods: ClusterPods, primaries: Mapping[int, str], views: Mapping[str, cluster.View]) -> None:
        super().__init__(pods, primaries, views)  # type: ignore[arg-type]
        self._pods = pods

    async def _reach(self, name: str, seconds: float | None = None) -> RespClient:
        return await self._pods.reach(name, seconds or ANSWER_SECONDS)

    def _place(self, name: str) -> tuple[str, int]:
        return self._pods.found(name).ip, PORT


class ClusterPods(ValkeyWorkload):
    """Everything that one pass does with one sharded cache. Made anew each time; keeps nothing."""

    questions: ClassVar[Sequence[tuple[str, ...]]] = (("CLUSTER", "NODES"), ("CLUSTER", "INFO"))

    def __init__(self, ctx: DriverContext, obj: Cache, there: Children, inputs: Inputs) -> None:
        super().__init__(ctx, obj, there, inputs)
        self.shards: int = obj.spec.primaries
        self.group: int = 1 + obj.spec.replicas_per_primary
        self.fences = not inputs.persistent and self.group > 1
        """Whether a server that starts is closed to clients and copies at first."""
        self.map = Shards(self.owner.base, self.shards, self.group)
        self.asked: dict[str, Node] = {}
        self.moving = ""

    # -- children

    @property
    def stateful(self) -> Obj | None:
        """Where notes are: the first shard's, which never goes."""
        return self.there.get(STATEFUL_SETS, shard_suffix(0))

    @property
    def admin_password(self) -> str:
        return self.auth()["admin"]

    def auth_keys(self) -> list[str]:
        return [*super().auth_keys(), "replica"]

    async def users(self) -> list[acl.AclUser]:
        return [*await super().users(), replica(self.auth()["replica"])]

    def _settings(self) -> dict[str, str]:
        """A copy stays in its shard: which pod belongs where is the driver's to say."""
        return {"cluster-allow-replica-migration": "no", **super()._settings()}

    def _sets(self) -> dict[int, Obj]:
        """The StatefulSets that there are, by shard."""
        found = {}
        for live in self.there.all(STATEFUL_SETS):
            match = re.fullmatch(re.escape(self.owner.base) + r"-s(\d+)", live["metadata"]["name"])
            if match:
                found[int(match[1])] = live
        return found

    async def _desired(self) -> tuple[list[Obj], list[Kept]]:
        auth, live = self.auth(), self._sets()
        users = closed_users(auth["admin"]) if self.fences else await self.users()
        body = config(
            self.inputs,
            self._known_settings(),
            users,
            auth["admin"],
            auth.get("metrics", ""),
            replication=auth["replica"],
            restored=self.restored,
        )
        kept = [
            workload(
                self.inputs,
                live.get(shard),
                instances=self._instances(shard),
                upgrade=self.upgrade,
                suffix=shard_suffix(shard),
            )
            for shard in sorted({*range(self.shards), *self._staying(live)})
        ]
        more = await self.certificates.children() if self.certificates is not None else []
        sets = [one.workload for one in kept]
        return [*children(self.inputs, body, sets, more, monitors=self.monitors), *self.backup_children()], kept

    def _staying(self, live: Mapping[int, Obj]) -> list[int]:
        """Shards beyond those of the spec that still hold keys, or may."""
        found = []
        for shard in live:
            nodes = [node for name, node in self.asked.items() if place(name)[0] == shard]
            empty = nodes and all(node.answers and not self.map.slots_of(node.name) for node in nodes)
            if shard >= self.shards and not (empty and not self.moving):
                found.append(shard)
        return found

    def _instances(self, shard: int) -> int:
        """How many pods of a shard there are to be now; one that goes and is primary hands over first."""
        primaries = [name for name in self.asked if place(name)[0] == shard and self.map.slots_of(name)]
        return max([self.group, *(place(name)[1] + 1 for name in primaries)])

    def _nodes(self) -> list[Node]:
        pods = {pod["metadata"]["name"]: pod for pod in self.there.pods}
        return [Node(name, pods.get(name)) for name in self.map.known(pods)]

    def _endpoint(self) -> Endpoint:
        host = self.spec.exposure.hostname or f"{self.owner.base}.{self.owner.namespace}.svc"
        return Endpoint(host=host, port=self.inputs.service_port)

    def _hosts(self) -> Sequence[str]:
        return [f"{name}.{self.inputs.domain}:{PORT}" for name in self.map.names()]

    # -- observe

    async def _look(self) -> list[Node]:
        nodes = [await self._ask(node) for node in self._nodes()]
        self.asked = {node.name: node for node in nodes}
        views = {node.name: view for node in nodes if node.more and (view := cluster.parse(node.more[0]))}
        self.map.see(views)
        return nodes

    async def observe(self) -> Observation:
        if not self._sets() and not self.there.pods:
            return Observation(exists=False, external_name=self.owner.identity)
        if self.missing_auth():
            missing = Difference(f"Secret {self.owner.base}{AUTH}", "present", "absent", payload=("auth",))
            return self._seen(differences=(missing,), reason="Starting", message="its passwords are missing")
        nodes = await self._look()
        wanted = [node for node in nodes if node.name in self.map.names()]
        states = {node.name: info(node.more[1]) for node in nodes if node.more}
        found = self._storage_differences() + self.rotation_differences() + await self._tls_differences(nodes)
        inside = self._empty_primaries(nodes) or self._lost_primaries(nodes)
        inside = inside or self._meetings(nodes) or self._followers(nodes) or self._forgotten(nodes)
        if not inside:
            inside = await self._slots(states)
        desired, kept = await self._desired()
        found += inside + self.there.differences(desired, self._cost) + self._left_claims()
        found += self._live_differences(nodes, await self.users())
        found += self._handovers() + self._restart_differences(nodes)
        broken = [name for name, state in states.items() if state.get("cluster_state") != "ok"]
        silent = [node for node in wanted if not node.answers]
        behind = [node for node in wanted if node.answers and not node.in_step]
        lonely = any(self.map.owner(shard) is None for shard in range(self.shards))
        served = await self._serves(wanted[0]) if not (silent or broken or lonely) else None
        ready = served is not None and not behind and all(node.reached for node in wanted)
        found += self._restore_differences(wanted) + self.backup_differences(serves=served is not None)
        told = self.backup_facts()
        reason, message = ("", "") if ready else self._explain(nodes, silent, broken, behind)
        newer = next((one.newer for one in kept if one.newer), "")
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
            facts={**self._facts(nodes), **told},
            conditions=(self._balanced(), *self.told(newer), *self.backup_conditions(told)),
            poll_after=self.poll(MOVING_POLL if self.moving else WATCHING_POLL if ready else STARTING_POLL, newer),
        )

    def _balanced(self) -> Condition:
        """Whether the keys are spread as the spec asks; clients are served either way."""
        even = not self.moving and not cluster.moves(self.map.owned(), self.shards)
        return Condition(
            type="SlotsBalanced",
            status=ConditionStatus.TRUE if even else ConditionStatus.FALSE,
            reason="Even" if even else "Moving",
            message="" if even else self.moving or "slots are about to move",
        )

    def _explain(self, nodes: list[Node], silent: list[Node], broken: list[str], behind: list[Node]) -> tuple[str, str]:
        trouble = self.trouble()
        if trouble is not None:
            return trouble
        if silent:
            why = f" ({silent[0].error})" if silent[0].error else ""
            return "Starting", f"waiting for {', '.join(node.name for node in silent)} to answer{why}"
        if broken:
            return "Forming", "the shards have not agreed yet on who owns which keys"
        if behind:
            return "Replicating", f"{', '.join(node.name for node in behind)} still copying from the primary"
        closed = [node.name for node in nodes if node.name in self.map.names() and not node.reached]
        if closed:
            return "Starting", f"waiting for {', '.join(closed)} to pass readiness probes"
        return "Starting", "the cluster does not accept the binding's credentials yet"

    def _facts(self, nodes: list[Node]) -> dict[str, Any]:
        members = [
            {
                "name": node.name,
                "role": f"shard {'primary' if node.primary else 'replica'}" if node.answers else "unknown",
                "ready": node.in_step,
                **({"address": f"{node.ip}:{PORT}"} if node.ip else {}),
                **({"version": node.version} if node.answers else {}),
                **({"message": node.error} if node.error else {}),
            }
            for node in nodes
        ]
        version = next((node.version for node in nodes if node.answers), "")
        return {
            "engine": self.spec.engine.value,
            "instances": len(nodes),
            "readyInstances": sum(1 for member in members if member["ready"]),
            "members": members,
            "selector": ",".join(f"{key}={value}" for key, value in self.owner.selector.items()),
            "shards": len(self.map.owned()),
            "replicas": self.group - 1,
            "users": self.user_facts(),
            **({"version": version} if version else {}),
        }

    # -- differences

    def _closed(self, node: Node) -> bool:
        """Has started, and lets no client and no copy in yet."""
        return self.fences and " off " in f"{node.acl.get(acl.DEFAULT, ' off ')} "

    def _empty_primaries(self, nodes: list[Node]) -> list[Difference]:
        """A primary that came back, with copies that hold what it had: one of them takes over before it is opened."""
        found, shut = [], []
        for node in nodes:
            if not node.answers or not self.map.slots_of(node.name) or not self._closed(node):
                continue
            heir = max(self._copies_of(self.map.views[node.name].me.id), key=lambda n: n.offset, default=None)
            if heir is not None:
                shut.append(node.name)
                what = f"primary of shard {place(node.name)[0]}"
                found.append(Difference(what, heir.name, f"{node.name}, empty", payload=("failover", heir.name)))
        self.shut = shut
        return found

    def _copies_of(self, identity: str) -> list[Node]:
        """Copies that hold data of this node, and haven't started anew themselves."""
        copies = (self.asked[name] for name, view in self.map.views.items() if view.me.primary_id == identity)
        return [
            node
            for node in copies
            if node.offset > 0 and node.info.get("master_sync_in_progress") != "1" and not self._closed(node)
        ]

    def _lost_primaries(self, nodes: list[Node]) -> list[Difference]:
        """Primaries that answer nobody, where the cluster hasn't named another one by itself in time."""
        now, silent = self.ctx.base.clock.monotonic(), self.session.silent
        found = []
        for view in self.map.views.values():
            silent.pop(view.me.id, None)
        for identity in self.map.lost_owners():
            heir = max(self._copies_of(identity), key=lambda n: n.offset, default=None)
            if heir is not None and now - silent.setdefault(identity, now) >= HUNG_SECONDS:
                what = f"primary of shard {place(heir.name)[0]}"
                found.append(Difference(what, heir.name, "none that answers", payload=("failover", heir.name)))
        return found

    def _meetings(self, nodes: list[Node]) -> list[Difference]:
        seed, strangers = self.map.strangers()
        return [
            Difference(f"member {name}", "in the cluster", "alone", payload=("meet", seed, name)) for name in strangers
        ]

    def _followers(self, nodes: list[Node]) -> list[Difference]:
        found = []
        for name, view in self.map.views.items():
            primary = self.map.primary(place(name)[0])
            if primary is None or primary == name or view.me.slots or not self.map.wants(name):
                continue
            if view.me.primary_id != self.map.views[primary].me.id:
                has = "primary" if view.me.is_primary else "replica of another"
                found.append(Difference(f"role of {name}", f"replica of {primary}", has, payload=("follow", name)))
        return found

    def _forgotten(self, nodes: list[Node]) -> list[Difference]:
        """Members whose pod is gone for good: every pod answers, and none of them is that member."""
        if not all(node.answers for node in nodes):
            return []
        return [Difference("members", "pods that there are", identity, payload=("forget", identity))
                for identity in self.map.ghosts()]  # fmt: skip

    async def _slots(self, states: Mapping[str, Mapping[str, str]]) -> list[Difference]:
        if not self.map.complete():
            return []
        free = self.map.free()
        if free:
            return [Difference("slots", "all have an owner", f"{len(free)} without", payload=("assign",))]
        mover = self._mover()
        self.moving = await mover.busy()
        moves = cluster.moves(self.map.owned(), self.shards)
        if self.moving or (not moves and not mover.open_slots()):
            return []
        if any(state.get("cluster_state") != "ok" for state in states.values()):
            self.moving = "slots wait until the shards agree again"
            return []
        count = sum(len(move.slots) for move in moves)
        return [Difference("spec.shards", f"{self.shards} even shards", f"{count} slots to move", payload=("move",))]

    def _mover(self) -> PodMover:
        return PodMover(self, self.map.owners(), self.map.views)

    def _left_claims(self) -> list[Difference]:
        """Volumes of shards that are gone: what was in them has moved, and must not come back."""
        pods, sets = {pod["metadata"]["name"] for pod in self.there.pods}, self._sets()
        found = []
        for claim in self.there.all(CLAIMS):
            name = claim["metadata"]["name"].removeprefix("data-")
            if name not in pods and place(name)[0] not in sets and place(name)[0] >= self.shards:
                found.append(Difference(f"volume of {name}", "absent", "present", payload=("delete", claim)))
        return found

    def _handovers(self) -> list[Difference]:
        """Primaries whose pods go because there are to be fewer copies."""
        found = []
        for name in self.asked:
            shard, number = place(name)
            if number < self.group or shard >= self.shards or not self.map.slots_of(name):
                continue
            heirs = [n for n in self.asked.values() if place(n.name)[0] == shard and place(n.name)[1] < self.group]
            heir = next((node for node in heirs if node.in_step and not node.primary), None)
            if heir is not None:
                what = f"primary of shard {shard}"
                change = ("handover", heir.name)
                found.append(Difference(what, heir.name, name, Disruption.FAILOVER, payload=change))
        return found

    def _restart_differences(self, nodes: list[Node]) -> list[Difference]:
        """Pods of an older template; primaries come last."""
        revisions = {}
        for shard, live in self._sets().items():
            status = live.get("status") or {}
            if status.get("observedGeneration") == live["metadata"].get("generation"):
                revisions[shard] = status.get("updateRevision")
        found = []
        for node in nodes:
            if node.pod is None or node.pod["metadata"].get("deletionTimestamp"):
                continue
            has = node.pod["metadata"]["labels"].get("controller-revision-hash", "")
            revision = revisions.get(place(node.name)[0])
            if node.locked_out or (revision and has != revision):
                cost = Disruption.RESTART
                if self.group > 1:
                    cost = Disruption.FAILOVER if node.primary else Disruption.NONE
                what = "password" if node.locked_out else "template"
                change = ("restart", node.name)
                found.append(Difference(f"{what} of {node.name}", revision or "ours", has, cost, payload=change))
        return sorted(found, key=lambda d: d.disruption)

    # -- update

    def found(self, name: str) -> Node:
        return self.asked[name]

    async def reach(self, name: str, seconds: float = ANSWER_SECONDS) -> RespClient:
        """A connection to a pod by its name."""
        return await self._connect(self.asked[name], seconds=seconds)

    async def update(self, observed: Observation) -> None:
        """Do what the plan says. Everything here may be repeated, and goes on where another pass was cut off."""
        changes = observed.plan.changes
        if any(change.payload[0] in _INSIDE for change in changes):
            await self._look()
        restarts = []
        for change in sorted(changes, key=lambda c: _FIRST.get(c.payload[0], 5)):
            what, *rest = change.payload
            if what == "auth":
                await self.ensure_auth()
                return
            if what in ("rotate", "expire", "anchor"):
                await self.rotate(change.payload)
                return
            if what in ("failover", "handover"):
                await self._fail_over(rest[0], by_force=what == "failover")
                return  # everything else looks different now
            if what == "restart" or (what == "set" and change.disruption >= Disruption.RESTART):
                restarts.append(rest[0])
            elif what == "set":
                await self._set(rest[0], rest[1], change)
            elif what == "acl":
                await self._load_acl()
            elif what == certificates.PAYLOAD and self.certificates is not None:
                await self.certificates.ensure()
            elif what == "tls-reload":
                await self._reload_tls(rest[0])
            elif what in _INSIDE:
                await self._inside(what, *rest)
            else:
                await self._act_beside(change.payload)
        await self._forget_defaults(observed.plan)
        if restarts:
            await self._restart(restarts)

    async def _inside(self, what: str, *rest: Any) -> None:
        if what == "meet":
            async with await self.reach(rest[0]) as client:
                await client.command("CLUSTER", "MEET", self.found(rest[1]).ip, PORT, PORT + 10000)
        elif what == "follow":
            primary = self.map.primary(place(rest[0])[0])
            if primary is not None and primary != rest[0]:
                async with await self.reach(rest[0]) as client:
                    await client.command("CLUSTER", "REPLICATE", self.map.views[primary].me.id)
        elif what == "forget":
            await self._forget(rest[0])
        elif what == "assign":
            await self._assign()
        elif what == "move":
            await self._mover().move(cluster.moves(self.map.owned(), self.shards))

    async def _forget(self, identity: str) -> None:
        for name in self.map.views:
            async with await self.reach(name) as client:
                try:
                    await client.command("CLUSTER", "FORGET", identity)
                except ChandleryError as error:
                    if "Unknown node" not in error.message:
                        raise

    async def _assign(self) -> None:
        """Give slots that nobody has to shards."""
        free, owned = self.map.free(), self.map.owned()
        begun = self.inputs.restore is not None and owned
        shares = cluster.extend(free, owned) if begun else cluster.fill(free, owned, self.shards)
        for shard, slots in shares.items():
            primary = self.map.primary(shard)
            if primary is None:
                raise Unavailable(f"shard {shard} has no primary yet", retry_after=0.1)
            async with await self.reach(primary) as client:
                await client.command("CLUSTER", "ADDSLOTSRANGE", *cluster.range_words(slots))

    async def _fail_over(self, heir: str, *, by_force: bool) -> None:
        """Name a new primary: handed over by the present one, or by the others' votes, or without."""
        ways: tuple[tuple[str, ...], ...] = (("FORCE",), ("TAKEOVER",)) if by_force else ((),)
        clock = self.ctx.base.clock
        async with await self.reach(heir) as client:
            for way in ways:
                await client.command("CLUSTER", "FAILOVER", *way)
                deadline = clock.monotonic() + FAILOVER_SECONDS
                while clock.monotonic() < deadline:
                    view = cluster.parse(await client.command("CLUSTER", "NODES"))
                    if view is not None and view.me.is_primary:
                        if by_force:
                            shard = place(heir)[0]
                            self.ctx.event("Warning", "FailedOver", f"{heir} is the primary of shard {shard} now")
                        return
                    await clock.sleep(STEP_POLL)
        raise EngineFailed(f"{heir} did not become primary within {FAILOVER_SECONDS:.0f} s", retry_after=0.5)

    async def _restart(self, names: list[str]) -> None:
        """Replace one pod, when all others are in step; a primary hands over to a copy before."""
        todo = sorted(set(names), key=lambda name: (bool(self.map.slots_of(name)), name))
        one = self.asked[todo[0]]
        others = [node for node in self.asked.values() if node is not one]
        if one.pod is None or (one.answers and not all(node.in_step for node in others)):
            return
        if self.map.slots_of(one.name) and self.group > 1 and one.answers:
            heirs = [node for node in self._copies_of(self.map.views[one.name].me.id) if node.in_step]
            if heirs:
                await self._fail_over(heirs[0].name, by_force=False)
            return
        self.ctx.event("Normal", "Restarting", f"{one.name} is replaced")
        await self.session.delete(one.pod)


_FIRST = {
    **dict.fromkeys(("grow", "auth", "rotate", "expire", "anchor", certificates.PAYLOAD), 0),
    **dict.fromkeys(("failover", "meet", "follow", "forget", "assign", "move"), 1),
    "apply": 3,
}
