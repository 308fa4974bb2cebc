"""Field sets as FieldsV1 dicts, and their algebra.

A set of paths is a tree of dicts keyed by path elements (`f:name`, `k:{"key":"value"}`, `v:"value"`), exactly as
`metadata.managedFields[].fieldsV1` has it: a node is a member when it is empty or has the key ".". The root is not
a path: an empty root is the empty set. No function changes its arguments; results may share nodes with them.
Source: Kubernetes API reference, FieldsV1; structured-merge-diff, fieldpath.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import orjson

Node = dict[str, Any]


def is_member(node: Node) -> bool:
    """Whether the path that leads to this node is in the set itself."""
    return not node or "." in node


def _with_member(node: Node) -> Node:
    return node if is_member(node) else {".": {}, **node}


def _union_node(a: Node, b: Node) -> Node:
    if a is b:
        return a
    if not a:
        return _with_member(b)
    if not b:
        return _with_member(a)
    return union(a, b)


def union(a: Node, b: Node) -> Node:
    """Every path of either set."""
    if not a:
        return b
    if not b:
        return a
    out = dict(a)
    for key, child in b.items():
        mine = out.get(key)
        out[key] = child if mine is None else _union_node(mine, child) if key != "." else mine
    return out


def _intersect_node(a: Node, b: Node) -> Node | None:
    member = is_member(a) and is_member(b)
    out = intersection(a, b)
    if not out:
        return {} if member else None
    if member:
        out["."] = {}
    return out


def intersection(a: Node, b: Node) -> Node:
    """The paths that are in both sets. Costs no more than the smaller of the two."""
    if len(b) < len(a):
        a, b = b, a
    out: Node = {}
    for key, child in a.items():
        if key == ".":
            continue
        other = b.get(key)
        if other is not None:
            both = _intersect_node(child, other)
            if both is not None:
                out[key] = both
    return out


def _difference_node(a: Node, b: Node) -> Node | None:
    member = is_member(a) and not is_member(b)
    out = difference(a, b)
    out.pop(".", None)
    if not out:
        return {} if member else None
    if member:
        out["."] = {}
    return out


def covers(a: Node, b: Node) -> bool:
    """Whether every path of `b` is in `a`."""
    for key, child in b.items():
        mine = a.get(key)
        if mine is None:
            if key == "." and not a:
                continue
            return False
        if not child:
            if mine and "." not in mine:
                return False
        elif mine is not child and not covers(mine, child):
            return False
    return True


def difference(a: Node, b: Node) -> Node:
    """The paths of `a` that are not in `b`; what lies below a path of `b` stays. Always a new dict."""
    out = dict(a)
    for key, child in b.items():
        mine = out.get(key)
        if mine is None or key == ".":
            continue
        rest = _difference_node(mine, child)
        if rest is None:
            del out[key]
        else:
            out[key] = rest
    return out


def recursive_difference(a: Node, b: Node) -> Node:
    """The paths of `a` that are neither in `b` nor below a path of `b`. Always a new dict."""
    out = dict(a)
    for key, child in b.items():
        mine = out.get(key)
        if mine is None or key == ".":
            continue
        if is_member(child):
            del out[key]
            continue
        rest = recursive_difference(mine, child)
        if not rest and mine:
            del out[key]
        else:
            out[key] = {} if len(rest) == 1 and "." in rest else rest
    return out


def has(node: Node, *path: str) -> bool:
    """Whether the path (its elements as strings) is in the set."""
    for element in path:
        child = node.get(element)
        if child is None:
            return False
        node = child
    return bool(path) and is_member(node)


def paths(node: Node, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every path of the set; at each level first the members, then what is below them, both sorted."""
    keys = [key for key in sorted(node) if key != "."]
    for key in keys:
        if is_member(node[key]):
            yield (*prefix, key)
    for key in keys:
        if node[key]:
            yield from paths(node[key], (*prefix, key))


def path_text(path: tuple[str, ...]) -> str:
    """A path as the error texts of server-side apply write it: `.spec.users[name="a"].role`."""
    out = []
    for element in path:
        kind, rest = element[0], element[2:]
        if kind == "f":
            out.append("." + rest)
        elif kind == "k":
            keys = json.loads(rest)
            out.append("[" + ",".join(f"{name}={_scalar_text(value)}" for name, value in keys.items()) + "]")
        elif kind == "v":
            out.append(f"[={_scalar_text(json.loads(rest))}]")
        else:
            out.append(f"[{rest}]")
    return "".join(out)


def _scalar_text(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def in_order(node: Node) -> Node:
    """The same set with its keys sorted at every level, so that equal sets serialise to equal bytes."""
    out: Node = orjson.loads(orjson.dumps(node, option=orjson.OPT_SORT_KEYS))
    return out


def normalise(node: Any) -> Node:
    """A set that came from a client, in canonical form. Raises ValueError when it isn't a FieldsV1 tree.

    Keys of list elements are written anew (sorted, without spaces); element kinds that nobody knows are dropped.
    """
    if not isinstance(node, dict):
        raise ValueError("not a FieldsV1 object")  # noqa: TRY004
    out: Node = {}
    for key, child in node.items():
        if key == ".":
            out["."] = {}
            continue
        if len(key) < 2 or key[1] != ":":
            raise ValueError(f"path element {key!r} has no kind")
        name = key
        if key[0] in "kv":
            name = key[:2] + element_json(json.loads(key[2:]))
        elif key[0] == "i":
            int(key[2:])
        elif key[0] != "f":
            continue
        out[name] = normalise(child)
    if len(out) == 1 and "." in out:
        return {}
    return out


def element_json(value: Any) -> str:
    """The JSON text of a list element's key or value inside a path element."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    if "<" in text or ">" in text or "&" in text or "\u2028" in text or "\u2029" in text:
        for char, escaped in _ESCAPES:
            text = text.replace(char, escaped)
    return text


_ESCAPES = (
    ("<", "\\u003c"),
    (">", "\\u003e"),
    ("&", "\\u0026"),
    ("\u2028", "\\u2028"),
    ("\u2029", "\\u2029"),
)
