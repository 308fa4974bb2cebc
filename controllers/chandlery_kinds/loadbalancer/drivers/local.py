"""Load balancers as HAProxy processes on this machine."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import ClassVar

from chandlery.driver.protocol import DriverContext, Unsupported
from chandlery.providers.local import Instance
from chandlery.providers.local.driver import LocalDriver
from chandlery_kinds.loadbalancer.drivers.local_haproxy import HaproxyServer
from chandlery_kinds.loadbalancer.model import LoadBalancer


class LoadBalancerDriver(LocalDriver):
    """The `local` driver of LoadBalancer. It has no data: what Retain keeps are its certificates."""

    keeps_data: ClassVar[bool] = False
    own_limits: ClassVar[str] = "HAProxy keeps to the memory that it had at its start, its option -m."

    def servers(self, ctx: DriverContext, obj: LoadBalancer, instance: Instance) -> HaproxyServer:
        return HaproxyServer(ctx, obj, instance)

    def refused(self, obj: LoadBalancer) -> Sequence[Unsupported]:
        spec = obj.spec
        found = []
        if spec.replicas > 1 and not shares_ports():
            why = "several processes can't listen on one port on this system"
            found.append(Unsupported("spec.replicas", str(spec.replicas), why))
        if spec.address.ip is not None and not spec.address.ip.startswith("127."):
            why = "load balancers on this machine listen on loopback only: 127.x.y.z"
            found.append(Unsupported("spec.address.ip", spec.address.ip, why))
        return found


def shares_ports() -> bool:
    """Whether the kernel shares the connections of one port out among processes: Linux does."""
    return sys.platform == "linux"
