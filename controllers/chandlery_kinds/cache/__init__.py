"""Cache: Valkey, Redis or Memcached."""

from __future__ import annotations

from chandlery.driver.kind import Kind
from chandlery_kinds.cache.model import Cache

KIND = Kind(
    model=Cache,
    drivers={
        "memory": "chandlery_kinds.cache.drivers.memory:CacheDriver",
        "local": "chandlery_kinds.cache.drivers.local:CacheDriver",
    },
    operations=("backup", "restore", "rotate"),
    package=__name__,
)
