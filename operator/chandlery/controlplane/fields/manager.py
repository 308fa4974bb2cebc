"""Ownership after every write, and server-side apply.

`on_write` is called with the object that is about to be stored by a create, update or patch; `apply` makes that object
from an apply patch. Both compare with the live object, move fields between managers and keep the time of a manager
that changed nothing. Source: Kubernetes documentation, Server-Side Apply; structured-merge-diff (semantics).
"""

from __future__ import annotations

from functools import cache
from typing import Any

from chandlery.controlplane.fields import managed as mf
from chandlery.controlplane.fields.lastapplied import allowed_conflicts, annotate
from chandlery.controlplane.fields.managed import Entry, Identity, Managed
from chandlery.controlplane.fields.reconcile import reconcile_with_schema
from chandlery.controlplane.fields.scale import SCALE_VERSION, ScaleView, after_scaling
from chandlery.controlplane.fields.schema import Type, type_of
from chandlery.controlplane.fields.sets import (
    Node,
    difference,
    intersection,
    path_text,
    paths,
    recursive_difference,
    union,
)
from chandlery.controlplane.fields.walk import (
    Changes,
    TypedError,
    compare,
    field_set,
    merge,
    remove,
    validate,
    with_named_fields,
)
from chandlery.controlplane.types import ApiError, Obj, Resource

_BEFORE_FIRST_APPLY = "before-first-apply"
_MAX_MANAGER = 128


def default_manager(user_agent: str) -> str:
    """The manager's name when the request gives none: the User-Agent up to the first slash, at most 128 bytes."""
    prefix = user_agent.split("/", 1)[0]
    out: list[str] = []
    size = 0
    for char in prefix:
        if not char.isprintable():
            continue
        size += len(char.encode("utf-8", "surrogatepass"))
        if size > _MAX_MANAGER:
            break
        out.append(char)
    return "".join(out)


_empty: dict[int, tuple[Resource, Obj]] = {}


def _empty_object(resource: Resource) -> Obj:
    """An object of the type in which nothing is set: built-in types have parts that are always there."""
    found = _empty.get(id(resource))
    if found is not None:
        return found[1]
    out: Obj = {"apiVersion": resource.api_version, "kind": resource.kind}
    if resource.builtin:
        resource.strategy.decode(out)
    if len(_empty) > 1000:
        _empty.clear()
    _empty[id(resource)] = (resource, out)
    return out


def _without_managed(meta: Any) -> Any:
    if isinstance(meta, dict) and "managedFields" in meta:
        return {key: value for key, value in meta.items() if key != "managedFields"}
    return meta


def _compare_objects(t: Type, old: Obj, new: Obj, reset: Node) -> Changes:
    """What changed, without what is never owned and what this endpoint can't change."""
    left, right = dict(old), dict(new)
    for side in (left, right):
        side.pop("apiVersion", None)
        side.pop("kind", None)
        for key, below in reset.items():
            if not below:
                side.pop(key[2:], None)
        meta = side.get("metadata")
        if isinstance(meta, dict):
            side["metadata"] = {key: value for key, value in meta.items() if key not in mf.STRIPPED}
    changes = compare(t, left, right)
    if changes:
        for name in Changes.__slots__:
            found = getattr(changes, name)
            if reset and found:
                found = recursive_difference(found, reset)
            if "f:metadata" in found:
                found = difference(found, mf.STRIPPED_SET)
            setattr(changes, name, found)
    return changes


def on_write(resource: Resource, live: Obj | None, new: Obj, *, manager: str, subresource: str, now: str) -> None:
    """Bring `new["metadata"]["managedFields"]` up to date after a create, update or patch, in place.

    `live` is the stored object (None: a create) in the version of `resource`; `manager` the field manager's name;
    `subresource` "" for the main endpoint; `now` an RFC 3339 time in whole seconds.
    """
    meta = new.setdefault("metadata", {})
    given = meta.pop("managedFields", None)
    stored = (live or {}).get("metadata", {}).get("managedFields")
    managed, source = _current(given, stored, subresource)
    if not managed and live is not None:
        return
    if subresource == "scale":
        scaled = after_scaling(resource, managed, live or {}, new, manager)
        if scaled is not None:
            source = mf.encode(scaled, set())
        if source:
            meta["managedFields"] = source
        return
    try:
        changed = _update(resource, live, new, managed, manager=manager, subresource=subresource, now=now)
    except TypedError:
        if stored:
            meta["managedFields"] = stored
        return
    if changed or source is None:
        known = {id(entry.get("fieldsV1")) for entry in source or ()}
        source = mf.encode(list(managed.values()), known)
    if source:
        meta["managedFields"] = source


def keep_managed_fields(obj: Obj, before: Any) -> str:
    """Check managedFields after webhooks, in place: broken ones are replaced by `before`.

    Returns the warning that the client gets, or "".
    """
    meta = obj.get("metadata") or {}
    after = meta.get("managedFields")
    if after == before:
        return ""
    try:
        managed = mf.decode(after, trusted=False)
    except (ValueError, AttributeError, TypeError) as error:
        if before:
            meta["managedFields"] = before
        else:
            meta.pop("managedFields", None)
        return (
            ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated "
            f"mutating admission controller; please fix your requests: {error}"
        )
    if managed:
        meta["managedFields"] = mf.encode(list(managed.values()), set())
    return ""


def _current(given: Any, stored: Any, subresource: str) -> tuple[Managed, list[Obj] | None]:
    """The managers before this write, and the list they came from when it is in canonical form."""
    if not subresource and given is not None and given != stored:
        if given in ([], [{}]):
            return {}, []  # asked for: nobody owns anything
        try:
            managed = mf.decode(given, trusted=False)
        except (ValueError, AttributeError, TypeError):
            managed = {}
        if managed:
            return managed, None
    try:
        return mf.decode(stored, trusted=True), stored or []
    except (ValueError, AttributeError, TypeError):
        return {}, []


def _update(
    resource: Resource, live: Obj | None, new: Obj, managed: Managed, *, manager: str, subresource: str, now: str
) -> bool:
    """Move what changed to `manager`, in place; whether `managed` is another one now."""
    t = type_of(resource)
    changed = reconcile_with_schema(t, managed) if not resource.builtin else False
    old = live if live is not None else _empty_object(resource)
    changes = _compare_objects(t, old, new, mf.reset_fields(resource, subresource))
    if not changes:
        return changed
    own = union(changes.modified, changes.added)
    _move(managed, own, changes.removed, None)
    if own:
        entry = Entry(manager or "unknown", "Update", resource.api_version, subresource, now, own)
        before = managed.get(entry.identity)
        managed[entry.identity] = entry if before is None else entry.with_fields(union(before.fields, own))
    mf.cap_update_managers(managed)
    return True


def _move(managed: Managed, taken: Node, removed: Node, keep: Identity | None) -> None:
    """Take fields away from everybody but `keep`; removed ones from everybody but `keep` too, in place."""
    for identity, entry in list(managed.items()):
        if identity == keep:
            continue
        fields = entry.fields
        if taken:
            lost = intersection(fields, taken)
            if lost:
                fields = difference(fields, lost)
        if removed:
            lost = intersection(fields, removed)
            if lost:
                fields = difference(fields, lost)
        if fields is not entry.fields:
            if fields:
                managed[identity] = entry.with_fields(fields)
            else:
                del managed[identity]


# --- server-side apply ------------------------------------------------------------------------------


def apply(
    resource: Resource, live: Obj | None, patch: Obj, *, manager: str, force: bool, subresource: str, now: str
) -> Obj:
    """The live object with an apply patch merged in and managedFields updated, before defaulting and validation.

    `live` None: the object is created. Neither argument is changed; the result may share parts with both.
    Raises ApiError: 400 (another type, managedFields in the patch), 409 (conflicts), 500 (doesn't fit the schema).
    """
    api_version, kind = _text(patch, "apiVersion"), _text(patch, "kind")
    if api_version != resource.api_version or kind != resource.kind:
        raise ApiError(400, "BadRequest", f"invalid object type: {_gvk(api_version, kind)}")
    patch_meta = patch.get("metadata")
    if isinstance(patch_meta, dict) and patch_meta.get("managedFields") is not None:
        raise ApiError(400, "BadRequest", "metadata.managedFields must be nil")
    stored = (live or {}).get("metadata", {}).get("managedFields")
    try:
        managed = mf.decode(stored, trusted=True)
    except (ValueError, AttributeError, TypeError) as error:
        raise ApiError(500, "", f"failed to decode managed fields: {error}") from error
    if not managed and live is not None:
        try:
            _update(resource, None, live, managed, manager=_BEFORE_FIRST_APPLY, subresource=subresource, now=now)
        except TypedError as error:
            raise ApiError(500, "", f"failed to create manager for existing fields: {error}") from error
    t = type_of(resource)
    try:
        validate(t, patch)
    except TypedError as error:
        raise ApiError(500, "", f"failed to create typed patch object ({object_text(patch)}): {error}") from error
    base = live if live is not None else _empty_object(resource)
    attempt = _Attempt(resource, t, base, patch, Entry(manager, "Apply", api_version, subresource, now, {}))
    try:
        try:
            out = attempt.run(dict(managed), force=force)
        except _ConflictsError as conflicts:
            if manager != "kubectl":
                raise
            left = _not_allowed(t, base, resource, conflicts)
            if left:
                raise left from None
            out = attempt.run(dict(managed), force=True)
    except _ConflictsError as conflicts:
        raise conflicts.error() from None
    except TypedError as error:
        raise ApiError(500, "", f"failed to create typed live object ({object_text(base)}): {error}") from error
    if manager == "kubectl":
        annotate(out, patch)
    return out


def _text(obj: Obj, key: str) -> str:
    """A string of the object; "" when there is none or something else."""
    value = obj.get(key)
    return value if isinstance(value, str) else ""


def _gvk(api_version: str, kind: str) -> str:
    group, _, version = api_version.rpartition("/")
    return f"{group}/{version}, Kind={kind}"


def object_text(obj: Obj) -> str:
    """An object as the errors of server-side apply name it: `namespace/name; group/version, Kind=Kind`."""
    meta = obj.get("metadata")
    meta = meta if isinstance(meta, dict) else {}
    gvk = _gvk(obj.get("apiVersion", ""), obj.get("kind", ""))
    return f"{meta.get('namespace') or ''}/{meta.get('name') or ''}; {gvk}"


class _Attempt:
    """One merge of an apply patch; run again with force when the conflicts turn out to be allowed."""

    def __init__(self, resource: Resource, t: Type, base: Obj, patch: Obj, entry: Entry) -> None:
        self.t = t
        self.base = base
        self.patch = patch
        self.entry = entry
        self.reset = mf.reset_fields(resource, entry.subresource)
        self.builtin = resource.builtin

    def run(self, managed: Managed, *, force: bool) -> Obj:
        t, entry = self.t, self.entry
        if not self.builtin:
            reconcile_with_schema(t, managed)
        merged: Obj = merge(t, self.base, self.patch)
        last = managed.get(entry.identity)
        mine = field_set(t, self.patch)
        if self.reset:
            mine = recursive_difference(mine, self.reset)
        managed[entry.identity] = entry.with_fields(mine)
        if last is not None and difference(last.fields, mine):
            merged = _prune(t, merged, managed, last.fields)
        changes = _compare_objects(t, self.base, merged, self.reset)
        touched = union(changes.modified, changes.added)
        if not force:
            conflicts = [
                (other, lost)
                for identity, other in managed.items()
                if identity != entry.identity and (lost := intersection(other.fields, touched))
            ]
            if conflicts:
                raise _ConflictsError(conflicts)
        _move(managed, touched, changes.removed, entry.identity)
        mine = difference(mine, mf.STRIPPED_SET)
        if mine:
            same = _without_managed(merged.get("metadata")) == _without_managed(self.base.get("metadata")) and {
                k: v for k, v in merged.items() if k != "metadata"
            } == {k: v for k, v in self.base.items() if k != "metadata"}
            time = (last.time if last is not None else "") if same else entry.time
            managed[entry.identity] = Entry(entry.manager, "Apply", entry.api_version, entry.subresource, time, mine)
        else:
            managed.pop(entry.identity, None)
        out = dict(merged)
        meta = out["metadata"] = dict(out.get("metadata") or {})
        meta.pop("managedFields", None)
        if managed:
            known = {id(e.get("fieldsV1")) for e in self.base.get("metadata", {}).get("managedFields") or ()}
            meta["managedFields"] = mf.encode(list(managed.values()), known)
        return out


def _prune(t: Type, merged: Obj, managed: Managed, last: Node) -> Obj:
    """Remove what this manager applied last time, doesn't now, and nobody else owns."""
    last = with_named_fields(t, last)
    pruned = remove(t, merged, last) or {}
    everybody: Node = {}
    for entry in managed.values():
        everybody = union(everybody, entry.fields)
    everything = with_named_fields(t, field_set(t, merged))
    kept = union(with_named_fields(t, field_set(t, pruned)), with_named_fields(t, everybody))
    pruned = remove(t, merged, difference(everything, kept)) or {}
    # What fell with its parent but was never this manager's own comes back.
    gone = intersection(difference(everything, with_named_fields(t, field_set(t, pruned))), last)
    out: Obj = remove(t, merged, gone) or {}
    return out


class _ConflictsError(Exception):
    """Fields that others own and an apply would change."""

    def __init__(self, conflicts: list[tuple[Entry, Node]]) -> None:
        super().__init__("conflicts")
        self.conflicts = sorted(conflicts, key=lambda pair: pair[0].identity)

    def error(self) -> ApiError:
        causes: list[Obj] = []
        lines: list[str] = []
        for entry, fields in self.conflicts:
            who = _who(entry)
            lines.append(f"conflicts with {who}:")
            for path in map(path_text, paths(fields)):
                lines.append(f"- {path}")
                causes.append({"reason": "FieldManagerConflict", "message": f"conflict with {who}", "field": path})
        if len(causes) == 1:
            text = f"Apply failed with 1 conflict: {causes[0]['message']}: {causes[0]['field']}"
        else:
            text = f"Apply failed with {len(causes)} conflicts: " + "\n".join(lines)
        return ApiError(409, "Conflict", text, {"causes": causes})


def _who(entry: Entry) -> str:
    from chandlery.controlplane.codec.gotext import go_quote

    text = go_quote(entry.manager)
    if entry.subresource:
        text += f" with subresource {go_quote(entry.subresource)}"
    if not entry.applied:
        text += f" using {entry.api_version}"
    return text


def _not_allowed(t: Type, base: Obj, resource: Resource, conflicts: _ConflictsError) -> _ConflictsError | None:
    """The conflicts that are not explained by an earlier client-side apply; None when all are."""
    allowed = allowed_conflicts(t, base, resource.api_version)
    if allowed is None:
        return conflicts
    left = [
        (entry, rest)
        for entry, fields in conflicts.conflicts
        if (rest := difference(fields, intersection(fields, allowed)))
    ]
    return _ConflictsError(left) if left else None


# --- scale ---------------------------------------------------------------------------------------------

_SCALE_SCHEMA: Obj = {
    "type": "object",
    "properties": {
        "spec": {"type": "object", "properties": {"replicas": {"type": "integer", "format": "int32"}}},
        "status": {
            "type": "object",
            "properties": {"replicas": {"type": "integer", "format": "int32"}, "selector": {"type": "string"}},
        },
    },
}


def apply_scale(
    resource: Resource, live: Obj, scale: Obj, patch: Obj, *, manager: str, force: bool, now: str
) -> tuple[int, list[Obj]]:
    """Server-side apply through /scale: (the wanted replicas, the object's managedFields).

    `scale` is the Scale that shows `live`. Raises ApiError as `apply` does; 500 for custom resources, whose Scale the
    real server can't merge.
    """
    api_version, kind = _text(patch, "apiVersion"), _text(patch, "kind")
    if (api_version, kind) != (SCALE_VERSION, "Scale"):
        raise ApiError(400, "BadRequest", f"invalid object type: {_gvk(api_version, kind)}")
    stored = live.get("metadata", {}).get("managedFields")
    view = ScaleView(resource, mf.decode(stored, trusted=True))
    managers = view.managers()
    if not resource.builtin:
        name = object_text(scale) if managers else f"/; {_gvk(SCALE_VERSION, 'Scale')}"
        text = (
            f"failed to convert live object ({name}) to proper version: "
            f"request to convert CR to an invalid group/version: {SCALE_VERSION}"
        )
        raise ApiError(500, "", text if managers else f"failed to create manager for existing fields: {text}")
    shown = {**scale, "metadata": {**scale["metadata"], "managedFields": mf.encode(list(managers.values()), set())}}
    out = apply(_scale_resource(), shown, patch, manager=manager, force=force, subresource="scale", now=now)
    after = mf.decode(out["metadata"].get("managedFields"), trusted=True)
    replicas = (out.get("spec") or {}).get("replicas") or 0
    known = {id(entry.get("fieldsV1")) for entry in stored or ()}
    return replicas, mf.encode(view.to_parent(after), known)


@cache
def _scale_resource() -> Resource:
    return Resource(
        group="autoscaling",
        version="v1",
        plural="scales",
        singular="scale",
        kind="Scale",
        list_kind="ScaleList",
        namespaced=True,
        strategy=None,  # type: ignore[arg-type] # only its schema is asked for
        schema=_SCALE_SCHEMA,
    )
