"""What a request's path asks for. Source: apiserver `pkg/endpoints/request/requestinfo.go` (behaviour)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote


@dataclass(slots=True)
class Target:
    """A parsed path. `resource` is "" for non-resource paths (discovery, health, openapi ...)."""

    path: str
    group: str = ""
    version: str = ""
    namespace: str = ""
    resource: str = ""
    name: str = ""
    subresource: str = ""
    rest: str = ""
    watch: bool = False


_REMEMBERED = 300
_NAMESPACE_SUBRESOURCES = {"status", "finalize"}


def parse_path(raw: str) -> Target:
    """Parse a raw (still percent-encoded) path. The answer is shared: clients ask for the same again and again."""
    return _parsed(raw) if len(raw) <= _REMEMBERED else _parsed.__wrapped__(raw)


@lru_cache(maxsize=2048)
def _parsed(raw: str) -> Target:
    target = Target(raw)
    parts = [unquote(part) if "%" in part else part for part in raw.split("/")[1:]]
    if parts and parts[-1] == "":
        parts.pop()
    if not parts:
        return target
    if parts[0] == "api":
        if len(parts) < 3:
            target.version = parts[1] if len(parts) > 1 else ""
            return target
        target.version = parts[1]
        parts = parts[2:]
    elif parts[0] == "apis":
        if len(parts) < 4:
            return target
        target.group, target.version = parts[1], parts[2]
        parts = parts[3:]
    else:
        return target
    if parts[0] == "watch" and len(parts) > 1:
        target.watch = True
        parts = parts[1:]
    if parts[0] == "namespaces" and len(parts) > 1:
        target.namespace = parts[1]
        if len(parts) > 2 and parts[2] not in _NAMESPACE_SUBRESOURCES:
            parts = parts[2:]
    target.resource = parts[0]
    if len(parts) > 1:
        target.name = parts[1]
    if len(parts) > 2:
        target.subresource = parts[2]
    if len(parts) > 3:
        target.rest = "/".join(parts[3:])
    return target
