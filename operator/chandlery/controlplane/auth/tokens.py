"""ServiceAccount tokens: JWTs signed with ES256 by a key in the data directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from chandlery.controlplane.types import UserInfo

if TYPE_CHECKING:
    from chandlery.controlplane.types import LocalApi

ISSUER = "https://kubernetes.default.svc"


class ServiceAccountTokens:
    """Signs and verifies. The key is made at the first start: `key_file`, mode 0600."""

    def __init__(self, api: LocalApi, key_file: Path, *, issuer: str = ISSUER) -> None:
        self._api = api
        self._key_file = key_file
        self.issuer = issuer

    def verify(self, token: str, audiences: tuple[str, ...] = ()) -> UserInfo | None:
        raise NotImplementedError
