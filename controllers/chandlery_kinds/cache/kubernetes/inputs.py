"""What the manifests of a cache are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chandlery.providers.kubernetes.ownership import Owner
from chandlery.providers.kubernetes.pods import image
from chandlery_kinds.cache.model import Cache, CacheEngine, CacheMode, CacheSpec, PersistenceMode

PORT: Final = 6379
MEMCACHED_PORT: Final = 11211
MOUNT: Final = "/etc/chandlery"
DATA: Final = "/data"
PROBE_USER: Final = "chandlery-probe"
_REPOSITORIES: Final = {
    CacheEngine.VALKEY: ("docker.io/valkey/valkey", "9.1.1"),
    CacheEngine.REDIS: ("docker.io/library/redis", "8.2.1"),
    CacheEngine.MEMCACHED: ("docker.io/library/memcached", "1.6.39"),
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
        return cls(Owner.of(obj, engine.value), obj.spec, chosen, said, secrets)

    @property
    def port(self) -> int:
        return MEMCACHED_PORT if self.spec.engine is CacheEngine.MEMCACHED else PORT

    @property
    def service_port(self) -> int:
        """What clients connect to."""
        return self.spec.exposure.port or self.port

    @property
    def replicated(self) -> bool:
        return self.spec.mode is CacheMode.REPLICATED

    @property
    def persistent(self) -> bool:
        return self.spec.persistence.mode is not PersistenceMode.NONE

    @property
    def server(self) -> str:
        return f"{self.spec.engine.value}-server"

    @property
    def client(self) -> str:
        return f"{self.spec.engine.value}-cli"

    @property
    def asked(self) -> dict[str, Any]:
        """Everything about the pod template that people decide."""
        spec = self.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
        names = ("engine", "version", "memory", "placement", "resources")
        return {
            **{name: spec[name] for name in names if name in spec},
            "persistent": self.persistent,
            "replicated": self.replicated,
            "image": self.image_said,
            "pullSecrets": list(self.pull_secrets),
        }
