"""An append-only, rotating log of JSON lines.

The lines use the names of `audit.k8s.io/v1` Event where it has them. An object appears as a digest of its
content only: enough to prove what was written, nothing to leak.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from chandlery.controlplane.cache import Entry
from chandlery.controlplane.types import Obj, UserInfo

_READS = frozenset({"get", "list", "watch"})


_FLUSH_SECONDS = 0.25

_second = (0, "")


def _timestamp() -> str:
    """The time in UTC with microseconds; all but these is worked out once a second."""
    global _second
    second, micros = divmod(time.time_ns() // 1000, 1_000_000)
    if _second[0] != second:
        _second = second, datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{_second[1]}.{micros:06}+00:00"


def digest(obj: Obj | bytes | None, key: bytes = b"") -> str:
    """SHA-256 of an object's canonical JSON (sorted keys, without managedFields), or of bytes as they are.

    With a key it is an HMAC: nobody without the key can try out what a secret may have been.
    """
    if obj is None:
        return ""
    content = obj if isinstance(obj, bytes) else _canonical(obj)
    if key:
        return hmac.new(key, content, hashlib.sha256).hexdigest()
    return hashlib.sha256(content).hexdigest()


def _known(entry: Entry | Obj | None, key: bytes) -> str:
    """The digest of what is stored: worked out once for each, for what one change leaves, the next one finds."""
    if not isinstance(entry, Entry):
        return digest(entry, key)
    if not entry.digest:
        entry.digest = digest(entry.raw, key)
    return entry.digest


def _canonical(obj: Obj) -> bytes:
    meta = obj.get("metadata")
    if isinstance(meta, dict) and "managedFields" in meta:
        obj = {**obj, "metadata": {key: value for key, value in meta.items() if key != "managedFields"}}
    return orjson.dumps(obj, option=orjson.OPT_SORT_KEYS)


def _load_or_create_key(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        key = secrets.token_bytes(32)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(key)
        return key


class AuditLog:
    """Appends one line per change and per refusal; holds digests of objects, never their content.

    The file is `path` (mode 0600); when it has grown to `max_bytes` it becomes `path.1`, that `path.2` and
    so on, and the last of `keep` old files goes. Lines are handed to the operating system after a quarter
    of a second at most. Digests of Secrets are keyed; the key is beside the log, in `path.key` (mode 0600).
    """

    def __init__(self, path: Path, *, max_bytes: int = 10_000_000, keep: int = 5) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._keep = keep
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._key = _load_or_create_key(path.with_name(f"{path.name}.key"))
        self._stream, self._size = self._open()
        self._flushing = False

    def _open(self) -> tuple[BinaryIO, int]:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        stream = os.fdopen(descriptor, "ab", buffering=1 << 16)
        return stream, os.fstat(descriptor).st_size

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
        before: Entry | Obj | None = None,
        after: Entry | Obj | None = None,
        impersonator: str = "",
        source: str = "",
        user_agent: str = "",
    ) -> None:
        """Append a line, unless it is a read that was allowed and answered.

        `decision` is allow or forbid; `code` the HTTP status that was answered; `path` is logged without its query.
        """
        if verb in _READS and decision == "allow" and code not in (401, 403):
            return
        line: dict[str, Any] = {
            "timestamp": _timestamp(),
            "user": user.name,
            "groups": user.groups,
            "verb": verb,
            "requestURI": path.partition("?")[0],
            "code": code,
            "decision": decision,
        }
        # Written out: loops over names would be a fifth of what a line costs.
        if resource:
            about = line["objectRef"] = {}
            if group:
                about["apiGroup"] = group
            about["resource"] = resource
            if subresource:
                about["subresource"] = subresource
            if namespace:
                about["namespace"] = namespace
            if name:
                about["name"] = name
        key = self._key if resource == "secrets" and not group else b""
        if reason:
            line["reason"] = reason
        if before is not None:
            line["before"] = _known(before, key)
        if after is not None:
            line["after"] = _known(after, key)
        if impersonator:
            line["impersonator"] = impersonator
        if source:
            line["sourceIP"] = source
        if user_agent:
            line["userAgent"] = user_agent
        self._append(orjson.dumps(line) + b"\n")

    def _append(self, line: bytes) -> None:
        if self._stream.closed:
            return
        if self._size and self._size + len(line) > self._max_bytes:
            self._rotate()
        self._stream.write(line)
        self._size += len(line)
        if not self._flushing:
            self._flush_soon()

    def _flush_soon(self) -> None:
        """Many lines, one write: the first line of a burst sets the timer."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._stream.flush()
            return
        self._flushing = True
        loop.call_later(_FLUSH_SECONDS, self.flush)

    def _rotate(self) -> None:
        self._stream.close()
        for number in range(self._keep, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            newer = self._path if number == 1 else self._path.with_name(f"{self._path.name}.{number - 1}")
            if newer.exists():
                newer.replace(older)
        self._stream, self._size = self._open()

    def flush(self) -> None:
        """Hand what is buffered to the operating system."""
        self._flushing = False
        if not self._stream.closed:
            self._stream.flush()

    def close(self) -> None:
        self._stream.close()
