"""The ports of a cache: what the engines listen on, and what clients connect to."""

from __future__ import annotations

import ssl
from abc import ABC, abstractmethod
from collections.abc import Sequence

from chandlery.driver.protocol import Difference, Disruption, DriverContext, Observation
from chandlery.model.parts import ExposureType
from chandlery.providers.local import Instance
from chandlery.providers.local.certificates import Certificates
from chandlery.providers.local.tls_front import PAYLOAD as FRONT
from chandlery.providers.local.tls_front import PROCESS as FRONT_PROCESS
from chandlery.providers.local.tls_front import Front, FrontState, TlsFront
from chandlery_kinds.cache.binding import Address
from chandlery_kinds.cache.model import Cache

HOST = "127.0.0.1"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - on request only


OUTSIDE = "outside"
"""The name of the port that is open to others than this machine."""


class Fronted(ABC):
    """The ports of one cache in one pass. Made anew each time; keeps nothing."""

    def __init__(self, ctx: DriverContext, obj: Cache, instance: Instance) -> None:
        self.ctx = ctx
        self.obj = obj
        self.spec = obj.spec
        self.instance = instance
        tls = obj.spec.tls
        self.certificates = Certificates(ctx, obj, instance) if tls is not None and tls.enabled else None

    @abstractmethod
    def fronts(self) -> list[Front]:
        """The ports at which HAProxy stands in front of the engines."""

    @property
    def endpoint_port(self) -> int:
        """Where clients connect first."""
        return self.address().port

    def claimed(self, key: str) -> int:
        """An engine's own port. Without TLS it is what clients connect to, so that the spec may name it."""
        wanted = self.spec.exposure.port if key == "client" and self.certificates is None else None
        return self.instance.port(key, wanted)

    def public(self, key: str) -> int:
        """The port at which clients reach what listens at an engine's port."""
        if self.certificates is None:
            return self.claimed(key)
        return self.instance.port(f"tls-{key}", self.spec.exposure.port if key == "client" else None)

    def port_differences(self, key: str, cost: Disruption = Disruption.RELOAD) -> list[Difference]:
        """Whether clients connect where the spec says; `cost` is what a move of the engine itself would be."""
        exposure, found = self.spec.exposure, []
        actual = self.public(key)
        if exposure.port is not None and exposure.port != actual:
            cost = cost if self.certificates is None else Disruption.RELOAD
            change = ("public-port",)
            found.append(Difference("spec.exposure.port", str(exposure.port), str(actual), cost, payload=change))
        outside = self.instance.ports.get(OUTSIDE)
        if self.is_outside and outside is not None and exposure.node_port not in (None, outside):
            ports = (str(exposure.node_port), str(outside))
            found.append(Difference("spec.exposure.nodePort", *ports, Disruption.RELOAD, payload=("public-port",)))
        return found

    def claim_public(self, key: str) -> None:
        """Take the port that the spec names. An engine that has it itself so far moves away from it.

        Raises:
            Unavailable: another program, or another object, has it.
        """
        wanted, outside = self.spec.exposure.port, self.spec.exposure.node_port
        if wanted is not None:
            if self.certificates is not None and self.instance.ports.get(key) == wanted:
                self.instance.move_port(key)
            self.instance.claim_port(key if self.certificates is None else f"tls-{key}", wanted)
        if self.is_outside and outside is not None:
            self.instance.claim_port(OUTSIDE, outside, "spec.exposure.nodePort")

    @property
    def is_outside(self) -> bool:
        """Whether others than this machine may connect."""
        return self.spec.exposure.type is ExposureType.NODE_PORT

    # -- the front

    def tls_fronts(self, keys: Sequence[str]) -> list[Front]:
        if self.certificates is None:
            return []
        return [Front(key, self.public(key), f"{HOST}:{self.claimed(key)}") for key in keys]

    def outside_fronts(self, key: str) -> list[Front]:
        """What listens on every interface, where the spec exposes it."""
        if not self.is_outside:
            return []
        exposure = self.spec.exposure
        port = self.instance.port(OUTSIDE, exposure.node_port)
        backend = f"{HOST}:{self.claimed(key)}"
        return [Front(OUTSIDE, port, backend, host=EVERYWHERE, allowed=tuple(map(str, exposure.allowed_cidrs)))]

    def front(self) -> TlsFront | None:
        fronts = self.fronts()
        return TlsFront(self.ctx, self.instance, fronts, self.certificates) if fronts else None

    async def observe_front(self) -> FrontState:
        """The front's state; without one it is always well, and one that is no longer wanted is a difference."""
        front = self.front()
        if front is not None:
            return await front.observe()
        if FRONT_PROCESS in self.instance.process_names():
            change = Difference("spec.tls", "off", "on", Disruption.RELOAD, payload=("remove-front",))
            return FrontState(True, (change,))
        return FrontState(True)

    async def update_front(self, observed: Observation) -> None:
        """Last of an update: an engine may have to leave a port first."""
        what = {change.payload[0] for change in observed.plan.changes}
        front = self.front()
        if FRONT in what and front is not None:
            await front.apply()
        if "remove-front" in what:
            await self.instance.process(FRONT_PROCESS).stop()
            self.instance.process(FRONT_PROCESS).forget()
            for key in [key for key in self.instance.ports if key.startswith("tls-")]:
                self.instance.release_port(key)
        if not self.is_outside:
            self.instance.release_port(OUTSIDE)

    # -- the binding

    @abstractmethod
    def address(self) -> Address:
        """Where clients connect, for the binding."""

    def address_of(self, key: str) -> Address:
        if self.certificates is None:
            return Address(self.host, self.claimed(key), outside_port=self._outside_port)
        plain = None if self.spec.tls is None or self.spec.tls.required else self.claimed(key)
        return Address(self.host, self.public(key), self.certificates.entries, plain, outside_port=self._outside_port)

    @property
    def _outside_port(self) -> int | None:
        return self.instance.ports.get(OUTSIDE) if self.is_outside else None

    @property
    def host(self) -> str:
        """Loopback: a name of the spec's own is for others than this machine."""
        return HOST

    def client_context(self) -> ssl.SSLContext | None:
        """TLS as a client speaks it; None without TLS, and where we have no certificate that the server would take."""
        if self.certificates is None or self.certificates.requires_clients:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # a given certificate may name another host than loopback
        authority = self.certificates.authority
        if authority:
            context.load_verify_locations(cadata=authority)
        else:
            context.verify_mode = ssl.CERT_NONE  # of a public CA: whether it answers is the question here
        return context
