"""The part of a pass that is the same for every engine in pods of ours: its inputs, certificates, creation, servers."""

from __future__ import annotations

import ssl
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, Self, TypeVar

from chandlery.driver.objects import ResourceType
from chandlery.driver.protocol import DriverContext
from chandlery.model.base import Condition
from chandlery.providers.kubernetes import certificates, pods
from chandlery.providers.kubernetes.certificates import Certificates
from chandlery.providers.kubernetes.children import Children
from chandlery.providers.kubernetes.driver import R, Workload
from chandlery.providers.kubernetes.foreign import look
from chandlery.providers.kubernetes.inputs import EngineInputs
from chandlery.providers.kubernetes.metrics import exporter_condition
from chandlery.providers.kubernetes.templates import upgrade_condition
from chandlery.providers.kubernetes.types import (
    BUDGETS,
    CLAIMS,
    NETWORK_POLICIES,
    PODS,
    SECRETS,
    SERVICE_MONITORS,
    SERVICES,
    STATEFUL_SETS,
    Obj,
)

I = TypeVar("I", bound=EngineInputs[Any])  # noqa: E741 - beside R


class EngineWorkload(Workload[R], Generic[R, I]):
    """Made anew each time; keeps nothing."""

    kinds: ClassVar[Sequence[ResourceType]] = (
        STATEFUL_SETS,
        SERVICES,
        SECRETS,
        BUDGETS,
        NETWORK_POLICIES,
        PODS,
        CLAIMS,
    )
    """Of its children."""

    def __init__(self, ctx: DriverContext, obj: R, there: Children, inputs: I) -> None:
        super().__init__(ctx, obj, there)
        self.inputs = inputs
        self.monitors = SERVICE_MONITORS in there.kinds
        tls = inputs.tls
        self.certificates = Certificates(ctx, tls, there, inputs.hosts) if tls is not None else None

    @classmethod
    @abstractmethod
    def inputs_of(cls, ctx: DriverContext, obj: R) -> I:
        """What its manifests are made from."""

    @classmethod
    async def of(cls, ctx: DriverContext, obj: R) -> Self:
        """Read what is there."""
        inputs = cls.inputs_of(ctx, obj)
        return cls(ctx, obj, await look(ctx.provider, inputs.owner, cls.kinds, obj.spec), inputs)

    @abstractmethod
    async def first(self) -> list[Obj]:
        """Every child to begin with, but what holds generated values."""

    async def create(self) -> None:
        await self.ensure_auth()
        if self.certificates is not None:
            await self.act_all(await self.certificates.children())
            await self.certificates.ensure()
        await self.act_all(await self.first())

    @property
    def host(self) -> str:
        """Where clients connect."""
        return str(self.spec.exposure.hostname or f"{self.owner.base}.{self.owner.namespace}.svc")

    def servers(self) -> list[Obj]:
        """Pods that stay; those of Jobs are none."""
        return [pod for pod in self.there.pods if not (pod["metadata"].get("deletionTimestamp") or _of_job(pod))]

    def context_for(self, pod: Obj) -> ssl.SSLContext | None:
        """With which the driver connects to a pod; None where it speaks no TLS. TLS comes and goes with new pods."""
        material = certificates.material(self.there)
        speaks = any(volume["name"] == "tls" for volume in pod["spec"].get("volumes", ()))
        return material.context() if material is not None and speaks else None

    def complete(self, wanted: int) -> bool:
        """So many pods are ready, and all are of the present template."""
        live = self.stateful or {}
        meta, status = live.get("metadata") or {}, live.get("status") or {}
        revision, servers = status.get("updateRevision"), self.servers()
        same = all(p["metadata"]["labels"].get("controller-revision-hash") == revision for p in servers)
        current = status.get("observedGeneration") == meta.get("generation")
        return bool(current and same and sum(map(pods.ready, servers)) >= wanted)

    def told(self, newer: str) -> tuple[Condition, ...]:
        """Conditions of any engine: of a newer template (its digest), and of exporters."""
        return (*upgrade_condition(self.address, newer, self.opens), *exporter_condition(self.there.pods))

    def trouble(self) -> tuple[str, str] | None:
        """What a person should know of pods that don't get on: (reason, sentence)."""
        for pod in self.servers():
            wrong = pods.problem(pod)
            if wrong:
                return wrong[0], f"{pod['metadata']['name']}: {wrong[1]}"
        live = self.stateful
        if live is None or self.there.pods:
            return None
        name, status = live["metadata"]["name"], live.get("status") or {}
        if status.get("observedGeneration") != live["metadata"].get("generation"):
            return None
        look = f"kubectl describe statefulset {name} -n {self.owner.namespace}"
        return "PodsMissing", f"no pod of StatefulSet {name} is there; why, such as a quota, tells: {look}"


def _of_job(pod: Obj) -> bool:
    return any(owner.get("kind") == "Job" for owner in pod["metadata"].get("ownerReferences") or ())
