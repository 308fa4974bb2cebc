"""ObjectMeta: what names, labels, annotations, owners and finalizers may be, and what an update may change.

The texts are those of the real server (apimachinery `pkg/api/validation` and `pkg/util/validation`); clients and
people match on them.
"""

from __future__ import annotations

import ipaddress
import json
import random
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from chandlery.controlplane.types import FieldError, Obj, Resource

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_NAME_PART = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?"

_label = re.compile(_LABEL)
_subdomain = re.compile(_SUBDOMAIN)
_name_part = re.compile(_NAME_PART)
_value = re.compile(_VALUE)

SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    f"end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{_SUBDOMAIN}')"
)
LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    f"an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{_LABEL}')"
)
_NAME_PART_TEXT = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character "
    f"(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{_NAME_PART}')"
)
_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    f"'{_VALUE}')"
)
_REMEMBERED = 400
_ANNOTATIONS_MAX = 256 * 1024
IMMUTABLE = "field is immutable"

_PATH_NAMES = {
    ("rbac.authorization.k8s.io", plural) for plural in ("roles", "clusterroles", "rolebindings", "clusterrolebindings")
}
_LABEL_NAMES = {("", "namespaces"), ("", "services")}
_STANDARD_FINALIZERS = {"kubernetes", "orphan", "foregroundDeletion"}

_GENERATED = "bcdfghjklmnpqrstvwxz2456789"


_now = (0, "")


def now_text() -> str:
    """The time as `metav1.Time` writes it: UTC, whole seconds."""
    global _now
    second = int(time.time())
    if _now[0] != second:
        _now = (second, datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    return _now[1]


_random = random.Random()  # noqa: S311 - uids must be unique, not secret; asking the system costs ten times as much


def new_uid() -> str:
    # Version 4, variant RFC 4122; `uuid.UUID` takes as long as the rest of the metadata.
    text = f"{_random.getrandbits(128) & ~(0xF000 << 64) & ~(0xC000 << 48) | 0x4000 << 64 | 0x8000 << 48:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def quoted(value: Any) -> str:
    """A value as `field.Invalid` shows it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def subdomain_errors(text: str) -> list[str]:
    """DNS-1123 subdomain."""
    errors = []
    if len(text.encode()) > 253:
        errors.append("must be no more than 253 characters")
    if not _subdomain.fullmatch(text):
        errors.append(SUBDOMAIN_TEXT)
    return errors


def label_errors(text: str) -> list[str]:
    """DNS-1123 label."""
    errors = []
    if len(text.encode()) > 63:
        errors.append("must be no more than 63 characters")
    if not _label.fullmatch(text):
        errors.append("must not contain dots" if _subdomain.fullmatch(text) else LABEL_TEXT)
    return errors


def path_segment_errors(text: str) -> list[str]:
    if text in (".", ".."):
        return [f"may not be '{text}'"]
    return [f"may not contain '{part}'" for part in ("/", "%") if part in text]


def qualified_name_errors(text: str) -> Sequence[str]:
    """What is wrong with a label or annotation key: `[prefix/]name`."""
    return _name_problems(text) if len(text) <= _REMEMBERED else _name_problems.__wrapped__(text)


@lru_cache(maxsize=4096)  # the same few keys come by with every object
def _name_problems(text: str) -> Sequence[str]:
    errors: list[str] = []
    parts = text.split("/")
    if len(parts) == 1:
        name = parts[0]
    elif len(parts) == 2:
        prefix, name = parts
        if not prefix:
            errors.append("prefix part must be non-empty")
        else:
            errors += [f"prefix part {problem}" for problem in subdomain_errors(prefix)]
    else:
        form = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        return [f"a qualified name {_NAME_PART_TEXT} {form}"]
    if not name:
        errors.append("name part must be non-empty")
    elif len(name.encode()) > 63:
        errors.append("name part must be no more than 63 bytes")
    if not _name_part.fullmatch(name):
        errors.append(f"name part {_NAME_PART_TEXT}")
    return errors


def label_value_errors(text: str) -> Sequence[str]:
    if len(text) <= 63 and _value.fullmatch(text):
        return ()
    errors = []
    if len(text.encode()) > 63:
        errors.append("must be no more than 63 bytes")
    if not _value.fullmatch(text):
        errors.append(_VALUE_TEXT)
    return errors


def invalid(path: str, value: Any, detail: str) -> FieldError:
    return FieldError(path, "FieldValueInvalid", f"Invalid value: {quoted(value)}: {detail}")


def _address_errors(name: str) -> list[str]:
    try:
        canonical = str(ipaddress.ip_address(name))
    except ValueError:
        return [f'ParseAddr("{name}"): unable to parse IP']
    return [] if canonical == name else ["not a valid address in canonical format"]


def name_errors(resource: Resource, name: str, *, prefix: bool = False) -> list[str]:
    """What is wrong with a name of this type; `prefix` for a generateName, which may end in a dash."""
    key = (resource.group, resource.plural)
    if key in _PATH_NAMES:
        return path_segment_errors(name)
    if key == ("certificates.k8s.io", "certificatesigningrequests"):
        return []
    if key == ("networking.k8s.io", "ipaddresses"):
        return _address_errors(name)
    if prefix and len(name) > 1 and name.endswith("-"):
        name = name[:-2] + "a"  # the generated part replaces the dash
    return label_errors(name) if key in _LABEL_NAMES else subdomain_errors(name)


def validate_labels(labels: Obj, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for key, value in labels.items():
        if problems := qualified_name_errors(key):
            errors += [invalid(path, key, problem) for problem in problems]
        if len(value) > 63 or _value.fullmatch(value) is None:
            errors += [invalid(path, value, problem) for problem in label_value_errors(value)]
    return errors


def validate_annotations(annotations: Obj, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    size = 0
    for key, value in annotations.items():
        if problems := qualified_name_errors(key.lower()):
            errors += [invalid(path, key, problem) for problem in problems]
        size += len(key.encode()) + len(value.encode())
    if size > _ANNOTATIONS_MAX:
        errors.append(FieldError(path, "FieldValueTooLong", f"Too long: may not be more than {_ANNOTATIONS_MAX} bytes"))
    return errors


def _owner_text(reference: Obj) -> Obj:
    order = ("apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion")
    full = {"apiVersion": "", "kind": "", "name": "", "uid": ""} | reference
    return {key: full[key] for key in order if key in full}


def validate_owners(owners: list[Obj], path: str) -> list[FieldError]:
    errors = []
    controller = ""
    for reference in owners:
        api_version = reference.get("apiVersion") or ""
        if not api_version.rpartition("/")[2] or api_version.count("/") > 1:
            errors.append(invalid(f"{path}.apiVersion", api_version, "version must not be empty"))
        for field in ("kind", "name", "uid"):
            if not reference.get(field):
                errors.append(invalid(f"{path}.{field}", reference.get(field) or "", "must not be empty"))
        if api_version == "v1" and reference.get("kind") == "Event":
            errors.append(invalid(path, _owner_text(reference), "/v1, Kind=Event is disallowed from being an owner"))
        if reference.get("controller"):
            here = f"{reference.get('kind', '')}/{reference.get('name', '')}"
            if controller:
                detail = (
                    'Only one reference can have Controller set to true. Found "true" in references for '
                    f"{controller} and {here}"
                )
                errors.append(invalid(path, [_owner_text(r) for r in owners], detail))
            else:
                controller = here
    return errors


def validate_finalizers(finalizers: list[str], path: str, *, custom: bool) -> list[FieldError]:
    errors = []
    for index, name in enumerate(finalizers):
        errors += [invalid(path, name, problem) for problem in qualified_name_errors(name)]
        if not custom and "/" not in name and name not in _STANDARD_FINALIZERS:
            errors.append(
                invalid(
                    f"{path}[{index}]",
                    name,
                    "name is neither a standard finalizer name nor is it fully qualified",
                )
            )
    return errors


def _both_policies(finalizers: list[str], path: str) -> list[FieldError]:
    if "orphan" in finalizers and "foregroundDeletion" in finalizers:
        detail = "finalizer orphan and foregroundDeletion cannot be both set"
        return [invalid(path, _go_list(finalizers), detail)]
    return []


def _go_list(values: list[str]) -> list[str]:
    return values


def validate_create(resource: Resource, obj: Obj) -> list[FieldError]:
    """ObjectMeta of an object to be created."""
    meta = obj["metadata"]
    errors: list[FieldError] = []
    generate = meta.get("generateName") or ""
    if generate:
        errors += [
            invalid("metadata.generateName", generate, problem)
            for problem in name_errors(resource, generate, prefix=True)
        ]
    name = meta.get("name") or ""
    if not name:
        errors.append(
            FieldError("metadata.name", "FieldValueRequired", "Required value: name or generateName is required")
        )
    else:
        errors += [invalid("metadata.name", name, problem) for problem in name_errors(resource, name)]
    namespace = meta.get("namespace") or ""
    if resource.namespaced:
        if not namespace:
            errors.append(FieldError("metadata.namespace", "FieldValueRequired", "Required value"))
        else:
            errors += [invalid("metadata.namespace", namespace, problem) for problem in label_errors(namespace)]
    elif namespace:
        errors.append(FieldError("metadata.namespace", "FieldValueForbidden", "Forbidden: not allowed on this type"))
    return errors + _validate_common(resource, meta)


def _validate_common(resource: Resource, meta: Obj) -> list[FieldError]:
    errors: list[FieldError] = []
    generation = meta.get("generation")
    if isinstance(generation, int) and generation < 0:
        errors.append(invalid("metadata.generation", generation, "must be greater than or equal to 0"))
    if meta.get("labels"):
        errors += validate_labels(meta["labels"], "metadata.labels")
    if meta.get("annotations"):
        errors += validate_annotations(meta["annotations"], "metadata.annotations")
    if meta.get("ownerReferences"):
        errors += validate_owners(meta["ownerReferences"], "metadata.ownerReferences")
    if meta.get("finalizers"):
        errors += validate_finalizers(meta["finalizers"], "metadata.finalizers", custom=not resource.builtin)
        errors += _both_policies(meta["finalizers"], "metadata.finalizers")
    return errors


def validate_update(resource: Resource, obj: Obj, old: Obj) -> list[FieldError]:
    """ObjectMeta of an object that replaces `old`."""
    meta, before = obj["metadata"], old["metadata"]
    errors: list[FieldError] = []
    if before.get("deletionTimestamp"):
        added = [f for f in meta.get("finalizers") or () if f not in (before.get("finalizers") or ())]
        if added:
            listed = "[]string{" + ", ".join(quoted(f) for f in sorted(added)) + "}"
            errors.append(
                FieldError(
                    "metadata.finalizers",
                    "FieldValueForbidden",
                    "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers "
                    + listed,
                )
            )
    generation, generation_before = meta.get("generation") or 0, before.get("generation") or 0
    if generation < generation_before:
        errors.append(invalid("metadata.generation", generation, "must not be decremented"))
    for field in ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"):
        value = meta.get(field)
        if value != before.get(field):
            shown = value if value is not None or field.startswith("deletion") else ""
            errors.append(invalid(f"metadata.{field}", shown, IMMUTABLE))
    return errors + validate_common(resource, meta, before)


def validate_common(resource: Resource, meta: Obj, before: Obj) -> list[FieldError]:
    """What labels, annotations, owners and finalizers of an update must be, where they changed."""
    errors: list[FieldError] = []
    for field, check in (
        ("labels", validate_labels),
        ("annotations", validate_annotations),
        ("ownerReferences", validate_owners),
    ):
        value = meta.get(field)
        if value and value != before.get(field):
            errors += check(value, f"metadata.{field}")
    finalizers = meta.get("finalizers")
    if finalizers and finalizers != before.get("finalizers"):
        errors += validate_finalizers(finalizers, "metadata.finalizers", custom=not resource.builtin)
        errors += _both_policies(finalizers, "metadata.finalizers")
    return errors


def generate_name(prefix: str) -> str:
    """`prefix` (cut to 58 characters) and five random characters."""
    import secrets

    return prefix[:58] + "".join(secrets.choice(_GENERATED) for _ in range(5))
