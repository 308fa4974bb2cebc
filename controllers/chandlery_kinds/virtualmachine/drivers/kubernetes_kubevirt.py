"""One pass over a virtual machine that KubeVirt runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chandlery.driver.protocol import Binding, Difference, Disruption, DriverContext, Observation
from chandlery.foundation.errors import DependencyNotReady
from chandlery.foundation.validation.quantity import Quantity
from chandlery.model.base import DeletionPolicy, Endpoint
from chandlery.model.parts import ExposureType
from chandlery.providers.kubernetes.children import Children
from chandlery.providers.kubernetes.driver import Workload
from chandlery.providers.kubernetes.ownership import Owner
from chandlery.providers.kubernetes.pods import problem
from chandlery.providers.kubernetes.session import Key
from chandlery.providers.kubernetes.types import (
    CLAIMS,
    DATA_VOLUMES,
    KUBEVIRT_INSTANCES,
    KUBEVIRT_MACHINES,
    PODS,
    SECRETS,
    SERVICES,
    Obj,
)
from chandlery_kinds.virtualmachine.kubernetes.inputs import Inputs
from chandlery_kinds.virtualmachine.kubernetes.machine import machine
from chandlery_kinds.virtualmachine.kubernetes.seed import seed_secrets
from chandlery_kinds.virtualmachine.kubernetes.service import port_of, services
from chandlery_kinds.virtualmachine.kubernetes.volumes import data_volumes, sizes, volume_suffix
from chandlery_kinds.virtualmachine.model import VirtualMachine
from chandlery_kinds.virtualmachine.power import RESTART_ANNOTATION, Power, why_off
from chandlery_kinds.virtualmachine.spec_parts import RunStrategy

CRDS = {
    "virtualmachines.kubevirt.io": "KubeVirt",
    "datavolumes.cdi.kubevirt.io": "its Containerized Data Importer",
}
KINDS = (KUBEVIRT_MACHINES, KUBEVIRT_INSTANCES, DATA_VOLUMES, SERVICES, SECRETS, PODS, CLAIMS)
RESTARTED = "chandlery.dev/restarted"
"""Annotation of KubeVirt's machine: the last text of ours that asked for a restart."""
POLL = 10.0
"""KubeVirt's objects wake us when they change; this is for what they don't tell."""
_POWER = {
    "Running": Power.RUNNING,
    "Migrating": Power.RUNNING,
    "Paused": Power.PAUSED,
    "Stopped": Power.OFF,
    "Stopping": Power.STOPPING,
    "Terminating": Power.STOPPING,
}
"""From printableStatus; everything else is on the way up, or tries to be."""
_TROUBLE = {
    "CrashLoopBackOff": ("CrashLoop", "the machine ends again and again"),
    "ErrorUnschedulable": ("Unschedulable", "no node has room for the machine"),
    "ErrImagePull": ("ImagePull", "KubeVirt's own image can't be fetched"),
    "ImagePullBackOff": ("ImagePull", "KubeVirt's own image can't be fetched"),
    "ErrorPvcNotFound": ("VolumeMissing", "a volume of the machine is not there"),
    "DataVolumeError": ("PreparingImage", "a disk could not be filled"),
}


class KubeVirtMachine(Workload[VirtualMachine]):
    """Everything that one pass does with one machine. Made anew each time; keeps nothing."""

    def __init__(self, ctx: DriverContext, obj: VirtualMachine, there: Children) -> None:
        super().__init__(ctx, obj, there)
        self.annotations: Mapping[str, str] = obj.metadata.annotations or {}

    @classmethod
    async def of(cls, ctx: DriverContext, obj: VirtualMachine, *, served: bool) -> KubeVirtMachine:
        """Read what is there."""
        kinds = KINDS if served else (SERVICES, SECRETS)
        return cls(ctx, obj, await Children(ctx.provider, Owner.of(obj, "kubevirt"), kinds).look())

    @property
    def live(self) -> Obj | None:
        return self.there.get(KUBEVIRT_MACHINES)

    @property
    def instance(self) -> Obj | None:
        return self.there.get(KUBEVIRT_INSTANCES)

    # -- what is wanted

    async def _wanted(self) -> list[Obj]:
        inputs = Inputs.of(self.obj, self.ctx.parameters)
        volumes = {obj["metadata"]["name"]: obj for obj in self.there.all(DATA_VOLUMES)}
        return [
            *seed_secrets(inputs, await self._user_data()),
            *data_volumes(inputs, volumes),
            *services(inputs),
            machine(inputs),
        ]

    async def _user_data(self) -> str:
        init = self.spec.cloud_init
        if init.user_data_secret is None:
            return str(init.user_data or "")
        reference = init.user_data_secret
        data = await self.ctx.reader.secret(self.owner.namespace, reference.name)
        if data is None or reference.key not in data:
            raise DependencyNotReady(
                f"Secret {reference.name} with the key `{reference.key}` isn't there",
                field="spec.cloudInit.userDataSecret",
            )
        return data[reference.key].decode()

    async def create(self) -> None:
        await self.act_all(await self._wanted())

    # -- observe

    async def observe(self) -> Observation:
        if self.live is None:
            return Observation(exists=False, external_name=self.owner.identity)
        found = self._growth()
        # KubeVirt takes a changed template up at the next start, and says so itself (RestartRequired).
        found += self.there.differences(await self._wanted())
        found += self._restarts()
        power = self._power()
        inputs = Inputs.of(self.obj, self.ctx.parameters)
        off = inputs.run_strategy == "Halted" or (power is Power.OFF and self._may_be_off())
        ready = power is Power.OFF if off else power is Power.RUNNING and self._serves()
        reason, message = ("", "") if ready else self._explain(power)
        if off and ready:
            message = why_off(self.spec.run_strategy, None)
        host = self._host()
        forwards = self.spec.network.forwards
        return Observation(
            exists=True,
            ready=ready,
            reason=reason,
            message=message,
            differences=tuple(found),
            external_name=self.owner.identity,
            endpoint=Endpoint(host=host, port=port_of(forwards[0])) if forwards and host else None,
            binding=self._binding(host),
            facts=self._facts(power, inputs, host),
            poll_after=None if ready else POLL,
        )

    def _status(self) -> Mapping[str, Any]:
        return (self.live or {}).get("status") or {}

    def _power(self) -> Power:
        return _POWER.get(str(self._status().get("printableStatus") or ""), Power.STARTING)

    def _may_be_off(self) -> bool:
        """Whether a machine that has ended is as it should be."""
        if self.spec.run_strategy is RunStrategy.ONCE:
            return self._phase() in ("Succeeded", "Failed")
        return self.spec.run_strategy is RunStrategy.RERUN_ON_FAILURE and self._phase() == "Succeeded"

    def _phase(self) -> str:
        return str(((self.instance or {}).get("status") or {}).get("phase") or "")

    def _serves(self) -> bool:
        return bool(self._status().get("ready"))

    def _condition(self, obj: Obj | None, kind: str) -> Mapping[str, Any]:
        for condition in ((obj or {}).get("status") or {}).get("conditions") or ():
            if condition.get("type") == kind:
                found: Mapping[str, Any] = condition
                return found
        return {}

    def _explain(self, power: Power) -> tuple[str, str]:
        printable = str(self._status().get("printableStatus") or "")
        failure = self._condition(self.live, "Failure")
        told = str(failure.get("message") or "")
        for volume in self.there.all(DATA_VOLUMES):
            status = volume.get("status") or {}
            phase = str(status.get("phase") or "Pending")
            if phase not in ("Succeeded", "WaitForFirstConsumer", "PendingPopulation"):
                running = self._condition(volume, "Running")
                why = f": {running['message']}" if running.get("message") else ""
                done = f" ({status['progress']})" if status.get("progress", "N/A") != "N/A" else ""
                return "PreparingImage", f"the disk {volume['metadata']['name']} is {phase}{done}{why}"
        if printable in _TROUBLE:
            reason, words = _TROUBLE[printable]
            return reason, f"{words}{': ' + told if told else ''}"
        for pod in self.there.pods:
            wrong = problem(pod)
            if wrong:
                return wrong[0], f"{pod['metadata']['name']}: {wrong[1]}"
        if power is Power.PAUSED:
            return "Paused", "the guest is paused"
        if power is Power.STOPPING:
            return "Stopping", "the guest was asked to shut down"
        if power is Power.RUNNING:
            return "Booting", self._waits_for()
        return "Starting", told or f"KubeVirt says: {printable or 'nothing yet'}"

    def _waits_for(self) -> str:
        if self.spec.guest_agent.required:
            return "waiting for the guest's agent to answer"
        forward = next((f for f in self.spec.network.forwards if f.protocol.value == "TCP"), None)
        if forward is not None:
            return f"waiting for the guest to accept connections on {forward.name} (port {forward.guest_port})"
        return "waiting for the guest to boot"

    def _host(self) -> str:
        """Where the forwards are reached; empty while the cluster hasn't given an address yet."""
        live = self.there.get(SERVICES)
        exposure = self.spec.exposure
        if exposure.hostname:
            return str(exposure.hostname)
        if exposure.type is ExposureType.LOAD_BALANCER:
            for entry in (((live or {}).get("status") or {}).get("loadBalancer") or {}).get("ingress") or ():
                return str(entry.get("ip") or entry.get("hostname") or "")
            return ""
        return f"{self.owner.base}.{self.owner.namespace}.svc" if live is not None else ""

    def _binding(self, host: str) -> Binding | None:
        forwards = self.spec.network.forwards
        if not forwards or not host:
            return None
        entries = {"host": host, "port": str(port_of(forwards[0])), "uri": f"tcp://{host}:{port_of(forwards[0])}"}
        for forward in forwards:
            entries[f"{forward.name}-host"] = host
            entries[f"{forward.name}-port"] = str(port_of(forward))
        return Binding("tcp", "chandlery", entries)

    def _facts(self, power: Power, inputs: Inputs, host: str) -> dict[str, Any]:
        status = (self.instance or {}).get("status") or {}
        nic: Mapping[str, Any] = next(iter(status.get("interfaces") or ()), {})
        facts: dict[str, Any] = {
            "powerState": power.value,
            "mac": nic.get("mac") or inputs.mac,
            "disks": self._disks(inputs, running=power is Power.RUNNING),
            "forwards": [
                {"name": str(f.name), "host": host or None, "hostPort": port_of(f), "guestPort": f.guest_port}
                for f in self.spec.network.forwards
            ],
        }
        told = {
            "node": status.get("nodeName"),
            "address": nic.get("ipAddress"),
            "version": status.get("launcherContainerImageVersion"),
        }
        facts |= {name: value for name, value in told.items() if value}
        if self.instance is not None:
            started = next(
                (
                    one.get("phaseTransitionTimestamp")
                    for one in status.get("phaseTransitionTimestamps") or ()
                    if one.get("phase") == "Running"
                ),
                None,
            )
            if started:
                facts["startedAt"] = started
            agent = self._condition(self.instance, "AgentConnected").get("status") == "True"
            guest: dict[str, Any] = {"agentConnected": agent}
            os_info = status.get("guestOSInfo") or {}
            if agent and (os_info.get("prettyName") or os_info.get("name")):
                guest["osName"] = os_info.get("prettyName") or os_info["name"]
            if nic.get("ipAddresses"):
                guest["addresses"] = list(nic["ipAddresses"])
            facts["guest"] = guest
        return facts

    def _disks(self, inputs: Inputs, *, running: bool) -> list[dict[str, Any]]:
        found = []
        for name in sizes(inputs):
            volume = self.there.get(DATA_VOLUMES, volume_suffix(name))
            claim = self.there.get(CLAIMS, volume_suffix(name))
            capacity = ((claim or {}).get("status") or {}).get("capacity", {}).get("storage")
            made = ((volume or {}).get("status") or {}).get("phase") == "Succeeded"
            found.append({"name": name, "size": capacity or sizes(inputs)[name], "attached": running and made})
        return found

    # -- differences

    def _growth(self) -> list[Difference]:
        """Claims that are smaller than asked. They are grown before anything else is changed."""
        found = []
        for name, size in sizes(Inputs.of(self.obj, self.ctx.parameters)).items():
            claim = self.there.get(CLAIMS, volume_suffix(name))
            if claim is None or (claim.get("status") or {}).get("phase") != "Bound":
                continue
            has = claim["spec"]["resources"]["requests"]["storage"]
            if Quantity(has) < Quantity(size):
                field = f"storage of {claim['metadata']['name']}"
                found.append(Difference(field, size, has, payload=("grow", claim, size)))
        return found

    def _restarts(self) -> list[Difference]:
        """What KubeVirt applies at the next start only, and restarts that a person asks for."""
        live, found = self.live, []
        assert live is not None
        if self.instance is None:
            return []
        asked = self.annotations.get(RESTART_ANNOTATION, "").strip()
        done = (live["metadata"].get("annotations") or {}).get(RESTARTED, "")
        if asked and asked != done:
            found.append(Difference("restart", asked, done, payload=("restart", asked)))
        needs = self._condition(live, "RestartRequired")
        if needs.get("status") == "True":
            why = str(needs.get("message") or "changes wait for a restart")
            found.append(
                Difference("running machine", "as in spec", why, Disruption.RESTART, payload=("restart", done))
            )
        return found

    # -- update, delete

    async def update(self, observed: Observation) -> None:
        """Do what the plan says: storage first, a restart last."""
        restart: str | None = None
        for change in sorted(observed.plan.changes, key=lambda c: 0 if c.payload[0] == "grow" else 1):
            what, *rest = change.payload
            if what == "restart":
                restart = rest[0]
            else:
                await self.there.act(what, *rest)
        if restart is not None and self.live is not None:
            if restart:
                await self.session.merge(self.live, {"metadata": {"annotations": {RESTARTED: restart}}})
            if self.instance is not None:
                self.ctx.event("Normal", "Restarting", "the guest is shut down and started again")
                await self.session.delete(self.instance)

    async def delete(self) -> bool:
        """Everything goes; with `Retain` the disks stay."""
        keep: set[Key] = set()
        if self.spec.deletion_policy is DeletionPolicy.RETAIN:
            for kind in (DATA_VOLUMES, CLAIMS):
                for obj in self.there.all(kind):
                    keep.add((kind.kind, obj["metadata"]["name"]))
                    owners = obj["metadata"].get("ownerReferences") or ()
                    if kind is DATA_VOLUMES and any(o.get("uid") == self.owner.uid for o in owners):
                        await self.session.merge(obj, {"metadata": {"ownerReferences": None}})
        kept_ends = {KUBEVIRT_INSTANCES.kind}  # it ends with its machine, in its order
        left = {key: obj for key, obj in self.there.live.items() if key not in keep}
        for key, obj in left.items():
            if key[0] not in (PODS.kind, *kept_ends):
                await self.session.delete(obj)
        return not left
