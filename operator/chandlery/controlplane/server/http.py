"""Requests and responses, as the handlers see them; `connection` puts them on the wire."""

from __future__ import annotations

import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chandlery.controlplane.server.connection import Connection


class Headers(dict[str, str]):
    """Header fields by their lower-case names, looked up in any case; of repeated ones the first.

    `items` has every field, repeated ones too.
    """

    __slots__ = ("_facts", "repeated")

    def __init__(self) -> None:
        super().__init__()
        self.repeated: list[tuple[str, str]] = []
        self._facts: Facts | None = None

    @property
    def facts(self) -> Facts:
        """What handlers ask every time. Ask once all fields are there."""
        if self._facts is None:
            self._facts = Facts(self)
        return self._facts

    def add(self, name: str, value: str) -> None:
        """`name` in lower case."""
        if name in self:
            self.repeated.append((name, value))
        else:
            self[name] = value

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return super().__contains__(str(name).lower())

    def items(self) -> Any:
        return [*super().items(), *self.repeated]


class Facts:
    """What handlers want to know of header fields, worked out once: clients send the same ones again and again."""

    __slots__ = ("accept", "content_type", "impersonates", "user_agent")

    def __init__(self, headers: Headers) -> None:
        self.accept: str = headers.get("accept", "")
        self.content_type: str = headers.get("content-type", "").partition(";")[0].strip().lower()
        self.user_agent: str = headers.get("user-agent", "")
        self.impersonates = any(name.startswith("impersonate-") for name in headers)


class Request:
    """One request whose head has arrived, and whose body has by the time a handler sees it."""

    __slots__ = ("body", "connection", "headers", "keep_alive", "method", "target", "version")

    def __init__(self, connection: Connection, method: str, target: str, headers: Headers) -> None:
        self.connection = connection
        self.method = method
        self.target = target
        """Path and query as they were sent."""
        self.headers = headers
        self.body = b""
        self.keep_alive = True
        self.version = "1.1"

    @property
    def remote(self) -> str:
        return self.connection.remote


class Response:
    """A whole answer. A header that is there several times has a list."""

    __slots__ = ("body", "headers", "status")

    def __init__(
        self, body: bytes = b"", status: int = 200, headers: Mapping[str, str | list[str]] | None = None
    ) -> None:
        self.body = body
        self.status = status
        self.headers = headers or {}


class Streaming:
    """What a handler answers after it has streamed its answer by itself."""

    __slots__ = ("status",)

    def __init__(self, status: int = 200) -> None:
        self.status = status


_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
_BODILESS = {204, 304}

_date = ""
_date_at = 0.0


def date() -> str:
    """The Date field, worked out once a second."""
    global _date, _date_at
    now = time.time()
    if now - _date_at >= 1.0 or now < _date_at:
        _date_at = float(int(now))
        _date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(now))
    return _date


def head(status: int, headers: Mapping[str, str | list[str]], *, length: int | None, keep_alive: bool) -> bytes:
    """Status line and header fields up to the empty line; `length` None: chunked."""
    parts = [_LINES.get(status) or f"HTTP/1.1 {status} \r\n"]
    for name, value in headers.items():
        if isinstance(value, str):
            parts.append(f"{name}: {_one_line(value)}\r\n")
        else:
            parts += [f"{name}: {_one_line(one)}\r\n" for one in value]
    if "Cache-Control" not in headers:
        parts.append("Cache-Control: no-cache, private\r\n")
    if length is None:
        parts.append("Transfer-Encoding: chunked\r\n")
    elif status not in _BODILESS:
        parts.append(f"Content-Length: {length}\r\n")
    if not keep_alive:
        parts.append("Connection: close\r\n")
    parts.append(f"Date: {date()}\r\n\r\n")
    return "".join(parts).encode("utf-8", "surrogateescape")


_fronts: dict[tuple[int, str], bytes] = {}
_FRONTS = 64


def plain_head(status: int, media: str, length: int) -> bytes:
    """`head` of a kept connection's answer with a body and nothing special to it."""
    front = _fronts.get((status, media))
    if front is None:
        front = head(status, {"Content-Type": media}, length=0, keep_alive=True).partition(b"0\r\nDate: ")[0]
        if len(_fronts) < _FRONTS:
            _fronts[status, media] = front
    return b"%b%d\r\nDate: %b\r\n\r\n" % (front, length, date().encode())


def _one_line(value: str) -> str:
    """A value that can't begin another header field, whatever it was made from."""
    if "\n" in value or "\r" in value or "\0" in value:
        return value.replace("\r", " ").replace("\n", " ").replace("\0", " ")
    return value
