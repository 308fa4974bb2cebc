"""What a pass over any database on Kubernetes has: its record, passwords of roles, what status tells of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import orjson

from chandlery.driver.protocol import Difference, DriverContext
from chandlery.foundation.errors import DependencyNotReady
from chandlery.providers.kubernetes.children import GENERATED, Children
from chandlery.providers.kubernetes.driver import Workload
from chandlery.providers.kubernetes.ownership import annotated
from chandlery.providers.kubernetes.types import CONFIG_MAPS
from chandlery_kinds.database.model import Database, DatabaseSpec
from chandlery_kinds.database.postgres.binding import secret_part
from chandlery_kinds.database.postgres.roles import wanted_roles

RECORD = "-record"


class ContentLike(Protocol):
    """What one pass does about the inside of a server."""

    async def differences(self) -> list[Difference]: ...

    async def apply(self, changes: Sequence[Difference]) -> None: ...

    def facts(self) -> dict[str, Any]: ...


class DatabasePass(Workload[Database]):
    """Made anew each time; keeps nothing."""

    grace: ClassVar[bool] = False
    """The engines hold one password for each role."""

    def __init__(self, ctx: DriverContext, obj: Database, there: Children) -> None:
        super().__init__(ctx, obj, there)
        self.spec: DatabaseSpec = obj.spec
        self.notes = self._notes()
        self._noted = orjson.dumps(self.notes, option=orjson.OPT_SORT_KEYS)

    # -- what is on record

    def _notes(self) -> dict[str, Any]:
        """Which roles, databases and grants are ours, and which major version made the data."""
        live = self.there.get(CONFIG_MAPS, RECORD)
        found: dict[str, Any] = orjson.loads(((live or {}).get("data") or {}).get("record") or "{}")
        return found

    async def _save(self) -> None:
        text = orjson.dumps(self.notes, option=orjson.OPT_SORT_KEYS)
        if text != self._noted:
            body = self.owner.child(CONFIG_MAPS, RECORD, data={"record": text.decode()})
            await self.session.apply(annotated(body, {GENERATED: "true"}))
            self._noted = text

    def generated(self) -> dict[str, str]:
        roles = [r.name for r in wanted_roles(self.spec) if r.login and r.password_secret is None]
        return {name: self._password_key(name) for name in roles}

    def _password_key(self, role: str) -> str:
        return f"role-{role}"

    async def role_passwords(self) -> dict[str, str]:
        """One for each role with a login.

        Raises:
            DependencyNotReady: a Secret that a role names isn't there.
        """
        found, auth = {}, self.auth()
        for role in wanted_roles(self.spec):
            if not role.login:
                continue
            if role.password_secret is None:
                found[role.name] = auth[self._password_key(role.name)]
                continue
            data = await self.ctx.reader.secret(self.owner.namespace, role.password_secret.name)
            password = (data or {}).get("password", b"").decode()
            if not password:
                raise DependencyNotReady(
                    f"Secret {role.password_secret.name} with the key `password` isn't there",
                    field=f"spec.roles[{role.name}].passwordSecret",
                    hint="Create it, or leave passwordSecret out to have a password generated.",
                )
            found[role.name] = password
        return found

    def _told(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Databases and roles, with the Secrets of these and when their passwords were replaced."""
        times = self.rotation.times()
        for role in facts["roles"]:
            if role["name"] in self.generated():
                role["secretName"] = f"{self.owner.name}-role-{secret_part(role['name'])}"
            if role["name"] in times:
                role["lastRotatedTime"] = times[role["name"]]
        return facts
