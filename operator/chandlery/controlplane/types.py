"""The words that every part of the control plane shares.

One request's path through them: a `RequestContext` (who asks, for which `Resource`), the resource's
`Strategy` (decode, default, validate: built-in types and custom resources each have their own), the
store's `Entry`, and `ApiError` for every answer that is not a success.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

Obj = dict[str, Any]
"""A Kubernetes object as decoded JSON."""


class ApiError(Exception):
    """An answer that is not a success; renders as a `metav1.Status`.

    `code` is the HTTP status, `reason` the machine-readable `metav1.StatusReason` ("" for none),
    `details` the `StatusDetails` (name, group, kind, uid, causes, retryAfterSeconds) or None.
    Source: Kubernetes API conventions, "Response Status Kind".
    """

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: Obj | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        metadata: Obj | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.headers = dict(headers or {})
        self.metadata = metadata or {}

    def status(self) -> Obj:
        """The `metav1.Status` body."""
        body: Obj = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": self.metadata,
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            body["reason"] = self.reason
        if self.details is not None:
            body["details"] = self.details
        body["code"] = self.code
        return body


@dataclass(frozen=True, slots=True)
class FieldError:
    """One validation error, as `field.Error` of apimachinery.

    `type` is the cause reason: FieldValueRequired, FieldValueInvalid, FieldValueNotSupported,
    FieldValueForbidden, FieldValueDuplicate, FieldValueTooLong, FieldValueTooMany, FieldValueTypeInvalid,
    FieldValueNotFound, InternalError. `detail` is the whole text after "path: ", for example
    `Invalid value: "x": must be ...`.
    """

    path: str
    type: str
    detail: str


@dataclass(frozen=True, slots=True)
class UserInfo:
    """Who asks: `authentication.k8s.io/v1` UserInfo."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(slots=True)
class RequestContext:
    """Everything about one request that is not its body."""

    user: UserInfo
    verb: str
    """get, list, watch, create, update, patch, delete, deletecollection."""
    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    dry_run: bool = False
    field_manager: str = ""
    field_validation: str = "Warn"
    warnings: list[str] = field(default_factory=list)
    """Each becomes one `Warning: 299 - "..."` header."""
    user_agent: str = ""
    options: Obj = field(default_factory=dict)
    """CreateOptions, UpdateOptions, PatchOptions or DeleteOptions, with kind and apiVersion, as webhooks see them."""
    charges: list[Any] = field(default_factory=list)
    """What was charged to quotas for it, until its object is stored."""
    take_turns: Callable[[], Awaitable[None]] | None = None
    """To be called before other objects decide about this one, where other servers write to the same store."""


class Strategy(Protocol):
    """What differs between types: one object per (group, version, kind).

    Built-in types have one made from their schema plus hand-written defaults and rules; each served version of a
    custom resource has one compiled from its CRD. All methods work on plain dicts; those that change
    their argument say so. None of them does I/O, except the two conversions.
    """

    def decode(self, obj: Obj) -> list[str]:
        """Bring a request body into the type's shape, in place: drop unknown fields, normalise scalars.

        Returns the paths of the unknown fields in the order and wording of the real server's
        strict-decoding errors (`unknown field "spec.zzz"`). Raises ApiError 400 on a value that the type can't hold.
        """

    def default(self, obj: Obj) -> None:
        """Fill defaults in place."""

    def prepare_for_create(self, ctx: RequestContext, obj: Obj) -> None:
        """Reset what a client may not set at creation (status where it is a subresource), in place."""

    def prepare_for_update(self, ctx: RequestContext, obj: Obj, old: Obj) -> None:
        """Keep what this endpoint may not change (status on the main endpoint, spec on /status), in place."""

    def validate_create(self, ctx: RequestContext, obj: Obj) -> list[FieldError]: ...

    def validate_update(self, ctx: RequestContext, obj: Obj, old: Obj) -> list[FieldError]: ...

    def warnings(self, ctx: RequestContext, obj: Obj, old: Obj | None) -> list[str]:
        """Texts for Warning headers (deprecated fields, suspicious values)."""

    def selectable_fields(self, obj: Obj) -> Mapping[str, str]:
        """The fields that a field selector may name, with this object's values (metadata.* is always there)."""

    def selectable_field_names(self) -> frozenset[str]: ...

    def table_columns(self) -> Sequence[Obj]:
        """`TableColumnDefinition`s: name, type, format, description, priority."""

    def table_cells(self, obj: Obj) -> list[Any]: ...

    async def to_storage(self, obj: Obj) -> Obj:
        """Convert from this version to the version that is stored."""

    async def from_storage(self, obj: Obj) -> Obj:
        """Convert from the stored version to this one; defaults on read are applied here."""


@dataclass(slots=True, eq=False)
class Resource:
    """One served (group, version, plural): what discovery, routing and the verbs need to know."""

    group: str
    version: str
    plural: str
    singular: str
    kind: str
    list_kind: str
    namespaced: bool
    strategy: Strategy
    schema: Obj
    """OpenAPI v3 schema of the object; `$ref`s point into `definitions`."""
    definitions: Mapping[str, Obj] = field(default_factory=dict)
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = (
        "create",
        "delete",
        "deletecollection",
        "get",
        "list",
        "patch",
        "update",
        "watch",
    )
    subresources: Mapping[str, Obj] = field(default_factory=dict)
    """Name -> {"verbs": [...], "kind": ..., "group": ..., "version": ...}; for example status, scale."""
    storage_version: str = ""
    """The version that objects are stored in; "" means `version`."""
    storage_key: tuple[str, str] = ("", "")
    """(group, plural) of the stored resource: events.k8s.io/events is stored as ("", "events")."""
    returns_deleted: bool = False
    """DELETE answers the object instead of a Status."""
    has_generation: bool = True
    """metadata.generation is kept for this type (custom resources: always; built-ins: a few)."""
    builtin: bool = False
    deprecation: str = ""
    """A warning that goes with every request for this version; "" for none."""
    crd_uid: str = ""

    def __post_init__(self) -> None:
        if self.storage_key == ("", ""):
            self.storage_key = (self.group, self.plural)

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def group_resource(self) -> str:
        """`plural.group`, or the bare plural of the core group: how error texts name a resource."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


@dataclass(slots=True, eq=False)
class Entry:
    """One stored object at one revision, with the bytes it is served as (in the storage version)."""

    key: str
    rev: int
    raw: bytes
    obj: Obj
    """Parsed form. Shared: never change it, copy first."""


class LocalApi(Protocol):
    """The control plane's API for its own controllers: same rules as over HTTP, without HTTP.

    Resources are named by (group, plural). Objects come and go in the storage version. Objects that
    are returned are shared and must be copied before a change.
    """

    def resource(self, group: str, plural: str) -> Resource | None:
        """The resource in its storage version; None when it isn't served."""

    def resources(self) -> Sequence[Resource]:
        """Every served resource once (in its storage version)."""

    def get(self, group: str, plural: str, namespace: str, name: str) -> Obj | None: ...

    def list(self, group: str, plural: str, namespace: str | None = None) -> list[Obj]:
        """All objects, or those of one namespace ("" for cluster-scoped or all)."""

    def count(self, group: str, plural: str, namespace: str | None = None) -> int:
        """How many `list` would answer, without looking at them."""

    def turn(self, name: str) -> AbstractAsyncContextManager[None]:
        """For what looks at several objects before it writes: no other server is at `name` meanwhile."""

    def on_change(self, group: str, plurals: Sequence[str], tell: Callable[[], None]) -> None:
        """Call `tell` after every change of an object of these resources, before anybody gets an answer."""

    def watch_all(self) -> AsyncIterator[tuple[str, Resource, Obj, Obj | None]]:
        """Every change from now on, in revision order: (ADDED|MODIFIED|DELETED, resource, object, previous)."""

    async def create(self, group: str, plural: str, obj: Obj, *, user: UserInfo, manager: str) -> Obj: ...

    async def update(
        self, group: str, plural: str, obj: Obj, *, user: UserInfo, manager: str, subresource: str = ""
    ) -> Obj:
        """Replace; the object's resourceVersion, when set, must match. Raises ApiError 409 and 404."""

    async def delete(
        self,
        group: str,
        plural: str,
        namespace: str,
        name: str,
        *,
        user: UserInfo,
        uid: str = "",
        propagation: str = "Background",
    ) -> None:
        """Delete with an optional uid precondition; a missing object is not an error."""
