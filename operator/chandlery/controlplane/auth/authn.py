"""Authentication: client certificates, static tokens, ServiceAccount tokens, anonymous requests, impersonation."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from chandlery.controlplane.types import ApiError, UserInfo

if TYPE_CHECKING:
    from pathlib import Path

    from chandlery.controlplane.auth.tokens import ServiceAccountTokens

AUTHENTICATED = "system:authenticated"
ANONYMOUS = UserInfo("system:anonymous", groups=("system:unauthenticated",))

PeerCertificate = Mapping[str, Any]
"""What `ssl.SSLObject.getpeercert()` answers for a verified certificate."""


def unauthorized() -> ApiError:
    return ApiError(401, "Unauthorized", "Unauthorized")


def read_token_file(path: Path) -> dict[str, UserInfo]:
    """The users of a `--token-auth-file`: CSV lines `token,user,uid[,"group1,group2"]`.

    Raises ValueError that names the line on a malformed file. Source: Kubernetes docs, "Static token file".
    """
    users: dict[str, UserInfo] = {}
    with path.open(encoding="utf-8", newline="") as stream:
        for number, row in enumerate(csv.reader(stream), 1):
            if not row or row[0].startswith("#"):
                continue
            if len(row) < 3:
                raise ValueError(
                    f"{path}: line {number}: expected token,user,uid[,groups] but found {len(row)} columns"
                )
            token, name, uid = (cell.strip() for cell in row[:3])
            if not token or not name:
                raise ValueError(f"{path}: line {number}: the token and the user name may not be empty")
            groups = tuple(group.strip() for group in row[3].split(",") if group.strip()) if len(row) > 3 else ()
            users[token] = UserInfo(name, uid, groups)
    return users


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _with_authenticated(user: UserInfo) -> UserInfo:
    if AUTHENTICATED in user.groups or "system:unauthenticated" in user.groups:
        return user
    return UserInfo(user.name, user.uid, (*user.groups, AUTHENTICATED), user.extra)


class Authenticator:
    """Names the user behind a request: bearer token first, then client certificate, then anonymous."""

    def __init__(
        self,
        *,
        static_tokens: Mapping[str, UserInfo] | None = None,
        service_accounts: ServiceAccountTokens | None = None,
        anonymous: bool = True,
    ) -> None:
        # Tokens are kept and looked up by digest: the time of a lookup tells nothing about a token.
        self._static = {_digest(token): _with_authenticated(user) for token, user in (static_tokens or {}).items()}
        self._service_accounts = service_accounts
        self._anonymous = anonymous
        self._by_certificate: dict[tuple[Any, ...], UserInfo] = {}

    def authenticate(self, headers: Mapping[str, str], peer: PeerCertificate | None = None) -> UserInfo:
        """The user of a request with these headers over a connection with this peer certificate.

        A token that is present must be good. Raises ApiError 401 when nothing identifies the user.
        """
        authorization = headers.get("Authorization")
        if authorization is not None:
            scheme, _, token = authorization.strip().partition(" ")
            token = token.strip()
            if scheme.lower() == "bearer" and token:
                user = self.authenticate_token(token)
                if user is None:
                    raise unauthorized()
                return user
        if peer:
            user = self._from_certificate(peer)
            if user is not None:
                return user
        if self._anonymous:
            return ANONYMOUS
        raise unauthorized()

    def authenticate_token(self, token: str, audiences: tuple[str, ...] = ()) -> UserInfo | None:
        """The user that a bearer token stands for, or None. `audiences` empty means the API server's own."""
        user = self._static.get(_digest(token))
        if user is not None:
            return user
        if self._service_accounts is not None:
            user = self._service_accounts.verify(token, audiences)
            if user is not None:
                return _with_authenticated(user)
        return None

    def _from_certificate(self, peer: PeerCertificate) -> UserInfo | None:
        subject: tuple[Any, ...] = tuple(peer.get("subject", ()))
        known = self._by_certificate.get(subject)
        if known is not None:
            return known
        name = ""
        groups: list[str] = []
        for rdn in subject:
            for key, value in rdn:
                if key == "commonName":
                    name = value
                elif key == "organizationName":
                    groups.append(value)
        if not name:
            return None
        user = _with_authenticated(UserInfo(name, groups=tuple(groups)))
        if len(self._by_certificate) > 1000:
            self._by_certificate.clear()
        self._by_certificate[subject] = user
        return user
