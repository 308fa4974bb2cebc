"""A database that another operator runs: passwords, acts, and the refusal where that operator isn't installed.

It makes and moves the servers; what is inside of them is kept over a real connection to the primary, by the same rules
as everywhere.
"""

from __future__ import annotations

import secrets
import ssl
from abc import abstractmethod
from base64 import b64decode
from collections.abc import Mapping
from typing import ClassVar

from chandlery.driver.protocol import Difference, DriverContext, Observation, Unsupported
from chandlery.foundation.errors import FailedPrecondition, Unavailable
from chandlery.model.base import DeletionPolicy
from chandlery.model.parts import ClientAuthentication, ExposureType
from chandlery.providers.kubernetes.children import Children
from chandlery.providers.kubernetes.driver import AUTH
from chandlery.providers.kubernetes.types import SECRETS, Obj
from chandlery_kinds.database.drivers.kubernetes_pass import ContentLike, DatabasePass
from chandlery_kinds.database.kubernetes.cluster import ADMIN
from chandlery_kinds.database.model import Database, DatabaseSpec
from chandlery_kinds.database.postgres.scripts import PAYLOAD as SCRIPT

POLL = 10.0
"""The other operator's objects wake us when they change; this is for what they don't tell."""
DRIFT_POLL = 30.0
BACKUP = "chandlery.dev/backup-requested-at"
"""Annotation: any text; a new one is a backup."""
_WORDS = frozenset({"auth", "rotate", "anchor", "password", "backup", SCRIPT, "apply", "delete"})
"""What payloads of ours begin with; those of the inside are statements."""


def not_handed_over(spec: DatabaseSpec, operator: str) -> list[Unsupported]:
    """What neither of the operators takes."""
    found, tls, exposure = [], spec.tls, spec.exposure
    if tls is not None and tls.enabled and tls.client_authentication is not ClientAuthentication.NONE:
        why = f"{operator} lets clients in by password"
        found.append(Unsupported("spec.tls.clientAuthentication", tls.client_authentication.value, why))
    if exposure.allowed_cidrs and exposure.type is not ExposureType.LOAD_BALANCER:
        why = f"pods of {operator} get no NetworkPolicy from here: write one, or use a load balancer"
        found.append(Unsupported("spec.exposure.allowedCidrs", "set", why))
    return found


class Delegated(DatabasePass):
    """Made anew each time; keeps nothing."""

    superuser: ClassVar[str]
    by: ClassVar[tuple[str, str, str]]
    """Engine, the operator that runs several instances of it, and where to learn about that."""
    port: ClassVar[int]
    """Where its servers listen."""

    def __init__(self, ctx: DriverContext, obj: Database, there: Children, *, served: bool) -> None:
        super().__init__(ctx, obj, there)
        self.served = served
        self.version = ""
        """Of the primary; empty while it doesn't answer, and `error` tells why."""
        self.error = ""
        self._authority: str | None = None

    @property
    @abstractmethod
    def live(self) -> Obj | None:
        """The other operator's object."""

    @abstractmethod
    def _authority_secret(self) -> str:
        """The Secret with the CA of the servers' certificates; empty without one."""

    @abstractmethod
    async def _serves(self, database: str, user: str, password: str) -> bool:
        """Whether the primary answers to this user."""

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

    # -- the primary

    @property
    def primary(self) -> Obj | None:
        """The pod that takes writes."""
        name = ((self.live or {}).get("status") or {}).get("currentPrimary")
        return next((p for p in self.there.pods if p["metadata"]["name"] == name), None)

    @property
    def _encrypted(self) -> bool:
        return self.spec.tls is not None and self.spec.tls.enabled

    async def _where_and_how(self) -> tuple[str, int, ssl.SSLContext | None]:
        """Address and port of the primary, and with what it is asked.

        Raises:
            Unavailable: there is none.
        """
        pod = self.primary
        if pod is None:
            raise Unavailable(f"{self.by[1]} has not named a primary yet", retry_after=1.0)
        return *self.session.resolve(pod, self.port), await self._context()

    async def _context(self) -> ssl.SSLContext | None:
        """By the CA that signed the servers' certificates; None where there is none."""
        authority = await self._ca()
        if not authority:
            return None
        context = ssl.create_default_context(cadata=authority)
        context.check_hostname = False  # the pod is asked by its address
        return context

    async def _ca(self) -> str:
        name = self._authority_secret()
        if not name:
            return ""
        if self._authority is None:
            data = await self.ctx.reader.secret(self.owner.namespace, name)
            self._authority = (data or {}).get("ca.crt", b"").decode()
        return self._authority

    async def _client_works(self, passwords: Mapping[str, str]) -> bool:
        """The real thing: log in as the binding's role, into the binding's database."""
        owner = self.first_owner
        return owner not in passwords or await self._serves(self.spec.databases[0].name, owner, passwords[owner])

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
        """With `Snapshot` a last backup comes first; with `Retain` the volumes stay, and all passwords with them."""
        policy, keep = self.spec.deletion_policy, set()
        if policy is DeletionPolicy.SNAPSHOT and self.live is not None and not await self._last_backup():
            return False
        if policy is DeletionPolicy.RETAIN:
            if not await self._volumes_stay():
                return False
            keep = await self.release(AUTH) | await self.release(ADMIN)
        return await self.there.remove(keep=keep)

    async def _last_backup(self) -> bool:
        """Whether a backup that began after the deletion did is whole; refused where there is no way to one."""
        return True

    async def _volumes_stay(self) -> bool:
        """Whether the other operator will leave them; refused where it never does."""
        return True

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
