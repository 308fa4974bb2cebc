"""What every custom resource of ours shares: metadata, common spec and status, conditions, references.

Python names are snake_case, JSON names camelCase. Unknown fields in a spec are refused here too, because an
object may have been stored before its CRD was tightened.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from chandlery.model.words import Label, Name


@dataclass(frozen=True, slots=True)
class CelRule:
    """One `x-kubernetes-validations` entry; set on a model by `cel_rules`, on a field by `cel(...)`.

    `message_expression` is CEL too and wins over `message`, which is still needed for when it fails.
    """

    rule: str
    message: str
    field_path: str = ""
    reason: str = ""
    optional_old_self: bool = False
    message_expression: str = ""

    def schema(self) -> dict[str, Any]:
        out: dict[str, Any] = {"rule": self.rule, "message": self.message}
        if self.message_expression:
            out["messageExpression"] = self.message_expression
        if self.field_path:
            out["fieldPath"] = self.field_path
        if self.reason:
            out["reason"] = self.reason
        if self.optional_old_self:
            out["optionalOldSelf"] = True
        return out


class Model(BaseModel):
    """Base of all our models: camelCase JSON, unknown fields refused, immutable.

    `cel_rules` of a class and of all its bases end up in the schema, bases first.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)
    cel_rules: ClassVar[tuple[CelRule, ...]] = ()

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        found = handler.resolve_ref_schema(handler(core_schema))
        rules = [r.schema() for base in reversed(cls.__mro__) for r in base.__dict__.get("cel_rules", ())]
        if rules:
            found["x-kubernetes-validations"] = rules
        return found


class LooseModel(Model):
    """For parts that others write too (metadata, status): unknown fields are kept out, not refused."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


class OwnerReference(LooseModel):
    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False
    block_owner_deletion: bool = False


class Meta(LooseModel):
    """The part of `metav1.ObjectMeta` that we read."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    finalizers: tuple[str, ...] = ()
    owner_references: tuple[OwnerReference, ...] = ()


class ConditionStatus(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(LooseModel):
    """What is true, since when, why, and in a sentence what to do."""

    type: Annotated[str, Field(max_length=316, description="Ready, Reconciling, Stalled, or one of the kind's own.")]
    status: Annotated[ConditionStatus, Field(description="True, False or Unknown.")]
    reason: Annotated[str, Field(max_length=1024, description="One CamelCase word that programs can act on.")]
    message: Annotated[str, Field(max_length=32768, description="A sentence for people, with what to do.")] = ""
    observed_generation: Annotated[int, Field(description="The generation that the condition speaks of.")] = 0
    last_transition_time: Annotated[
        str, Field(description="When status last changed: RFC 3339, whole seconds, UTC.")
    ] = ""
    """Text, because it is only ever copied or set."""


class DeletionPolicy(StrEnum):
    """What happens to the external resource and its data when the object is deleted."""

    DELETE = "Delete"
    RETAIN = "Retain"
    SNAPSHOT = "Snapshot"


class LocalRef(Model):
    """An object of a known kind in the same namespace."""

    name: Annotated[Name, Field(description="Name of the object, in the same namespace.")]


class SecretKeyRef(Model):
    """One key of a Secret in the same namespace."""

    name: Annotated[Name, Field(description="Name of the Secret, in the same namespace.")]
    key: Annotated[str, Field(min_length=1, max_length=253, description="Key within the Secret.")]


class Ref(Model):
    """An object by group, kind and name; kinds refer to one another by this only."""

    group: str = ""
    kind: str
    name: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?|[*])$")]
    """`*`: every object of the kind in the namespace."""
    namespace: str = ""

    def __str__(self) -> str:
        where = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {where}{self.name}"


class Adopt(Model):
    """Take over something that exists instead of making it."""

    external_name: Annotated[
        str,
        Field(min_length=1, max_length=253, description="Name of the existing resource at the driver's substrate."),
    ]


class ConnectionSecret(Model):
    """Where the binding goes."""

    name: Annotated[
        Name, Field(description="Name of the Secret that applications connect with. Default: the object's own name.")
    ]


class CommonSpec(Model):
    """The part of spec that every kind shares."""

    cel_rules: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            rule="has(self.adopt) == has(oldSelf.adopt) && (!has(self.adopt) || self.adopt == oldSelf.adopt)",
            message="adopt can't change after creation: make a new object that adopts the other resource",
            field_path=".adopt",
            reason="FieldValueForbidden",
        ),
    )

    class_name: Annotated[
        Name | None,
        Field(
            description="Name of the ResourceClass that says which driver makes this, with which parameters. "
            "Without it the default class of the kind is used, and stored in status."
        ),
    ] = None
    deletion_policy: Annotated[
        DeletionPolicy,
        Field(
            description="What happens at deletion: Delete removes everything, Retain leaves the resource and its data "
            "and says where, Snapshot takes a last snapshot and then deletes."
        ),
    ] = DeletionPolicy.DELETE
    deletion_protection: Annotated[
        bool, Field(description="Refuse deletion while true. Set it to false first, then delete.")
    ] = False
    adopt: Annotated[Adopt | None, Field(description="Take over an existing resource instead of making one.")] = None
    paused: Annotated[bool, Field(description="While true nothing is changed; deletion still works.")] = False
    connection_secret: Annotated[
        ConnectionSecret | None, Field(description="The Secret that applications connect with.")
    ] = None


class Phase(StrEnum):
    """One word for people; programs read the conditions."""

    PENDING = "Pending"
    CREATING = "Creating"
    UPDATING = "Updating"
    READY = "Ready"
    DEGRADED = "Degraded"
    FAILED = "Failed"
    PAUSED = "Paused"
    DELETING = "Deleting"


class Endpoint(LooseModel):
    """Where clients connect."""

    host: Annotated[str, Field(description="Host name or address.")]
    port: Annotated[int, Field(ge=1, le=65535, description="TCP port.")]
    read_host: Annotated[str | None, Field(description="Host for read-only connections, where there is one.")] = None
    read_port: Annotated[int | None, Field(description="Port for read-only connections.")] = None


class BindingRef(LooseModel):
    """servicebinding.io: the provisioned service's binding."""

    name: Annotated[str, Field(description="Name of the Secret that holds the connection details.")]


class DriftItem(LooseModel):
    """One difference between what the spec asks for and what is there."""

    field: Annotated[str, Field(description="Path of the field, as in spec.")]
    desired: Annotated[str, Field(description="What the spec asks for, as text; secrets are never shown.")] = ""
    actual: Annotated[str, Field(description="What is there.")] = ""
    disruption: Annotated[str, Field(description="What repairing it costs: none, reload, restart, ...")] = "none"


class CommonStatus(LooseModel):
    """The part of status that every kind shares."""

    observed_generation: Annotated[int, Field(description="The generation that this status speaks of.")] = 0
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            description="Ready, Reconciling and Stalled, as kstatus reads them, and conditions of the kind's own.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = ()
    phase: Annotated[Phase | None, Field(description="One word for people; programs read the conditions.")] = None
    driver: Annotated[str | None, Field(description="The driver that makes this object real.")] = None
    class_name: Annotated[str | None, Field(description="The ResourceClass in use.")] = None
    external_name: Annotated[str | None, Field(description="Name of the resource at the substrate.")] = None
    endpoint: Annotated[Endpoint | None, Field(description="Where clients connect.")] = None
    binding: Annotated[BindingRef | None, Field(description="The Secret that applications connect with.")] = None
    drift: Annotated[
        tuple[DriftItem, ...],
        Field(
            description="Differences found between spec and reality that are not repaired yet.",
            json_schema_extra={"x-kubernetes-list-type": "atomic"},
        ),
    ] = ()


@dataclass(frozen=True, slots=True)
class PrinterColumn:
    name: str
    type: Literal["string", "integer", "number", "boolean", "date"]
    json_path: str
    description: str = ""
    priority: int = 0


@dataclass(frozen=True, slots=True)
class ScalePaths:
    """The scale subresource's JSONPaths."""

    spec_replicas: str
    status_replicas: str
    label_selector: str = ""


@dataclass(frozen=True, slots=True)
class Names:
    """How a kind is named and shown: what its CRD needs beyond the schema."""

    group: str
    kind: str
    plural: str
    singular: str
    version: str = "v1alpha1"
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ("chandlery",)
    namespaced: bool = True
    columns: tuple[PrinterColumn, ...] = ()
    scale: ScalePaths | None = None
    selectable: tuple[str, ...] = ()
    """JSONPaths of fields that `--field-selector` knows."""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}"

    @property
    def crd_name(self) -> str:
        return f"{self.plural}.{self.group}"


SpecT = TypeVar("SpecT", bound=Model)
StatusT = TypeVar("StatusT", bound=LooseModel)


class Resource(LooseModel, Generic[SpecT, StatusT]):
    """A whole object. Subclasses set `names` and the two type arguments; nothing else."""

    names: ClassVar[Names]

    api_version: str
    kind: str
    metadata: Meta
    spec: SpecT
    status: StatusT

    @property
    def key(self) -> str:
        """namespace/name, or the name alone for a cluster-scoped object."""
        meta = self.metadata
        return f"{meta.namespace}/{meta.name}" if meta.namespace else meta.name

    @property
    def deleting(self) -> bool:
        return self.metadata.deletion_timestamp is not None


AnyResource = Resource[Any, Any]

__all__ = [
    "Adopt",
    "AnyResource",
    "BindingRef",
    "CelRule",
    "CommonSpec",
    "CommonStatus",
    "Condition",
    "ConditionStatus",
    "ConnectionSecret",
    "DeletionPolicy",
    "DriftItem",
    "Endpoint",
    "Label",
    "LocalRef",
    "LooseModel",
    "Meta",
    "Model",
    "Name",
    "Names",
    "OwnerReference",
    "Phase",
    "PrinterColumn",
    "Ref",
    "Resource",
    "ScalePaths",
    "SecretKeyRef",
    "SpecT",
    "StatusT",
]
