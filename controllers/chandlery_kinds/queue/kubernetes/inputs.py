"""What the manifests of a queue by NATS are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from chandlery.providers.kubernetes.backup import program_image
from chandlery.providers.kubernetes.inputs import EngineInputs
from chandlery.providers.kubernetes.ownership import Owner
from chandlery.providers.kubernetes.pods import image
from chandlery_kinds.queue.kubernetes.parameters import QueueParameters
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


class Inputs(EngineInputs[QueueSpec]):
    """Of one queue."""

    own_metrics_port: ClassVar[int] = METRICS_PORT

    @classmethod
    def of(
        cls, obj: Queue, parameters: QueueParameters, catalogue: Mapping[str, str], pull_secrets: Sequence[str] = ()
    ) -> Inputs:
        version = str(obj.spec.version) if obj.spec.version else _VERSION
        chosen, said = image("nats", f"{_REPOSITORY}:{version}-alpine", parameters, catalogue)
        secrets = parameters.pull_secrets or tuple(pull_secrets)
        exporter = image("nats-exporter", _EXPORTER, parameters, catalogue, engine=False)
        tool = program_image(parameters, catalogue)
        return cls(Owner.of(obj, "nats"), obj.spec, chosen, said, secrets, *exporter, parameters, tool)

    @property
    def port(self) -> int:
        return PORT

    @property
    def clustered(self) -> bool:
        return self.spec.replicas > 1

    @property
    def asked(self) -> dict[str, Any]:
        """Everything about the pod template that people decide."""
        return self.asked_for(_IN_TEMPLATE, clustered=self.clustered, **({"tls": True} if self.tls is not None else {}))
