"""The objects that every control plane has from its first moment: the system namespaces."""

from __future__ import annotations

from chandlery.controlplane.core import Core
from chandlery.controlplane.types import ApiError, UserInfo

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
_USER = UserInfo("system:apiserver", groups=("system:masters",))


async def ensure_namespaces(core: Core) -> None:
    """Create the system namespaces that are missing."""
    from chandlery.controlplane.localapi import Local

    api = Local(core)
    for name in NAMESPACES:
        if api.get("", "namespaces", "", name) is None:
            try:
                await api.create("", "namespaces", {"metadata": {"name": name}}, user=_USER, manager="kube-apiserver")
            except ApiError as error:
                if error.reason != "AlreadyExists":
                    raise
