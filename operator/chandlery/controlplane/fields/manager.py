from __future__ import annotations

from chandlery.controlplane.types import Obj, Resource


def on_write(resource: Resource, live: Obj | None, new: Obj, *, manager: str, subresource: str, now: str) -> None:
    """Bring `new["metadata"]["managedFields"]` up to date after a create, update or patch, in place."""


def apply(
    resource: Resource, live: Obj | None, patch: Obj, *, manager: str, force: bool, subresource: str, now: str
) -> Obj:
    raise NotImplementedError


def default_manager(user_agent: str) -> str:
    """The manager's name when the request gives none: the User-Agent up to the first slash, at most 128 bytes."""
    return (user_agent.split("/", 1)[0] or "unknown")[:128]
