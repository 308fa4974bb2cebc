"""What the manifests of a cache are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from chandlery.providers.kubernetes.backup import program_image
from chandlery.providers.kubernetes.inputs import EngineInputs
from chandlery.providers.kubernetes.ownership import Owner
from chandlery.providers.kubernetes.pods import image, program
from chandlery_kinds.cache.kubernetes.parameters import CacheParameters
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


class Inputs(EngineInputs[CacheSpec]):
    """Of one cache."""

    own_metrics_port: ClassVar[int] = METRICS_PORT

    @classmethod
    def of(
        cls, obj: Cache, parameters: CacheParameters, catalogue: Mapping[str, str], pull_secrets: Sequence[str] = ()
    ) -> Inputs:
        engine = obj.spec.engine
        repository, version = _REPOSITORIES[engine]
        if obj.spec.version:
            version = str(obj.spec.version)
        chosen, said = image(engine.value, f"{repository}:{version}", parameters, catalogue)
        secrets = parameters.pull_secrets or tuple(pull_secrets)
        exporter = image("redis-exporter", _EXPORTER, parameters, catalogue, engine=False)
        tool = program_image(parameters, catalogue)
        return cls(Owner.of(obj, engine.value), obj.spec, chosen, said, secrets, *exporter, parameters, tool)

    @property
    def port(self) -> int:
        return MEMCACHED_PORT if self.spec.engine is CacheEngine.MEMCACHED else PORT

    @property
    def only_tls(self) -> bool:
        return self.tls is not None and self.tls.required

    @property
    def services(self) -> Sequence[str]:
        return ("-read",) if self.replicated else ()

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
        return self.asked_for(
            ("engine", "version", "memory", "placement", "resources"),
            persistent=self.persistent,
            replicated=self.replicated,
            **({"sharded": True} if self.sharded else {}),
            **({"tls": "only" if self.only_tls else "beside"} if self.tls is not None else {}),
        )
