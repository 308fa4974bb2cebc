"""Starts, feeds and stops the controllers."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from chandlery.controlplane.controllers.addresses import AddressController
from chandlery.controlplane.controllers.aggregation import AggregationController
from chandlery.controlplane.controllers.base import Controller
from chandlery.controlplane.controllers.endpoints import EndpointsController
from chandlery.controlplane.controllers.eventttl import TTL, EventTtlController
from chandlery.controlplane.controllers.gc import GarbageCollector
from chandlery.controlplane.controllers.namespace import NamespaceController
from chandlery.controlplane.controllers.namespacecontent import NamespaceContentController
from chandlery.controlplane.controllers.ownernamespaces import OwnerNamespaceController
from chandlery.controlplane.controllers.ownobjects import OwnObjectsController
from chandlery.controlplane.controllers.priority import PriorityController
from chandlery.controlplane.controllers.protection import ProtectionController
from chandlery.controlplane.controllers.quota import QuotaController

if TYPE_CHECKING:
    from chandlery.controlplane.auth.authz import Authorizer
    from chandlery.controlplane.types import LocalApi

log = logging.getLogger(__name__)


class Controllers:
    """All controllers on one stream of changes (`LocalApi.watch_all`)."""

    def __init__(
        self,
        api: LocalApi,
        *,
        authorizer: Authorizer | None = None,
        root_ca: str = "",
        service: tuple[str, int] = ("", 0),
        event_ttl: float = TTL,
    ) -> None:
        """`root_ca` is the PEM text published as kube-root-ca.crt in every namespace; `service` the address of the
        control plane's own Service and the port behind it; `event_ttl` the seconds that events live.
        """
        self._api = api
        self._authorizer = authorizer
        self._controllers: list[Controller[Any]] = [
            NamespaceContentController(api, root_ca),
            GarbageCollector(api),
            OwnerNamespaceController(api),
            NamespaceController(api),
            QuotaController(api),
            AggregationController(api),
            ProtectionController(api),
            EventTtlController(api, event_ttl),
            EndpointsController(api),
            AddressController(api),
            PriorityController(api),
            OwnObjectsController(api, address=service[0], port=service[1]),
        ]
        self._pump: asyncio.Task[None] | None = None
        self._concerned: dict[str, list[Controller[Any]]] = {}
        """By API group, those that want to see its changes."""

    async def start(self) -> None:
        """Look at everything that exists, then follow changes until `stop`."""
        self._pump = asyncio.get_running_loop().create_task(self._follow(), name="controllers")
        # The stream begins when the task first runs; only then is a look at everything complete.
        await asyncio.sleep(0)
        for controller in self._controllers:
            controller.start()

    async def stop(self) -> None:
        """End all work; what was half done is found again at the next start."""
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
            self._pump = None
        for controller in self._controllers:
            await controller.stop()

    @property
    def idle(self) -> bool:
        """No controller has anything to do right now."""
        return all(controller.idle for controller in self._controllers)

    async def _follow(self) -> None:
        async for event, resource, obj, old in self._api.watch_all():
            if self._authorizer is not None:
                self._authorizer.observe(event, resource, obj, old)
            concerned = self._concerned.get(resource.group)
            if concerned is None:
                concerned = [c for c in self._controllers if c.groups is None or resource.group in c.groups]
                self._concerned[resource.group] = concerned
            for controller in concerned:
                try:
                    controller.observe(event, resource, obj, old)
                except Exception:
                    log.exception("%s could not read a change of %s", controller.name, resource.group_resource)
