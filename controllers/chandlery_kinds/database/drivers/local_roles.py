"""Passwords of a database's roles on this machine, and the names of their Secrets; the same for every engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chandlery.driver.protocol import DriverContext
from chandlery.providers.local import Instance
from chandlery.providers.local.driver import password_of
from chandlery.providers.local.rotation import Rotation
from chandlery_kinds.database.model import Database, DatabaseSpec
from chandlery_kinds.database.spec_parts import Role


def wanted_roles(spec: DatabaseSpec) -> list[Role]:
    """The roles of the spec, and the owners that it doesn't list."""
    listed = {role.name: role for role in spec.roles}
    return [listed.get(name) or Role(name=name) for name in spec.role_names()]


def generated(spec: DatabaseSpec) -> dict[str, str]:
    """The roles whose passwords are made here -> the name of the secret on record."""
    return {
        role.name: f"role-{role.name}" for role in wanted_roles(spec) if role.login and role.password_secret is None
    }


def rotation_of(ctx: DriverContext, obj: Database, instance: Instance) -> Rotation:
    """The rotation of these passwords. A role has one at a time: who is connected stays, the old one ends at once."""
    return Rotation(ctx, obj, instance, generated(obj.spec), grace=False)


async def passwords(ctx: DriverContext, obj: Database, instance: Instance) -> Mapping[str, str]:
    """One for each role with a login.

    Raises:
        DependencyNotReady: a Secret that a role names isn't there.
    """
    found = {}
    secrets = generated(obj.spec)
    for role in wanted_roles(obj.spec):
        if not role.login:
            continue
        if role.password_secret is None:
            found[role.name] = instance.secret(secrets[role.name])
            continue
        field = f"spec.roles[{role.name}].passwordSecret"
        found[role.name] = await password_of(ctx.reader, obj.metadata.namespace, role.password_secret.name, field)
    return found


def secret_part(name: str) -> str:
    """A role's name as part of a Secret's name, which knows lower case, digits, `-` and `.` only."""
    return "".join(c if c.isalnum() or c in "-." else "-" for c in name.lower()).strip("-.") or "x"


def with_times(facts: Mapping[str, Any], times: Mapping[str, str], secrets: Mapping[str, str]) -> dict[str, Any]:
    """The roles of `facts` with the names of their Secrets and when their passwords were last replaced."""
    roles = []
    for role in facts.get("roles", ()):
        name = role["name"]
        more = {"secretName": secrets.get(name), "lastRotatedTime": times.get(name)}
        roles.append({**role, **{key: value for key, value in more.items() if value}})
    return {**facts, "roles": roles}
