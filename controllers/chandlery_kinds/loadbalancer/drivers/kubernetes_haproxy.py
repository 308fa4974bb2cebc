"""One pass over the HAProxy pods of a load balancer."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from chandlery.driver.protocol import Binding, Difference, Disruption, DriverContext, Observation
from chandlery.foundation import x509 as tls
from chandlery.foundation.errors import ChandleryError, DependencyNotReady, EngineFailed
from chandlery.model.base import Condition, ConditionStatus, Endpoint
from chandlery.model.parts import ExposureType
from chandlery.providers.kubernetes.children import Children
from chandlery.providers.kubernetes.driver import agreed
from chandlery.providers.kubernetes.pods import budget, problem
from chandlery.providers.kubernetes.templates import Kept, keep, upgrade_condition
from chandlery.providers.kubernetes.types import (
    BUDGETS,
    DEPLOYMENTS,
    NETWORK_POLICIES,
    PODS,
    SECRETS,
    SERVICES,
    Obj,
)
from chandlery_kinds.loadbalancer.haproxy import (
    MARK,
    Surroundings,
    backend_name,
    backends_in_use,
    live_addable,
    mark_of,
    own_options,
    server_options,
)
from chandlery_kinds.loadbalancer.kubernetes.config import config, text
from chandlery_kinds.loadbalancer.kubernetes.deployment import deployment
from chandlery_kinds.loadbalancer.kubernetes.inputs import ADMIN_PORT, Inputs
from chandlery_kinds.loadbalancer.kubernetes.service import policy, service
from chandlery_kinds.loadbalancer.listeners import Protocol
from chandlery_kinds.loadbalancer.live import server_differences
from chandlery_kinds.loadbalancer.model import LoadBalancer
from chandlery_kinds.loadbalancer.runtime_tls import TlsRuntime, client_context
from chandlery_kinds.loadbalancer.targets import Server, resolve

KINDS = (DEPLOYMENTS, SERVICES, SECRETS, BUDGETS, NETWORK_POLICIES, PODS)
AUTH = "-auth"
DRIVER = "driver.pem"
"""Key of the certificate with which we log in at HAProxy."""
STARTING_POLL = 0.5
DRIFT_POLL = 5.0
_GOOD = ("UP", "no check")


@dataclass(slots=True)
class Node:
    """One pod, and what its HAProxy said."""

    pod: Obj
    runtime: TlsRuntime | None = None
    mark: str = ""
    version: str = ""
    rows: Sequence[Mapping[str, str]] = field(default_factory=tuple)
    error: str = ""

    @property
    def name(self) -> str:
        return str(self.pod["metadata"]["name"])


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a pass works towards."""

    configuration: str
    servers: Mapping[str, Sequence[Server]]
    where: Surroundings
    manifests: list[Obj]
    kept: Kept


class HaproxyPods:
    """Everything that one pass does with one load balancer. Made anew each time; keeps nothing."""

    def __init__(self, ctx: DriverContext, obj: LoadBalancer, there: Children, inputs: Inputs) -> None:
        self.ctx = ctx
        self.obj = obj
        self.spec = obj.spec
        self.there = there
        self.session = there.session
        self.inputs = inputs
        self.owner = inputs.owner
        self.expires: dict[str, datetime] = {}
        """When the first certificate of each HTTPS listener ends."""

    @classmethod
    async def of(cls, ctx: DriverContext, obj: LoadBalancer) -> HaproxyPods:
        """Read what is there."""
        session = ctx.provider
        inputs = Inputs.of(obj, ctx.parameters, session.images, session.pull_secrets)
        return cls(ctx, obj, await Children(session, inputs.owner, KINDS).look(), inputs)

    @property
    def live(self) -> Obj | None:
        return self.there.get(DEPLOYMENTS)

    # -- certificates

    def _auth(self) -> dict[str, str]:
        found = self.there.get(SECRETS, AUTH)
        return {key: b64decode(value).decode() for key, value in ((found or {}).get("data") or {}).items()}

    def _names(self, hostnames: Sequence[str]) -> list[str]:
        host = f"{self.owner.base}.{self.owner.namespace}.svc"
        more = [self.spec.exposure.hostname] if self.spec.exposure.hostname else []
        return list(dict.fromkeys([*hostnames, *more, host]))

    def _due(self) -> dict[str, str]:
        """Certificates of our own that are missing, about to end, or for other names than now: made here."""
        auth, now = self._auth(), self.ctx.base.now()
        made: dict[str, str] = {}
        if "ca.crt" not in auth or "ca.key" not in auth:
            made["ca.crt"], made["ca.key"] = tls.make_ca(f"{self.owner.namespace}/{self.owner.name}", now)
        ca = (made.get("ca.crt") or auth["ca.crt"], made.get("ca.key") or auth["ca.key"])
        wanted = {"admin.pem": ["haproxy.chandlery"], DRIVER: ["driver.chandlery"]}
        for x in self.spec.listeners:
            if x.protocol is Protocol.HTTPS and not (x.tls and x.tls.certificate_secrets):
                wanted[f"listener-{x.name}.pem"] = self._names(x.hostnames)
        for key, names in wanted.items():
            known = auth.get(key)
            stale = known is None or tls.names_of(known) != set(names) or tls.expires(known) - now < tls.RENEW_BEFORE
            if stale or "ca.crt" in made:
                made[key] = tls.make_certificate(ca, names, now, client=key == DRIVER)
        return made

    async def _certificates(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for x in self.spec.listeners:
            if x.protocol is not Protocol.HTTPS:
                continue
            secrets = x.tls.certificate_secrets if x.tls is not None else ()
            pems = []
            for index, ref in enumerate(secrets):
                path = f"spec.listeners[{x.name}].tls.certificateSecrets[{index}]"
                data = await self.ctx.reader.secret(self.owner.namespace, ref.name)
                if not data or "tls.crt" not in data or "tls.key" not in data:
                    raise DependencyNotReady(
                        f"the Secret {ref.name} with tls.crt and tls.key isn't there",
                        field=path,
                        hint="Create it, or leave certificateSecrets out to have a certificate made.",
                    )
                pems.append(tls.check_pair(data["tls.crt"], data["tls.key"], path, ref.name))
            found[x.name] = pems or [self._auth()[f"listener-{x.name}.pem"]]
            self.expires[x.name] = tls.expires(found[x.name][0])
        return found

    async def _ca(self, name: str, path: str) -> str:
        data = await self.ctx.reader.secret(self.owner.namespace, name)
        content = (data or {}).get("ca.crt", b"").decode()
        if not content:
            raise DependencyNotReady(f"the Secret {name} with ca.crt isn't there", field=path)
        return content

    # -- what is wanted

    async def wanted(self) -> Wanted:
        """The configuration, and all manifests with it."""
        servers = await resolve(self.ctx.reader, self.owner.namespace, self.spec)
        certificates = await self._certificates()
        client_cas = {
            x.name: await self._ca(x.tls.client_ca_secret.name, f"spec.listeners[{x.name}].tls.clientCaSecret")
            for x in self.spec.listeners
            if x.tls is not None and x.tls.client_ca_secret is not None
        }
        pool_cas = {
            p.name: await self._ca(p.tls.ca_secret.name, f"spec.pools[{p.name}].tls.caSecret")
            for p in self.spec.pools
            if p.tls is not None and p.tls.ca_secret is not None
        }
        configuration, where = text(self.inputs, servers, certificates, client_cas, pool_cas)
        files = [*(pem for pems in certificates.values() for pem in pems), *client_cas.values(), *pool_cas.values()]
        auth = self._auth()
        secret = config(self.inputs, configuration, files, auth["admin.pem"], auth["ca.crt"])
        upgrade = agreed(self.spec, self.obj.metadata.annotations, self.ctx.base.now())
        asked = {**self.inputs.asked, "certificates": sorted(where.certificates.items())}
        kept = keep(deployment(self.inputs, mark_of(configuration)), self.live, asked, upgrade=upgrade)
        manifests = [
            secret,
            service(self.inputs),
            *budget(self.owner, self.spec.replicas),
            *policy(self.inputs),
            kept.workload,
        ]
        return Wanted(configuration, servers, where, manifests, kept)

    # -- create, update, delete

    async def delete(self) -> bool:
        return await self.there.remove()

    async def create(self) -> None:
        await self._ensure_auth()
        for change in self.there.differences((await self.wanted()).manifests, _cost):
            await self.there.act(*change.payload)

    async def _ensure_auth(self) -> None:
        due = self._due()
        live = self.there.get(SECRETS, AUTH)
        if live is None:
            await self.there.secret_once(AUTH, due)
        elif due:
            await self.session.merge(live, {"stringData": due})
        await self.there.look()

    async def update(self, observed: Observation) -> None:
        """Manifests first, so that a new pod has what old ones are told live."""
        steps = [change.payload for change in observed.plan.changes]
        if any(step[0] == "auth" for step in steps):
            await self._ensure_auth()
            return
        wanted = await self.wanted()
        live = []
        for step in steps:
            if step[0] == "server":
                live.append(step)
            else:
                await self.there.act(*step)
        nodes = {node.name: node for node in await self._nodes()}
        for _, pod, change in live:
            node = nodes.get(pod)
            if node is not None and node.runtime is not None and node.rows:
                await self._change(node, change, wanted)

    async def _change(self, node: Node, step: tuple[Any, ...], wanted: Wanted) -> None:
        what, pool_name, backend, name = step
        at = f"{backend}/{name}"
        if what == "remove":
            await self._remove(node, backend, name)
            return
        pool = next(p for p in self.spec.pools if p.name == pool_name)
        server = next(s for s in wanted.servers[pool_name] if s.id == name)
        if what == "weight":
            await _order(node, f"set server {at} weight {server.weight}")
        elif what == "move":
            await _order(node, f"set server {at} addr {server.host} port {server.port}")
        elif live_addable(pool):
            options = f"{server_options(pool, wanted.where)} {own_options(pool, server)}"
            await _order(node, f"add server {at} {server.address} {options}")
            if pool.health_check.enabled:
                await _order(node, f"enable health {at}")
            await _order(node, f"enable server {at}")
        else:
            await self.session.delete(node.pod)  # cookies and slow starts can't be added live

    async def _remove(self, node: Node, backend: str, name: str) -> None:
        """No new sessions first; a later pass takes it out once the last one has ended."""
        row = next((r for r in node.rows if r["pxname"] == backend and r["svname"] == name), None)
        at = f"{backend}/{name}"
        if row is not None and int(row.get("scur") or 0) > 0:
            await _order(node, f"set server {at} state drain")
            return
        await _order(node, f"set server {at} state maint")
        await _order(node, f"del server {at}")

    # -- observe

    async def observe(self) -> Observation:
        if self.live is None and not self.there.pods:
            return Observation(exists=False, external_name=self.owner.identity)
        due = self._due()
        if any(key not in self._auth() for key in due):
            missing = Difference(f"Secret {self.owner.base}{AUTH}", "complete", "incomplete", payload=("auth",))
            return Observation(
                exists=True, external_name=self.owner.identity, differences=(missing,), reason="Starting"
            )
        wanted = await self.wanted()
        nodes = await self._nodes()
        found = [Difference("certificates", "valid", "about to end", payload=("auth",))] if due else []
        found += self.there.differences(wanted.manifests, _cost)
        current = [node for node in nodes if node.rows and node.mark == mark_of(wanted.configuration)]
        for node in current:
            found += self._servers(node, wanted)
        host = self._host()
        ready = bool(host) and len(current) >= self.spec.replicas and self._rolled_out()
        reason, message = ("", "") if ready else self._explain(nodes, host)
        rows = next((node.rows for node in current), ())
        singular = f"{self.obj.names.singular}/{self.owner.name} -n {self.owner.namespace}"
        return Observation(
            exists=True,
            ready=ready,
            reason=reason,
            message=message,
            differences=tuple(found),
            external_name=self.owner.identity,
            endpoint=Endpoint(host=host or self._names(())[0], port=self.spec.listeners[0].port),
            binding=self._binding(host or self._names(())[0]),
            facts=self._facts(current, wanted, rows, host),
            conditions=(self._targets_condition(rows, wanted), *upgrade_condition(singular, wanted.kept.newer)),
            poll_after=DRIFT_POLL if ready else STARTING_POLL,
        )

    async def _nodes(self) -> list[Node]:
        auth = self._auth()
        context = client_context(auth["ca.crt"], auth[DRIVER])
        nodes = [Node(pod) for pod in self.there.pods if not pod["metadata"].get("deletionTimestamp")]
        for node in nodes:
            try:
                host, port = self.session.resolve(node.pod, ADMIN_PORT)
                runtime = TlsRuntime(host, port, context)
                node.mark = await runtime.environment(MARK)
                node.rows = await runtime.statistics()
                node.version = await runtime.version()
                node.runtime = runtime
            except ChandleryError as error:
                node.error = error.message
        return nodes

    def _servers(self, node: Node, wanted: Wanted) -> list[Difference]:
        found = []
        own = [row for row in node.rows if row["svname"] not in ("FRONTEND", "BACKEND")]
        for pool_name, mode in sorted(backends_in_use(self.spec)):
            pool = next(p for p in self.spec.pools if p.name == pool_name)
            backend = backend_name(pool_name, mode)
            want = {server.id: server for server in wanted.servers.get(pool_name, ())}
            present = {row["svname"]: row for row in own if row["pxname"] == backend}
            for change in server_differences(pool, backend, want, present):
                found.append(
                    Difference(
                        change.field, change.desired, change.actual, payload=("server", node.name, change.payload)
                    )
                )
        return found

    def _rolled_out(self) -> bool:
        live = self.live or {}
        status = live.get("status") or {}
        return (
            status.get("observedGeneration") == (live.get("metadata") or {}).get("generation")
            and int(status.get("availableReplicas") or 0) >= self.spec.replicas
        )

    def _host(self) -> str:
        """Where clients connect; empty while the substrate hasn't given an address yet."""
        live = self.there.get(SERVICES)
        if self.spec.exposure.hostname:
            return str(self.spec.exposure.hostname)
        if self.spec.exposure.type is ExposureType.LOAD_BALANCER:
            for entry in (((live or {}).get("status") or {}).get("loadBalancer") or {}).get("ingress") or ():
                return str(entry.get("ip") or entry.get("hostname") or "")
            return ""
        return f"{self.owner.base}.{self.owner.namespace}.svc" if live is not None else ""

    def _explain(self, nodes: list[Node], host: str) -> tuple[str, str]:
        for node in nodes:
            wrong = problem(node.pod)
            if wrong:
                return wrong[0], f"{node.name}: {wrong[1]}"
        if not host:
            return "AddressPending", "the cluster has not given the Service an address yet"
        silent = next((node for node in nodes if node.error), None)
        if silent is not None:
            return "Starting", f"{silent.name}: {silent.error}"
        return "Starting", "waiting for pods with the present configuration"

    def _facts(
        self, nodes: Sequence[Node], wanted: Wanted, rows: Sequence[Mapping[str, str]], host: str
    ) -> dict[str, Any]:
        frontends = {row["pxname"]: row for row in rows if row["svname"] == "FRONTEND"}
        listeners = []
        for x in self.spec.listeners:
            row = frontends.get(x.name, {})
            entry: dict[str, Any] = {"name": x.name, "ready": row.get("status") == "OPEN", "port": x.port}
            if x.name in self.expires:
                entry["certificateExpires"] = f"{self.expires[x.name]:%Y-%m-%dT%H:%M:%SZ}"
            listeners.append(entry)
        pools = [self._pool(pool.name, wanted.servers.get(pool.name, ()), rows) for pool in self.spec.pools]
        service_live = self.there.get(SERVICES) or {}
        address = host if self.spec.exposure.type is ExposureType.LOAD_BALANCER else None
        return {
            "engine": "haproxy",
            "version": next((node.version for node in nodes), None),
            "address": address or (service_live.get("spec") or {}).get("clusterIP") or host,
            "replicas": len(self.there.pods),
            "readyReplicas": len(nodes),
            "selector": ",".join(f"{key}={value}" for key, value in self.owner.selector.items()),
            "targets": sum(pool["targets"] for pool in pools),
            "healthyTargets": sum(pool["healthyTargets"] for pool in pools),
            "listeners": listeners,
            "pools": pools,
        }

    def _pool(self, name: str, servers: Sequence[Server], rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
        names = {backend_name(name, mode) for mode in ("http", "tcp")}
        members = []
        for server in servers:
            row = next((r for r in rows if r["pxname"] in names and r["svname"] == server.id), {})
            status = row.get("status", "")
            entry: dict[str, Any] = {
                "name": server.name,
                "address": server.address,
                "healthy": status.startswith(_GOOD),
            }
            if not entry["healthy"]:
                entry["message"] = " ".join(p for p in (status, row.get("last_chk", "")) if p) or "not asked yet"
            members.append(entry)
        healthy = sum(1 for member in members if member["healthy"])
        return {"name": name, "targets": len(members), "healthyTargets": healthy, "members": members}

    def _targets_condition(self, rows: Sequence[Mapping[str, str]], wanted: Wanted) -> Condition:
        without = []
        for pool in self.spec.pools:
            facts = self._pool(pool.name, wanted.servers.get(pool.name, ()), rows)
            if facts["healthyTargets"] == 0:
                without.append(f"{pool.name} (0 of {facts['targets']})")
        return Condition(
            type="TargetsHealthy",
            status=ConditionStatus.FALSE if without else ConditionStatus.TRUE,
            reason="NoHealthyTarget" if without else "AllPoolsServe",
            message=f"No target gets traffic in {', '.join(without)}; status.pools says why." if without else "",
        )

    def _binding(self, host: str) -> Binding:
        first = self.spec.listeners[0]
        scheme = {Protocol.HTTP: "http", Protocol.HTTPS: "https"}.get(first.protocol, "tcp")
        entries = {"host": host, "port": str(first.port), "uri": f"{scheme}://{host}:{first.port}"}
        for listener in self.spec.listeners:
            entries[f"{listener.name}-port"] = str(listener.port)
        if any(key.startswith("listener-") for key in self._auth()):
            entries["ca.crt"] = self._auth()["ca.crt"]
        return Binding(scheme, "chandlery", entries)


def _cost(kind: str, path: str) -> Disruption:
    """A new template replaces pods one after the other, and old ones end their sessions first."""
    return Disruption.RELOAD if kind == DEPLOYMENTS.kind and ".template" in path else Disruption.NONE


async def _order(node: Node, command: str) -> None:
    """A command that must succeed; HAProxy answers nothing, or a sentence that begins with what it did."""
    assert node.runtime is not None
    answer = await node.runtime.command(command)
    if answer and not any(word in answer for word in ("registered", "deleted", "changed", "no need to change")):
        raise EngineFailed(f"HAProxy of {node.name} refused `{command}`: {answer}")
