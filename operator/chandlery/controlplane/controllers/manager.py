"""Starts, feeds and stops the controllers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chandlery.controlplane.auth.authz import Authorizer
    from chandlery.controlplane.types import LocalApi


class Controllers:
    """All controllers on one stream of changes (`LocalApi.watch_all`)."""

    def __init__(self, api: LocalApi, *, authorizer: Authorizer | None = None, root_ca: str = "") -> None:
        """`root_ca` is the PEM text published as kube-root-ca.crt in every namespace."""
        self._api = api
        self._authorizer = authorizer
        self._root_ca = root_ca

    async def start(self) -> None:
        """Create what must exist (RBAC, system namespaces), then follow changes until `stop`."""

    async def stop(self) -> None: ...
