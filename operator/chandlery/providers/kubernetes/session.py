"""The session of the `kubernetes` drivers: the API server, a mirror of children, images, the way to a pod."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from chandlery.driver.objects import ResourceType
from chandlery.foundation.clock import SYSTEM, Clock
from chandlery.foundation.errors import Conflict, Unavailable
from chandlery.providers.kubernetes.mirror import Mirror
from chandlery.providers.kubernetes.types import CRDS, Api, Obj, type_of

SYNC_SECONDS = 10.0
CRD_SECONDS = 60.0
"""How long an answer about an installed CRD is believed."""

Resolver = Callable[[Obj, int], tuple[str, int]]
"""From a pod and a port of it to where it is reached from here."""

Key = tuple[str, str]
"""Kind and name of a child."""


def pod_address(pod: Obj, port: int) -> tuple[str, int]:
    """The pod's own address: pods reach one another directly, and so does an operator in the cluster.

    Raises:
        Unavailable: the pod has no address yet.
    """
    address = (pod.get("status") or {}).get("podIP")
    if not address:
        raise Unavailable(f"the pod {pod['metadata']['name']} has no address yet", retry_after=0.5)
    return str(address), port


class KubernetesSession:
    """Shared by all drivers of one ProviderConfig."""

    def __init__(
        self,
        api: Api,
        *,
        notify: Callable[[str], None] = lambda _uid: None,
        clock: Clock = SYSTEM,
        images: Mapping[str, str] | None = None,
        pull_secrets: Sequence[str] = (),
        resolve: Resolver = pod_address,
        cluster_domain: str = "cluster.local",
    ) -> None:
        self.api = api
        self.clock = clock
        self.images = dict(images or {})
        """Images by engine, in place of the drivers' own."""
        self.pull_secrets = tuple(pull_secrets)
        self.resolve = resolve
        self.cluster_domain = cluster_domain
        self.silent: dict[str, float] = {}
        """Since when (monotonic) a pod, by uid, has not answered: a hint only, made again after a restart."""
        self._notify = notify
        self._mirrors: dict[str, Mirror] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._served: dict[str, tuple[float, bool]] = {}

    async def children(self, uid: str, kinds: Iterable[ResourceType]) -> dict[Key, Obj]:
        """What exists of one owner, of these kinds; without a request once the kinds are followed.

        Raises:
            Unavailable: the API server doesn't let us follow them, with its own words.
        """
        mirrors = [self._mirror(kind) for kind in kinds]
        for mirror in mirrors:
            await self._synced(mirror)
        return {(m.kind.kind, obj["metadata"]["name"]): obj for m in mirrors for obj in m.of(uid)}

    async def apply(self, body: Obj) -> Obj:
        """Server-side apply of a child, on the version of it that we know: nothing newer is written over."""
        kind, meta = type_of(body), body["metadata"]
        known = self._known(kind, meta.get("namespace", ""), meta["name"])
        try:
            answer = await self.api.apply(kind, _based_on(body, known))
        except Conflict:
            if known is None:
                raise
            fresh = await self.api.get(kind, meta.get("namespace", ""), meta["name"])
            answer = await self.api.apply(kind, _based_on(body, fresh))
        self._taken(kind, answer)
        return answer

    async def create(self, body: Obj) -> Obj:
        """Create a child; AlreadyExists when there is one."""
        kind = type_of(body)
        answer = await self.api.create(kind, body)
        self._taken(kind, answer)
        return answer

    async def merge(self, obj: Obj, patch: Mapping[str, Any]) -> Obj | None:
        """Merge a few fields into a child that exists."""
        kind, meta = type_of(obj), obj["metadata"]
        answer = await self.api.merge_patch(kind, meta.get("namespace", ""), meta["name"], patch)
        if answer is not None:
            self._taken(kind, answer)
        return answer

    async def delete(self, obj: Obj) -> None:
        """Delete this very child; nothing happens when it is gone or being deleted."""
        meta, kind = obj["metadata"], type_of(obj)
        if meta.get("deletionTimestamp"):
            return
        # the API leaves a Job's pods behind unless it is told not to
        how = "Background" if kind.group == "batch" else ""
        await self.api.delete(kind, meta.get("namespace", ""), meta["name"], uid=meta["uid"], propagation=how)

    def settled(self, live: Obj, stamp: str) -> bool:
        """Whether this very version of a child was found to be as the manifest with this stamp asks."""
        meta, mirror = live["metadata"], self._mirrors.get(type_of(live).plural)
        known = mirror.settled.get((meta.get("namespace", ""), meta["name"])) if mirror is not None else None
        return known is not None and known == (meta.get("resourceVersion"), stamp)

    def settle(self, live: Obj, stamp: str) -> None:
        """It was: nobody has to compare it again before one of the two is another."""
        meta, mirror = live["metadata"], self._mirrors.get(type_of(live).plural)
        place = (meta.get("namespace", ""), meta["name"])
        if mirror is not None and mirror.get(*place) is live:
            mirror.settled[place] = (meta["resourceVersion"], stamp)

    async def served(self, crd: str, version: str = "") -> bool:
        """Whether a CRD (`clusters.postgresql.cnpg.io`) is installed, established, and has this version."""
        now = self.clock.monotonic()
        known = self._served.get(f"{crd}/{version}")
        if known is not None and now - known[0] < CRD_SECONDS:
            return known[1]
        found = await self.api.get(CRDS, "", crd)
        conditions = ((found or {}).get("status") or {}).get("conditions") or ()
        there = any(c.get("type") == "Established" and c.get("status") == "True" for c in conditions)
        if there and version:
            there = any(v["name"] == version and v.get("served") for v in (found or {})["spec"]["versions"])
        if there:
            self._served[f"{crd}/{version}"] = (now, True)  # an absent one is looked for again at once
        return there

    async def close(self) -> None:
        """Stop following; what was made stays."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        self._mirrors.clear()

    def _known(self, kind: ResourceType, namespace: str, name: str) -> Obj | None:
        mirror = self._mirrors.get(kind.plural)
        return mirror.get(namespace, name) if mirror is not None else None

    def _mirror(self, kind: ResourceType) -> Mirror:
        found = self._mirrors.get(kind.plural)
        if found is None:
            found = self._mirrors[kind.plural] = Mirror(self.api, kind, self._notify, self.clock)
            self._tasks.append(asyncio.create_task(found.run()))
        return found

    async def _synced(self, mirror: Mirror) -> None:
        if mirror.synced.is_set():
            return
        try:
            async with self.clock.timeout(SYNC_SECONDS):
                await mirror.synced.wait()
        except TimeoutError as error:
            why = mirror.failure.message if mirror.failure else "it does not answer"
            raise Unavailable(f"{mirror.kind.plural} can't be followed: {why}") from error

    def _taken(self, kind: ResourceType, obj: Obj) -> None:
        mirror = self._mirrors.get(kind.plural)
        if mirror is not None:
            obj.setdefault("apiVersion", kind.api_version)
            obj.setdefault("kind", kind.kind)
            mirror.put(obj)


def _based_on(body: Obj, known: Obj | None) -> Obj:
    """The manifest with the version that it is to replace."""
    if known is None:
        return body
    meta = {key: known["metadata"][key] for key in ("uid", "resourceVersion")}
    return {**body, "metadata": {**body["metadata"], **meta}}
