"""What a ResourceClass may say to the `kubernetes` driver of Cache."""

from __future__ import annotations

from typing import Annotated

from chandlery.driver.parameters import OneOf
from chandlery.providers.kubernetes.parameters import WorkloadParameters

ImageName = Annotated[str, OneOf("valkey", "redis", "memcached", "redis-exporter", "chandlery")]
ProgramName = Annotated[
    str,
    OneOf(
        "valkey-server", "valkey-cli", "redis-server", "redis-cli", "memcached", "redis_exporter", "chandlery-python"
    ),
]


class CacheParameters(WorkloadParameters[ImageName, ProgramName]):
    """Images, programs and who may connect."""
