"""Header blocks that a connection's client has sent before, so that they need not be parsed again.

A client repeats the same header fields with every request but for the length of the body. What llhttp made of a block
once holds for the same bytes the next time; only the request line and Content-Length are read anew, and only when
they are as plain as can be. Everything else goes through the parser.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from chandlery.controlplane.server.http import Headers, Request

if TYPE_CHECKING:
    from chandlery.controlplane.server.connection import Connection

_MOST = 16
_LONGEST = 4096
_LENGTH = b"\r\nContent-Length: "
_LINE = re.compile(rb"(POST|PUT|PATCH|DELETE) (/[\w\-.~%!$&'()*+,;=:@/?]*) HTTP/1\.1", re.ASCII)
_NOT_PLAIN = ("transfer-encoding", "expect", "upgrade", "connection", "trailer")


class KnownHeads:
    """The header blocks of one connection, without their Content-Length."""

    __slots__ = ("_blocks",)

    def __init__(self) -> None:
        self._blocks: dict[bytes, Headers] = {}

    def read(self, connection: Connection, data: bytes, most: int) -> Request | None:
        """The request that is all of `data`; None when the parser must look. `most`: bytes of a body."""
        if not self._blocks:
            return None
        parts = _split(data)
        if parts is None:
            return None
        line, block, digits, start = parts
        headers = self._blocks.get(block)
        if headers is None or not digits.isdigit() or len(digits) > 9:
            return None
        size = int(digits)
        found = _LINE.fullmatch(line)
        if found is None or size > most or len(data) != start + size:
            return None
        request = Request(connection, found[1].decode(), found[2].decode(), headers)
        request.body = data[start:]
        return request

    def learn(self, data: bytes, request: Request) -> None:
        """Remember the block of a request that was parsed from `data`, if it is one of the plain ones."""
        parts = _split(data)
        if parts is None or not request.keep_alive or request.version != "1.1":
            return
        _, block, digits, start = parts
        headers = request.headers
        if len(block) > _LONGEST or headers.repeated or any(name in headers for name in _NOT_PLAIN):
            return
        if headers.get("content-length", "").encode() != digits or len(data) != start + len(request.body):
            return
        known = Headers()
        known.update((name, value) for name, value in headers.items() if name != "content-length")
        if len(self._blocks) >= _MOST:
            self._blocks.clear()
        self._blocks[block] = known


def _split(data: bytes) -> tuple[bytes, bytes, bytes, int] | None:
    """(request line, header block without Content-Length, the length's digits, where the body begins)."""
    end = data.find(b"\r\n\r\n")
    first = data.find(b"\r\n")
    if first < 0 or end <= first:
        return None
    at = data.find(_LENGTH, first, end)
    if at < 0:
        return None
    stop = data.find(b"\r\n", at + len(_LENGTH))
    return data[:first], data[first:at] + data[stop:end], data[at + len(_LENGTH) : stop], end + 4
