"""Strategic merge patch: a merge patch that knows which lists are sets and which are maps with a key.

The marks come from the schema (`x-kubernetes-patch-strategy`, `x-kubernetes-patch-merge-key`); the patch may carry
directives: `$patch` (replace, delete), `$retainKeys`, `$setElementOrder/<list>`, `$deleteFromPrimitiveList/<list>`.
Source: Kubernetes API conventions, "Strategic merge patch"; error texts as the real server has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from chandlery.controlplane.codec.gotext import go_type, go_value
from chandlery.controlplane.patch.json_patch import refused
from chandlery.controlplane.types import ApiError, Obj

_PATCH: Final = "$patch"
_RETAIN: Final = "$retainKeys"
_ORDER: Final = "$setElementOrder"
_DELETE: Final = "$deleteFromPrimitiveList"


def strategic_merge_patch(doc: Obj, patch: Any, schema: Obj, definitions: Mapping[str, Obj]) -> Obj:
    """The document with a strategic merge patch applied; no argument is changed.

    `schema` is the object's OpenAPI schema with the patch marks; `$ref`s point into `definitions`.
    Raises ApiError 400 (malformed directives), 422, and, as the real server does, 500 (what doesn't fit).
    """
    if not isinstance(patch, dict):
        raise ApiError(400, "BadRequest", f"json: cannot unmarshal {_json_kind(patch)} into Go value of type {_MAP}")
    try:
        return _Merger(definitions).merge_map(doc, patch, schema)
    except RecursionError:
        raise refused() from None


_MAP: Final = "map[string]interface {}"


def _json_kind(value: Any) -> str:
    match value:
        case bool():
            return "bool"
        case str():
            return "string"
        case int() | float():
            return "number"
        case list():
            return "array"
        case _:
            return "object"


def _failed(text: str) -> ApiError:
    return ApiError(500, "", text)


def _wrong_type(expected: str, actual: Any) -> ApiError:
    return _failed(f"expected a {expected}, but received a {go_type(actual)}")


def _no_key(item: Obj, key: str) -> ApiError:
    return _failed(f"map: {go_value(item)} does not contain declared merge key: {key}")


def _malformed(what: str) -> ApiError:
    return ApiError(400, "BadRequest", f"invalid patch format of {what}")


class _Merger:
    def __init__(self, definitions: Mapping[str, Obj]) -> None:
        self.definitions = definitions

    # --- schema ---

    def resolve(self, schema: Obj) -> Obj:
        while True:
            target = schema.get("$ref")
            if target is None:
                refs = [part["$ref"] for part in schema.get("allOf") or () if "$ref" in part]
                if not refs or "properties" in schema:
                    return schema
                target = refs[0]
            schema = self.definitions.get(target.rsplit("/", 1)[-1], {})

    def field(self, schema: Obj, key: str) -> tuple[Obj, str, str]:
        """(the field's schema, its strategy without retainKeys, its merge key)."""
        schema = self.resolve(schema)
        found = (schema.get("properties") or {}).get(key)
        if found is None:
            extra = schema.get("additionalProperties")
            return (extra if isinstance(extra, dict) else {}), "", ""
        strategies = [s for s in found.get("x-kubernetes-patch-strategy", "").split(",") if s != "retainKeys"]
        return found, strategies[0] if strategies else "", found.get("x-kubernetes-patch-merge-key", "")

    # --- maps ---

    def merge_map(self, original: Obj, patch: Obj, schema: Obj) -> Obj:
        if _PATCH in patch:
            match patch[_PATCH]:
                case "replace":
                    return {key: value for key, value in patch.items() if key != _PATCH}
                case "delete":
                    return {}
                case other:
                    text = other if isinstance(other, str) else f"%!s({go_type(other)}={go_value(other)})"
                    raise _failed(f"unknown patch type: {text} in map: {go_value(patch)}")
        out = dict(original)
        patch = dict(patch)
        self.retain(out, patch)
        self.ordered_lists(out, patch, schema)
        for name, value in patch.items():
            key = name
            delete_list = name.startswith(_DELETE)
            if delete_list:
                prefix, slash, key = name.partition("/")
                if prefix != _DELETE or not slash:
                    raise _malformed("primitive list")
            if value is None:
                out.pop(key, None)
                continue
            current = out.get(key)
            if key in out and isinstance(current, dict) and isinstance(value, dict):
                subschema, strategy, _ = self.field(schema, key)
                out[key] = value if strategy == "replace" else self.merge_map(current, value, subschema)
            elif key in out and isinstance(current, list) and isinstance(value, list):
                subschema, strategy, merge_key = self.field(schema, key)
                if strategy == "merge" or delete_list:
                    out[key] = self.merge_list(current, value, subschema, merge_key, delete=delete_list)
                else:
                    out[key] = value
            elif not delete_list:
                if key not in out or type(current) is not type(value):
                    value = _without_nulls(value)  # noqa: PLW2901 - the cleaned value
                value, keep = _without_directives(value)  # noqa: PLW2901 - the cleaned value
                if keep:
                    out[key] = value
                else:
                    out.pop(key, None)
        return out

    def retain(self, out: Obj, patch: Obj) -> None:
        """`$retainKeys`: everything in the object that isn't listed goes."""
        if _RETAIN not in patch:
            return
        kept = patch.pop(_RETAIN)
        if not isinstance(kept, list):
            raise _malformed("retainKeys")
        for key, value in patch.items():
            if value is not None and not key.startswith((_DELETE, _ORDER)) and key not in kept:
                raise _malformed("retainKeys")
        for key in list(out):
            if key not in kept:
                del out[key]

    def ordered_lists(self, out: Obj, patch: Obj, schema: Obj) -> None:
        """`$setElementOrder/<list>`: merge the list, then bring it into the wanted order."""
        for name in [key for key in patch if key.startswith(_ORDER)]:
            order = patch.pop(name)
            if not isinstance(order, list):
                raise _wrong_type("[]interface {}", order)
            prefix, slash, key = name.partition("/")
            if prefix != _ORDER or not slash:
                raise _malformed("setElementOrder list")
            has_current, has_patch = key in out, key in patch
            current, wanted = out.get(key) if has_current else [], patch.get(key) if has_patch else []
            for side in (current, wanted):
                if not isinstance(side, list):
                    raise _wrong_type("[]interface {}", side)
            subschema, strategy, merge_key = self.field(schema, key)
            _check_order(wanted or [], order, merge_key)
            if has_current and has_patch:
                if strategy == "merge":
                    merged = self.merge_list(current or [], wanted or [], subschema, merge_key, delete=False)
                else:
                    merged = wanted or []
            elif has_current:
                merged = current or []
            elif has_patch:
                merged, _ = _without_directives(wanted)
            else:
                continue
            out[key] = _in_order(merged, order, current or [], merge_key)
            patch.pop(key, None)

    # --- lists ---

    def merge_list(self, current: list[Any], wanted: list[Any], schema: Obj, key: str, *, delete: bool) -> list[Any]:
        if not current and not wanted:
            return current
        if not _element_kind_is_map(current, wanted):
            if delete:
                return [item for item in current if not _contains(wanted, item)]
            merged: list[Any] = []
            for item in (*current, *wanted):
                if not _contains(merged, item):
                    merged.append(item)
            return _in_order(merged, wanted, current, "")
        if not key:
            raise _failed(f"cannot merge lists without merge key for {self.go_name(schema)}")
        current, plain = _special_elements(current, wanted, key)
        items = self.resolve(schema).get("items") or {}
        merged = list(current)
        for item in plain:
            if key not in item:
                raise _no_key(item, key)
            at = _find(merged, key, item[key])
            if at < 0:
                merged.append(item)
            else:
                merged[at] = self.merge_map(merged[at], item, items)
        return _in_order(merged, plain, current, key)

    def go_name(self, schema: Obj) -> str:
        """The name of a list's element type, as the error texts have it."""
        items = schema.get("items") or {}
        target = items.get("$ref") or next((s["$ref"] for s in items.get("allOf") or () if "$ref" in s), "")
        return str(target.rsplit("/", 1)[-1].rsplit(".", 1)[-1])


def _special_elements(current: list[Any], wanted: list[Any], key: str) -> tuple[list[Any], list[Any]]:
    """Carry out `$patch` elements; returns what is left of the list and the elements to merge into it."""
    plain = []
    replace = False
    for item in wanted:
        directive = item.get(_PATCH)
        if directive is None and _PATCH not in item:
            plain.append(item)
        elif directive == "delete":
            if key not in item:
                raise _no_key(item, key)
            current = list(current)
            while (at := _find(current, key, item[key])) >= 0:
                del current[at]
        elif directive == "replace":
            replace = True
        elif directive == "merge":
            raise _failed("merging lists cannot yet be specified in the patch")
        else:
            text = directive if isinstance(directive, str) else f"%!s({go_type(directive)}={go_value(directive)})"
            raise _failed(f"unknown patch type: {text} in map: {go_value(item)}")
    return (plain, []) if replace else (current, plain)


def _element_kind_is_map(*lists: list[Any]) -> bool:
    kinds = []
    for items in lists:
        for item in items:
            if item is None:
                raise _failed("<nil>")
            kinds.append(go_type(item))
            if kinds[-1] != kinds[0]:
                raise _failed(f"list element types are not identical: {go_value(list(lists))}")
    if kinds[0] == "[]interface {}":
        raise ApiError(422, "Invalid", "the server rejected our request due to an error in our request", {})
    return kinds[0] == _MAP


def _equal(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(a == b)


def _contains(items: list[Any], wanted: Any) -> bool:
    return any(_equal(item, wanted) for item in items)


def _find(items: list[Any], key: str, value: Any) -> int:
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise _failed(f"value for key {index} is not a map")
        if key in item and _equal(item[key], value):
            return index
    return -1


def _position(order: list[Any], item: Any, key: str) -> int:
    wanted = item.get(key) if key and isinstance(item, dict) else item
    for index, other in enumerate(order):
        found = other.get(key) if key and isinstance(other, dict) else None if key else other
        if _equal(found, wanted):
            return index
    return -1


def _in_order(merged: list[Any], order: list[Any], server: list[Any], key: str) -> list[Any]:
    """Elements that the patch names in its order, the others in the server's, the two woven together."""
    if key:
        for items in (merged, order):
            for item in items:
                if not isinstance(item, dict):
                    raise _wrong_type(_MAP, item)
                if key not in item:
                    raise _no_key(item, key)
    named: list[Any] = []
    others: list[Any] = []
    for item in merged:
        (others if _position(order, item, key) < 0 else named).append(item)
    named = _sorted(named, order, key)
    others = _sorted(others, server, key)
    out: list[Any] = []
    i = j = 0
    while i < len(others) and j < len(named):
        left, right = _position(server, others[i], key), _position(server, named[j], key)
        if 0 <= left < right:
            out.append(others[i])
            i += 1
        else:
            out.append(named[j])
            j += 1
    return [*out, *others[i:], *named[j:]]


def _sorted(items: list[Any], order: list[Any], key: str) -> list[Any]:
    """By the position in `order`; elements to delete go last, those that `order` doesn't know keep their place."""
    kept = [item for item in items if not (key and isinstance(item, dict) and item.get(_PATCH) == "delete")]
    gone = [item for item in items if key and isinstance(item, dict) and item.get(_PATCH) == "delete"]
    places = {id(item): _position(order, item, key) for item in kept}
    known = iter(sorted((item for item in kept if places[id(item)] >= 0), key=lambda item: places[id(item)]))
    return [next(known) if places[id(item)] >= 0 else item for item in kept] + gone


def _check_order(wanted: list[Any], order: list[Any], key: str) -> None:
    """The elements of the patch must stand in the order that `$setElementOrder` gives."""
    if not wanted or not order:
        return
    plain = []
    for item in wanted:
        if key and not isinstance(item, dict):
            raise _wrong_type(_MAP, item)
        if not (isinstance(item, dict) and _PATCH in item):
            plain.append(item)
    at = 0
    for place in order:
        if at >= len(plain):
            return
        item = plain[at]
        if key:
            if not isinstance(place, dict):
                raise _wrong_type(_MAP, place)
            for side in (item, place):
                if key not in side:
                    raise _no_key(side, key)
            if _equal(item[key], place[key]):
                at += 1
        elif _equal(item, place):
            at += 1
    if at < len(plain):
        raise _failed(
            f"The order in patch list:\n{go_value(wanted)}\n doesn't match {_ORDER} list:\n{go_value(order)}\n"
        )


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(child) for key, child in value.items() if child is not None}
    if isinstance(value, list):
        return [_without_nulls(child) for child in value]
    return value


def _without_directives(value: Any) -> tuple[Any, bool]:
    """A value that had nothing to be merged with: maps with a `$patch` go. (value, whether it stays)."""
    if isinstance(value, dict):
        if _PATCH in value:
            return None, False
        cleaned = {key: _without_directives(child) for key, child in value.items()}
        return {key: child for key, (child, keep) in cleaned.items() if keep}, True
    if isinstance(value, list):
        return [child for child, keep in map(_without_directives, value) if keep], True
    return value, True
