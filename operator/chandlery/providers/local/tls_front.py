"""TLS in front of an engine that has none: an HAProxy of the instance takes it off and passes the bytes on.

The engine listens on a loopback port that no binding names. Certificates and listeners change by a reload: a new
worker takes over the listeners, the old one goes on with the connections that it has for as long as they last.
Sources: the HAProxy 2.8 configuration manual; its management guide, "Unix Socket commands".

    front = TlsFront(ctx, instance, [Front("client", 20001, "127.0.0.1:20002")], Certificates(ctx, obj, instance))
    state = await front.observe()           # in observe: differences, reason and message for the Observation
    await front.apply()                     # in create, and in update for every payload that begins with "tls-front"
"""

from __future__ import annotations

import asyncio
import hashlib
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from chandlery.driver.protocol import Difference, Disruption, DriverContext
from chandlery.foundation.clock import ambient
from chandlery.foundation.errors import ChandleryError, EngineFailed, Timeout, Unavailable
from chandlery.providers.local.asking import reachable
from chandlery.providers.local.certificates import Certificates
from chandlery.providers.local.driver import crash_loop, require_port
from chandlery.providers.local.instance import Instance
from chandlery.providers.local.process import Process, ProcessSpec, ProcessState, StopStep
from chandlery.providers.local.tools import run_tool

PROCESS = "tls-front"
PAYLOAD = "tls-front"
MARK = "CHANDLERY_CONFIGURATION"
RELOAD_SECONDS = 10.0
COMMAND_SECONDS = 5.0
STOP = (StopStep(signal.SIGTERM, 5.0), StopStep(signal.SIGKILL, 5.0))
_IDLE = "20d"
"""An idle connection is the engine's business. HAProxy's timers hold 24 days at most."""


@dataclass(frozen=True, slots=True)
class Front:
    """One port that clients connect to."""

    name: str
    """Letters, digits and `-`."""
    port: int
    backend: str
    """Where the engine listens: `host:port`, or `unix@` and a path relative to the instance's directory."""
    host: str = "127.0.0.1"
    tls: bool = True
    alpn: str = ""
    """`postgresql` for clients that begin with TLS at once."""
    allowed: tuple[str, ...] = ()
    """Networks that may connect; empty: all."""


@dataclass(frozen=True, slots=True)
class FrontState:
    """What was found."""

    ready: bool
    differences: tuple[Difference, ...] = ()
    reason: str = ""
    message: str = ""
    wait: float = 0.0
    """Seconds until a crashed HAProxy may be started again."""


class TlsFront:
    """The front of one object in one pass. Made anew each time; keeps nothing."""

    def __init__(
        self, ctx: DriverContext, instance: Instance, fronts: Sequence[Front], certificates: Certificates | None
    ) -> None:
        """`certificates` may be None when no front speaks TLS."""
        self.ctx = ctx
        self.instance = instance
        self.fronts = sorted(fronts, key=lambda front: front.name)
        self.certificates = certificates

    @property
    def process(self) -> Process:
        return self.instance.process(PROCESS)

    # -- observe

    async def observe(self) -> FrontState:
        """What is there and what is different.

        Raises:
            DependencyNotReady: a Secret that spec.tls names isn't there.
        """
        state = self.process.state()
        if not state.running:
            return self._stopped(state)
        stale = await self.certificates.due() if self.certificates is not None else ""
        try:
            mark = await self._mark_at_work()
        except ChandleryError as error:
            return FrontState(False, (), "Starting", f"waiting for the TLS front: {error.message}")
        self.process.settled()
        if stale:
            change = Difference("spec.tls", "as in spec", stale, Disruption.RELOAD, payload=(PAYLOAD, "reload"))
            return FrontState(True, (change,))
        if mark != self._mark(self._body()):
            change = Difference("spec.tls", "as in spec", "older", Disruption.RELOAD, payload=(PAYLOAD, "reload"))
            return FrontState(True, (change,))
        return FrontState(True)

    def _stopped(self, state: ProcessState) -> FrontState:
        looping = crash_loop("the TLS front", self.process, state)
        reason, message = looping or ("Starting", "the TLS front is not running")
        if state.wait > 0:
            return FrontState(False, (), reason, message, state.wait)
        change = Difference("instance tls-front", "running", "stopped", payload=(PAYLOAD, "start"))
        return FrontState(False, (change,), reason, message)

    # -- act

    async def apply(self) -> None:
        """Write certificates and configuration, then start or reload. Safe to repeat; free when nothing changed.

        Raises:
            NotSupported: this platform has no HAProxy.
            EngineFailed: HAProxy refuses the configuration, or didn't take it.
            Unavailable: another program has a port.
            DependencyNotReady: a Secret that spec.tls names isn't there.
        """
        if self.certificates is not None:
            await self.certificates.write()
        body = self._body()
        mark = self._mark(body)
        text = body.replace("global\n", f"global\n    setenv {MARK} {mark}\n", 1)
        if not self.process.state().running:
            await self._start(text)
            return
        try:
            if await self._mark_at_work() == mark:
                return
        except ChandleryError:
            pass  # it is starting, or hangs: the reload says so
        await self._reload(text, mark)

    async def remove(self) -> None:
        """No TLS any more."""
        await self.process.stop()
        self.process.forget()

    async def _start(self, text: str) -> None:
        for front in self.fronts:
            require_port(front.port, front.host)
        await self._check(text)
        self.instance.write_config("tls-front.cfg", text)
        engine = self.instance.engine("haproxy")
        argv = [str(engine.binary), "-W", "-db", "-f", "config/tls-front.cfg"]
        await self.process.start(ProcessSpec(argv, env=engine.env, cwd=self.instance.root, stop=STOP))

    async def _check(self, text: str) -> None:
        """HAProxy's own opinion, before anything that runs sees it."""
        self.instance.write_config("tls-front-next.cfg", text)
        engine = self.instance.engine("haproxy")
        argv = [str(engine.binary), "-c", "-f", "config/tls-front-next.cfg"]
        done = await run_tool(self.instance, argv, env=engine.env, cwd=self.instance.root, check=False)
        if done.code != 0:
            alerts = [line for line in done.output.splitlines() if "[ALERT]" in line]
            raise EngineFailed(
                f"HAProxy refuses the configuration: {' | '.join(alerts[:3]) or done.tail()}",
                field="spec.tls",
                hint="What runs goes on as it is.",
                retry_after=30.0,
            )

    async def _reload(self, text: str, mark: str) -> None:
        """Hand the listeners to a new worker, and see that it is the one that answers."""
        await self._check(text)
        self.instance.write_config("tls-front.cfg", text)
        if not self.process.signal(signal.SIGUSR2):
            return  # it is gone; the next pass starts it
        clock = self.ctx.base.clock
        deadline = clock.monotonic() + RELOAD_SECONDS
        while clock.monotonic() < deadline:
            try:
                if await self._mark_at_work() == mark:
                    return
            except ChandleryError:
                pass
            await clock.sleep(0.02)
        raise EngineFailed(
            f"the TLS front did not take its new configuration within {RELOAD_SECONDS:.0f} s: "
            f"{self.process.log_tail(3)}"
        )

    # -- the configuration

    def _mark(self, body: str) -> str:
        """Stands for the configuration and for what is in the files that it names."""
        digest = hashlib.sha256(body.encode())
        if self.certificates is not None:
            for path in (self.certificates.pem_file, self.certificates.client_ca_file):
                digest.update(path.read_bytes() if path is not None and path.exists() else b"")
        return digest.hexdigest()[:16]

    def _body(self) -> str:
        lines = [
            "global",
            f"    stats socket unix@run/{PROCESS}.sock mode 600 level admin expose-fd listeners",
            "    ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets",
            "defaults",
            "    mode tcp",
            "    option dontlognull",
            "    option clitcpka",
            "    option srvtcpka",
            "    timeout connect 5s",
            f"    timeout client {_IDLE}",
            f"    timeout server {_IDLE}",
        ]
        for front in self.fronts:
            lines += [f"frontend {front.name}", f"    bind {front.host}:{front.port}{self._bind_options(front)}"]
            if front.allowed:
                lines.append(f"    tcp-request connection reject unless {{ src {' '.join(front.allowed)} }}")
            lines += [
                f"    default_backend {front.name}",
                f"backend {front.name}",
                f"    server engine {front.backend}",
            ]
        return "\n".join(lines) + "\n"

    def _bind_options(self, front: Front) -> str:
        if not front.tls or self.certificates is None:
            return ""
        root, found = self.instance.root, self.certificates
        options = f" ssl crt {found.pem_file.relative_to(root)} ssl-min-ver TLSv{found.minimum_version}"
        if found.client_ca_file is not None:
            verify = "required" if found.requires_clients else "optional"
            options += f" ca-file {found.client_ca_file.relative_to(root)} verify {verify}"
        return options + (f" alpn {front.alpn}" if front.alpn else "")

    # -- its runtime socket

    async def _mark_at_work(self) -> str:
        answer = await self._command(f"show env {MARK}")
        return answer.partition("=")[2]

    async def _command(self, text: str) -> str:
        try:
            async with ambient().timeout(COMMAND_SECONDS):
                with reachable(self.instance.run_dir / f"{PROCESS}.sock") as name:
                    reader, writer = await asyncio.open_unix_connection(name)
                try:
                    writer.write(text.encode() + b"\n")
                    await writer.drain()
                    answer = await reader.read()
                finally:
                    writer.close()
        except TimeoutError as error:
            raise Timeout(f"HAProxy did not answer within {COMMAND_SECONDS:g} s") from error
        except OSError as error:
            raise Unavailable(f"HAProxy does not answer: {error.strerror or error}", retry_after=0.05) from error
        return answer.decode(errors="replace").strip()
