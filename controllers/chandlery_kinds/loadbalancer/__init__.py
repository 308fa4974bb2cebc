"""LoadBalancer: TCP, HTTP, HTTPS and TLS over targets."""

from __future__ import annotations

from chandlery.driver.kind import Kind
from chandlery_kinds.loadbalancer.model import LoadBalancer

KIND = Kind(
    model=LoadBalancer,
    drivers={
        "memory": "chandlery_kinds.loadbalancer.drivers.memory:LoadBalancerDriver",
        "local": "chandlery_kinds.loadbalancer.drivers.local:LoadBalancerDriver",
    },
    package=__name__,
)
