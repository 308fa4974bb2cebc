"""One pass over a single database in a StatefulSet of ours: what is the same for PostgreSQL and MariaDB."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

from chandlery.driver.protocol import Binding, Difference, Disruption, DriverContext, Observation
from chandlery.foundation.errors import NotSupported, Unavailable
from chandlery.foundation.validation.quantity import Quantity
from chandlery.model.base import Condition, Endpoint
from chandlery.model.parts import ExposureType
from chandlery.providers.kubernetes import certificates
from chandlery.providers.kubernetes.backing import DONE, PAYLOADS, TOLD, Backed, source_of
from chandlery.providers.kubernetes.certificates import Certificates
from chandlery.providers.kubernetes.children import Children
from chandlery.providers.kubernetes.driver import AUTH
from chandlery.providers.kubernetes.foreign import look
from chandlery.providers.kubernetes.metrics import exporter_condition
from chandlery.providers.kubernetes.ownership import Owner
from chandlery.providers.kubernetes.pods import problem
from chandlery.providers.kubernetes.pods import ready as is_ready
from chandlery.providers.kubernetes.templates import Kept, keep, upgrade_condition
from chandlery.providers.kubernetes.types import (
    BUDGETS,
    CLAIMS,
    CONFIG_MAPS,
    CRON_JOBS,
    DEPLOYMENTS,
    JOBS,
    NETWORK_POLICIES,
    PODS,
    SECRETS,
    SERVICE_MONITORS,
    SERVICES,
    STATEFUL_SETS,
    Obj,
)
from chandlery_kinds.database.drivers.kubernetes_pass import ContentLike, DatabasePass
from chandlery_kinds.database.kubernetes.backup import template as backup_template
from chandlery_kinds.database.kubernetes.children import children
from chandlery_kinds.database.kubernetes.inputs import ENGINES, Inputs
from chandlery_kinds.database.kubernetes.pooler import SUFFIX as POOLER
from chandlery_kinds.database.kubernetes.statefulset import stateful_set
from chandlery_kinds.database.model import Database
from chandlery_kinds.database.postgres.binding import secret_part

KINDS = (
    STATEFUL_SETS,
    DEPLOYMENTS,
    SERVICES,
    SECRETS,
    CONFIG_MAPS,
    BUDGETS,
    NETWORK_POLICIES,
    CRON_JOBS,
    JOBS,
    PODS,
    CLAIMS,
)
_NOTES = {DONE: "backup", TOLD: "backup-told"}
"""Where what `Backed` keeps stands in the record."""
STARTING_POLL = 0.5
DRIFT_POLL = 30.0
"""What is inside of the engine tells nobody when it changes."""


class DatabasePod(Backed[Database], DatabasePass):
    """Everything that one pass does with one database. Made anew each time; keeps nothing."""

    kinds: ClassVar = KINDS
    engine_name: ClassVar[str]
    own_keys: ClassVar[Sequence[str]] = ("admin",)
    """Passwords of the driver's own users."""

    def __init__(self, ctx: DriverContext, obj: Database, there: Children) -> None:
        super().__init__(ctx, obj, there)
        self.inputs = Inputs.of(
            obj,
            ctx.parameters,
            self.session.images,
            self.session.pull_secrets,
            major=self.notes.get("major", ""),
            restore=self.notes.get("restore"),
        )
        self.monitors = SERVICE_MONITORS in there.kinds
        tls = self.inputs.tls
        self.certificates = Certificates(ctx, tls, there, self.inputs.hosts) if tls is not None else None
        self.live: Mapping[str, Any] = {}
        self.error = ""
        self.pooler_ready = False
        self.shown = ""
        """Fingerprint of the certificate that the server shows."""

    @classmethod
    async def of(cls, ctx: DriverContext, obj: Database) -> Self:
        """Read what is there."""
        owner = Owner.of(obj, ENGINES[obj.spec.engine].app)
        return cls(ctx, obj, await look(ctx.provider, owner, cls.kinds, obj.spec))

    # -- what an engine does in its own way

    @abstractmethod
    async def _look(self) -> None:
        """Ask the running server for everything: fills `live` (`version` and `used` at least), or `error`."""

    @abstractmethod
    def _content(self, passwords: Mapping[str, str]) -> ContentLike:
        """Databases and roles."""

    @abstractmethod
    def _setting_differences(self) -> list[Difference]:
        """Of a running server: settings that can be changed live, users of our own."""

    def _file_differences(self) -> list[Difference]:
        """Settings that take effect at a start, where the file doesn't simply follow the spec."""
        return []

    @abstractmethod
    def _waits(self, kind: str, path: str) -> bool:
        """Whether this part of a child takes effect at a start."""

    @abstractmethod
    def _begun(self) -> tuple[str, str, str]:
        """What waits for a restart; the configuration that the server should have begun with, and which it has."""

    @abstractmethod
    async def _client_works(self, passwords: Mapping[str, str]) -> bool:
        """The real thing: log in as the binding's role, into the binding's database."""

    @abstractmethod
    def _binding(self, role: str, host: str, port: int, passwords: Mapping[str, str]) -> Binding:
        """What a role connects with."""

    @abstractmethod
    async def _set_live(self, changes: Sequence[Difference]) -> None:
        """Do what `_setting_differences` found."""

    @abstractmethod
    async def _reload_certificates(self) -> None:
        """Have the server read its certificate again."""

    def _line(self, version: str) -> str:
        """The versions that can read one another's data."""
        return version.split(".", maxsplit=1)[0]

    def auth_keys(self) -> list[str]:
        return [*self.own_keys, *(["metrics"] if self.inputs.metrics else []), *self.generated().values()]

    # -- what is there

    @property
    def pod(self) -> Obj | None:
        return next((p for p in self.there.pods if p["metadata"]["name"] == f"{self.owner.base}-0"), None)

    # -- create

    async def create(self) -> None:
        await self.ensure_auth()
        if self.certificates is not None:
            await self.act_all(await self.certificates.children())
            await self.certificates.ensure()
        if self.spec.restore_from is not None and "restore" not in self.notes:
            # on record, so that the object whose backup it is may go
            source = await source_of(self.ctx, self.obj)
            self.notes["restore"] = {**source, "image": self.inputs.tool}
            self.inputs = replace(self.inputs, restore=self.notes["restore"])
        self._begin()
        await self._save()
        await self.act_all((await self._desired())[0])

    def backup_template(self) -> Obj:
        assert self.spec.backup is not None
        return backup_template(self.inputs, self.spec.backup)

    def note_of(self, key: str) -> str:
        return str(self.notes.get(_NOTES[key]) or "")

    async def take_note_of(self, key: str, text: str) -> None:
        self.notes[_NOTES[key]] = text
        await self._save()

    def _begin(self) -> None:
        """Put on record what is read at creation only."""

    async def _desired(self) -> tuple[list[Obj], Kept]:
        stateful = stateful_set(self.inputs, self.stateful)
        kept = keep(stateful, self.stateful, self.inputs.asked, upgrade=self.upgrade)
        more = await self.certificates.children() if self.certificates is not None else []
        made = children(self.inputs, monitors=self.monitors)
        return [*more, *made, kept.workload, *self._before()], kept

    def _before(self) -> list[Obj]:
        """What stands between clients and the engine."""
        return []

    # -- observe

    async def observe(self) -> Observation:
        if self.stateful is None and not self.there.pods:
            return Observation(exists=False, external_name=self.owner.identity)
        if self.missing_auth():
            missing = Difference(f"Secret {self.owner.base}{AUTH}", "present", "absent", payload=("auth",))
            return Observation(
                exists=True, external_name=self.owner.identity, differences=(missing,), reason="Starting"
            )
        await self._look()
        self._check_major()
        passwords = await self.role_passwords()
        manifests, kept = await self._desired()
        found = self.there.growth(self._size())
        found += self.rotation_differences()
        found += await self._certificate_differences()
        found += self.there.differences(manifests, self._cost) + self._file_differences()
        content = self._content(passwords)
        inside: list[Difference] = []
        conditions: tuple[Condition, ...] = ()
        if self.live:
            try:
                found += self._setting_differences()
                inside = await content.differences()
                conditions = await self._further(inside)
            except Unavailable as error:  # it has just gone down
                self.live, self.error = {}, error.message
        found += self.backup_differences(serves=bool(self.live))
        found += self._restart_differences(found)
        host = self._host()
        reached = bool(self.live and host) and is_ready(self.pod)
        ready = reached and not inside and await self._client_works(passwords)
        ready = ready and await self._pooler_works(passwords)
        reason, message = ("", "") if ready else self._explain(inside, host)
        facts = self._facts(ready)
        owner = self.spec.owner_of(self.spec.databases[0])
        port, where = self.inputs.service_port, host or self._name()
        names = {role: f"{self.owner.name}-role-{secret_part(role)}" for role in passwords}
        return Observation(
            exists=True,
            ready=ready,
            reason=reason,
            message=message,
            differences=(*found, *inside),
            external_name=self.owner.identity,
            endpoint=Endpoint(host=where, port=port),
            binding=self._binding(owner, where, port, passwords),
            user_bindings={name: self._binding(role, where, port, passwords) for role, name in names.items()},
            facts={**facts, **self._told(content.facts())},
            conditions=(
                *upgrade_condition(self.address, kept.newer, self.opens),
                *exporter_condition(self.there.pods),
                *conditions,
                *self.backup_conditions(facts),
            ),
            poll_after=self.poll(DRIFT_POLL if ready else STARTING_POLL, kept.newer),
        )

    async def _further(self, inside: list[Difference]) -> tuple[Condition, ...]:
        """What comes after databases and roles; more differences are put behind those of the inside."""
        return ()

    async def _pooler_works(self, passwords: Mapping[str, str]) -> bool:
        """A client's way through what stands before the engine."""
        return True

    async def _certificate_differences(self) -> list[Difference]:
        """Certificates that must be made or copied, and a server that shows another one than it should."""
        if self.certificates is None:
            return []
        found = await self.certificates.differences()
        present = self.certificates.present
        if not found and present is not None and self.shown and self.shown != present.fingerprint:
            found.append(
                Difference(
                    "certificate", "the present one", "an earlier one", Disruption.RELOAD, payload=("tls-reload",)
                )
            )
        return found

    def _speaks_tls(self) -> bool:
        """Whether the pod that runs was made with certificates."""
        return self.pod is not None and any(v["name"] == "tls" for v in self.pod["spec"].get("volumes", ()))

    def _context(self) -> Any:
        """For connections to the pod; None without TLS.

        Raises:
            Unavailable: its certificates aren't there yet.
        """
        if not self._speaks_tls():
            return None
        found = certificates.material(self.there)
        if found is None:
            raise Unavailable("its certificates are not there", retry_after=0.5)
        return found.context()

    def _check_major(self) -> None:
        """Raise when another line of versions is asked for: its programs can't read the data."""
        if self.live:
            self.notes["major"] = self._line(str(self.live["version"]))
        has, wants = self.notes.get("major"), self._line(str(self.spec.version or ""))
        if has and wants and has != wants and not self._line_fits(has, wants):
            raise NotSupported(
                f"the data are of {self.engine_name} {has}; the driver doesn't change data to another one's form",
                field="spec.version",
                value=self.spec.version,
                hint=f"Set spec.version to {has}, or dump the data and restore them into a new Database.",
            )

    def _line_fits(self, has: str, wants: str) -> bool:
        """Whether what is asked for is less exact than what there is."""
        return has.startswith(f"{wants}.")

    def _size(self) -> str:
        """Of the volume: as asked, or more when it fills up and may grow by itself."""
        storage = self.spec.storage
        size = Quantity(str(storage.size))
        claim = next(iter(self.there.all(CLAIMS)), None)
        grow = storage.autogrow
        capacity = ((claim or {}).get("status") or {}).get("capacity", {}).get("storage")
        if grow is None or not grow.enabled or not self.live or not capacity:
            return str(size)
        has = int(Quantity(capacity))
        if self.live["used"] * 100 < has * grow.threshold_percent:
            return str(size)
        more = min(int(has * (100 + grow.step_percent) / 100), grow.limit.bytes)
        return str(max(size, Quantity.bytes(more)))

    def _restart_differences(self, others: list[Difference]) -> list[Difference]:
        """A pod of an older template, or a server that has begun with older settings."""
        stateful, pod = self.stateful, self.pod
        if stateful is None or pod is None or pod["metadata"].get("deletionTimestamp"):
            return []
        status = stateful.get("status") or {}
        current = status.get("observedGeneration") == stateful["metadata"].get("generation")
        template = status.get("updateRevision") if current else None
        has = pod["metadata"]["labels"].get("controller-revision-hash", "")
        name = pod["metadata"]["name"]
        if template and has != template:
            return [Difference(f"template of {name}", template, has, Disruption.RESTART, payload=("restart", pod))]
        if not self.live:
            if problem(pod) and any(change.disruption >= Disruption.RESTART for change in others):
                # It can't start with what it was given: it doesn't wait for the kubelet to bring the better file.
                return [
                    Difference(f"settings of {name}", "new", "refused", Disruption.RESTART, payload=("restart", pod))
                ]
            return []
        what, wanted, begun = self._begun()
        if begun != wanted or what:
            what = what or "settings"
            return [Difference(f"{what} of {name}", wanted, begun, Disruption.RESTART, payload=("restart", pod))]
        return []

    def _cost(self, kind: str, path: str) -> Disruption:
        """Settings in the file take effect at a start, and TLS comes and goes with the pod: they wait together."""
        if self._waits(kind, path):
            return Disruption.RESTART
        if (
            kind == STATEFUL_SETS.kind
            and ".spec.template" in path
            and self._speaks_tls() != (self.inputs.tls is not None)
        ):
            return Disruption.RESTART
        return Disruption.NONE

    def _name(self) -> str:
        suffix = POOLER if self.inputs.pooled else ""
        return f"{self.owner.base}{suffix}.{self.owner.namespace}.svc"

    def _host(self) -> str:
        """Where clients connect; empty while the cluster hasn't given an address yet."""
        live = self.there.get(SERVICES, POOLER if self.inputs.pooled else "")
        if self.spec.exposure.hostname:
            return str(self.spec.exposure.hostname)
        if self.spec.exposure.type is ExposureType.LOAD_BALANCER:
            for entry in (((live or {}).get("status") or {}).get("loadBalancer") or {}).get("ingress") or ():
                return str(entry.get("ip") or entry.get("hostname") or "")
            return ""
        return self._name() if live is not None else ""

    def _explain(self, inside: list[Difference], host: str) -> tuple[str, str]:
        wrong = problem(self.pod)
        if wrong:
            return wrong[0], f"{self.owner.base}-0: {wrong[1]}"
        if not self.live:
            why = f" ({self.error})" if self.error else ""
            return "Starting", f"waiting for {self.owner.base}-0 to answer{why}"
        if not host:
            return "AddressPending", "the cluster has not given the Service an address yet"
        if inside:
            return "Configuring", f"{len(inside)} roles, databases, rights or scripts are not as in spec yet"
        if not is_ready(self.pod):
            return "Starting", f"waiting for {self.owner.base}-0 to pass its readiness probe"
        if self.inputs.pooled and not self.pooler_ready:
            return "Starting", f"waiting for the pooler{f' ({self.error})' if self.error else ''}"
        return "Starting", "the binding's role can't log in yet"

    def _facts(self, ready: bool) -> dict[str, Any]:
        pod = self.pod
        member: dict[str, Any] = {
            "name": f"{self.owner.base}-0",
            "role": "primary" if self.live else "unknown",
            "ready": bool(self.live),
        }
        if pod is not None and (pod.get("status") or {}).get("podIP"):
            member["address"] = f"{pod['status']['podIP']}:{self.inputs.port}"
        facts: dict[str, Any] = {
            "engine": self.spec.engine.value,
            "instances": 1 if pod is not None else 0,
            "readyInstances": 1 if ready else 0,
            "primary": f"{self.owner.base}-0",
            "selector": ",".join(f"{key}={value}" for key, value in self.owner.selector.items()),
        }
        if self.inputs.pooled:
            facts["poolerReady"] = self.pooler_ready
        facts |= self.backup_facts()
        for claim in self.there.all(CLAIMS):
            capacity = (claim.get("status") or {}).get("capacity", {}).get("storage")
            if capacity:
                facts["storageSize"] = capacity
        if self.live:
            member["version"] = self.live["version"].split(" ")[0]
            facts |= {
                "version": member["version"],
                **({"timeline": self.live["timeline"]} if "timeline" in self.live else {}),
                "storageUsed": f"{-(-self.live['used'] // (1 << 20))}Mi",
            }
        elif self.error:
            member["message"] = self.error
        return {**facts, "members": [member]}

    # -- update

    async def update(self, observed: Observation) -> None:
        """Do what the plan says: storage first, then manifests, then settings and what is inside, then a restart."""
        inside: list[Difference] = []
        live: list[Difference] = []
        restart, rotated = None, False
        if observed.facts.get("version"):
            self.notes["major"] = self._line(str(observed.facts["version"]))
        for change in sorted(observed.plan.changes, key=_order):
            if not self._ours(change):
                inside.append(change)
                continue
            what, *rest = change.payload
            if what == "auth":
                await self.ensure_auth()
                return
            if what in PAYLOADS:
                await self.act_on_backup(change.payload)
            elif what in ("rotate", "anchor"):
                await self.rotate(change.payload)
                rotated = True
            elif what == certificates.PAYLOAD:
                assert self.certificates is not None
                await self.certificates.ensure()
            elif what == "tls-reload":
                await self._reload_certificates()
            elif what == "restart":
                restart = rest[0]
            elif not await self.there.act(what, *rest):
                live.append(change)
        if live:
            try:
                await self._set_live(live)
            finally:
                await self._save()
        if inside or (rotated and self.pod is not None):
            content = self._content(await self.role_passwords())
            try:
                await content.apply(await content.differences() if rotated else inside)
            finally:
                await self._save()
        await self._save()
        if restart is not None:
            self.ctx.event("Normal", "Restarting", f"{restart['metadata']['name']} is replaced")
            await self.session.delete(restart)

    def _ours(self, change: Difference) -> bool:
        """Whether its payload is a word and what belongs to it; those of the inside are statements."""
        payload = change.payload
        return isinstance(payload, tuple) and bool(payload) and payload[0] in _ORDER


_ORDER = {
    **dict.fromkeys(("grow", "auth", "rotate", "anchor", certificates.PAYLOAD), 0),
    **dict.fromkeys(("apply", "delete"), 1),
    **dict.fromkeys((*PAYLOADS, "tls-reload", "restart", "set", "own", "again", "script"), 2),
}
"""Words that payloads of this driver begin with, and when it is their turn."""


def _order(change: Difference) -> int:
    payload = change.payload
    word = payload[0] if isinstance(payload, tuple) and payload else ""
    return _ORDER.get(word, 2) if isinstance(word, str) else 2
