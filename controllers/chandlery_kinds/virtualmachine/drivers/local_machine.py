"""Everything that one pass does with one machine. Made anew each time; what must be kept is in the record.

A machine begins when all it needs is here: QEMU, the image, its disks. Until then passes look at the work in the
background. A guest that ends leaves QEMU paused, so that how it ended can be read at any later time.
"""

from __future__ import annotations

from typing import Any

from chandlery.driver.protocol import DriverContext, Observation
from chandlery.foundation.errors import DependencyNotReady, Unavailable
from chandlery.providers.local import Instance
from chandlery.providers.local.background import Job
from chandlery_kinds.virtualmachine import command
from chandlery_kinds.virtualmachine.command import ForwardArgs, MachineArgs
from chandlery_kinds.virtualmachine.drivers import local_accel, local_tell
from chandlery_kinds.virtualmachine.drivers.local_changes import Changes
from chandlery_kinds.virtualmachine.drivers.local_disks import Disks, WantedDisk, digest
from chandlery_kinds.virtualmachine.drivers.local_images import Image, Images, Wanted, wanted
from chandlery_kinds.virtualmachine.drivers.local_look import ENDED, HOST, Look, booted, look
from chandlery_kinds.virtualmachine.drivers.local_snapshots import Snapshots
from chandlery_kinds.virtualmachine.drivers.local_start import ENGINE, FIRMWARE, RESEND, STOP, Start
from chandlery_kinds.virtualmachine.guest import tiny
from chandlery_kinds.virtualmachine.guest.seed import Seed, contents
from chandlery_kinds.virtualmachine.model import VirtualMachine
from chandlery_kinds.virtualmachine.power import RESTART_ANNOTATION, Ended, Power
from chandlery_kinds.virtualmachine.power import wanted as wanted_power
from chandlery_kinds.virtualmachine.qmp import Qmp
from chandlery_kinds.virtualmachine.spec_parts import Firmware

PROCESS = "qemu"
SHORT_LIFE = 5.0
"""A guest that ends sooner isn't started again at once."""


class Machine:
    """One machine in one pass."""

    def __init__(self, ctx: DriverContext, obj: VirtualMachine, instance: Instance) -> None:
        self.ctx = ctx
        self.obj = obj
        self.spec = obj.spec
        self.instance = instance
        self.process = instance.process(PROCESS)
        self.images = Images(instance.provider)
        self.disks = Disks(self)
        self.snapshots = Snapshots(self)
        self.start = Start(self)
        self.changes = Changes(self)

    # -- record

    @property
    def record(self) -> dict[str, Any]:
        """Started (bool), started_with, slots, scsi, seed, halt, ended, ended_at, console_from, accelerator ..."""
        found: dict[str, Any] = self.instance.record.setdefault("vm", {})
        return found

    def save(self) -> None:
        self.instance.save()

    def now(self) -> float:
        return float(self.ctx.base.now().timestamp())

    async def qmp(self) -> Qmp:
        return await Qmp.connect(self.instance.run_dir / "qmp.sock")

    @property
    def ended(self) -> Ended | None:
        found = self.record.get("ended")
        return Ended(found) if found else None

    # -- what is wanted

    def power(self) -> Power:
        annotations = self.obj.metadata.annotations or {}
        return wanted_power(
            self.spec.run_strategy, annotations, self.ended, was_started=bool(self.record.get("started"))
        )

    @property
    def mac(self) -> str:
        """From namespace and name, so that it survives recreation; in the range that QEMU's machines have."""
        if self.spec.network.mac is not None:
            return str(self.spec.network.mac)
        meta = self.obj.metadata
        octets = bytes.fromhex(digest(f"{meta.namespace}/{meta.name}".encode()))[:3]
        return "52:54:00:" + ":".join(f"{octet:02x}" for octet in octets)

    @property
    def address(self) -> str:
        fixed = self.spec.network.address
        return str(fixed).partition("/")[0] if fixed is not None else command.GUEST_ADDRESS

    def forward_key(self, name: str) -> str:
        return f"forward-{name}"

    def forwards(self) -> list[ForwardArgs]:
        """The forwards whose port is claimed."""
        found = []
        for forward in self.spec.network.forwards:
            port = self.instance.ports.get(self.forward_key(str(forward.name)))
            if port is not None:
                found.append(ForwardArgs(str(forward.name), forward.protocol.value, port, forward.guest_port))
        return found

    def claim_ports(self) -> None:
        """A port for each forward; the one that the spec names, or one that stays the same for this name.

        Raises:
            Unavailable: the port that the spec names is taken.
        """
        meta = self.obj.metadata
        for forward in self.spec.network.forwards:
            key, wanted_port = self.forward_key(str(forward.name)), forward.host_port
            if wanted_port is not None and self.instance.ports.get(key, wanted_port) != wanted_port:
                self.instance.release_port(key)
            steady = self.instance.provider.ports.steady(f"{meta.namespace}/{meta.name}/{forward.name}")
            port = self.instance.port(key, wanted_port or steady)
            if wanted_port is not None and port != wanted_port:
                self.instance.release_port(key)
                raise Unavailable(
                    f"port {wanted_port} is taken by another program or object",
                    field=f"spec.network.forwards[{forward.name}].hostPort",
                    value=wanted_port,
                    hint=f"End that program (`ss -ltnp 'sport = :{wanted_port}'` names it), or choose another port.",
                    retry_after=2.0,
                )

    async def seed(self) -> dict[str, str]:
        """The seed's files.

        Raises:
            DependencyNotReady: the Secret with the user data isn't there.
        """
        init, network = self.spec.cloud_init, self.spec.network
        user_data = init.user_data or ""
        if init.user_data_secret is not None:
            reference = init.user_data_secret
            secret = await self.ctx.reader.secret(self.obj.metadata.namespace, reference.name)
            if secret is None or reference.key not in secret:
                raise DependencyNotReady(
                    f"Secret {reference.name} with the key `{reference.key}` isn't there",
                    field="spec.cloudInit.userDataSecret",
                )
            user_data = secret[reference.key].decode()
        return contents(
            Seed(
                instance_id=str(self.obj.metadata.uid),
                hostname=str(init.hostname or self.obj.metadata.name),
                user_data=user_data,
                ssh_keys=[str(key) for key in init.ssh_authorized_keys],
                mac=self.mac,
                address=str(network.address or ""),
                gateway=str(network.gateway or ""),
                nameservers=[str(server) for server in network.nameservers],
                network_data=init.network_data or "",
            )
        )

    def arguments(self, image: Image, disks: list[WantedDisk], able: local_accel.Abilities) -> MachineArgs:
        line = image.command_line
        if image.tells_ready and able.accelerator == "tcg":
            line = f"{line} {tiny.EMULATED}"
        return MachineArgs(
            uuid=str(self.obj.metadata.uid),
            cpus=self.spec.cpus,
            memory=self.spec.memory.bytes,
            mac=self.mac,
            accelerator=able.accelerator,
            sandbox=able.sandbox,
            host=HOST,
            network=str(self.spec.network.address or ""),
            gateway=str(self.spec.network.gateway or ""),
            kernel=str(image.kernel or ""),
            initrd=str(image.initrd or ""),
            command_line=line,
            disks=[self.disks.arguments(disk) for disk in disks],
            forwards=self.forwards(),
            seed=str(self.instance.config_dir / "seed.iso"),
            agent=self.spec.guest_agent.enabled and not image.tells_ready,
        )

    # -- observe

    async def observe(self) -> Observation:
        self.instance.reload()
        want = wanted(self.spec, self.ctx.parameters)
        state = self.process.state()
        seen = await look(self.instance, state, self.forwards(), agent=self.spec.guest_agent.enabled)
        if seen.up:
            local_tell.watch(self)
        self._note_end(seen)
        job = self._job(want)
        image = self.images.look(want)
        disks = self.disks.wanted(has_root=want.disk is not None)
        differences = [] if job is not None and job.running else await self.changes.all(seen, image, disks)
        return local_tell.observation(self, seen, image, disks, differences, job)

    def _job(self, want: Wanted) -> Job | None:
        """The work in the background that this machine waits for."""
        engines = self.instance.provider.engines
        jobs = [engines.installing(ENGINE), self.images.job(want)]
        if self.spec.firmware is not Firmware.BIOS:
            jobs.append(engines.installing(FIRMWARE))
        return next((job for job in jobs if job is not None and job.running), None)

    def _note_end(self, seen: Look) -> None:
        """Keep why the machine is off; only the first look after its end can tell."""
        record, state = self.record, seen.state
        if not record.get("running"):
            return
        ended = None
        if not state.running and state.wanted:
            killed = state.exit is None or state.exit.signal is not None or not state.exit.code
            ended = Ended.KILLED if killed else Ended.CRASHED
        elif seen.status in ENDED:
            ended = Ended.HALTED if record.get("halt") else ENDED[seen.status]
        if ended is not None:
            record.update({"ended": ended.value, "ended_at": self.now(), "running": False})
            self.save()

    def is_ready(self, seen: Look) -> bool:
        """Whether the guest serves: what it says itself counts, not what QEMU says for it.

        It accepts connections on a forward, or its agent answers, or (the guest `tiny`) says so on its console. A
        guest with none of these can't be asked: it counts when it runs.
        """
        if seen.status != "running":
            return False
        if self.spec.guest_agent.required:
            return seen.agent is not None
        if seen.agent is not None or seen.accepting:
            return True
        if self.record.get("tells_ready"):
            since = int(self.record.get("console_from", 0))
            has_forwards = any(forward.protocol == "TCP" for forward in self.forwards())
            return not has_forwards and booted(self.instance, since, tiny.READY_MARK)
        return not any(forward.protocol == "TCP" for forward in self.forwards())

    # -- create and update

    async def create(self) -> None:
        if self.power() is not Power.OFF:
            await self.start.begin()

    async def update(self, observed: Observation) -> None:
        """Do what the plan says, in its order; what changes power ends the pass."""
        seen: Look | None = None
        for change in observed.plan.changes:
            what, *rest = change.payload
            if what in {"start", "collect", "halt", "press", "off", "restart"}:
                await self._switch(what, rest)
                return
            if seen is None:
                seen = await look(self.instance, self.process.state(), (), agent=False)
            await self._change(seen, what, rest)

    async def _switch(self, what: str, rest: list[Any]) -> None:
        if what == "start":
            await self.start.begin()
        elif what == "collect":
            await self._collect()
        elif what == "off":
            self.ctx.event("Warning", "SwitchedOff", "The guest did not shut down in time and was switched off.")
            await self._off(Ended.HALTED)
        else:
            if what == "restart":
                self.record["restarted_for"] = (self.obj.metadata.annotations or {}).get(RESTART_ANNOTATION, "")
            await self._press()

    async def _change(self, seen: Look, what: str, rest: list[Any]) -> None:
        wanted_disks = {disk.name: disk for disk in self.disks.wanted(has_root=True)}
        if what in {"pause", "resume"}:
            async with await self.qmp() as qmp:
                await qmp.execute("stop" if what == "pause" else "cont")
        elif what == "forward":
            await self._forward(seen, rest[0])
        elif what == "unforward":
            async with await self.qmp() as qmp:
                await qmp.monitor(f"hostfwd_remove n0 {rest[0].lower()}:{HOST}:{rest[1]}")
            self._release_ports()
        elif what == "seed":
            await self.start.write_seed()
        elif what == "disk-make":
            want = wanted(self.spec, self.ctx.parameters)
            await self.disks.make(self.start.engine(), wanted_disks[rest[0]], self.start.image(want))
        elif what == "disk-grow":
            await self.disks.grow(seen, self.start.engine(), wanted_disks[rest[0]])
        elif what == "disk-plug":
            await self.disks.plug(seen, list(wanted_disks.values()), wanted_disks[rest[0]])
        elif what == "disk-drop":
            await self.disks.drop(seen, rest[0])
        else:
            await self.snapshots.change(seen, what, rest[0], self.start.engine)

    def _release_ports(self) -> None:
        names = {self.forward_key(str(forward.name)) for forward in self.spec.network.forwards}
        for key in list(self.instance.ports):
            if key.startswith("forward-") and key not in names:
                self.instance.release_port(key)

    async def _forward(self, seen: Look, name: str) -> None:
        self.claim_ports()
        forward = next(f for f in self.forwards() if f.name == name)
        if any(line.port == forward.host_port and line.protocol == forward.protocol for line in seen.forwards):
            return  # still the old one; the next pass closes it first
        async with await self.qmp() as qmp:
            said = (await qmp.monitor(f"hostfwd_add n0 {forward.rule(HOST)}")).strip()
        if said:
            raise Unavailable(
                f"the forward could not be opened: {said}", field=f"spec.network.forwards[{name}]", retry_after=2.0
            )

    # -- stopping

    async def _press(self) -> None:
        """Press the power button, once more if need be."""
        halt = self.record.setdefault("halt", {"until": self.now() + self.spec.shutdown_timeout.seconds})
        halt["sent"] = self.now()
        self.save()
        async with await self.qmp() as qmp:
            if (await qmp.execute("query-status"))["status"] == "paused":
                await qmp.execute("cont")  # a paused guest hears nothing
            await qmp.execute("system_powerdown")

    async def _collect(self) -> None:
        """The guest ended: let QEMU go."""
        lived = self.now() - float(self.record.get("started_at", 0.0))
        if lived < SHORT_LIFE and not self.record.get("halt"):
            self.record["not_before"] = self.now() + SHORT_LIFE
        await self._off(self.ended or Ended.SHUTDOWN)

    async def _off(self, why: Ended) -> None:
        self.record.update({"ended": why.value, "ended_at": self.now(), "running": False})
        self.record.pop("halt", None)
        self.save()
        await self.process.stop(STOP)

    async def halted(self) -> bool:
        """Shut the guest down for good; True when it is off."""
        self.instance.reload()
        state = self.process.state()
        if not state.running:
            return True
        seen = await look(self.instance, state, (), agent=False)
        halt = self.record.get("halt")
        if not seen.status and self.now() - (state.started_at or 0.0) < SHORT_LIFE and halt is None:
            return False  # its sockets are not there yet
        if seen.status in ENDED or not seen.status or (halt is not None and self.now() >= halt["until"]):
            await self._off(Ended.HALTED)
            return True
        if halt is None or self.now() - halt["sent"] >= RESEND:
            await self._press()
        return False
