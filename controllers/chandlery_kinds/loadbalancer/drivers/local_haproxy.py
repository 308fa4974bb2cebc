"""One HAProxy of one load balancer: targets change live, everything else by a reload without a gap."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from typing import Any

from chandlery.driver.protocol import Binding, Difference, Disruption, DriverContext, Observation
from chandlery.foundation import x509 as tls
from chandlery.foundation.errors import ChandleryError, DependencyNotReady, EngineFailed
from chandlery.model.base import Condition, ConditionStatus, Endpoint
from chandlery.providers.local import Instance, ProcessSpec, StopStep
from chandlery.providers.local.driver import require_port
from chandlery.providers.local.files import make_dir
from chandlery.providers.local.tools import run_tool
from chandlery_kinds.loadbalancer.haproxy import (
    MARK,
    Surroundings,
    backend_name,
    backends_in_use,
    live_addable,
    mark_of,
    own_options,
    render,
    server_options,
)
from chandlery_kinds.loadbalancer.listeners import Listener, Protocol
from chandlery_kinds.loadbalancer.live import server_differences
from chandlery_kinds.loadbalancer.model import LoadBalancer
from chandlery_kinds.loadbalancer.pools import Pool
from chandlery_kinds.loadbalancer.runtime import Runtime
from chandlery_kinds.loadbalancer.targets import Server, resolve

STARTING_POLL = 0.02
DRIFT_POLL = 5.0
RELOAD_SECONDS = 10.0
DRAIN_SECONDS = 10.0
CONFIG = "haproxy.cfg"
# SIGUSR1 lets sessions end by themselves; what is left after that is ended.
# Asked again, because a master that has just started doesn't hear the first time.
STOP = (*[StopStep(signal.SIGUSR1, 0.5)] * 6, StopStep(signal.SIGTERM, 3.0), StopStep(signal.SIGKILL, 5.0))
_GOOD = ("UP", "no check")


class HaproxyServer:
    """Everything that one pass does with one load balancer. Made anew each time; keeps nothing."""

    def __init__(self, ctx: DriverContext, obj: LoadBalancer, instance: Instance) -> None:
        self.ctx = ctx
        self.obj = obj
        self.spec = obj.spec
        self.instance = instance
        self.host = self.spec.address.ip or "127.0.0.1"
        self.process = instance.process("haproxy")
        self.runtime = Runtime(instance.run_dir / "admin.sock")

    # -- what is wanted

    async def wanted(self) -> tuple[str, dict[str, list[Server]], Surroundings]:
        """The configuration, the servers of each pool, and the files it needs, which are written here."""
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
        return render(self.spec, servers, where), servers, where

    async def _certificates(self, listener: Listener) -> Sequence[str]:
        """Files of a listener's certificates; their names change with their content, so that a reload reads them."""
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
        return [self._file(pem) for pem in pems or [self._own_certificate(listener)]]

    def _own_certificate(self, listener: Listener) -> str:
        """A certificate by the object's own CA, renewed in time and when the names change."""
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
        text, _, _ = await self.wanted()
        await self._start(text)

    async def _start(self, text: str) -> None:
        for listener in self.spec.listeners:
            if not self.process.state().running:
                require_port(listener.port, self.host)
        await self._check(text)
        self.instance.write_config(CONFIG, text)
        engine = self.instance.engine("haproxy")
        argv = [str(engine.binary), "-W", "-db", "-f", f"config/{CONFIG}"]
        await self.process.start(ProcessSpec(argv, env=engine.env, cwd=self.instance.root, stop=STOP))

    async def _check(self, text: str) -> None:
        """HAProxy's own opinion of a configuration, before anything that runs sees it.

        Raises:
            EngineFailed: what it says is wrong.
        """
        self.instance.write_config("next.cfg", text)
        engine = self.instance.engine("haproxy")
        argv = [str(engine.binary), "-c", "-f", "config/next.cfg"]
        done = await run_tool(self.instance, argv, env=engine.env, cwd=self.instance.root, check=False)
        if done.code != 0:
            alerts = [line for line in done.output.splitlines() if "[ALERT]" in line]
            raise EngineFailed(
                f"HAProxy refuses the configuration: {' | '.join(alerts[:3]) or done.tail()}",
                field="spec",
                hint="What runs goes on as it is.",
                retry_after=None,
            )

    # -- observe

    async def observe(self) -> Observation:
        self.instance.reload()
        state = self.process.state()
        text, servers, _ = await self.wanted()
        rows: Sequence[Mapping[str, str]] = ()
        mark, version, problem = "", "", ""
        if state.running:
            try:
                mark = await self.runtime.environment(MARK)
                rows = await self.runtime.statistics()
                version = await self.runtime.version()
                self.process.settled()
            except ChandleryError as error:
                problem = error.message
        differences = self._differences(state.running, text, mark, servers, rows)
        ready = bool(rows) and mark == mark_of(text)
        return Observation(
            exists=bool(self.instance.process_names()),
            ready=ready,
            reason="" if ready else "CrashLoop" if state.crashed and state.restarts > 1 else "Starting",
            message="" if ready else self._explain(problem),
            differences=tuple(differences),
            external_name=self.instance.name,
            endpoint=Endpoint(host=self.host, port=self.spec.listeners[0].port),
            binding=self._binding(),
            facts=self._facts(rows, servers, version),
            conditions=(self._targets_condition(rows, servers),),
            poll_after=DRIFT_POLL if ready else max(STARTING_POLL, state.wait),
        )

    def _explain(self, problem: str) -> str:
        state = self.process.state()
        if state.crashed:
            return f"HAProxy {state.exit}; its last words: {self.process.log_tail(3)}"
        return problem or "waiting for HAProxy to answer"

    def _differences(
        self,
        running: bool,
        text: str,
        mark: str,
        servers: Mapping[str, Sequence[Server]],
        rows: Sequence[Mapping[str, str]],
    ) -> list[Difference]:
        if not running:
            wait = self.process.state().wait
            return [] if wait > 0 else [Difference("instance", "running", "stopped", payload=("start",))]
        if not rows:
            return []
        if mark != mark_of(text):
            return [Difference("spec", "as in spec", "older", Disruption.RELOAD, payload=("reload",))]
        found = []
        live = {(row["pxname"], row["svname"]): row for row in rows if row["svname"] not in ("FRONTEND", "BACKEND")}
        for pool_name, mode in sorted(backends_in_use(self.spec)):
            pool = next(p for p in self.spec.pools if p.name == pool_name)
            backend = backend_name(pool_name, mode)
            wanted = {server.id: server for server in servers.get(pool_name, ())}
            present = {name: row for (proxy, name), row in live.items() if proxy == backend}
            found += server_differences(pool, backend, wanted, present)
        return found

    def _facts(
        self, rows: Sequence[Mapping[str, str]], servers: Mapping[str, Sequence[Server]], version: str
    ) -> dict[str, Any]:
        frontends = {row["pxname"]: row for row in rows if row["svname"] == "FRONTEND"}
        listeners = []
        for listener in self.spec.listeners:
            row = frontends.get(listener.name, {})
            entry: dict[str, Any] = {
                "name": listener.name,
                "ready": row.get("status") == "OPEN",
                "port": listener.port,
                "sessions": int(row.get("scur") or 0),
            }
            certificate = self.instance.record.get("certificates", {}).get(listener.name)
            if listener.protocol is Protocol.HTTPS and certificate:
                entry["certificateExpires"] = tls.expires(certificate).strftime("%Y-%m-%dT%H:%M:%SZ")
            listeners.append(entry)
        pools = [self._pool_facts(pool, servers.get(pool.name, ()), rows) for pool in self.spec.pools]
        return {
            "engine": "haproxy",
            **({"version": version} if version else {}),
            "address": self.host,
            "replicas": 1,
            "readyReplicas": 1 if rows else 0,
            "targets": sum(pool["targets"] for pool in pools),
            "healthyTargets": sum(pool["healthyTargets"] for pool in pools),
            "listeners": listeners,
            "pools": pools,
        }

    def _pool_facts(self, pool: Pool, servers: Sequence[Server], rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
        names = {backend_name(pool.name, mode) for mode in ("http", "tcp")}
        members = []
        for server in servers:
            row = next((r for r in rows if r["pxname"] in names and r["svname"] == server.id), {})
            status = row.get("status", "")
            entry: dict[str, Any] = {
                "name": server.name,
                "address": server.address,
                "healthy": status.startswith(_GOOD),
                "sessions": int(row.get("scur") or 0),
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
        """A reload does everything at once; else single servers are changed where they run, and the file with them."""
        text, servers, where = await self.wanted()
        steps = [change.payload for change in observed.plan.changes]
        if any(step[0] == "start" for step in steps):
            await self._start(text)
            return
        if any(step[0] == "reload" for step in steps):
            await self._reload(text)
            return
        try:
            for step in steps:
                await self._change(step, servers, where)
        except EngineFailed:
            await self._reload(text)  # what can't be changed live is changed by a reload
            return
        self.instance.write_config(CONFIG, text)

    async def _reload(self, text: str) -> None:
        """Hand the listeners over to a new worker, and see that it is the one that answers."""
        await self._check(text)
        self.instance.write_config(CONFIG, text)
        if not self.process.signal(signal.SIGUSR2):
            return  # it is gone; the next pass starts it
        clock, wanted = self.ctx.base.clock, mark_of(text)
        deadline = clock.monotonic() + RELOAD_SECONDS
        while clock.monotonic() < deadline:
            try:
                if await self.runtime.environment(MARK) == wanted:
                    return
            except ChandleryError:
                pass
            await clock.sleep(0.02)
        raise EngineFailed(
            f"HAProxy did not take the new configuration within {RELOAD_SECONDS:.0f} s: {self.process.log_tail(3)}"
        )

    async def _change(
        self, step: tuple[Any, ...], servers: Mapping[str, Sequence[Server]], where: Surroundings
    ) -> None:
        what, pool_name, backend, name = step
        at = f"{backend}/{name}"
        if what == "remove":
            await self._drain(at, backend, name)
            await self._order(f"del server {at}")
            return
        pool = next(p for p in self.spec.pools if p.name == pool_name)
        server = next(s for s in servers[pool_name] if s.id == name)
        if what == "weight":
            await self._order(f"set server {at} weight {server.weight}")
            return
        if what == "move":
            await self._order(f"set server {at} addr {server.host} port {server.port}")
            return
        if not live_addable(pool):
            raise EngineFailed(f"{at} can't be added live")
        await self._order(f"add server {at} {server.address} {server_options(pool, where)} {own_options(pool, server)}")
        if pool.health_check.enabled:
            await self._order(f"enable health {at}")
        await self._order(f"enable server {at}")

    async def _drain(self, at: str, backend: str, name: str) -> None:
        """No new sessions; wait for the present ones, then take it out. Nobody is cut off within the time allowed."""
        clock = self.ctx.base.clock
        await self._order(f"set server {at} state drain")
        deadline = clock.monotonic() + DRAIN_SECONDS
        while clock.monotonic() < deadline:
            rows = await self.runtime.statistics()
            row = next((r for r in rows if r["pxname"] == backend and r["svname"] == name), None)
            if row is None or int(row.get("scur") or 0) == 0:
                break
            await clock.sleep(0.02)
        await self._order(f"set server {at} state maint")

    async def _order(self, command: str) -> None:
        """A command that must succeed; HAProxy answers nothing, or a sentence that begins with what it did."""
        answer = await self.runtime.command(command)
        if answer and not any(word in answer for word in ("registered", "deleted", "changed", "no need to change")):
            raise EngineFailed(f"HAProxy refused `{command}`: {answer}")
