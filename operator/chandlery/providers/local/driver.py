"""What every local driver of a kind with servers does the same way; the kind says how its servers are looked after."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar, Protocol, runtime_checkable

from chandlery.driver.parameters import Parameters
from chandlery.driver.protocol import DriverContext, Observation, Reader, Unsupported, external_name
from chandlery.foundation.errors import DependencyNotReady, NotSupported
from chandlery.model.base import DeletionPolicy
from chandlery.providers.local import adoption, limits
from chandlery.providers.local.backups import backup_job, refused_backups, restore_job
from chandlery.providers.local.cgroups import Allowance
from chandlery.providers.local.instance import Instance
from chandlery.providers.local.ports import PortTaken, is_free
from chandlery.providers.local.problems import FOREIGN, MEND_ENGINE, NO_ROOM, NOT_STARTED
from chandlery.providers.local.process import Process, ProcessState

HELPERS = frozenset({"tls-front", "epmd", "archiver"})
"""Processes beside the servers, small ones."""


class Servers(Protocol):
    """One pass over one object's servers."""

    async def observe(self) -> Observation: ...
    async def create(self) -> None: ...
    async def update(self, observed: Observation) -> None: ...


@runtime_checkable
class BacksUp(Protocol):
    """Servers that can be backed up before they go."""

    async def last_backup(self) -> bool:
        """Begin or look after the backup that deletionPolicy Snapshot asks for; True when it is done."""


class LocalDriver(ABC):
    """The four verbs on an instance. A subclass gives `servers` and `refused`."""

    name: ClassVar[str] = "local"
    keeps_data: ClassVar[bool] = True
    """Whether there is anything that a last backup would hold when the object goes."""
    adopts_by_name: ClassVar[bool] = False
    """Whether what is in the data bears the object's name, so that only one of the same name can take it over."""
    own_limits: ClassVar[str] = "The engine has no limits of its own."
    """How the engine keeps to its limits where the kernel may not be asked to, a sentence for people."""
    abilities: ClassVar[frozenset[str]] = frozenset()
    """What of the common spec this driver honours: tls, backup, restoreFrom, rotation, metrics, exposure."""

    @abstractmethod
    def servers(self, ctx: DriverContext, obj: Any, instance: Instance) -> Servers: ...

    def refused(self, obj: Any) -> Sequence[Unsupported]:
        """What the kind's spec can say and this machine can't do, beyond `COMMON`."""
        return ()

    def does(self, obj: Any) -> frozenset[str]:
        """Its abilities for this object, where they differ from engine to engine."""
        return self.abilities

    def unsupported(self, obj: Any, parameters: Parameters) -> Sequence[Unsupported]:
        """The fields that can't be honoured here."""
        return [*self.refused(obj), *common(obj.spec, self.does(obj))]

    def allowance(self, obj: Any, process: str) -> Allowance:
        """What a process may use at most: servers what the spec says, helpers as much as they need."""
        return Allowance() if process in HELPERS else limits.asked(obj.spec.resources)

    def instance(self, ctx: DriverContext, obj: Any) -> Instance:
        found: Instance = ctx.provider.instance(external_name(obj))
        return found

    async def observe(self, ctx: DriverContext, obj: Any) -> Observation:
        instance = self.instance(ctx, obj)
        if not instance.exists:
            return Observation(exists=False, external_name=instance.name)
        if not adoption.is_owner(instance, obj):
            return await adoption.offer(ctx, obj, instance, by_name=self.adopts_by_name)
        instance.allowance = partial(self.allowance, obj)
        seen = await self.servers(ctx, obj, instance).observe()
        if seen.ready and not instance.record.get("served"):
            instance.record["served"] = True
            instance.save()
        seen = limits.with_limits(instance, seen, self.own_limits)
        return instance.provider.housekeeping.with_condition(instance.name, seen, obj.spec)

    async def create(self, ctx: DriverContext, obj: Any) -> None:
        instance, meta = self.instance(ctx, obj), obj.metadata
        instance.allowance = partial(self.allowance, obj)
        with instance.at_once():
            instance.create(kind=obj.kind, namespace=meta.namespace, name=meta.name, uid=meta.uid)
            with _elsewhere(obj, instance):
                await self.servers(ctx, obj, instance).create()

    async def update(self, ctx: DriverContext, obj: Any, observed: Observation) -> None:
        instance = self.instance(ctx, obj)
        if adoption.wanted(observed):
            adoption.take_over(instance, obj)
        elif observed.plan.changes:
            instance.allowance = partial(self.allowance, obj)
            limited, others = limits.split(observed.plan.changes)
            limits.raise_limits(instance, limited)
            if others:
                observed = replace(observed, plan=replace(observed.plan, changes=others))
                with _elsewhere(obj, instance):
                    await self.servers(ctx, obj, instance).update(observed)
            limits.set_limits(instance, limited)

    async def delete(self, ctx: DriverContext, obj: Any) -> bool:
        """Stop everything; the directory goes too, unless the policy retains it. What is another object's stays."""
        policy = obj.spec.deletion_policy
        instance = self.instance(ctx, obj)
        if not adoption.is_owner(instance, obj):
            return True
        if policy is DeletionPolicy.SNAPSHOT and self.keeps_data and instance.exists:
            servers = self.servers(ctx, obj, instance)
            if not isinstance(servers, BacksUp) or obj.spec.backup is None:
                raise NotSupported(
                    f"a last backup of this {obj.kind} can't be made",
                    field="spec.deletionPolicy",
                    value="Snapshot",
                    hint="Set deletionPolicy to Delete, or to Retain to keep the data directory.",
                )
            if not await servers.last_backup():
                return False
        for key in (backup_job(instance), restore_job(instance)):
            await instance.provider.background.end(key)
        keep = policy is DeletionPolicy.RETAIN
        await instance.remove(keep_data=keep)
        if keep:
            ctx.event("Normal", "Retained", instance.kept())
        return True


@contextlib.contextmanager
def _elsewhere(obj: Any, instance: Instance) -> Iterator[None]:
    """A port that somebody took before it was ever used is given up for another: nobody has been told of it yet."""
    try:
        yield
    except PortTaken as error:
        asked = getattr(obj.spec.exposure, "port", None)
        if instance.record.get("served") or error.port == asked:
            raise
        for name in [name for name, port in instance.ports.items() if port == error.port]:
            instance.release_port(name)
        raise PortTaken(error.port, retry_after=0.05) from error


def common(spec: Any, abilities: Collection[str] = ()) -> list[Unsupported]:
    """What several kinds' specs can say and a local driver without that ability doesn't do."""
    found = refused_backups(spec) if "backup" in abilities else []
    tls = getattr(spec, "tls", None)
    if tls is not None and tls.enabled and "tls" not in abilities:
        found.append(Unsupported("spec.tls.enabled", "true", "engines of this kind have no TLS on this machine yet"))
    elif tls is not None and tls.issuer_ref is not None:
        why = "there is no cert-manager on this machine; leave it out, or give certificateSecret"
        found.append(Unsupported("spec.tls.issuerRef", tls.issuer_ref.name, why))
    if spec.exposure.type.value != "Internal" and "exposure" not in abilities:
        value = spec.exposure.type.value
        found.append(Unsupported("spec.exposure.type", value, "engines on this machine listen on loopback only"))
    for field, name, why in (
        ("backup", "backup", "nothing on this machine is backed up yet"),
        ("restore_from", "restoreFrom", "nothing on this machine can be restored yet"),
        ("metrics", "metrics", "there is no exporter for this machine"),
        ("rotation", "rotation", "passwords on this machine are not rotated on a schedule yet"),
    ):
        if name not in abilities and getattr(spec, field, None) is not None:
            found.append(Unsupported(f"spec.{name}", "set", why))
    return found


def require_port(port: int, host: str = "127.0.0.1") -> None:
    """Raise when an engine couldn't listen there.

    Raises:
        PortTaken: another program has the port.
    """
    if not is_free(port, host):
        raise PortTaken(port)


async def password_of(reader: Reader, namespace: str, secret: str, field: str) -> str:
    """The key `password` of a Secret that a spec names.

    Raises:
        DependencyNotReady: it isn't there.
    """
    data = await reader.secret(namespace, secret)
    password = (data or {}).get("password", b"").decode()
    if not password:
        raise DependencyNotReady(
            f"Secret {secret} with the key `password` isn't there",
            field=field,
            hint="Create it, or leave passwordSecret out to have a password generated.",
        )
    return password


def crash_loop(name: str, process: Process, state: ProcessState) -> tuple[str, str] | None:
    """Reason and sentence when a process keeps crashing; None when it doesn't."""
    if not state.crashed or state.restarts < 2:
        return None
    if state.exit is not None and state.exit.code in NOT_STARTED:
        return "CrashLoop", f"the program of {name} can't be started: {process.log_tail(1)}. {MEND_ENGINE}"
    if NO_ROOM.search(process.log_tail(20)):
        why = f"no room is left on the disk of {process.instance.root}"
        return "DiskFull", f"{name} {state.exit}: {why}. Free some; it goes on by itself then."
    foreign = FOREIGN.search(process.log_tail(12))
    if foreign is not None:
        what = f"{name} can't read the data in {process.instance.data_dir}, which are left as they are"
        why = f"another version wrote them, or they are damaged: {foreign[0].rstrip('.')}"
        mend = "Put back what was there, have the version that wrote them, or restore a backup"
        return "DataVersion", f"{what}: {why}. {mend}; it goes on by itself then."
    # a moment, not how long it is until then: a message that changes each second is written each second
    at = datetime.fromtimestamp(state.not_before, UTC)
    wait = f", next try at {at:%H:%M:%S} UTC" if state.wait > 0 else ""
    return "CrashLoop", f"{name} {state.exit}{wait}; its last words: {process.log_tail(3)}"
