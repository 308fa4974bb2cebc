"""Ownership after every write.

`on_write` is called with the object that is about to be stored by a create, update or patch. It compares with the live
object, moves fields between managers and keeps the time of a manager that changed nothing.
Source: Kubernetes documentation, Server-Side Apply; structured-merge-diff (semantics).
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

from chandlery.controlplane.fields import managed as mf
from chandlery.controlplane.fields import shapes
from chandlery.controlplane.fields.managed import Entry, Identity, Managed
from chandlery.controlplane.fields.reconcile import folds, reconcile_with_schema
from chandlery.controlplane.fields.scale import after_scaling
from chandlery.controlplane.fields.schema import Type, type_of
from chandlery.controlplane.fields.sets import (
    Node,
    covers,
    difference,
    in_order,
    intersection,
    recursive_difference,
    union,
)
from chandlery.controlplane.fields.walk import (
    Changes,
    TypedError,
    compare_keys,
)
from chandlery.controlplane.types import Obj, Resource

_MAX_MANAGER = 128


@lru_cache(maxsize=256)
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


def empty_object(resource: Resource) -> Obj:
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


_TYPED = frozenset({"apiVersion", "kind", "metadata"})


@cache
def _skipped(reset: tuple[str, ...]) -> frozenset[str]:
    """What is not compared when these fields can't be changed: there are as many answers as kinds of endpoints."""
    return _TYPED | {key[2:] for key in reset}


def changes_between(t: Type, old: Obj, new: Obj, reset: Node) -> Changes:
    """What changed, without what is never owned and what this endpoint can't change."""
    changes = Changes()
    skipped, partly = _TYPED, False
    if reset:
        partly = any(reset.values())
        skipped = _skipped(tuple([key for key, below in reset.items() if not below]))
    compare_keys(t, old, new, changes, skipped)
    if reset.get("f:metadata") != {}:
        left, right = old.get("metadata"), new.get("metadata")
        if left is not right:
            # Metadata itself is nobody's, and some of what it holds.
            below = Changes()
            left = left if type(left) is dict else {}
            right = right if type(right) is dict else {}
            compare_keys(t.fields["metadata"], left, right, below, mf.STRIPPED)
            changes.take("f:metadata", below)
    if partly:
        for name in Changes.__slots__:
            found = getattr(changes, name)
            if found:
                setattr(changes, name, recursive_difference(found, reset))
    return changes


def _owned_by_creator(resource: Resource, new: Obj) -> Node | None:
    """What whoever creates an object owns of it, in canonical form and shared; None when only `track` can tell."""
    if resource.builtin and not _starts_empty(resource):
        return None
    t = type_of(resource)
    reset = mf.reset_fields(resource, "")
    shape = shapes.of_new(t, new, _skipped(tuple(reset)))
    if shape is None:
        return None
    owned = t.created.get(shape)
    if owned is None:
        try:
            changes = changes_between(t, empty_object(resource), new, reset)
        except TypedError:
            return None
        if changes.removed:
            return None
        owned = in_order(union(changes.modified, changes.added))
        shapes.keep(t.created, shape, owned)
    return owned


@cache  # of built-in types only, which stay
def _starts_empty(resource: Resource) -> bool:
    """Whether what is always there in a new object has no values, so that its shape tells how another one differs."""
    empty = empty_object(resource)
    return all(shapes.only_maps(empty[key]) for key in empty.keys() - _TYPED)


def _still_theirs(
    stored: list[Obj], changes: Changes, manager: str, api_version: str, subresource: str, now: str
) -> list[Obj] | None:
    """The managedFields after a write that only changed values of fields that its manager has for itself.

    That is what controllers do all day; one time is all that changes. None when it isn't so.
    """
    if changes.added or changes.removed or len(stored) > mf.MAX_UPDATE_MANAGERS:
        return None
    touched = changes.modified
    mine: Obj | None = None
    for entry in stored:
        if (
            entry.get("manager") == manager
            and entry["operation"] == "Update"
            and entry["apiVersion"] == api_version
            and (entry.get("subresource") or "") == subresource
        ):
            if not covers(entry["fieldsV1"], touched):
                return None
            mine = entry
        elif intersection(entry["fieldsV1"], touched):
            return None
    if mine is None or "time" not in mine:
        return None
    if mine["time"] == now:
        return stored
    return mf.in_line([{**entry, "time": now} if entry is mine else entry for entry in stored])


def on_write(resource: Resource, live: Obj | None, new: Obj, *, manager: str, subresource: str, now: str) -> None:
    """Bring `new["metadata"]["managedFields"]` up to date after a create, update or patch, in place.

    `live` is the stored object (None: a create) in the version of `resource`; `manager` the field manager's name;
    `subresource` "" for the main endpoint; `now` an RFC 3339 time in whole seconds.
    """
    meta = new.setdefault("metadata", {})
    given = meta.pop("managedFields", None)
    if live is None and given is None and not subresource:
        owned = _owned_by_creator(resource, new)
        if owned is not None:
            entry = Entry(manager or "unknown", "Update", resource.api_version, "", now, owned)
            if owned:
                meta["managedFields"] = mf.encode([entry], {id(owned)})
            return
    stored = (live or {}).get("metadata", {}).get("managedFields")
    changes: Changes | None = None
    if stored and live and subresource != "scale" and (subresource or given is None or given == stored):
        kept = None
        try:
            t = type_of(resource)
            changes = changes_between(t, live, new, mf.reset_fields(resource, subresource))
            if changes and (resource.builtin or not folds(t, stored)):
                kept = _still_theirs(stored, changes, manager or "unknown", resource.api_version, subresource, now)
        except (TypedError, AttributeError, TypeError, KeyError):
            changes = None  # the long way knows what becomes of these
        if kept is not None:
            meta["managedFields"] = kept
            return
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
        changed = track(resource, live, new, managed, changes, manager=manager, subresource=subresource, now=now)
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


def track(
    resource: Resource,
    live: Obj | None,
    new: Obj,
    managed: Managed,
    changes: Changes | None = None,
    *,
    manager: str,
    subresource: str,
    now: str,
) -> bool:
    """Move what changed to `manager`, in place; whether `managed` is another one now. `changes`: if known already."""
    t = type_of(resource)
    changed = reconcile_with_schema(t, managed) if not resource.builtin else False
    if changes is None:
        old = live if live is not None else empty_object(resource)
        changes = changes_between(t, old, new, mf.reset_fields(resource, subresource))
    if not changes:
        return changed
    own = union(changes.modified, changes.added)
    move(managed, own, changes.removed, None)
    if own:
        entry = Entry(manager or "unknown", "Update", resource.api_version, subresource, now, own)
        before = managed.get(entry.identity)
        managed[entry.identity] = entry if before is None else entry.with_fields(union(before.fields, own))
    mf.cap_update_managers(managed)
    return True


def move(managed: Managed, taken: Node, removed: Node, keep: Identity | None) -> None:
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
