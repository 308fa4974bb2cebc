"""What the manifests of a queue by NATS are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chandlery.providers.kubernetes.ownership import Owner
from chandlery.providers.kubernetes.pods import image
from chandlery_kinds.queue.model import Queue, QueueSpec

MOUNT: Final = "/etc/chandlery"
DATA: Final = "/data"
PORT: Final = 4222
CLUSTER_PORT: Final = 6222
MONITOR_PORT: Final = 8222
_REPOSITORY: Final = "docker.io/library/nats"
_VERSION: Final = "2.12.1"
_IN_TEMPLATE: Final = (
    "version",
    "placement",
    "resources",
    "configuration",
    "users",
    "maxMessageSize",
    "subjects",
    "replicas",
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

    @classmethod
    def of(
        cls, obj: Queue, parameters: Mapping[str, Any], catalogue: Mapping[str, str], pull_secrets: Sequence[str] = ()
    ) -> Inputs:
        version = str(obj.spec.version) if obj.spec.version else _VERSION
        chosen, said = image("nats", f"{_REPOSITORY}:{version}-alpine", parameters, catalogue)
        secrets = tuple(parameters.get("pullSecrets") or pull_secrets)
        return cls(Owner.of(obj, "nats"), obj.spec, chosen, said, secrets)

    @property
    def service_port(self) -> int:
        """What clients connect to."""
        return self.spec.exposure.port or PORT

    @property
    def asked(self) -> dict[str, Any]:
        """Everything about the pod template that people decide."""
        spec = self.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
        return {
            **{name: spec[name] for name in _IN_TEMPLATE if name in spec},
            "image": self.image_said,
            "pullSecrets": list(self.pull_secrets),
        }
