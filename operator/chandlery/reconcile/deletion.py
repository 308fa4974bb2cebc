"""Passes over objects that are being deleted. They end; a namespace is never wedged for good.

What can't be deleted because its class, driver or provider is missing waits for a bounded time, says so, and is then
retained: the finalizer goes, the resource stays, an Event and a line in the audit log tell where it is. In a namespace
that is itself being deleted the same bound holds for every failure. Elsewhere a provider that refuses is asked again
for as long as it takes.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from chandlery.driver.health import NoRoom
from chandlery.driver.protocol import external_name
from chandlery.foundation.clock import rfc3339
from chandlery.foundation.context import Context
from chandlery.foundation.errors import ChandleryError, DeletionProtected, InvalidSpec, as_error
from chandlery.model.base import AnyResource, DeletionPolicy
from chandlery.reconcile.api import FINALIZER, NAMESPACES, Key, Obj
from chandlery.reconcile.classes import Place, made_by, recorded_class
from chandlery.reconcile.env import NO_ROOM, Environment
from chandlery.reconcile.parse import SpecCache
from chandlery.reconcile.problems import WEDGES
from chandlery.reconcile.status import Outcome, status_of

_POLL: Final = (0.05, 5.0)
_LOOK_AGAIN: Final = 30.0
_RETAIN: Final = DeletionPolicy.RETAIN


class Deletion:
    """One for all objects."""

    def __init__(self, env: Environment, specs: SpecCache) -> None:
        self._env = env
        self._specs = specs

    async def run(self, key: Key, raw: Obj) -> float | None:
        """One pass; seconds until the next, None when there is nothing left to do."""
        if FINALIZER not in (raw["metadata"].get("finalizers") or ()):
            return None
        obj: AnyResource | None = None
        place = made_by(raw)
        try:
            obj, _ = self._specs.parse(self._env.kinds[key.kind], raw)
            place = self._place(key, raw, obj, place)
            with self._env.room(key, place):
                done = await self._delete(key, raw, obj, place)
            if done:
                self._say_deleted(raw, obj)
                return await self._release(key, raw)
        except NoRoom:
            return NO_ROOM * (0.5 + self._env.random())
        except Exception as error:  # noqa: BLE001 - becomes a condition
            return await self._failed(key, raw, obj, place, as_error(error))
        await self._tell(key, raw, place, None)
        return _poll(self._waited(raw))

    def _place(self, key: Key, raw: Obj, obj: AnyResource, made: Place | None) -> Place:
        asked = getattr(obj.spec, "class_name", None)
        if made is None:
            return self._env.catalogue.choose(key.kind, asked, recorded_class(raw))
        # a missing class may hold parameters that the driver needs to find the resource: said, and waited for
        now = self._env.catalogue.choose(key.kind, made.class_name, None)
        return Place(made.class_name, made.driver, made.config, now.parameters, now.interval)

    async def _delete(self, key: Key, raw: Obj, obj: AnyResource, place: Place) -> bool:
        if getattr(obj.spec, "deletion_protection", False):
            raise DeletionProtected("the object is marked for deletion", field="spec.deletionProtection", value=True)
        driver = self._env.drivers.get(self._env.kinds[key.kind], place.driver)
        ctx = await self._env.context(key, raw, place)
        self._env.fence()
        return await driver.delete(ctx, obj)

    def _say_deleted(self, raw: Obj, obj: AnyResource) -> None:
        policy = getattr(obj.spec, "deletion_policy", DeletionPolicy.DELETE)
        name = external_name(obj)
        said = {
            DeletionPolicy.DELETE: ("Deleted", f"{name} and its data are gone."),
            DeletionPolicy.RETAIN: ("Retained", f"{name} stays with its data, as spec.deletionPolicy says."),
            DeletionPolicy.SNAPSHOT: ("Deleted", f"{name} is gone; a last snapshot was taken."),
        }
        self._env.say(raw, "Normal", *said[policy], routine=policy is DeletionPolicy.DELETE)

    async def _release(self, key: Key, raw: Obj) -> float | None:
        try:
            await self._env.writer.release(self._env.types[key.kind], key, raw)
        except ChandleryError as error:
            return min(_LOOK_AGAIN, error.retry_after or 1.0)
        return None

    async def _failed(
        self, key: Key, raw: Obj, obj: AnyResource | None, place: Place | None, error: ChandleryError
    ) -> float | None:
        limit = await self._limit(key, obj, error)
        left = None if limit is None else limit - self._waited(raw)
        if left is not None and left <= 0:
            self._retain(key, raw, obj, error)
            return await self._release(key, raw)
        await self._tell(key, raw, place, _with_bound(error, raw, limit))
        again = _LOOK_AGAIN if error.retry_after is None else error.retry_after
        self._log(key, error)
        return min(again, left) if left is not None else again

    async def _limit(self, key: Key, obj: AnyResource | None, error: ChandleryError) -> float | None:
        """Seconds from the deletion's beginning after which the resource is retained; None for never."""
        settings = self._env.settings
        if isinstance(error, WEDGES) and getattr(getattr(obj, "spec", None), "deletion_policy", None) == _RETAIN:
            return 0.0  # it would stay anyway: nothing to wait for
        bounds = []
        if isinstance(error, WEDGES) or (isinstance(error, InvalidSpec) and not isinstance(error, DeletionProtected)):
            bounds.append(settings.deletion_wait)
        if key.namespace and await self._namespace_goes(key.namespace):
            bounds.append(settings.namespace_deletion_wait)
        return min(bounds, default=None)

    async def _namespace_goes(self, namespace: str) -> bool:
        try:
            found = await self._env.api.get(NAMESPACES, "", namespace)
        except ChandleryError:
            return False
        return found is None or bool(found["metadata"].get("deletionTimestamp"))

    def _retain(self, key: Key, raw: Obj, obj: AnyResource | None, error: ChandleryError) -> None:
        name = external_name(obj) if obj is not None else f"{key.kind.lower()}-{raw['metadata'].get('uid', '')}"[:63]
        why = error.condition_message()
        message = f"{name} was not deleted and stays where it is: {why}"
        self._env.say(raw, "Warning", "Retained", message)
        self._env.audit("retained", key, message)

    async def _tell(self, key: Key, raw: Obj, place: Place | None, error: ChandleryError | None) -> None:
        meta = raw["metadata"]
        previous = raw.get("status") or {}
        outcome = Outcome(
            generation=meta.get("generation", 0),
            uid=meta.get("uid", ""),
            class_name=place.class_name if place else "",
            driver=place.driver if place else "",
            error=error,
            deleting=True,
        )
        status = status_of(outcome, previous, self._env.clock.now())
        try:
            await self._env.writer.status(self._env.types[key.kind], key, raw, status)
        except ChandleryError as failure:
            self._log(key, failure)

    def _waited(self, raw: Obj) -> float:
        since = datetime.fromisoformat(raw["metadata"]["deletionTimestamp"])
        return max(0.0, (self._env.clock.now() - since).total_seconds())

    def _log(self, key: Key, error: ChandleryError) -> None:
        logger = Context(clock=self._env.clock).logger
        logger.info("deletion waits", kind=key.kind, namespace=key.namespace, name=key.name, error=error)


def _poll(waited: float) -> float:
    return max(_POLL[0], min(_POLL[1], waited / 4))


def _with_bound(error: ChandleryError, raw: Obj, limit: float | None) -> ChandleryError:
    """The error, saying until when is waited. The moment is fixed by the deletion's date, so the text is constant."""
    if limit is None:
        return error
    since = datetime.fromisoformat(raw["metadata"]["deletionTimestamp"])
    until = rfc3339(datetime.fromtimestamp(since.timestamp() + limit, tz=since.tzinfo))
    bounded = type(error).__new__(type(error))
    bounded.__dict__.update(error.__dict__)
    bounded.args = error.args
    bounded.hint = f"{error.hint} At {until} the object is let go and the resource retained.".strip()
    return bounded
