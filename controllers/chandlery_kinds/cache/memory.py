"""How much memory a server needs beside its data."""

from __future__ import annotations

from chandlery_kinds.cache.memcached import MIB, megabytes
from chandlery_kinds.cache.model import CacheEngine, CacheSpec
from chandlery_kinds.cache.spec_parts import PersistenceMode


def most(spec: CacheSpec) -> int:
    """Bytes that a server which keeps within spec.memory may use in all.

    A fork that saves or copies may double what is written to meanwhile; buffers of clients and copies come on top.
    """
    if spec.engine is CacheEngine.MEMCACHED:
        return megabytes(spec) * MIB * 12 // 10 + 64 * MIB
    forks = spec.persistence.mode is not PersistenceMode.NONE or spec.replicas_per_primary > 0
    return spec.memory.bytes * (15 if forks else 12) // 10 + 64 * MIB
