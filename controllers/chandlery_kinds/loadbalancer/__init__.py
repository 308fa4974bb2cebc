"""LoadBalancer: TCP, HTTP, HTTPS and TLS over targets."""

from __future__ import annotations

from chandlery.driver.kind import Kind
from chandlery_kinds.loadbalancer.model import LoadBalancer
from chandlery_kinds.loadbalancer.references import references

KIND = Kind(
    model=LoadBalancer,
    drivers={
        "memory": "chandlery_kinds.loadbalancer.drivers.memory:LoadBalancerDriver",
        "local": "chandlery_kinds.loadbalancer.drivers.local:LoadBalancerDriver",
        "kubernetes": "chandlery_kinds.loadbalancer.drivers.kubernetes:LoadBalancerDriver",
    },
    references=references,
    package=__name__,
)
