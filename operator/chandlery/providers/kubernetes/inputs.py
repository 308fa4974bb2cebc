"""What the manifests of any engine in pods are made from: the spec, whose children they are, class and chart."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from chandlery.model.parts import Tls
from chandlery.providers.kubernetes import metrics
from chandlery.providers.kubernetes.ownership import Owner
from chandlery.providers.kubernetes.parameters import AnyWorkload
from chandlery.providers.kubernetes.services import HEADLESS

S = TypeVar("S", bound=Any)


@dataclass(frozen=True)
class EngineInputs(ABC, Generic[S]):
    """Of one object; a kind adds what only its engines know."""

    owner: Owner
    spec: S
    """With `exposure`, `tls`, `metrics`."""
    image: str
    image_said: str
    """What people said of the image; empty when it is our own choice, which a newer operator may make otherwise."""
    pull_secrets: tuple[str, ...] = ()
    exporter: str = ""
    exporter_said: str = ""
    parameters: AnyWorkload = field(default_factory=AnyWorkload)
    tool: str = ""
    """The image with our own program, for backups."""
    restore: Mapping[str, str] | None = None
    """The backup that the data begin with, and the image of the program that reads it: as it was put on record."""

    own_metrics_port: ClassVar[int]

    @property
    @abstractmethod
    def port(self) -> int:
        """Where a server listens for clients."""

    @property
    def service_port(self) -> int:
        """What clients connect to."""
        return int(self.spec.exposure.port or self.port)

    @property
    def tls(self) -> Tls | None:
        """None without encryption."""
        tls: Tls | None = self.spec.tls
        return tls if tls is not None and tls.enabled else None

    @property
    def metrics(self) -> bool:
        return metrics.enabled(self.spec.metrics)

    @property
    def metrics_port(self) -> int:
        said = self.spec.metrics.port if self.spec.metrics is not None else None
        return int(said or self.own_metrics_port)

    @property
    def domain(self) -> str:
        """What follows a pod's name in its DNS name."""
        return f"{self.owner.base}{HEADLESS}.{self.owner.namespace}.svc"

    @property
    def services(self) -> Sequence[str]:
        """Suffixes of the names of further Services for clients."""
        return ()

    @property
    def hosts(self) -> list[str]:
        """Names for the server's certificate."""
        base, namespace = self.owner.base, self.owner.namespace
        names = [f"{base}.{namespace}.svc", f"*.{self.domain}", *(f"{base}{s}.{namespace}.svc" for s in self.services)]
        more = [self.spec.exposure.hostname] if self.spec.exposure.hostname else []
        return [*names, *more, "localhost"]

    def asked_for(self, names: Sequence[str], **own: Any) -> dict[str, Any]:
        """Everything about the pod template that people decide: these fields of the spec, and what a kind adds."""
        spec = self.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
        return {
            **{name: spec[name] for name in names if name in spec},
            **own,
            **({"metrics": self.metrics_port, "exporter": self.exporter_said} if self.metrics else {}),
            **({"commands": self.parameters.commands_said()} if self.parameters.commands else {}),
            **({"restore": dict(self.restore)} if self.restore else {}),
            "image": self.image_said,
            "pullSecrets": list(self.pull_secrets),
        }
