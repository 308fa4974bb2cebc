"""What the manifests of a queue by NATS are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from chandlery.model.parts import Tls
from chandlery.providers.kubernetes import metrics
from chandlery.providers.kubernetes.ownership import Owner
from chandlery.providers.kubernetes.pods import image
from chandlery.providers.kubernetes.services import HEADLESS
from chandlery_kinds.queue.model import Queue, QueueSpec

MOUNT: Final = "/etc/chandlery"
DATA: Final = "/data"
RUN: Final = "/run/chandlery"
TLS_MOUNT: Final = "/etc/chandlery-tls"
PORT: Final = 4222
CLUSTER_PORT: Final = 6222
MONITOR_PORT: Final = 8222
METRICS_PORT: Final = 7777
_EXPORTER: Final = "docker.io/natsio/prometheus-nats-exporter:0.17.3"
_REPOSITORY: Final = "docker.io/library/nats"
_VERSION: Final = "2.12.15"
_IN_TEMPLATE: Final = (
    "version",
    "placement",
    "resources",
    "configuration",
    "storage",
)


@dataclass(frozen=True, slots=True)
class Inputs:
    """The spec, whose children they are, and what class and chart say."""

    owner: Owner
    spec: QueueSpec
    image: str
    image_said: str
    pull_secrets: tuple[str, ...] = ()
    exporter: str = _EXPORTER
    exporter_said: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, obj: Queue, parameters: Mapping[str, Any], catalogue: Mapping[str, str], pull_secrets: Sequence[str] = ()
    ) -> Inputs:
        version = str(obj.spec.version) if obj.spec.version else _VERSION
        chosen, said = image("nats", f"{_REPOSITORY}:{version}-alpine", parameters, catalogue)
        secrets = tuple(parameters.get("pullSecrets") or pull_secrets)
        exporter = image("nats-exporter", _EXPORTER, {"images": parameters.get("images")}, catalogue)
        return cls(Owner.of(obj, "nats"), obj.spec, chosen, said, secrets, *exporter, parameters)

    @property
    def service_port(self) -> int:
        """What clients connect to."""
        return self.spec.exposure.port or PORT

    @property
    def tls(self) -> Tls | None:
        """None without encryption."""
        return self.spec.tls if self.spec.tls is not None and self.spec.tls.enabled else None

    @property
    def metrics(self) -> bool:
        return metrics.enabled(self.spec.metrics)

    @property
    def metrics_port(self) -> int:
        return (self.spec.metrics.port if self.spec.metrics is not None else None) or METRICS_PORT

    @property
    def clustered(self) -> bool:
        return self.spec.replicas > 1

    @property
    def domain(self) -> str:
        """What follows a pod's name in its DNS name."""
        return f"{self.owner.base}{HEADLESS}.{self.owner.namespace}.svc"

    @property
    def hosts(self) -> list[str]:
        """Names for the server's certificate."""
        more = [self.spec.exposure.hostname] if self.spec.exposure.hostname else []
        return [f"{self.owner.base}.{self.owner.namespace}.svc", f"*.{self.domain}", *more, "localhost"]

    @property
    def asked(self) -> dict[str, Any]:
        """Everything about the pod template that people decide."""
        spec = self.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
        return {
            **{name: spec[name] for name in _IN_TEMPLATE if name in spec},
            "clustered": self.clustered,
            **({"tls": True} if self.tls is not None else {}),
            **({"metrics": self.metrics_port, "exporter": self.exporter_said} if self.metrics else {}),
            **({"commands": dict(self.parameters["commands"])} if self.parameters.get("commands") else {}),
            "image": self.image_said,
            "pullSecrets": list(self.pull_secrets),
        }
