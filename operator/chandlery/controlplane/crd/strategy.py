"""The strategy of one served version of a custom resource, compiled from its CRD."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

from chandlery.controlplane.builtins.decode import DecodeError
from chandlery.controlplane.crd.columns import Columns
from chandlery.controlplane.crd.jsonpath import JSONPath, JSONPathError, as_text
from chandlery.controlplane.crd.scale import Scale
from chandlery.controlplane.metadata import qualified_name_errors
from chandlery.controlplane.schema import (
    Correlation,
    Node,
    Validator,
    compile_defaults,
    drop_nulls,
    errors,
    has_list_types,
    prune,
    validate_lists,
)  # fmt: skip
from chandlery.controlplane.schema.embedded import (
    MetadataError,
    coerce,
    decode_object_meta,
    has_embedded,
    validate_embedded,
)  # fmt: skip
from chandlery.controlplane.schema.generated import Predicate, predicates
from chandlery.controlplane.schema.gotext import integral, quote
from chandlery.controlplane.schema.rules import Rules
from chandlery.controlplane.types import ApiError, FieldError, Obj, RequestContext

Convert = Callable[[Sequence[Obj], str], Awaitable[list[Obj]]]
"""Objects of one custom resource and the apiVersion that they are wanted in."""

_BLOCKING = frozenset(
    ("FieldValueNotSupported", "FieldValueRequired", "FieldValueTooLong", "FieldValueTooMany", "FieldValueTypeInvalid")
)
_NOT_CHECKED = (
    "some validation rules were not checked because the object was invalid; correct the existing errors to complete "
    "validation"
)
_STANDARD_FINALIZERS = frozenset(("orphan", "foregroundDeletion", "kubernetes"))


_OFTEN = 16
"""Objects of a version after which its schema is written out as Python."""


class HasApiVersion(Protocol):
    """What the strategy needs to know about the version that objects are stored in."""

    api_version: str


_LOW, _HIGH = -(1 << 63), float((1 << 64) - (1 << 11))
"""What is written as a whole number: larger ones keep the form with an exponent, which no reader takes for 64 bits."""


def whole_numbers(value: Any) -> Any:
    """JSON data with floats that have no fraction as ints, as the reference server writes them back."""
    kind = type(value)
    if kind is dict:
        for name, member in value.items():
            inner = type(member)
            if inner is dict or inner is list:
                whole_numbers(member)
            elif inner is float and member.is_integer() and _LOW <= member < _HIGH:
                value[name] = integral(member)
            elif inner is int and not _LOW <= member < 1 << 63:
                value[name] = integral(float(member)) if _LOW <= member < 1 << 64 else float(member)
    elif kind is list:
        for position, member in enumerate(value):
            inner = type(member)
            if inner is dict or inner is list:
                whole_numbers(member)
            elif inner is float and member.is_integer() and _LOW <= member < _HIGH:
                value[position] = integral(member)
            elif inner is int and not _LOW <= member < 1 << 63:
                value[position] = integral(float(member)) if _LOW <= member < 1 << 64 else float(member)
    return value


class CustomStrategy:
    """Decode, default, validate, convert and print one version of a custom resource."""

    def __init__(
        self,
        *,
        group: str,
        version: str,
        kind: str,
        storage_version: str,
        raw_schema: Obj,
        subresources: Obj,
        columns: list[Obj] | None,
        selectable: Sequence[str],
        warnings: Sequence[str],
        preserve_unknown: bool,
        convert: Convert | None,
    ) -> None:
        self.group, self.version, self.kind = group, version, kind
        self.api_version = f"{group}/{version}"
        self.storage_api_version = f"{group}/{storage_version}"
        self.node = Node(raw_schema)
        self.preserve_unknown = preserve_unknown
        self.has_status = isinstance(subresources.get("status"), dict)
        scale = subresources.get("scale")
        self.scale: Scale | None = Scale(scale) if isinstance(scale, dict) else None
        self._validator = Validator(self.node)
        status_node = self.node.properties.get("status")
        self._status_validator = Validator(status_node) if status_node is not None else None
        self._fill = compile_defaults(self.node)
        self._lists = has_list_types(self.node)
        self._embedded = has_embedded(self.node)
        self._tidy: Predicate | None = None
        self._valid: Predicate | None = None
        self._seen = 0
        """Objects decoded so far: what is used a lot gets predicates written out."""
        self._convert = convert
        self._static_warnings = list(warnings)
        self._column_specs = columns
        self._selectable: list[tuple[str, JSONPath | None]] = []
        for text in selectable:
            try:
                path: JSONPath | None = JSONPath(text)
            except JSONPathError:
                path = None
            self._selectable.append((text.removeprefix("."), path))

    @cached_property
    def rules(self) -> Rules | None:
        """The CEL rules of this version, compiled on first use; None when it has none."""
        return Rules.compile(self.node) if self.node.has_rules() else None

    @cached_property
    def _columns(self) -> Columns:
        return Columns(self._column_specs)

    # -- decoding and defaulting

    def decode(self, obj: Obj) -> list[str]:
        """Prune, coerce metadata, drop nulls, normalise numbers; in place. Raises ApiError 400."""
        self._seen += 1
        if self._seen == _OFTEN:
            self._tidy, self._valid = predicates(self.node)
            if self._embedded or self.preserve_unknown:
                self._tidy = None
        meta = obj.get("metadata")
        fields = meta.pop("managedFields", None) if type(meta) is dict else None  # deep, and without numbers
        tidy = self._tidy is not None and self._tidy(obj)
        whole_numbers(meta if tidy else obj)
        if fields is not None and meta is not None:
            meta["managedFields"] = fields
        try:
            unknown = self._decode_meta(obj)
            if not tidy and self._is_ours(obj):
                if not self.preserve_unknown:
                    unknown += prune(obj, self.node, resource_root=True)
                    drop_nulls(obj, self.node)
                if self._embedded:
                    unknown += coerce(obj, self.node)
        except (DecodeError, MetadataError) as error:
            text = f'{self.kind} in version "{self.version}" cannot be handled as a {self.kind}: {error}'
            raise ApiError(400, "BadRequest", text) from error
        return [f"unknown field {quote(path)}" for path in unknown]

    def decode_changed(self, obj: Obj, live: Obj) -> list[str]:
        """`decode` of what shares everything that didn't change with a stored object of this version."""
        meta, before = obj["metadata"], live["metadata"]
        if type(meta) is not dict:
            return self.decode(obj)
        same = {name: value for name, value in meta.items() if before.get(name) is value and value is not None}
        rest = {name: value for name, value in meta.items() if name not in same}
        obj["metadata"] = rest
        unknown = self.decode(obj)
        obj["metadata"] = same | obj["metadata"]
        return unknown

    def _is_ours(self, obj: Obj) -> bool:
        """Whether the body claims to be of this type in any version: only then is the schema looked at."""
        group, _, version = str(obj.get("apiVersion") or "").rpartition("/")
        return bool(version) and group == self.group and obj.get("kind") == self.kind

    def _decode_meta(self, obj: Obj) -> list[str]:
        meta = obj.get("metadata")
        if meta is None:
            return []
        obj["metadata"], unknown = decode_object_meta(meta)
        return [f"metadata.{name}" for name in unknown]

    def default(self, obj: Obj) -> None:
        if self._fill is not None:
            self._fill(obj)

    # -- preparing

    def prepare_for_create(self, ctx: RequestContext, obj: Obj) -> None:
        if self.has_status:
            obj.pop("status", None)

    def prepare_for_update(self, ctx: RequestContext, obj: Obj, old: Obj) -> None:
        if ctx.subresource == "status":
            for name in [name for name in obj if name not in ("metadata", "status")]:
                if name not in old:
                    del obj[name]
            for name, value in old.items():
                if name not in ("metadata", "status"):
                    obj[name] = value
            managed = obj.get("metadata", {}).get("managedFields")
            obj["metadata"] = dict(old.get("metadata") or {})
            if managed is not None:
                obj["metadata"]["managedFields"] = managed
            else:
                obj["metadata"].pop("managedFields", None)
        elif self.has_status:
            if "status" in old:
                obj["status"] = old["status"]
            else:
                obj.pop("status", None)

    # -- validation

    def validate_create(self, ctx: RequestContext, obj: Obj) -> list[FieldError]:
        found = self._validate_type(obj)
        if found:
            return found
        valid = self._valid is not None and self._valid(obj)
        found = [] if valid else self._validator.errors(obj)
        if self.scale is not None:
            found += self.scale.validate_spec(obj) + self.scale.validate_status(obj)
        if self._embedded:
            found += validate_embedded(obj, self.node)
        if self._lists and not valid:
            found += validate_lists(obj, self.node)
        return self._check_rules(ctx, found, obj, None, None)

    def validate_update(self, ctx: RequestContext, obj: Obj, old: Obj) -> list[FieldError]:
        found = self._validate_type(obj)
        if found:
            return found
        correlation = Correlation(obj, old, self.node)
        valid = self._valid is not None and self._valid(obj)
        if valid:
            pass
        elif ctx.subresource == "status":
            if self._status_validator is not None and "status" in obj:
                found += self._status_validator.errors(obj["status"], "status", correlation.field("status"))
        else:
            found += self._validator.errors(obj, "", correlation)
        if self.scale is not None and ctx.subresource != "status":
            found += self.scale.validate_spec(obj)
        if self.scale is not None:
            found += self.scale.validate_status(obj)
        if self._embedded:
            found += validate_embedded(obj, self.node)
        if self._lists and not valid and (new := validate_lists(obj, self.node)) and not validate_lists(old, self.node):
            found += new
        return self._check_rules(ctx, found, obj, old, correlation)

    def _check_rules(
        self,
        ctx: RequestContext,
        found: list[FieldError],
        obj: Obj,
        old: Obj | None,
        correlation: Correlation | None,
    ) -> list[FieldError]:
        """The errors so far and those of the rules; failures that are tolerated become warnings."""
        rules = self.rules
        if rules is None:
            return found
        if any(error.type in _BLOCKING for error in found):
            return [*found, errors.invalid("", None, _NOT_CHECKED)]
        tolerated: list[FieldError] = []
        found += rules.validate(obj, old, correlation, tolerated=tolerated)
        for error in tolerated:
            warning = f"{error.path}: {error.detail}"
            if warning not in ctx.warnings:
                ctx.warnings.append(warning)
        return found

    def _validate_type(self, obj: Obj) -> list[FieldError]:
        found = []
        if obj.get("kind") != self.kind:
            found.append(errors.invalid("kind", obj.get("kind") or "", f"must be {self.kind}"))
        if obj.get("apiVersion") != self.api_version:
            found.append(errors.invalid("apiVersion", obj.get("apiVersion") or "", f"must be {self.api_version}"))
        return found

    def warnings(self, ctx: RequestContext, obj: Obj, old: Obj | None) -> list[str]:
        """Deprecated version, and finalizers that are not domain-qualified."""
        out = list(self._static_warnings)
        if not (obj.get("metadata") or {}).get("finalizers"):
            return out
        before = ((old or {}).get("metadata") or {}).get("finalizers") or ()
        for name in sorted(set((obj.get("metadata") or {}).get("finalizers") or ()) - set(before)):
            out += [f"metadata.finalizers: {quote(name)}: {problem}" for problem in qualified_name_errors(name)]
            if "/" not in name and name not in _STANDARD_FINALIZERS:
                part = " including a path (/)" if "." in name else ""
                out.append(
                    f"metadata.finalizers: {quote(name)}: prefer a domain-qualified finalizer name{part} to avoid "
                    "accidental conflicts with other finalizer writers"
                )
        return out

    # -- selecting and printing

    def selectable_fields(self, obj: Obj) -> Mapping[str, str]:
        out = {}
        for name, path in self._selectable:
            try:
                found = path.find(obj) if path is not None else []
            except JSONPathError:
                found = []
            out[name] = as_text(found[0]) if found and found[0] is not None else ""
        return out

    def selectable_field_names(self) -> frozenset[str]:
        return frozenset(name for name, _ in self._selectable)

    def table_columns(self) -> Sequence[Obj]:
        return self._columns.definitions

    def table_cells(self, obj: Obj) -> list[Any]:
        return self._columns.cells(obj)

    # -- conversion

    async def to_storage(self, obj: Obj) -> Obj:
        """The object in the stored version (the same object when it is that already)."""
        if self.storage_api_version == obj.get("apiVersion"):
            return obj
        return (await self._converted([obj], self.storage_api_version))[0]

    async def from_storage(self, obj: Obj) -> Obj:
        """The stored object in this version, pruned and with this version's defaults; `obj` may be changed."""
        return (await self.many_from_storage([obj]))[0]

    async def many_from_storage(self, objects: Sequence[Obj]) -> list[Obj]:
        """As `from_storage` for a whole list: one call of the conversion webhook instead of many."""
        out = list(objects)
        foreign = [position for position, obj in enumerate(out) if obj.get("apiVersion") != self.api_version]
        if foreign:
            converted = await self._converted([out[position] for position in foreign], self.api_version)
            for position, obj in zip(foreign, converted, strict=True):
                out[position] = obj
        for obj in out:
            if not self.preserve_unknown and not (self._tidy is not None and self._tidy(obj)):
                prune(obj, self.node, resource_root=True)
                drop_nulls(obj, self.node)
            if self._fill is not None:
                self._fill(obj)
        return out

    async def _converted(self, objects: Sequence[Obj], api_version: str) -> list[Obj]:
        if self._convert is None:
            return [{**obj, "apiVersion": api_version} for obj in objects]
        return await self._convert(objects, api_version)
