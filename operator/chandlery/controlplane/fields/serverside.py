"""Server-side apply: an apply patch merged into the live object, with the ownership that comes of it.

Source: Kubernetes documentation, Server-Side Apply; structured-merge-diff (semantics and texts).
"""

from __future__ import annotations

from functools import cache

from chandlery.controlplane.codec.gotext import go_quote
from chandlery.controlplane.fields import managed as mf
from chandlery.controlplane.fields import shapes
from chandlery.controlplane.fields.again import applied_before, sets_all, with_time
from chandlery.controlplane.fields.fit import validate
from chandlery.controlplane.fields.lastapplied import allowed_conflicts, annotate
from chandlery.controlplane.fields.managed import Entry, Managed
from chandlery.controlplane.fields.manager import changes_between, empty_object, move, track
from chandlery.controlplane.fields.reconcile import reconcile_with_schema
from chandlery.controlplane.fields.scale import SCALE_VERSION, ScaleView
from chandlery.controlplane.fields.schema import Type, type_of
from chandlery.controlplane.fields.sets import (
    Node,
    difference,
    in_order,
    intersection,
    path_text,
    paths,
    recursive_difference,
    union,
)
from chandlery.controlplane.fields.walk import TypedError, field_set, merge, remove, with_named_fields
from chandlery.controlplane.types import ApiError, Obj, Resource

_BEFORE_FIRST_APPLY = "before-first-apply"


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
    t = type_of(resource)
    try:
        sets = _what_it_sets(resource, t, patch, subresource)
        if live is not None and sets[2]:
            entry = Entry(manager, "Apply", api_version, subresource, now, sets[1])
            again = _again(t, live, patch, entry)
            if again is not None:
                return again
    except TypedError:
        sets = None  # other errors come first
    stored = (live or {}).get("metadata", {}).get("managedFields")
    try:
        managed = mf.decode(stored, trusted=True)
    except (ValueError, AttributeError, TypeError) as error:
        raise ApiError(500, "", f"failed to decode managed fields: {error}") from error
    if not managed and live is not None:
        try:
            track(resource, None, live, managed, manager=_BEFORE_FIRST_APPLY, subresource=subresource, now=now)
        except TypedError as error:
            raise ApiError(500, "", f"failed to create manager for existing fields: {error}") from error
    try:
        mine, owned, _ = sets or _what_it_sets(resource, t, patch, subresource)
    except TypedError as error:
        raise ApiError(500, "", f"failed to create typed patch object ({object_text(patch)}): {error}") from error
    base = live if live is not None else empty_object(resource)
    attempt = _Attempt(resource, t, base, patch, Entry(manager, "Apply", api_version, subresource, now, mine), owned)
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


def _again(t: Type, live: Obj, patch: Obj, entry: Entry) -> Obj | None:
    """What `apply` makes of a patch that sets what its manager applied before; None when it takes the long way.

    Raises TypedError when the live object doesn't fit its type.
    """
    try:
        mine = applied_before(t, live, patch, entry)
    except AttributeError:
        return None  # the long way says what is wrong with managedFields
    if mine is None:
        return None
    out: Obj = merge(t, live, patch)
    changed = out != live
    meta = out["metadata"] = dict(out["metadata"])
    items = meta.pop("managedFields")
    meta["managedFields"] = with_time(items, mine, entry) if changed else items  # no change, no new time
    if entry.manager == "kubectl":
        annotate(out, patch)
    return out


def _what_it_sets(resource: Resource, t: Type, patch: Obj, subresource: str) -> tuple[Node, Node, bool]:
    """The fields that an apply patch sets, and those of them that its manager owns, in canonical form; both shared.

    Also whether it sets a value at all that it has. Raises TypedError when it doesn't fit its type.
    """
    shape = shapes.of_configuration(t, patch, subresource)
    known = t.applied.get(shape) if shape is not None else None
    if known is not None:
        return known
    validate(t, patch)
    mine = field_set(t, patch)
    reset = mf.reset_fields(resource, subresource)
    if reset:
        mine = recursive_difference(mine, reset)
    known = mine, in_order(difference(mine, mf.STRIPPED_SET)), sets_all(patch)
    if shape is not None:
        shapes.keep(t.applied, shape, known)
    return known


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

    def __init__(self, resource: Resource, t: Type, base: Obj, patch: Obj, entry: Entry, owned: Node) -> None:
        self.t = t
        self.base = base
        self.patch = patch
        self.entry = entry
        """With all fields that the patch sets."""
        self.owned = owned
        """Those that can have an owner, in canonical form."""
        self.reset = mf.reset_fields(resource, entry.subresource)
        self.builtin = resource.builtin

    def run(self, managed: Managed, *, force: bool) -> Obj:
        t, entry = self.t, self.entry
        if not self.builtin:
            reconcile_with_schema(t, managed)
        merged: Obj = merge(t, self.base, self.patch)
        identity = entry.identity
        last = managed.get(identity)
        managed[identity] = entry
        owned = self.owned
        if last is not None and last.fields is not owned and last.fields != owned and difference(last.fields, owned):
            merged = _prune(t, merged, managed, last.fields)
        changes = changes_between(t, self.base, merged, self.reset)
        touched = union(changes.modified, changes.added)
        if not force:
            conflicts = [
                (other, lost)
                for who, other in managed.items()
                if who != identity and (lost := intersection(other.fields, touched))
            ]
            if conflicts:
                raise _ConflictsError(conflicts)
        move(managed, touched, changes.removed, identity)
        if owned:
            known_time = last.time if last is not None else ""
            # Who changes nothing gets no new time.
            time = known_time if not changes and merged == self.base else entry.time
            managed[identity] = Entry(entry.manager, "Apply", entry.api_version, entry.subresource, time, owned)
        else:
            managed.pop(identity, None)
        out = dict(merged)
        meta = out["metadata"] = dict(out.get("metadata") or {})
        meta.pop("managedFields", None)
        if managed:
            known = {id(e.get("fieldsV1")) for e in self.base.get("metadata", {}).get("managedFields") or ()}
            known.add(id(owned))
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
        self.conflicts = sorted(conflicts, key=lambda pair: pair[0].sort_key)

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
