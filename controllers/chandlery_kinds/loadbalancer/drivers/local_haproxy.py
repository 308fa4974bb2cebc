"""The HAProxy processes of one load balancer: targets change live, everything else by a reload without a gap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from chandlery.driver.protocol import Binding, Difference, Disruption, DriverContext, Observation
from chandlery.foundation.errors import DependencyNotReady
from chandlery.model.base import Condition, ConditionStatus, Endpoint
from chandlery.providers.local import Instance
from chandlery.providers.local.driver import require_port
from chandlery.providers.local.files import make_dir
from chandlery_kinds.loadbalancer.drivers.haproxy_process import HaproxyProcess, Seen
from chandlery_kinds.loadbalancer.haproxy import Surroundings, backend_name, backends_in_use, render
from chandlery_kinds.loadbalancer.listeners import Listener, Protocol
from chandlery_kinds.loadbalancer.live import server_differences
from chandlery_kinds.loadbalancer.model import LoadBalancer
from chandlery_kinds.loadbalancer.pools import Pool
from chandlery_kinds.loadbalancer.targets import Server, resolve

STARTING_POLL = 0.02
DRIFT_POLL = 5.0
_GOOD = ("UP", "no check")


class HaproxyServer:
    """Everything that one pass does with one load balancer. Made anew each time; keeps nothing."""

    def __init__(self, ctx: DriverContext, obj: LoadBalancer, instance: Instance) -> None:
        self.ctx = ctx
        self.obj = obj
        self.spec = obj.spec
        self.instance = instance
        self.host = self.spec.address.ip or "127.0.0.1"
        self.expires: dict[str, datetime] = {}
        """When the first certificate of each HTTPS listener ends."""
        self.processes = [HaproxyProcess(ctx, obj, instance, index) for index in range(obj.spec.replicas)]

    # -- what is wanted

    def text(self, process: HaproxyProcess, servers: Mapping[str, list[Server]], where: Surroundings) -> str:
        """The configuration of one of them: only its socket is its own."""
        return render(self.spec, servers, replace(where, socket=process.socket))

    async def wanted(self) -> tuple[dict[str, list[Server]], Surroundings]:
        """The servers of each pool, and the files that the configuration needs, which are written here."""
        namespace = self.obj.metadata.namespace
        servers = await resolve(self.ctx.reader, namespace, self.spec)
        where = Surroundings(
            bind=self.host,
            certificates={
                x.name: await self._certificates(x) for x in self.spec.listeners if x.protocol is Protocol.HTTPS
            },
            client_cas=await self._client_cas(),
            pool_cas=await self._pool_cas(),
        )
        return servers, where

    async def _certificates(self, listener: Listener) -> Sequence[str]:
        """Files of a listener's certificates; their names change with their content, so that a reload reads them."""
        from chandlery.foundation import x509 as tls  # 8 MiB, which plain listeners can do without

        secrets = listener.tls.certificate_secrets if listener.tls is not None else ()
        pems = []
        for index, ref in enumerate(secrets):
            field = f"spec.listeners[{listener.name}].tls.certificateSecrets[{index}]"
            data = await self.ctx.reader.secret(self.obj.metadata.namespace, ref.name)
            if not data or "tls.crt" not in data or "tls.key" not in data:
                raise DependencyNotReady(
                    f"the Secret {ref.name} with tls.crt and tls.key isn't there",
                    field=field,
                    hint="Create it, or leave certificateSecrets out to have a certificate made.",
                )
            pems.append(tls.check_pair(data["tls.crt"], data["tls.key"], field, ref.name))
        pems = pems or [self._own_certificate(listener)]
        self.expires[listener.name] = tls.expires(pems[0])
        return [self._file(pem) for pem in pems]

    def _own_certificate(self, listener: Listener) -> str:
        """A certificate by the object's own CA, renewed in time and when the names change."""
        from chandlery.foundation import x509 as tls

        record, now = self.instance.record, self.ctx.base.now()
        if "ca" not in record:
            record["ca"] = list(tls.make_ca(f"{self.obj.metadata.namespace}/{self.obj.metadata.name}", now))
            self.instance.save()
        names = [*(listener.hostnames or ("localhost",)), self.host]
        known = record.setdefault("certificates", {}).get(listener.name)
        if known is None or tls.names_of(known) != set(names) or tls.expires(known) - now < tls.RENEW_BEFORE:
            ca = record["ca"]
            known = record["certificates"][listener.name] = tls.make_certificate((ca[0], ca[1]), names, now)
            self.instance.save()
        return str(known)

    def _file(self, content: str) -> str:
        import hashlib

        folder = self.instance.config_dir / "certificates"
        make_dir(folder)
        name = f"{hashlib.sha256(content.encode()).hexdigest()[:16]}.pem"
        self.instance.write_config(f"certificates/{name}", content)
        self.instance.provider.privileges.hand_over(folder, self.instance.root)
        return f"config/certificates/{name}"

    async def _ca_file(self, name: str, field: str) -> str:
        data = await self.ctx.reader.secret(self.obj.metadata.namespace, name)
        content = (data or {}).get("ca.crt", b"").decode()
        if not content:
            raise DependencyNotReady(f"the Secret {name} with ca.crt isn't there", field=field)
        return self._file(content)

    async def _client_cas(self) -> dict[str, str]:
        found = {}
        for x in self.spec.listeners:
            if x.tls is not None and x.tls.client_ca_secret is not None:
                field = f"spec.listeners[{x.name}].tls.clientCaSecret"
                found[x.name] = await self._ca_file(x.tls.client_ca_secret.name, field)
        return found

    async def _pool_cas(self) -> dict[str, str]:
        found = {}
        for pool in self.spec.pools:
            if pool.tls is not None and pool.tls.ca_secret is not None:
                found[pool.name] = await self._ca_file(pool.tls.ca_secret.name, f"spec.pools[{pool.name}].tls.caSecret")
        return found

    # -- create

    async def create(self) -> None:
        servers, where = await self.wanted()
        for process in self.processes:
            await self._start(process, self.text(process, servers, where))

    async def _start(self, process: HaproxyProcess, text: str) -> None:
        if not any(each.process.state().running for each in self.processes):
            for listener in self.spec.listeners:
                require_port(listener.port, self.host)
        await process.start(text)

    # -- observe

    async def observe(self) -> Observation:
        self.instance.reload()
        servers, where = await self.wanted()
        looks = [await process.look(self.text(process, servers, where)) for process in self.processes]
        serving = [seen for seen in looks if seen.current]
        ready = bool(serving)
        extra = [name for name in self.instance.process_names() if name not in {p.name for p in self.processes}]
        differences = [
            difference
            for process, seen in zip(self.processes, looks, strict=True)
            for difference in self._differences(process, seen, servers)
        ]
        differences += [Difference("spec.replicas", "absent", name, payload=("end", name)) for name in extra]
        rows = [row for seen in looks for row in seen.rows]
        crashed = next((seen.state for seen in looks if seen.state.crashed and seen.state.restarts > 1), None)
        first = next((seen for seen in looks if seen.version), None)
        waits = [seen.state.wait for seen in looks if not seen.current]
        return Observation(
            exists=bool(self.instance.process_names()),
            ready=ready,
            reason="" if ready else "CrashLoop" if crashed is not None else "Starting",
            message="" if ready else self._explain(looks),
            differences=tuple(differences),
            external_name=self.instance.name,
            endpoint=Endpoint(host=self.host, port=self.spec.listeners[0].port),
            binding=self._binding(),
            facts={
                **self._facts(rows, servers, first.version if first is not None else ""),
                "replicas": len(self.processes),
                "readyReplicas": len(serving),
            },
            conditions=(self._targets_condition(rows, servers),),
            poll_after=max(STARTING_POLL, min(waits)) if waits else DRIFT_POLL,
        )

    def _explain(self, looks: Sequence[Seen]) -> str:
        for process, seen in zip(self.processes, looks, strict=True):
            if seen.state.crashed:
                return f"HAProxy {seen.state.exit}; its last words: {process.process.log_tail(3)}"
        return next((seen.problem for seen in looks if seen.problem), "waiting for HAProxy to answer")

    def _differences(
        self, process: HaproxyProcess, seen: Seen, servers: Mapping[str, Sequence[Server]]
    ) -> list[Difference]:
        """Payloads: what is to be done, then the number of the process, then the rest."""
        index = process.index
        if not seen.state.running:
            change = ("start", index)
            return [] if seen.state.wait > 0 else [Difference(process.name, "running", "stopped", payload=change)]
        if not seen.rows:
            return []
        if not seen.current:
            return [Difference("spec", "as in spec", "older", Disruption.RELOAD, payload=("reload", index))]
        found = []
        for pool_name, mode in sorted(backends_in_use(self.spec)):
            pool = next(p for p in self.spec.pools if p.name == pool_name)
            backend = backend_name(pool_name, mode)
            wanted = {server.id: server for server in servers.get(pool_name, ())}
            present = {name: row for (proxy, name), row in seen.by_name.items() if proxy == backend}
            found += [
                replace(change, payload=("live", index, change.payload))
                for change in server_differences(pool, backend, wanted, present)
            ]
        return found

    def _facts(
        self, rows: Sequence[Mapping[str, str]], servers: Mapping[str, Sequence[Server]], version: str
    ) -> dict[str, Any]:
        listeners = []
        for listener in self.spec.listeners:
            fronts = [row for row in rows if row["svname"] == "FRONTEND" and row["pxname"] == listener.name]
            entry: dict[str, Any] = {
                "name": listener.name,
                "ready": any(row.get("status") == "OPEN" for row in fronts),
                "port": listener.port,
                "sessions": _sessions(fronts),
            }
            if listener.name in self.expires:
                entry["certificateExpires"] = f"{self.expires[listener.name]:%Y-%m-%dT%H:%M:%SZ}"
            listeners.append(entry)
        pools = [self._pool_facts(pool, servers.get(pool.name, ()), rows) for pool in self.spec.pools]
        return {
            "engine": "haproxy",
            **({"version": version} if version else {}),
            "address": self.host,
            "targets": sum(pool["targets"] for pool in pools),
            "healthyTargets": sum(pool["healthyTargets"] for pool in pools),
            "listeners": listeners,
            "pools": pools,
        }

    def _pool_facts(self, pool: Pool, servers: Sequence[Server], rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
        names = {backend_name(pool.name, mode) for mode in ("http", "tcp")}
        members = []
        for server in servers:
            here = [row for row in rows if row["pxname"] in names and row["svname"] == server.id]
            row: Mapping[str, str] = next((row for row in here if row["status"].startswith(_GOOD)), (here or [{}])[0])
            status = row.get("status", "")
            entry: dict[str, Any] = {
                "name": server.name,
                "address": server.address,
                "healthy": status.startswith(_GOOD),
                "sessions": _sessions(here),
            }
            if not entry["healthy"]:
                entry["message"] = (
                    " ".join(part for part in (status, row.get("last_chk", "")) if part) or "not asked yet"
                )
            members.append(entry)
        healthy = sum(1 for member in members if member["healthy"])
        return {"name": pool.name, "targets": len(members), "healthyTargets": healthy, "members": members}

    def _targets_condition(
        self, rows: Sequence[Mapping[str, str]], servers: Mapping[str, Sequence[Server]]
    ) -> Condition:
        without = []
        for pool in self.spec.pools:
            facts = self._pool_facts(pool, servers.get(pool.name, ()), rows)
            if facts["healthyTargets"] == 0:
                without.append(f"{pool.name} (0 of {facts['targets']})")
        return Condition(
            type="TargetsHealthy",
            status=ConditionStatus.FALSE if without else ConditionStatus.TRUE,
            reason="NoHealthyTarget" if without else "AllPoolsServe",
            message=f"No target gets traffic in {', '.join(without)}; status.pools says why." if without else "",
        )

    def _binding(self) -> Binding:
        first = self.spec.listeners[0]
        scheme = {Protocol.HTTP: "http", Protocol.HTTPS: "https"}.get(first.protocol, "tcp")
        entries = {
            "host": self.host,
            "port": str(first.port),
            "uri": f"{scheme}://{self.host}:{first.port}",
        }
        for listener in self.spec.listeners:
            entries[f"{listener.name}-port"] = str(listener.port)
        if "ca" in self.instance.record:
            entries["ca.crt"] = self.instance.record["ca"][0]
        return Binding(scheme, "chandlery", entries)

    # -- update

    async def update(self, observed: Observation) -> None:
        """One process after the other, so that there is always one that serves."""
        servers, where = await self.wanted()
        steps = [change.payload for change in observed.plan.changes]
        for process in self.processes:
            mine = [step for step in steps if step[0] != "end" and step[1] == process.index]
            text = self.text(process, servers, where)
            if any(step[0] == "start" for step in mine):
                await self._start(process, text)
            elif any(step[0] == "reload" for step in mine):
                await process.reload(text)
            elif mine:
                await process.change_all([step[2] for step in mine], servers, where, text)
        for step in steps:
            if step[0] == "end":
                index = int(step[1].rpartition("-")[2])
                await HaproxyProcess(self.ctx, self.obj, self.instance, index).end()


def _sessions(rows: Sequence[Mapping[str, str]]) -> int:
    return sum(int(row.get("scur") or 0) for row in rows)
