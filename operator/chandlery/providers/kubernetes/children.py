"""The children of one object: what should be there against what is, and the acts between the two."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chandlery.driver.objects import ResourceType
from chandlery.driver.protocol import Difference, Disruption
from chandlery.foundation.errors import (
    AlreadyExists,
    DependencyNotReady,
    FailedPrecondition,
    Internal,
    PermissionDenied,
)
from chandlery.foundation.validation.quantity import Quantity
from chandlery.providers.kubernetes.drift import APPLIED, changes, stamped
from chandlery.providers.kubernetes.ownership import Owner, annotated
from chandlery.providers.kubernetes.pods import cut_off, ready
from chandlery.providers.kubernetes.session import Key, KubernetesSession
from chandlery.providers.kubernetes.types import CLAIMS, PODS, SECRETS, SERVICES, Obj, type_of

GENERATED = "chandlery.dev/generated"
"""Annotation of what holds generated values: it is in no manifest, and is not to be removed for that."""
SCALER = "kube-controller-manager"
"""Field manager of the horizontal pod autoscaler, which writes replicas through the scale subresource."""

Cost = Callable[[str, str], Disruption]
"""From a child's kind and a field's path to what changing it costs."""


def no_cost(_kind: str, _path: str) -> Disruption:
    return Disruption.NONE


@dataclass(slots=True)
class Children:
    """One object's children in one pass."""

    session: KubernetesSession
    owner: Owner
    kinds: Sequence[ResourceType]
    """Every kind that the driver may make, and pods and claims."""
    live: Mapping[Key, Obj] = field(default_factory=dict)

    async def look(self) -> Children:
        """Read what is there."""
        self.live = await self.session.children(self.owner.uid, self.kinds)
        return self

    def get(self, kind: ResourceType, suffix: str = "") -> Obj | None:
        """A child that is there and stays."""
        found = self.live.get((kind.kind, self.owner.base + suffix))
        return None if found is None or found["metadata"].get("deletionTimestamp") else found

    def all(self, kind: ResourceType) -> list[Obj]:
        return [obj for (name, _), obj in self.live.items() if name == kind.kind]

    @property
    def pods(self) -> list[Obj]:
        return self.all(PODS)

    # what is different

    def differences(self, desired: Iterable[Obj], cost: Cost = no_cost) -> list[Difference]:
        """One Difference for each child that is missing, changed or too many; the payload says what to do."""
        found, wanted = [], set()
        for body in desired:
            manifest = stamped(self._despite_exporters(body) if body["kind"] == SERVICES.kind else body)
            key = (body["kind"], body["metadata"]["name"])
            wanted.add(key)
            live = self.live.get(key)
            if live is None:
                found.append(Difference(f"{key[0]} {key[1]}", "present", "absent", payload=("apply", manifest)))
                continue
            if live["metadata"].get("deletionTimestamp"):
                continue  # made again when it is gone; its end wakes us
            stamp = manifest["metadata"]["annotations"][APPLIED]
            if self.session.settled(live, stamp):
                continue
            manifest = _yield_replicas(manifest, live)
            changed = changes(manifest, live)
            if not changed:
                self.session.settle(live, stamp)
            else:
                first = changed[0]
                most = max(cost(key[0], change.path) for change in changed)
                secret = key[0] == "Secret"
                more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
                found.append(
                    Difference(
                        f"{key[0]} {key[1]}: {first.path.lstrip('.')}{more}",
                        "" if secret else first.desired,
                        "" if secret else first.actual,
                        most,
                        secret,
                        ("apply", manifest),
                    )
                )
        for key, live in self.live.items():
            if key not in wanted and self._surplus(live):
                found.append(Difference(f"{key[0]} {key[1]}", "absent", "present", payload=("delete", live)))
        return found

    def _despite_exporters(self, service: Obj) -> Obj:
        """The Service leads to pods also while only their exporter keeps them from being ready.

        It then leads to every pod that it selects: not while one can't serve and another one can without this.
        """
        selector = service["spec"].get("selector") or {}
        chosen = [
            pod
            for pod in self.pods
            if not pod["metadata"].get("deletionTimestamp")
            and selector.items() <= (pod["metadata"].get("labels") or {}).items()
        ]
        out = [pod for pod in chosen if cut_off(pod)]
        dead = [pod for pod in chosen if not ready(pod)]
        if not out or (dead and len(out) + len(dead) < len(chosen)):
            return service
        return {**service, "spec": {**service["spec"], "publishNotReadyAddresses": True}}

    def _surplus(self, live: Obj) -> bool:
        if live["kind"] in (PODS.kind, CLAIMS.kind) or live["metadata"].get("deletionTimestamp"):
            return False
        if GENERATED in (live["metadata"].get("annotations") or {}):
            return False
        owners = live["metadata"].get("ownerReferences") or ()
        return any(o.get("uid") == self.owner.uid and o.get("controller") for o in owners)

    def growth(self, size: str) -> list[Difference]:
        """Claims that are smaller than asked. They are grown before anything else is changed."""
        found = []
        for claim in self.all(CLAIMS):
            if (claim.get("status") or {}).get("phase") != "Bound":
                continue  # it can't change before it has a volume
            has = claim["spec"]["resources"]["requests"]["storage"]
            if Quantity(has) < Quantity(size):
                name = claim["metadata"]["name"]
                found.append(Difference(f"storage of {name}", size, has, payload=("grow", claim, size)))
        return found

    # acts

    async def act(self, what: str, *rest: Any) -> bool:
        """Do what a payload of ours says; False when it is not one of ours."""
        if what == "apply":
            await self.apply(rest[0])
        elif what == "delete":
            await self.session.delete(rest[0])
        elif what == "grow":
            await self._grow(*rest)
        else:
            return False
        return True

    async def _grow(self, claim: Obj, size: str) -> None:
        try:
            await self.session.merge(claim, {"spec": {"resources": {"requests": {"storage": size}}}})
        except (Internal, PermissionDenied) as error:
            name = claim["spec"].get("storageClassName") or "the default one"
            raise FailedPrecondition(
                f"the volume {claim['metadata']['name']} can't grow to {size}: {error.message}",
                hint=f"Its StorageClass ({name}) must have allowVolumeExpansion: true; it is tried again by itself.",
                retry_after=60.0,
            ) from error

    async def apply(self, manifest: Obj) -> Obj:
        """Write a child, unless its name belongs to something else.

        Raises:
            AlreadyExists: somebody else's object has the name.
            DependencyNotReady: it belongs to a deleted object of the same name, and is about to go.
        """
        kind, meta = type_of(manifest), manifest["metadata"]
        live = self.live.get((kind.kind, meta["name"]))
        ports = _moved_ports(manifest, live) if live is not None and kind is SERVICES else None
        if live is not None and ports is not None:
            await self.session.merge(live, {"spec": {"ports": ports}})
        if live is None:
            there = await self.session.api.get(kind, meta["namespace"], meta["name"])
            if there is not None:
                self._check(there, kind)
        return await self.session.apply(manifest)

    def _check(self, there: Obj, kind: ResourceType) -> None:
        meta = there["metadata"]
        owner: Obj = next((o for o in meta.get("ownerReferences") or () if o.get("controller")), {})
        if owner.get("uid") == self.owner.uid:
            return
        name = meta["name"]
        if owner.get("kind") == self.owner.kind and owner.get("name") == self.owner.name:
            raise DependencyNotReady(
                f"the {kind.kind} {name} still belongs to a deleted {self.owner.kind} of the same name", retry_after=1.0
            )
        belongs = f"belongs to {owner['kind']} {owner['name']}" if owner else "was not made by us"
        raise AlreadyExists(
            f"the {kind.kind} {name} exists and {belongs}",
            hint=f"Delete it (kubectl delete {kind.plural} {name}), or give this object another name.",
            retry_after=30.0,
        )

    async def secret_once(self, suffix: str, data: Mapping[str, str], kind: str = "Opaque") -> None:
        """Make a Secret with generated values; one that exists keeps what it has, and gets what it lacks."""
        encoded = {key: b64encode(value.encode()).decode() for key, value in data.items()}
        live = self.live.get((SECRETS.kind, self.owner.base + suffix))
        if live is not None:
            missing = {key: value for key, value in encoded.items() if key not in (live.get("data") or {})}
            if missing:
                await self.session.merge(live, {"data": missing})
            return
        try:
            body = self.owner.child(SECRETS, suffix, type=kind, data=encoded)
            await self.session.create(annotated(body, {GENERATED: "true"}))
        except AlreadyExists:
            there = await self.session.api.get(SECRETS, self.owner.namespace, self.owner.base + suffix)
            if there is not None:
                self._check(there, SECRETS)

    async def remove(self, *, keep: Iterable[Key] = ()) -> bool:
        """Delete everything but what is kept; True when it is all gone, pods included."""
        kept = set(keep)
        left = {key: obj for key, obj in self.live.items() if key not in kept}
        for key, obj in left.items():
            if key[0] != PODS.kind:  # pods end with their workload, in its order
                await self.session.delete(obj)
        return not left


def _moved_ports(manifest: Obj, live: Obj) -> list[Obj] | None:
    """All ports as they should be, where somebody gave one of ours another number.

    Ports are told apart by number when applied: ours would come beside the moved one, which has its name.
    """
    ours = {port["name"]: port for port in manifest["spec"]["ports"]}
    there = live["spec"].get("ports") or []
    if all(port.get("name") not in ours or port["port"] == ours[port["name"]]["port"] for port in there):
        return None
    kept = {port.get("name"): port for port in there}
    nodes = {name: port["nodePort"] for name, port in kept.items() if "nodePort" in port}
    mine = [{**({"nodePort": nodes[name]} if name in nodes else {}), **port} for name, port in ours.items()]
    return [*mine, *(port for name, port in kept.items() if name not in ours)]


def _yield_replicas(manifest: Obj, live: Obj) -> Obj:
    """Without replicas when an autoscaler sets them."""
    for entry in live["metadata"].get("managedFields") or ():
        mine = entry.get("manager") == SCALER and entry.get("subresource") == "scale"
        if mine and "f:replicas" in (entry.get("fieldsV1") or {}).get("f:spec", {}):
            spec = {key: value for key, value in manifest["spec"].items() if key != "replicas"}
            return {**manifest, "spec": spec}
    return manifest
