"""Cache: Valkey, Redis or Memcached."""

from __future__ import annotations

from chandlery.driver.kind import Kind
from chandlery.model.references import secret_references
from chandlery_kinds.cache.model import Cache

KIND = Kind(
    model=Cache,
    drivers={
        "memory": "chandlery_kinds.cache.drivers.memory:CacheDriver",
        "local": "chandlery_kinds.cache.drivers.local:CacheDriver",
        "kubernetes": "chandlery_kinds.cache.drivers.kubernetes:CacheDriver",
    },
    references=secret_references,
    operations=("backup", "restore", "rotate"),
    package=__name__,
)
