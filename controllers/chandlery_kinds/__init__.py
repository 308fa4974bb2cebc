"""The kinds that Chandlery supplies, one folder each."""

from __future__ import annotations

from chandlery.driver.kind import Kind
from chandlery_kinds.cache import KIND as CACHE
from chandlery_kinds.database import KIND as DATABASE
from chandlery_kinds.loadbalancer import KIND as LOADBALANCER
from chandlery_kinds.queue import KIND as QUEUE
from chandlery_kinds.virtualmachine import KIND as VIRTUALMACHINE

KINDS: tuple[Kind, ...] = (
    CACHE,
    DATABASE,
    QUEUE,
    LOADBALANCER,
    VIRTUALMACHINE,
)
"""All kinds. A new one adds its import and its line here; `hack/new-kind` does both."""
