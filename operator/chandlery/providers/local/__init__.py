"""Real engines as processes on this machine: directories, ports, processes and engine binaries.

`LocalProvider` is what the `local` drivers share. An `Instance` is everything on disk that belongs to one object;
a `Process` is one engine process of it. Processes outlive the operator and are taken up again by it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

# Loaded when they are asked for: the command line wants the modules beside this one, and pydantic is behind these.
_WHERE = {
    "ExitInfo": "process",
    "Instance": "instance",
    "LocalProvider": "provider",
    "LocalProviderFactory": "factory",
    "Process": "process",
    "ProcessSpec": "process",
    "ProcessState": "process",
    "StopRequest": "asking",
    "StopStep": "process",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = found
    return found
