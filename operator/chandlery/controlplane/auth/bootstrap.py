"""The RBAC objects that every control plane starts with."""

from __future__ import annotations

from chandlery.controlplane.types import Obj


def bootstrap_objects() -> list[Obj]:
    """ClusterRoles, ClusterRoleBindings, Roles and RoleBindings to create at start when they are missing."""
    return []
