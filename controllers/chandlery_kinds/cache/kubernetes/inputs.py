"""What the manifests of a cache are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from chandlery.model.parts import Tls
from chandlery.providers.kubernetes import metrics
from chandlery.providers.kubernetes.ownership import Owner
from chandlery.providers.kubernetes.pods import image, program
from chandlery.providers.kubernetes.services import HEADLESS
from chandlery_kinds.cache.model import Cache, CacheEngine, CacheMode, CacheSpec, PersistenceMode

PORT: Final = 6379
MEMCACHED_PORT: Final = 11211
MOUNT: Final = "/etc/chandlery"
DATA: Final = "/data"
RUN: Final = "/run/chandlery"
TLS_MOUNT: Final = "/etc/chandlery-tls"
TLS_PORT: Final = 6380
"""Where clients with TLS connect while those without may too; when TLS is required, `PORT` speaks it."""
METRICS_PORT: Final = 9121
PROBE_USER: Final = "chandlery-probe"
METRICS_USER: Final = "chandlery-metrics"
_EXPORTER: Final = "docker.io/oliver006/redis_exporter:v1.80.0"
_REPOSITORIES: Final = {
    CacheEngine.VALKEY: ("docker.io/valkey/valkey", "9.1.1"),
    CacheEngine.REDIS: ("docker.io/library/redis", "8.2.9"),
    CacheEngine.MEMCACHED: ("docker.io/library/memcached", "1.6.45"),
}


@dataclass(frozen=True, slots=True)
class Inputs:
    """The spec, whose children they are, and what class and chart say."""

    owner: Owner
    spec: CacheSpec
    image: str
    image_said: str
    """What people said of the image; empty when it is our own choice, which a newer operator may make otherwise."""
    pull_secrets: tuple[str, ...] = ()
    exporter: str = _EXPORTER
    exporter_said: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, obj: Cache, parameters: Mapping[str, Any], catalogue: Mapping[str, str], pull_secrets: Sequence[str] = ()
    ) -> Inputs:
        engine = obj.spec.engine
        repository, version = _REPOSITORIES[engine]
        if obj.spec.version:
            version = str(obj.spec.version)
        chosen, said = image(engine.value, f"{repository}:{version}", parameters, catalogue)
        secrets = tuple(parameters.get("pullSecrets") or pull_secrets)
        exporter = image("redis-exporter", _EXPORTER, {"images": parameters.get("images")}, catalogue)
        return cls(Owner.of(obj, engine.value), obj.spec, chosen, said, secrets, *exporter, parameters)

    @property
    def port(self) -> int:
        return MEMCACHED_PORT if self.spec.engine is CacheEngine.MEMCACHED else PORT

    @property
    def service_port(self) -> int:
        """What clients connect to."""
        return self.spec.exposure.port or self.port

    @property
    def tls(self) -> Tls | None:
        """None without encryption."""
        return self.spec.tls if self.spec.tls is not None and self.spec.tls.enabled else None

    @property
    def only_tls(self) -> bool:
        return self.tls is not None and self.tls.required

    @property
    def metrics(self) -> bool:
        return metrics.enabled(self.spec.metrics)

    @property
    def metrics_port(self) -> int:
        return (self.spec.metrics.port if self.spec.metrics is not None else None) or METRICS_PORT

    @property
    def domain(self) -> str:
        """What follows a pod's name in its DNS name."""
        return f"{self.owner.base}{HEADLESS}.{self.owner.namespace}.svc"

    @property
    def hosts(self) -> list[str]:
        """Names for the server's certificate."""
        owner = self.owner
        names = [f"{owner.base}.{owner.namespace}.svc", f"*.{self.domain}"]
        names += [f"{owner.base}-read.{owner.namespace}.svc"] if self.replicated else []
        more = [self.spec.exposure.hostname] if self.spec.exposure.hostname else []
        return [*names, *more, "localhost"]

    @property
    def replicated(self) -> bool:
        return self.spec.mode is CacheMode.REPLICATED

    @property
    def persistent(self) -> bool:
        return self.spec.persistence.mode is not PersistenceMode.NONE

    @property
    def sharded(self) -> bool:
        return self.spec.mode is CacheMode.SHARDED

    @property
    def server(self) -> list[str]:
        """The words that start the server; a class may know better where its image keeps it."""
        name = f"{self.spec.engine.value}-server"
        return program(name, [name], self.parameters)

    @property
    def client(self) -> list[str]:
        name = f"{self.spec.engine.value}-cli"
        return program(name, [name], self.parameters)

    @property
    def asked(self) -> dict[str, Any]:
        """Everything about the pod template that people decide."""
        spec = self.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
        names = ("engine", "version", "memory", "placement", "resources")
        return {
            **{name: spec[name] for name in names if name in spec},
            "persistent": self.persistent,
            "replicated": self.replicated,
            **({"sharded": True} if self.sharded else {}),
            **({"tls": "only" if self.only_tls else "beside"} if self.tls is not None else {}),
            **({"metrics": self.metrics_port, "exporter": self.exporter_said} if self.metrics else {}),
            **({"commands": dict(self.parameters["commands"])} if self.parameters.get("commands") else {}),
            "image": self.image_said,
            "pullSecrets": list(self.pull_secrets),
        }
