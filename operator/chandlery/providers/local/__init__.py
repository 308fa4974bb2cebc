"""Real engines as processes on this machine: directories, ports, processes and engine binaries.

`LocalProvider` is what the `local` drivers share. An `Instance` is everything on disk that belongs to one object;
a `Process` is one engine process of it. Processes outlive the operator and are taken up again by it.
"""

from chandlery.providers.local.asking import StopRequest
from chandlery.providers.local.factory import LocalProviderFactory
from chandlery.providers.local.instance import Instance
from chandlery.providers.local.process import ExitInfo, Process, ProcessSpec, ProcessState, StopStep
from chandlery.providers.local.provider import LocalProvider

__all__ = [
    "ExitInfo",
    "Instance",
    "LocalProvider",
    "LocalProviderFactory",
    "Process",
    "ProcessSpec",
    "ProcessState",
    "StopRequest",
    "StopStep",
]
