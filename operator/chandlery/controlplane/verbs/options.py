"""Query parameters: what each verb takes and how the real server complains about the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from chandlery.controlplane import errors
from chandlery.controlplane.codec.gotext import go_quote
from chandlery.controlplane.selectors import FieldSelector, LabelSelector, parse_fields, parse_labels
from chandlery.controlplane.types import ApiError, FieldError, Obj, Resource

Query = Mapping[str, str]
"""The first value of each parameter."""


def as_bool(value: str | None) -> bool:
    """How query booleans are read: absent, "", 0 and false are false, all else is true."""
    return value is not None and value.lower() not in ("", "0", "false") if value != "" else False


def as_flag(value: str | None) -> bool:
    """A boolean that counts as true when it is named without a value."""
    return value is not None and value.lower() not in ("0", "false")


def as_int(value: str | None) -> int | None:
    if value is None:
        return None
    try:
        if value.strip() != value or "_" in value:
            raise ValueError(value)
        number = int(value)
    except ValueError:
        raise errors.bad_request(f'strconv.ParseInt: parsing "{value}": invalid syntax') from None
    if not -(1 << 63) <= number < 1 << 63:
        raise errors.bad_request(f'strconv.ParseInt: parsing "{value}": value out of range')
    return number


def _bad_revision(value: str, why: str = "invalid syntax") -> str:
    return f'resourceVersion: Invalid value: "{value}": strconv.ParseUint: parsing "{value}": {why}'


def revision(value: str) -> int:
    """A resourceVersion as a number. Raises ValueError with the real server's words."""
    if not value:
        return 0
    if not (value.isascii() and value.isdigit()):
        raise ValueError(_bad_revision(value))
    if len(value) > 20 or int(value) >= 1 << 64:
        raise ValueError(_bad_revision(value, "value out of range"))
    return int(value)


@dataclass(slots=True)
class ListOptions:
    """The parameters of list, watch and deletecollection."""

    labels: LabelSelector | None = None
    fields: FieldSelector | None = None
    limit: int = 0
    continue_: str = ""
    resource_version: str = ""
    match: str = ""
    timeout: int | None = None
    bookmarks: bool = False
    initial_events: bool | None = None
    watch: bool = False


def list_options(query: Query, resource: Resource, *, watch: bool) -> ListOptions:
    """Parse and check. Raises ApiError 400 and 422."""
    options = ListOptions(watch=watch)
    options.limit = max(0, as_int(query.get("limit")) or 0)
    options.timeout = as_int(query.get("timeoutSeconds"))
    options.continue_ = query.get("continue", "")
    options.resource_version = query.get("resourceVersion", "")
    options.match = query.get("resourceVersionMatch", "")
    options.bookmarks = as_flag(query.get("allowWatchBookmarks"))
    if "sendInitialEvents" in query:
        options.initial_events = as_flag(query["sendInitialEvents"])
    text = query.get("labelSelector")
    if text:
        options.labels = parse_labels(text)
        if not options.labels.requirements:
            options.labels = None
    text = query.get("fieldSelector")
    if text:
        options.fields = parse_fields(text)
        if options.fields.terms:
            check_fields(options.fields, resource)
        else:
            options.fields = None
    problems = _check(options)
    if problems:
        raise errors.invalid_options("ListOptions", problems)
    return options


_UNKNOWN = {
    "Job": 'field label "{}" not supported for Job',
    "ResourceSlice": "field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: {}",
}
"""Kinds whose refusal of a field has words of its own."""


def check_fields(selector: FieldSelector, resource: Resource) -> None:
    known = resource.strategy.selectable_field_names()
    for field, _, _ in selector.terms:
        if field == "metadata.name" or field in known:
            continue
        # Cluster-wide kinds with fields of their own leave the namespace out; all others know it.
        if field == "metadata.namespace" and (resource.namespaced or not resource.builtin or not known):
            continue
        if resource.builtin and not known:
            raise errors.bad_request(
                f'"{field}" is not a known field selector: only "metadata.name", "metadata.namespace"'
            )
        words = _UNKNOWN.get(resource.kind if resource.builtin else "", "field label not supported: {}")
        raise errors.bad_request(words.format(field))


def _check(options: ListOptions) -> list[FieldError]:
    problems: list[FieldError] = []

    def forbid(path: str, text: str) -> None:
        problems.append(FieldError(path, "FieldValueForbidden", f"Forbidden: {text}"))

    def unsupported(path: str, value: str, supported: str) -> None:
        problems.append(
            FieldError(path, "FieldValueNotSupported", f'Unsupported value: "{value}": supported values: {supported}')
        )

    match, version = options.match, options.resource_version
    if options.watch:
        if options.initial_events is not None:
            if match != "NotOlderThan":
                forbid(
                    "resourceVersionMatch", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
                )
                if match:
                    unsupported("resourceVersionMatch", match, '"NotOlderThan"')
        elif match:
            forbid(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            )
        return problems
    if options.initial_events is not None:
        forbid("sendInitialEvents", "sendInitialEvents is forbidden for list")
    if match:
        if not version:
            forbid("resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided")
        if options.continue_:
            forbid("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided")
        if match not in ("Exact", "NotOlderThan"):
            unsupported("resourceVersionMatch", match, '"Exact", "NotOlderThan", ""')
        elif match == "Exact" and version == "0":
            forbid("resourceVersionMatch", 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"')
    return problems


@dataclass(slots=True)
class WriteOptions:
    """The parameters of create, update and patch."""

    dry_run: bool = False
    field_manager: str = ""
    field_validation: str = ""
    force: bool | None = None

    def shown(self, kind: str) -> Obj:
        """The options object of this kind as webhooks see it."""
        body: Obj = {"kind": kind, "apiVersion": "meta.k8s.io/v1"}
        if self.dry_run:
            body["dryRun"] = ["All"]
        if self.force is not None:
            body["force"] = self.force
        if self.field_manager:
            body["fieldManager"] = self.field_manager
        if self.field_validation:
            body["fieldValidation"] = self.field_validation
        return body


_PRINTABLE_MAX = 128


def write_options(query: Query, all_dry_runs: list[str], kind: str, *, apply: bool = False) -> WriteOptions:
    """Parse and check; `kind` is CreateOptions, UpdateOptions or PatchOptions. Raises ApiError 422."""
    if not query and not all_dry_runs and not apply:
        return WriteOptions()
    options = WriteOptions(
        field_manager=query.get("fieldManager", ""), field_validation=query.get("fieldValidation", "")
    )
    problems: list[FieldError] = []
    if "force" in query:
        options.force = as_flag(query["force"])
    if kind == "PatchOptions":
        if apply:
            if not options.field_manager:
                problems.append(
                    FieldError("fieldManager", "FieldValueRequired", "Required value: is required for apply patch")
                )
        elif options.force is not None:
            problems.append(
                FieldError("force", "FieldValueForbidden", "Forbidden: may not be specified for non-apply patch")
            )
    manager = options.field_manager
    if len(manager.encode()) > _PRINTABLE_MAX:
        problems.append(
            FieldError("fieldManager", "FieldValueTooLong", f"Too long: may not be more than {_PRINTABLE_MAX} bytes")
        )
    for index, char in enumerate("" if manager.isprintable() else manager):
        if not char.isprintable():
            problems.append(
                FieldError(
                    "fieldManager",
                    "FieldValueInvalid",
                    f"Invalid value: {go_quote(manager)}: invalid character U+{ord(char):04X} (at position {index})",
                )
            )
    problems += dry_run_problems(all_dry_runs)
    validation = options.field_validation
    if validation not in ("", "Ignore", "Warn", "Strict"):
        problems.append(
            FieldError(
                "fieldValidation",
                "FieldValueNotSupported",
                f'Unsupported value: "{validation}": supported values: "", "Ignore", "Strict", "Warn"',
            )
        )
    if problems:
        raise errors.invalid_options(kind, problems)
    options.dry_run = bool(all_dry_runs)
    return options


def dry_run_problems(values: list[str]) -> list[FieldError]:
    if any(value != "All" for value in values):
        shown = ",".join(f'"{value}"' for value in values)
        return [
            FieldError("dryRun", "FieldValueNotSupported", f'Unsupported value: [{shown}]: supported values: "All"')
        ]
    return []


def wrap_revision_error(error: ValueError, *, list_: bool) -> ApiError:
    if list_:
        return errors.bad_request(f"invalid resource version: {error}")
    return errors.plain_internal(str(error))
