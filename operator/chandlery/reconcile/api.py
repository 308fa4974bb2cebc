"""What the reconcile room asks of a Kubernetes API server, as a protocol: `client` speaks HTTP, `memory` is for tests.

Objects are plain dicts as JSON has them. A missing object is None from `get` and False from `delete`; everything else
that goes wrong is an error of the project's tree.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, NamedTuple, Protocol

from chandlery.driver.objects import ResourceType as ResourceType  # noqa: PLC0414 - told on: the room speaks of it
from chandlery.foundation.errors import Conflict

if TYPE_CHECKING:  # the command line speaks to API servers too, and pydantic takes longer to load than all of the rest
    from chandlery.model.base import Names

Obj = dict[str, Any]
GROUP: Final = "chandlery.dev"
FINALIZER: Final = "chandlery.dev/external-resource"
MANAGER: Final = "chandlery"
STATUS_MANAGER: Final = "chandlery-status"
MANAGED_LABEL: Final = "app.kubernetes.io/managed-by"
REQUESTED_ANNOTATION: Final = "chandlery.dev/reconcile-requested-at"


SECRETS: Final = ResourceType("", "v1", "secrets", "Secret")
CONFIG_MAPS: Final = ResourceType("", "v1", "configmaps", "ConfigMap")
SERVICES: Final = ResourceType("", "v1", "services", "Service")
NAMESPACES: Final = ResourceType("", "v1", "namespaces", "Namespace", namespaced=False)
EVENTS: Final = ResourceType("", "v1", "events", "Event")
LEASES: Final = ResourceType("coordination.k8s.io", "v1", "leases", "Lease")
RESOURCE_CLASSES: Final = ResourceType(
    "platform.chandlery.dev", "v1alpha1", "resourceclasses", "ResourceClass", namespaced=False
)
PROVIDER_CONFIGS: Final = ResourceType(
    "platform.chandlery.dev", "v1alpha1", "providerconfigs", "ProviderConfig", namespaced=False
)


def type_of(names: Names) -> ResourceType:
    return ResourceType(names.group, names.version, names.plural, names.kind, names.namespaced)


class Key(NamedTuple):
    """An object by kind, namespace and name: what the store and the queue know it by."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


def key_of(kind: str, obj: Mapping[str, Any]) -> Key:
    meta = obj["metadata"]
    return Key(kind, meta.get("namespace", ""), meta["name"])


class Expired(Conflict):
    """The resourceVersion is too old to watch from: list again (HTTP 410)."""

    code: ClassVar[str] = "Expired"
    http_status: ClassVar[int] = 410


@dataclass(frozen=True, slots=True)
class Page:
    """A whole list and the version to watch from."""

    items: list[Obj]
    resource_version: str


@dataclass(frozen=True, slots=True)
class WatchEvent:
    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    object: Obj = field(repr=False)


class Api(Protocol):
    """The verbs that the loop needs; every write may raise Conflict, PermissionDenied, Unavailable, RateLimited ..."""

    async def get(self, kind: ResourceType, namespace: str, name: str) -> Obj | None: ...

    async def list(self, kind: ResourceType, namespace: str = "", *, labels: str = "") -> Page: ...

    def watch(
        self, kind: ResourceType, namespace: str = "", *, version: str, labels: str = "", seconds: float = 290.0
    ) -> AsyncIterator[WatchEvent]:
        """Events after `version` until the server ends the stream.

        Raises:
            Expired: the version is gone; list again.
        """
        ...

    async def apply(
        self, kind: ResourceType, body: Obj, *, manager: str = MANAGER, subresource: str = "", force: bool = True
    ) -> Obj:
        """Server-side apply; without `force`, fields that somebody else set otherwise are a Conflict."""
        ...

    async def create(self, kind: ResourceType, body: Obj) -> Obj: ...

    async def replace(self, kind: ResourceType, body: Obj) -> Obj:
        """PUT; with metadata.resourceVersion in the body nobody else's change is lost (Conflict)."""
        ...

    async def json_patch(
        self, kind: ResourceType, namespace: str, name: str, operations: Sequence[Mapping[str, Any]]
    ) -> Obj | None:
        """None when the object is gone; Conflict when a `test` operation fails."""
        ...

    async def merge_patch(self, kind: ResourceType, namespace: str, name: str, patch: Mapping[str, Any]) -> Obj | None:
        """None when the object is gone."""
        ...

    async def delete(self, kind: ResourceType, namespace: str, name: str, *, uid: str = "") -> bool:
        """False when there was nothing; with `uid` only that very object is deleted (Conflict otherwise)."""
        ...
