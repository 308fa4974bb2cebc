"""What a server may use beside its data."""

import pytest

from chandlery_kinds.cache import memory
from chandlery_kinds.cache.drivers.local import CacheDriver
from chandlery_kinds.cache.model import Cache

MIB = 1 << 20


def cache(**spec):
    meta = {"name": "demo", "namespace": "default", "uid": "1"}
    names = Cache.names
    return Cache.model_validate(
        {"apiVersion": names.api_version, "kind": "Cache", "metadata": meta, "spec": spec, "status": {}}
    )


@pytest.mark.parametrize(
    ("spec", "most"),
    [
        ({"memory": "100Mi"}, 184),
        ({"memory": "100Mi", "mode": "replicated", "replicas": 1}, 214),
        ({"memory": "100Mi", "persistence": {"mode": "append-only", "storage": {"size": "1Gi"}}}, 214),
        ({"memory": "100Mi", "engine": "memcached"}, 184),
    ],
)
def test_a_fork_may_double_what_is_written_to_meanwhile(spec, most):
    assert memory.most(cache(**spec).spec) == most * MIB


def test_a_limit_below_what_the_memory_needs_is_raised_to_that():
    driver = CacheDriver()
    small = cache(memory="100Mi", resources={"limits": {"memory": "100Mi", "cpu": "250m"}})
    assert driver.allowance(small, "node-0").memory == 184 * MIB
    assert driver.allowance(small, "node-0").cpu == 0.25
    large = cache(memory="100Mi", resources={"limits": {"memory": "1Gi"}})
    assert driver.allowance(large, "node-0").memory == 1024 * MIB
    assert not driver.allowance(large, "tls-front"), "helpers have what they need"
    assert not driver.allowance(cache(memory="100Mi"), "node-0")
