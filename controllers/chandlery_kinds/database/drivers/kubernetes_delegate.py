"""A database that another operator runs: passwords, acts, and the refusal where that operator isn't installed.

It makes and moves the servers; what is inside of them is kept over a real connection to the primary, by the same rules
as everywhere.
"""

from __future__ import annotations

import secrets
from abc import abstractmethod
from base64 import b64decode
from collections.abc import Mapping
from typing import ClassVar

from chandlery.driver.protocol import Difference, DriverContext, Observation
from chandlery.foundation.errors import FailedPrecondition
from chandlery.providers.kubernetes.children import Children
from chandlery.providers.kubernetes.driver import AUTH
from chandlery.providers.kubernetes.types import SECRETS, Obj
from chandlery_kinds.database.drivers.kubernetes_pass import ContentLike, DatabasePass
from chandlery_kinds.database.kubernetes.cluster import ADMIN
from chandlery_kinds.database.model import Database
from chandlery_kinds.database.postgres.scripts import PAYLOAD as SCRIPT

POLL = 10.0
"""The other operator's objects wake us when they change; this is for what they don't tell."""
DRIFT_POLL = 30.0
BACKUP = "chandlery.dev/backup-requested-at"
"""Annotation: any text; a new one is a backup."""
_WORDS = frozenset({"auth", "rotate", "anchor", "password", "backup", SCRIPT, "apply", "delete"})
"""What payloads of ours begin with; those of the inside are statements."""


class Delegated(DatabasePass):
    """Made anew each time; keeps nothing."""

    superuser: ClassVar[str]
    by: ClassVar[tuple[str, str, str]]
    """Engine, the operator that runs several instances of it, and where to learn about that."""

    def __init__(self, ctx: DriverContext, obj: Database, there: Children, *, served: bool) -> None:
        super().__init__(ctx, obj, there)
        self.served = served

    @property
    @abstractmethod
    def primary(self) -> Obj | None:
        """The pod that takes writes."""

    @abstractmethod
    def _wanted(self) -> list[Obj]:
        """Every child but what holds generated values."""

    @abstractmethod
    def _content(self, passwords: Mapping[str, str]) -> ContentLike:
        """Databases and roles."""

    async def _prepare(self) -> None:
        """Put on record what is read at creation only."""

    async def _back_up(self, asked: str) -> None:
        """A backup that a person asks for, once."""

    def _learn(self, observed: Observation) -> None:
        """What goes on record of what was seen."""

    async def _run_script(self, name: str, field: str) -> None:
        """A script at the beginning."""

    # -- passwords

    @property
    def first_owner(self) -> str:
        return self.spec.owner_of(self.spec.databases[0])

    def _password_key(self, role: str) -> str:
        """The first owner's is where CloudNativePG looks for it."""
        return "password" if role == self.first_owner else super()._password_key(role)

    def auth_keys(self) -> list[str]:
        return list(dict.fromkeys(["username", "password", *self.generated().values()]))

    async def ensure_auth(self) -> None:
        """Generate what is missing, on record before anything uses it."""
        missing = self.missing_auth()
        if missing:
            words = {key: self.first_owner if key == "username" else secrets.token_urlsafe(24) for key in missing}
            await self.there.secret_once(AUTH, words, "kubernetes.io/basic-auth")
        if "password" not in self._admin():
            words = {"username": self.superuser, "password": secrets.token_urlsafe(24)}
            await self.there.secret_once(ADMIN, words, "kubernetes.io/basic-auth")
        await self.there.look()

    def _admin(self) -> dict[str, str]:
        live = self.there.get(SECRETS, ADMIN)
        return {key: b64decode(value).decode() for key, value in ((live or {}).get("data") or {}).items()}

    def _given_password(self, passwords: Mapping[str, str]) -> list[Difference]:
        """The owner's password from a Secret of people's own, where CloudNativePG looks for it."""
        wanted = passwords.get(self.first_owner)
        if wanted is None or wanted == self.auth().get("password"):
            return []
        field = f"spec.roles[{self.first_owner}].passwordSecret"
        return [Difference(field, "", "", sensitive=True, payload=("password", wanted))]

    # -- acts

    async def create(self) -> None:
        self._need()
        await self.ensure_auth()
        await self._prepare()
        await self._save()
        await self.act_all(self._wanted())

    async def update(self, observed: Observation) -> None:
        """Passwords first, where CloudNativePG reads them, then its objects, then what is inside."""
        self._need()
        self._learn(observed)
        inside: list[Difference] = []
        scripts: list[Difference] = []
        rotated = False
        for change in observed.plan.changes:
            payload = change.payload
            if not (isinstance(payload, tuple) and payload and payload[0] in _WORDS):
                inside.append(change)
                continue
            what, *rest = payload
            if what == "auth":
                await self.ensure_auth()
                return
            if what in ("rotate", "anchor"):
                await self.rotate(payload)
                rotated = True
            elif what == "password":
                live = self.there.get(SECRETS, AUTH)
                assert live is not None
                await self.session.merge(live, {"stringData": {"password": rest[0]}})
            elif what == "backup":
                await self._back_up(rest[0])
            elif what == SCRIPT:
                scripts.append(change)
            else:
                await self.there.act(what, *rest)
        try:
            if inside or (rotated and self.primary is not None):
                content = self._content(await self.role_passwords())
                await content.apply(await content.differences() if rotated else inside)
            for change in scripts:
                _, name, field = change.payload
                await self._run_script(name, field)
        finally:
            await self._save()

    async def delete(self) -> bool:
        return await self.there.remove()

    def _need(self) -> None:
        if not self.served:
            engine, name, where = self.by
            raise FailedPrecondition(
                f"several instances of {engine} on Kubernetes are run by {name}, which is not installed in this "
                "cluster",
                field="spec.instances",
                hint=f"Install it ({where}), and this object goes on by itself; or set instances: 1, which needs "
                "nothing else.",
                retry_after=30.0,
            )
