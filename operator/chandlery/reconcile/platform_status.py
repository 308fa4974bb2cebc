"""Status of ResourceClasses and ProviderConfigs: whether objects can be made by them, and how many are.

Looked at now and then, and soon after one of them changed; written only when it says something else than before.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from chandlery.driver.kind import Kind
from chandlery.foundation.clock import Clock, rfc3339
from chandlery.foundation.context import Logger
from chandlery.foundation.errors import ChandleryError
from chandlery.reconcile.api import PROVIDER_CONFIGS, RESOURCE_CLASSES, STATUS_MANAGER, Api, Key, Obj, ResourceType
from chandlery.reconcile.classes import Catalogue, made_by
from chandlery.reconcile.drivers import Drivers
from chandlery.reconcile.sessions import Sessions
from chandlery.reconcile.store import Store

_INTERVAL: Final = 300.0
_SOON: Final = 1.0

Verdict = tuple[str, str, str]
"""Status, reason and message of the condition Ready."""


class PlatformStatus:
    """Keeps these statuses.

    Args:
        api: the API server.
        clock: the only source of time.
        store: our objects, to count users.
        catalogue: classes and configurations.
        kinds: the kinds that are switched on.
        drivers: to read what classes say to them.
        sessions: of the providers that this operator has.
        fence: raises Fenced when another replica leads.
        logger: for what can't be written.
    """

    def __init__(
        self,
        api: Api,
        clock: Clock,
        store: Store,
        catalogue: Catalogue,
        kinds: Mapping[str, Kind],
        drivers: Drivers,
        sessions: Sessions,
        fence: Callable[[], object],
        logger: Logger,
    ) -> None:
        self._api = api
        self._fence = fence
        self._clock = clock
        self._store = store
        self._catalogue = catalogue
        self._kinds = kinds
        self._drivers = drivers
        self._sessions = sessions
        self._logger = logger
        self._users: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """A class or a configuration is new or another: look soon."""
        self._changed.set()

    def everything(self) -> list[Key]:
        """Everything whose status is kept; counts users anew."""
        self._users = self._count()
        classes = [Key("ResourceClass", "", name) for name in self._catalogue.classes]
        return classes + [Key("ProviderConfig", "", name) for name in self._catalogue.configs]

    async def wait(self) -> None:
        """Until it is time to look again."""
        with contextlib.suppress(TimeoutError):
            async with self._clock.timeout(_INTERVAL):
                await self._changed.wait()
                await self._clock.sleep(_SOON)  # changes come in groups
        self._changed.clear()

    async def tell(self, key: Key) -> None:
        """Write one status, unless it is so already."""
        if key.kind == "ResourceClass":
            await self._write(RESOURCE_CLASSES, self._catalogue.classes.get(key.name), self._users[0][key.name])
        else:
            await self._write(PROVIDER_CONFIGS, self._catalogue.configs.get(key.name), self._users[1][key.name])

    async def _write(self, where: ResourceType, obj: Obj | None, users: int) -> None:
        if obj is None:
            return
        verdict = self._of_class(obj) if where is RESOURCE_CLASSES else self._of_config(obj)
        status = status_of(obj, users, verdict, rfc3339(self._clock.now()))
        if status == {name: value for name, value in (obj.get("status") or {}).items() if name in status}:
            return
        meta = {"name": obj["metadata"]["name"], "uid": obj["metadata"].get("uid", "")}
        body = {"apiVersion": where.api_version, "kind": where.kind, "metadata": meta, "status": status}
        self._fence()
        try:
            await self._api.apply(where, body, manager=STATUS_MANAGER, subresource="status")
        except ChandleryError as error:
            self._logger.info("status not written", kind=where.kind, name=meta["name"], error=error)

    def _of_class(self, obj: Obj) -> Verdict:
        spec = obj.get("spec", {})
        kind, driver = self._kinds.get(spec.get("kind", "")), spec.get("driver", "")
        if kind is None:
            served = ", ".join(sorted(self._kinds))
            return "False", "KindNotServed", f"This operator does not serve {spec.get('kind')} (it serves {served})."
        if driver not in kind.driver_names():
            known = ", ".join(kind.driver_names())
            return "False", "DriverNotFound", f"{kind.name} has no driver {driver} (there are: {known})."
        config = (spec.get("providerConfigRef") or {}).get("name")
        if config and config not in self._catalogue.configs:
            return "False", "ProviderConfigNotFound", f"There is no ProviderConfig {config}."
        try:
            place = self._catalogue.choose(kind.name, _name(obj), None)
            wrong: ChandleryError | None = self._drivers.read(kind, place).error
        except ChandleryError as error:
            wrong = error
        return _wrong(wrong) or ("True", "Available", "Objects can be made by this class.")

    def _of_config(self, obj: Obj) -> Verdict:
        provider = obj.get("spec", {}).get("provider", "")
        if provider not in self._sessions.providers:
            known = ", ".join(sorted(self._sessions.providers)) or "none"
            return "False", "ProviderNotFound", f"This operator has no provider {provider} (it has: {known})."
        wrong = self._sessions.read(provider, _name(obj)).error
        return _wrong(wrong) or ("True", "Available", "Classes can use this configuration.")

    def _count(self) -> tuple[Counter[str], Counter[str]]:
        classes: Counter[str] = Counter()
        configs: Counter[str] = Counter()
        for key in self._store:
            obj = self._store.get(key) or {"metadata": {}}
            made = made_by(obj)
            name = made.class_name if made else obj.get("spec", {}).get("className")
            if name:
                classes[name] += 1
            if made and made.config:
                configs[made.config] += 1
        return classes, configs


def _name(obj: Obj) -> str:
    return str(obj["metadata"]["name"])


def _wrong(error: ChandleryError | None) -> Verdict | None:
    return ("False", error.code, error.condition_message()) if error is not None else None


def status_of(obj: Obj, users: int, verdict: Verdict, now: str) -> dict[str, Any]:
    """The whole status; the condition's time stays while its status does."""
    state, reason, message = verdict
    generation = obj["metadata"].get("generation", 0)
    before: Mapping[str, Any] = next(iter((obj.get("status") or {}).get("conditions", ())), {})
    since = before.get("lastTransitionTime") if before.get("status") == state else None
    condition = {
        "type": "Ready",
        "status": state,
        "reason": reason,
        "message": message,
        "observedGeneration": generation,
        "lastTransitionTime": since or now,
    }
    return {"observedGeneration": generation, "users": users, "conditions": [condition]}
