"""Applying the same fields again, with nobody else near them: what whoever applies does all day.

Then no field changes its owner and nothing falls away: of ownership only one time may change.
"""

from __future__ import annotations

from typing import Any

from chandlery.controlplane.fields import managed as mf
from chandlery.controlplane.fields.managed import Entry
from chandlery.controlplane.fields.reconcile import folds
from chandlery.controlplane.fields.schema import ATOMIC, DEDUCED, Type
from chandlery.controlplane.fields.sets import Node
from chandlery.controlplane.fields.walk import element_of
from chandlery.controlplane.types import Obj


def sets_all(configuration: Obj) -> bool:
    """Whether a configuration sets every value that it has: nulls and empty lists lay over what is there unseen."""
    meta = configuration.get("metadata")
    if type(meta) is dict:  # what nobody owns there is whatever it is; many clients send a null time of creation
        configuration = {**configuration, "metadata": {k: v for k, v in meta.items() if k not in mf.STRIPPED}}
    return _plain(configuration)


def _plain(value: Any) -> bool:
    if type(value) is dict:
        return all(map(_plain, value.values()))
    if type(value) is list:
        return bool(value) and all(map(_plain, value))
    return value is not None


def applied_before(t: Type, live: Obj, patch: Obj, entry: Entry) -> Obj | None:
    """The item of managedFields that an apply of just these fields left, when nobody else owns anything that changes.

    `entry` is what becomes of it; `patch` sets all that it has. None when it isn't so, or only the long way can tell.
    """
    mine: Obj | None = None
    stored: Any = (live.get("metadata") or {}).get("managedFields")
    owned = entry.fields
    if not stored or not owned or type(stored) is not list:
        return None
    for item in stored:
        fields = item.get("fieldsV1")
        if type(fields) is not dict or item.get("fieldsType") != "FieldsV1":
            return None
        if (
            item.get("operation") == "Apply"
            and item.get("manager") == entry.manager
            and (item.get("subresource") or "") == entry.subresource
        ):
            if mine is not None or item.get("apiVersion") != entry.api_version or not item.get("time"):
                return None
            if fields is not owned and fields != owned:
                return None
            mine = item
        elif not _apart(t, owned, fields, live, patch):
            return None
    return None if mine is None or folds(t, stored) else mine


def _apart(t: Type, mine: Node, theirs: Node, live: Any, new: Any) -> bool:
    """Whether laying `new`, which sets all of `mine`, over `live` touches no path of `theirs`.

    What both own may be there with the same value, or be a map, list or element on the way that keeps its form.
    """
    items: tuple[dict[str, Any], dict[str, Any]] | None = None
    for key, below in mine.items():
        other = theirs.get(key)
        if other is None or key == ".":
            continue
        if key[0] == "f":
            if type(live) is not dict:
                return False
            name = key[2:]
            before, after, kind = live.get(name), new.get(name), t.fields.get(name) or t.elem or DEDUCED
        else:
            if items is None:
                items = _elements(t, live), _elements(t, new)
            before, after, kind = items[0].get(key), items[1].get(key), t.item
        if before is None or after is None:
            return False
        if before == after:
            continue
        if not below or not other:
            return False
        if type(before) is not type(after) or not _apart(kind, below, other, before, after):
            return False
    return True


def _elements(t: Type, value: Any) -> dict[str, Any]:
    """The elements of a list by their path elements; none when it isn't one, or has one of them twice."""
    if type(value) is not list or not t.is_list or t.list_kind == ATOMIC:
        return {}
    try:
        out = {element_of(t, item): item for item in value}
    except ValueError:
        return {}
    return out if len(out) == len(value) else {}


def with_time(items: list[Obj], mine: Obj, entry: Entry) -> list[Obj]:
    """These managedFields with the time and the shared set of `entry` for one of them."""
    if mine["time"] == entry.time and mine["fieldsV1"] is entry.fields:
        return items
    new = {**mine, "time": entry.time, "fieldsV1": entry.fields}
    return mf.in_line([new if item is mine else item for item in items])
