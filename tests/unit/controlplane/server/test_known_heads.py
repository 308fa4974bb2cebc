"""Header blocks seen before: the same request comes out, and what isn't plain goes to the parser."""

from __future__ import annotations

from typing import Any, cast

import pytest

from chandlery.controlplane.server.connection import Connection
from chandlery.controlplane.server.http import Headers, Request
from chandlery.controlplane.server.knownheads import KnownHeads

NOBODY = cast("Connection", None)
MOST = 1000
FIELDS = b"Host: x\r\nContent-Length: %d\r\nContent-Type: application/json\r\n\r\n"


def message(line: bytes = b"POST /api/v1/things HTTP/1.1", body: bytes = b"{}", fields: bytes = FIELDS) -> bytes:
    return line + b"\r\n" + fields % len(body) + body


def parsed(body: bytes = b"{}", **more: str) -> Request:
    headers = Headers()
    for name, value in {"host": "x", "content-length": str(len(body)), "content-type": "application/json"}.items():
        headers.add(name, value)
    for name, value in more.items():
        headers.add(name.replace("_", "-"), value)
    request = Request(NOBODY, "POST", "/api/v1/things", headers)
    request.body = body
    return request


@pytest.fixture
def known() -> KnownHeads:
    heads = KnownHeads()
    heads.learn(message(), parsed())
    return heads


def test_another_request_with_the_same_fields_is_read(known):
    found = known.read(NOBODY, message(b"PATCH /api/v1/things/a?force=true HTTP/1.1", b'{"a":1}'), MOST)
    assert found is not None
    assert (found.method, found.target, found.body) == ("PATCH", "/api/v1/things/a?force=true", b'{"a":1}')
    assert found.headers["Content-Type"] == "application/json"
    assert "content-length" not in found.headers
    assert found.keep_alive


@pytest.mark.parametrize(
    "data",
    [
        message()[:-1],
        message() + b"x",
        message() + message(),
        message().replace(b"Host: x", b"Host: y"),
        message().replace(b"Content-Length: 2", b"Content-Length: +2"),
        message().replace(b"Content-Length: 2", b"Content-Length: 2 "),
        message().replace(b"Content-Length: 2", b"Content-Length: "),
        message().replace(b"Content-Length: 2", b"content-length: 2"),
        message().replace(b"Content-Length: 2\r\n", b""),
        message().replace(b"Host: x\r\n", b"Host: x\r\nContent-Length: 2\r\n"),
        message(body=b"x" * (MOST + 1)),
        message(b"POST /api/v1/things HTTP/1.0"),
        message(b"POST  /api/v1/things HTTP/1.1"),
        message(b"POST /api/v1/thi\x00ngs HTTP/1.1"),
        message(b"POST /api/v1/th\xc3\xafngs HTTP/1.1"),
        message(b"POST things HTTP/1.1"),
        message(b"CONNECT /api/v1/things HTTP/1.1"),
        message(b"POST /api/v1/things HTTP/1.1\nX: y"),
        b"",
        b"\r\n\r\n",
        b"POST",
    ],
)
def test_what_is_not_plain_is_left_to_the_parser(known, data: bytes):
    assert known.read(NOBODY, data, MOST) is None


@pytest.mark.parametrize(
    "more",
    [{"expect": "100-continue"}, {"transfer_encoding": "chunked"}, {"connection": "close"}, {"host": "again"}],
)
def test_only_plain_blocks_are_remembered(more: dict[str, Any]):
    heads = KnownHeads()
    heads.learn(message(), parsed(**more))
    assert heads.read(NOBODY, message(), MOST) is None


def test_a_body_that_came_in_another_piece_teaches_nothing():
    heads = KnownHeads()
    heads.learn(message()[:-2], parsed())
    assert heads.read(NOBODY, message(), MOST) is None


def test_no_more_than_a_few_blocks_are_kept(known):
    for number in range(100):
        fields = FIELDS.replace(b"Host: x", b"Host: %d" % number)
        known.learn(message(fields=fields), parsed())
    assert len(known._blocks) <= 16


def test_a_long_block_is_not_kept():
    heads = KnownHeads()
    data = message(fields=b"X: " + b"x" * 5000 + b"\r\n" + FIELDS)
    heads.learn(data, parsed(x="x" * 5000))
    assert heads.read(NOBODY, data, 10_000) is None
