"""A replica of the operator as a process: `python replica.py KUBECONFIG AGENT SHARDS SECONDS`; 0 shards: one leads.

Its requests carry the agent's name, so that the audit log tells replicas apart.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from chandlery.providers.kubernetes import KubernetesProviderFactory
from chandlery.reconcile.credentials import from_kubeconfig
from chandlery.reconcile.operator import Operator, OperatorSettings
from chandlery.reconcile.settings import LoopSettings
from chandlery_kinds import KINDS


async def main(kubeconfig: str, agent: str, shards: int, seconds: float) -> None:
    factory = KubernetesProviderFactory()
    operator = Operator(
        from_kubeconfig(Path(kubeconfig)),
        [kind for kind in KINDS if kind.name == "Cache"],
        {"kubernetes": factory},
        settings=OperatorSettings(
            source="informer",
            lease_namespace="default",
            lease_name="sharded" if shards else "led",
            lease_seconds=seconds,
            shards=shards,
            loop=LoopSettings(workers=8, drift_interval=1.0),
        ),
    )
    operator.api._agent = agent
    factory.api = operator.api
    await operator.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
