"""The rules of CustomResourceDefinition objects.

Source: the API documentation of `apiextensions.k8s.io/v1`; paths and texts are those of the reference server (see
`chandlery.controlplane.crd.internal` for why a schema is called `spec.validation` there).
"""

from __future__ import annotations

from typing import Any

from chandlery.controlplane.crd.approval import ANNOTATION, approval_state, is_protected
from chandlery.controlplane.crd.cel_rules import root_context
from chandlery.controlplane.crd.conversion_rules import REVIEWS, conversion_errors
from chandlery.controlplane.crd.default_rules import has_unpruned_defaults, validate_defaults
from chandlery.controlplane.crd.internal import FIELD_NAMES, InternalSpec, internal_spec, schema_text
from chandlery.controlplane.crd.openapi_rules import OpenApiRules, Tightness, all_schemas, list_key_rules
from chandlery.controlplane.crd.structural import structural_problem, validate_structural
from chandlery.controlplane.metadata import subdomain_errors
from chandlery.controlplane.schema import errors
from chandlery.controlplane.schema.fieldpath import FieldPathError, valid_field_path
from chandlery.controlplane.schema.formats import effective_format
from chandlery.controlplane.schema.gotext import quote
from chandlery.controlplane.schema.names import dns1035_errors
from chandlery.controlplane.types import FieldError, Obj

_SCOPES = ("Cluster", "Namespaced")
_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
_MOST_SELECTABLE = 8
_ROOT_WITH_STATUS = (
    "Description", "Type", "Format", "Title", "Maximum", "ExclusiveMaximum", "Minimum", "ExclusiveMinimum", "MaxLength",
    "MinLength", "Pattern", "MaxItems", "MinItems", "UniqueItems", "MultipleOf", "Required", "Items", "Properties",
    "ExternalDocs", "Example", "XPreserveUnknownFields", "XValidations",
)  # fmt: skip


def validate_crd_create(obj: Obj) -> list[FieldError]:
    """Everything wrong with a CRD to be created (defaults and status set); of ObjectMeta only what is special here."""
    found: list[FieldError] = []
    spec = obj.get("spec") or {}
    wanted = f"{(spec.get('names') or {}).get('plural') or ''}.{spec.get('group') or ''}"
    name = (obj.get("metadata") or {}).get("name") or ""
    if name and name != wanted:
        found.append(errors.invalid("metadata.name", name, 'must be spec.names.plural+"."+spec.group'))
    found += _spec(obj, Tightness())
    found += _status(obj)
    found += _approval(obj, None)
    found += _preserve(obj, None)
    return found


def validate_crd_update(obj: Obj, old: Obj) -> list[FieldError]:
    """Everything wrong with a CRD to replace `old`. What `old` had already is tolerated where the API says so."""
    found = _spec(obj, _tightness(obj, old), old)
    spec, before = obj.get("spec") or {}, old.get("spec") or {}
    names, names_before = spec.get("names") or {}, before.get("names") or {}
    if _established(old):
        found += _immutable("spec.scope", spec.get("scope"), before.get("scope"))
        found += _immutable("spec.names.kind", names.get("kind"), names_before.get("kind"))
    found += _immutable("spec.group", spec.get("group"), before.get("group"))
    found += _immutable("spec.names.plural", names.get("plural"), names_before.get("plural"))
    found += _status(obj)
    found += _approval(obj, old)
    found += _preserve(obj, old)
    return found


def crd_warnings(obj: Obj, old: Obj | None = None) -> list[str]:
    """Texts for Warning headers: formats that no version knows."""
    known = set(_unknown_formats(old)) if old is not None else set()
    out: list[str] = []
    for text in _unknown_formats(obj):
        warning = f"unrecognized format {quote(text)}"
        if text not in known and warning not in out:
            out.append(warning)
    return out


def _unknown_formats(crd: Obj) -> list[str]:
    found = []
    for version in (crd.get("spec") or {}).get("versions") or ():
        for schema in all_schemas((version.get("schema") or {}).get("openAPIV3Schema")):
            name = schema.get("format") or ""
            kind = "" if schema.get("x-kubernetes-int-or-string") else schema.get("type") or ""
            if name and not effective_format(kind, name):
                found.append(name)
    return found


def _immutable(path: str, value: Any, before: Any) -> list[FieldError]:
    return [] if value == before else [errors.invalid(path, value or "", "field is immutable")]


def _established(crd: Obj) -> bool:
    conditions = (crd.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == "Established" and c.get("status") == "True" for c in conditions)


def _schemas(crd: Obj) -> list[Obj | None]:
    versions = (crd.get("spec") or {}).get("versions") or ()
    return [(version.get("schema") or {}).get("openAPIV3Schema") for version in versions]


def _same_versions(obj: Obj, old: Obj) -> frozenset[str]:
    before = {version.get("name"): version.get("schema") for version in old["spec"].get("versions") or ()}
    versions = (obj.get("spec") or {}).get("versions") or ()
    return frozenset(
        version["name"]
        for version in versions
        if version.get("name") in before and before[version["name"]] == version.get("schema")
    )


def _tightness(obj: Obj, old: Obj) -> Tightness:
    schemas = _schemas(old)
    parts = [part for schema in schemas for part in all_schemas(schema)]
    reviews = (((old["spec"].get("conversion") or {}).get("webhook")) or {}).get("conversionReviewVersions") or []
    rules = {rule.get("rule") or "" for part in parts for rule in part.get("x-kubernetes-validations") or ()}
    probe = OpenApiRules(Tightness())
    for part in parts:
        if part.get("x-kubernetes-list-type") == "set" and isinstance(part.get("items"), dict):
            probe.set_items(part["items"], "")
    return Tightness(
        open_api_schema=all(schema is not None for schema in schemas),
        valid_types=all(
            (part.get("type") or "object") in ("array", "boolean", "integer", "number", "object", "string")
            for part in parts
        ),
        structural=not any(
            schema is not None and (structural_problem(schema) or validate_structural(schema, "")) for schema in schemas
        ),
        pruned_defaults=not any(
            schema is not None and not structural_problem(schema) and has_unpruned_defaults(schema)
            for schema in schemas
        ),
        atomic_sets=not probe.found,
        map_keys=not any(list_key_rules(part, "") for part in parts),
        recognized_reviews=not reviews or any(review in REVIEWS for review in reviews),
        old_rules=frozenset(rules),
        same_versions=_same_versions(obj, old),
    )


# -- spec


def _spec(crd: Obj, tightness: Tightness, old: Obj | None = None) -> list[FieldError]:
    internal = internal_spec(crd)
    spec = internal.spec
    found = _group(spec.get("group") or "") + _enum("spec.scope", spec.get("scope") or "", _SCOPES)
    if tightness.open_api_schema and _schema_of(internal.shared.get("validation")) is None:
        for position, part in enumerate(internal.parts):
            if _schema_of(part.get("schema")) is None:
                found.append(errors.required(f"spec.versions[{position}].schema.openAPIV3Schema"))
    if spec.get("preserveUnknownFields") and any(
        part.get("default") is not None for schema in _schemas(crd) for part in all_schemas(schema)
    ):
        detail = "must be false in order to use defaults in the schema"
        found.append(errors.invalid("spec.preserveUnknownFields", True, detail))
    found += _versions(internal, tightness, old)
    found += _names(spec.get("names") or {}, "spec.names", complete=True)
    any_status = any(_has_status(version.get("subresources")) for version in internal.versions)
    first = (internal.versions[0].get("name") or "") if internal.versions else ""
    shared = internal.shared.get("validation")
    found += _validation(shared, "spec.validation", any_status, tightness.of_version(first))
    found += _subresources(internal.shared.get("subresources"), "spec.subresources")
    for position, column in enumerate(internal.shared.get("additionalPrinterColumns") or ()):
        found += _column(column, f"spec.additionalPrinterColumns[{position}]")
    if selectable := internal.shared.get("selectableFields"):
        if not internal.shared.get("validation"):
            detail = "may only be set when validations.schema is included"
            found.append(errors.invalid("spec.selectableFields", "", detail))
        else:
            schema = _schema_of(internal.shared["validation"]) or {}
            found += _selectable(selectable, schema, "spec.selectableFields", _old_selectable(old, None))
    found += conversion_errors(spec, tightness, established=old is not None and _established(old), old=old)
    return found


def _schema_of(validation: Obj | None) -> Obj | None:
    return (validation or {}).get("openAPIV3Schema")


def _has_status(subresources: Obj | None) -> bool:
    return isinstance((subresources or {}).get("status"), dict)


def _group(group: str) -> list[FieldError]:
    if not group:
        return [errors.required("spec.group")]
    if problems := subdomain_errors(group):
        return [errors.invalid("spec.group", group, ",".join(problems))]
    if "." not in group:
        return [errors.invalid("spec.group", group, "should be a domain with at least one dot")]
    return []


def _enum(path: str, value: str, accepted: tuple[str, ...]) -> list[FieldError]:
    if not value:
        return [errors.required(path)]
    return [] if value in accepted else [errors.not_supported(path, value, accepted)]


def _versions(internal: InternalSpec, tightness: Tightness, old: Obj | None) -> list[FieldError]:
    found: list[FieldError] = []
    seen: set[str] = set()
    storage = 0
    for position, (version, part) in enumerate(zip(internal.versions, internal.parts, strict=True)):
        name, at = version.get("name") or "", f"spec.versions[{position}]"
        storage += bool(version.get("storage"))
        if problems := dns1035_errors(name):
            found.append(errors.invalid(f"{at}.name", name, ",".join(problems)))
        seen.add(name)
        found += _deprecation(version, at)
        has_status = _has_status(version.get("subresources"))
        found += _validation(part.get("schema"), f"{at}.schema", has_status, tightness.of_version(name))
        found += _subresources(part.get("subresources"), f"{at}.subresources")
        for column_at, column in enumerate(part.get("additionalPrinterColumns") or ()):
            found += _column(column, f"{at}.additionalPrinterColumns[{column_at}]")
        if part.get("selectableFields"):
            schema = _schema_of(part.get("schema"))
            if schema is None:
                detail = "may only be set when `version.schema.openAPIV3Schema` is not included"
                found.append(errors.invalid(f"{at}.selectableFields", "", detail))
            else:
                before = _old_selectable(old, name)
                found += _selectable(part["selectableFields"], schema, f"{at}.selectableFields", before)
    if len(seen) != len(internal.versions):
        detail = "must contain unique version names"
        found.append(errors.invalid_raw("spec.versions", internal.versions_text(), detail))
    if storage != 1:
        detail = "must have exactly one version marked as storage version"
        found.append(errors.invalid_raw("spec.versions", internal.versions_text(), detail))
    if internal.versions:
        first = internal.versions[0].get("name") or ""
        if first and (problems := dns1035_errors(first)):
            found.append(errors.invalid("spec.version", first, ",".join(problems)))
    return found


def _deprecation(version: Obj, at: str) -> list[FieldError]:
    text = version.get("deprecationWarning")
    if text is None:
        return []
    problems = []
    if not version.get("deprecated"):
        problems.append("can only be set for deprecated versions")
    else:
        if len(text.encode()) > 256:
            problems.append("must be <= 256 characters long")
        if not text:
            problems.append("must not be an empty string")
        offset = 0
        for char in text:
            if not char.isprintable():
                problems.append(
                    f"must only contain printable UTF-8 characters; non-printable character found at index {offset}"
                )
                break
            offset += len(char.encode())
    return [errors.invalid(f"{at}.deprecationWarning", text, problem) for problem in problems]


def _names(names: Obj, path: str, *, complete: bool) -> list[FieldError]:
    found: list[FieldError] = []
    texts = {name: names.get(name) or "" for name in ("plural", "singular", "kind", "listKind")}
    if complete:
        found += [errors.required(f"{path}.{name}") for name, text in texts.items() if not text]
    for name, text in texts.items():
        mixed = name in ("kind", "listKind")
        if text and (problems := dns1035_errors(text.lower() if mixed else text)):
            prefix = "may have mixed case, but should otherwise match: " if mixed else ""
            found.append(errors.invalid(f"{path}.{name}", text, prefix + ",".join(problems)))
    if texts["kind"] and texts["kind"] == texts["listKind"]:
        found.append(errors.invalid(f"{path}.listKind", texts["listKind"], "kind and listKind may not be the same"))
    for name in ("shortNames", "categories"):
        for position, text in enumerate(names.get(name) or ()):
            if problems := dns1035_errors(text):
                found.append(errors.invalid(f"{path}.{name}[{position}]", text, ",".join(problems)))
    return found


def _validation(validation: Obj | None, path: str, has_status: bool, tightness: Tightness) -> list[FieldError]:
    schema = _schema_of(validation)
    if schema is None:
        return []
    found: list[FieldError] = []
    at = f"{path}.openAPIV3Schema"
    if has_status:
        found += _root_with_status(schema, at)
    if schema.get("nullable"):
        found.append(errors.forbidden(f"{at}.nullable", "nullable cannot be true at the root"))
    unreadable: list[FieldError] = []
    context = None
    if tightness.structural:
        if problem := structural_problem(schema):
            unreadable.append(errors.invalid(at, "", problem))
        elif (problems := validate_structural(schema, at)) or (
            problems := validate_defaults(schema, at, pruned=tightness.pruned_defaults)
        ):
            found += problems
        else:
            context = root_context(schema)
    rules = OpenApiRules(tightness)
    rules.check(schema, at, context)
    found += rules.found + rules.cel
    if not found:
        found += unreadable
    if context is not None:
        found += context.total_errors(at)
    return found


def _root_with_status(schema: Obj, at: str) -> list[FieldError]:
    """With a status subresource the status schema is used alone, so the root may hold little else."""
    for name, go in FIELD_NAMES.items():
        value = schema.get(name)
        if value in (None, "", False, [], {}):
            continue
        if go == "Type":
            if value != "object":
                detail = (
                    'only "object" is allowed as the type at the root of the schema if the status subresource is '
                    "enabled"
                )
                return [errors.invalid(f"{at}.type", value, detail)]
        elif go not in _ROOT_WITH_STATUS:
            allowed = "[" + " ".join(_ROOT_WITH_STATUS) + "]"
            detail = f"only {allowed} fields are allowed at the root of the schema if the status subresource is enabled"
            return [errors.invalid_raw(at, schema_text(schema), detail)]
    return []


def _subresources(subresources: Obj | None, path: str) -> list[FieldError]:
    scale = (subresources or {}).get("scale")
    if not isinstance(scale, dict):
        return []
    found: list[FieldError] = []
    for name, prefixes, detail in (
        ("specReplicasPath", (".spec.",), "should be a json path under .spec"),
        ("statusReplicasPath", (".status.",), "should be a json path under .status"),
        ("labelSelectorPath", (".spec.", ".status."), "should be a json path under either .spec or .status"),
    ):
        text, at = scale.get(name) or "", f"{path}.scale.{name}"
        if not text:
            if name != "labelSelectorPath":
                found.append(errors.required(at))
        elif problems := _simple_path(text, at):
            found += problems
        elif not text.startswith(prefixes):
            found.append(errors.invalid(at, text, detail))
    return found


def _simple_path(text: str, path: str) -> list[FieldError]:
    if not text.startswith("."):
        return [errors.invalid(path, text, "must be a simple json path starting with .")]
    return []


def _column(column: Obj, path: str) -> list[FieldError]:
    found: list[FieldError] = []
    if not column.get("name"):
        found.append(errors.required(f"{path}.name"))
    kind = column.get("type") or ""
    detail = "must be one of " + ",".join(_COLUMN_TYPES)
    if not kind:
        found.append(errors.required(f"{path}.type", detail))
    elif kind not in _COLUMN_TYPES:
        found.append(errors.invalid(f"{path}.type", kind, detail))
    form = column.get("format") or ""
    if form and form not in _COLUMN_FORMATS:
        detail = "must be one of " + ",".join(_COLUMN_FORMATS)
        found.append(errors.invalid(f"{path}.format", form, detail))
    json_path = column.get("jsonPath") or ""
    if not json_path:
        found.append(errors.required(f"{path}.JSONPath"))
    else:
        found += _simple_path(json_path, f"{path}.JSONPath")
    return found


def _old_selectable(old: Obj | None, version: str | None) -> list[Obj] | None:
    if old is None:
        return None
    internal = internal_spec(old)
    if version is None:
        return internal.shared.get("selectableFields")
    for own, part in zip(internal.versions, internal.parts, strict=True):
        if own.get("name") == version:
            return part.get("selectableFields")
    return None


def _selectable(fields: list[Obj], schema: Obj, path: str, before: list[Obj] | None) -> list[FieldError]:
    found: list[FieldError] = []
    seen: set[str] = set()
    for position, field in enumerate(fields):
        at, text = f"{path}[{position}].jsonPath", field.get("jsonPath") or ""
        if not text:
            found.append(errors.required(at))
            continue
        try:
            normal, target = valid_field_path(text, schema, brackets=False)
        except FieldPathError as error:
            found.append(errors.invalid(at, text, f"is an invalid path: {error}"))
            continue
        if normal.partition(".")[0] == "metadata":
            found.append(errors.invalid(at, text, "must not point to fields in metadata"))
        if target.get("type") not in ("string", "boolean", "integer"):
            detail = (
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats "
                "are allowed."
            )
            found.append(errors.invalid(at, text, detail))
        if normal in seen:
            found.append(errors.duplicate(at, text))
        seen.add(normal)
    if len(seen) > _MOST_SELECTABLE and not (
        before is not None and len(before) > _MOST_SELECTABLE and before == fields
    ):
        found.append(errors.too_many(path, len(seen), _MOST_SELECTABLE))
    return found


# -- status and the rest


def _status(crd: Obj) -> list[FieldError]:
    status = crd.get("status") or {}
    found = _names(status.get("acceptedNames") or {}, "status.acceptedNames", complete=False)
    stored = status.get("storedVersions") or []
    path = "status.storedVersions"
    if not stored:
        shown: list[str] | None = None if status.get("storedVersions") is None else []
        return [*found, errors.invalid(path, shown, "must have at least one stored version")]
    left = {version: position for position, version in enumerate(stored)}
    for version in (crd.get("spec") or {}).get("versions") or ():
        name = version.get("name") or ""
        if version.get("storage") and name not in left:
            found.append(errors.invalid(path, stored, f"must have the storage version {name}"))
        left.pop(name, None)
    for version, position in left.items():
        detail = (
            f"missing from spec.versions; {version} was previously a storage version, and must remain in spec.versions "
            f"until a storage migration ensures no data remains persisted in {version} and removes {version} from "
            "status.storedVersions"
        )
        found.append(errors.invalid(f"{path}[{position}]", version, detail))
    return found


def _approval(crd: Obj, old: Obj | None) -> list[FieldError]:
    if not is_protected((crd.get("spec") or {}).get("group") or ""):
        return []
    state, detail = approval_state(crd)
    if state in ("approved", "bypassed") or (old is not None and approval_state(old)[0] == state):
        return []
    path = f"metadata.annotations[{ANNOTATION}]"
    if state == "missing":
        return [errors.required(path, detail)]
    return [errors.invalid(path, crd["metadata"]["annotations"][ANNOTATION], detail)]


def _preserve(crd: Obj, old: Obj | None) -> list[FieldError]:
    if old is not None and (old.get("spec") or {}).get("preserveUnknownFields"):
        return []
    if (crd.get("spec") or {}).get("preserveUnknownFields"):
        detail = (
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
        )
        return [errors.invalid("spec.preserveUnknownFields", True, detail)]
    return []
