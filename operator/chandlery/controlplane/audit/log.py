"""An append-only, rotating log of JSON lines."""

from __future__ import annotations

from pathlib import Path

from chandlery.controlplane.types import Obj, UserInfo


class AuditLog:
    """Appends one line per change and per refusal; holds digests of objects, never their content."""

    def __init__(self, path: Path, *, max_bytes: int = 10_000_000, keep: int = 5) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._keep = keep

    def record(
        self,
        *,
        user: UserInfo,
        verb: str,
        path: str,
        code: int,
        decision: str,
        reason: str = "",
        group: str = "",
        resource: str = "",
        subresource: str = "",
        namespace: str = "",
        name: str = "",
        before: Obj | None = None,
        after: Obj | None = None,
        impersonator: str = "",
        source: str = "",
        user_agent: str = "",
    ) -> None:
        """`decision` is allow or forbid; `code` the HTTP status that was answered."""

    def close(self) -> None: ...
