"""The embedded control plane: a Kubernetes-API-compatible server in one process.

It knows custom resources as data only and never imports a kind. From outside, `ControlPlane` with its
`ControlPlaneSettings` is all that is needed, or `run` to be the whole process.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chandlery.controlplane.plane import ControlPlane, ControlPlaneError, run
    from chandlery.controlplane.settings import ControlPlaneSettings

__all__ = ["ControlPlane", "ControlPlaneError", "ControlPlaneSettings", "run"]


def __getattr__(name: str) -> Any:
    if name == "ControlPlaneSettings":
        from chandlery.controlplane.settings import ControlPlaneSettings

        return ControlPlaneSettings
    if name in __all__:
        from chandlery.controlplane import plane

        return getattr(plane, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
