"""HTTP/1.1 as clients speak it: continuations, chunked bodies, old versions, pipelines, things that aren't HTTP."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

_spec = importlib.util.spec_from_file_location(
    "bench_for_connections", Path(__file__).parents[2] / "bench" / "controlplane.py"
)
assert _spec is not None
assert _spec.loader is not None
bench = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(bench)

CMS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
async def connection(plane) -> Any:
    opened = await bench.Connection(bench.Target(plane.kubeconfig)).open()
    yield opened
    opened.close()


def head(connection: Any, line: str, *more: str) -> bytes:
    return (f"{line}\r\n{connection.target.headers}" + "".join(f"{field}\r\n" for field in more) + "\r\n").encode()


async def receive(connection: Any) -> tuple[int, bytes]:
    return await asyncio.wait_for(connection.receive(), 30)


async def closed(connection: Any) -> bool:
    return await asyncio.wait_for(connection.reader.read(), 30) == b""


async def test_a_client_that_asks_first_is_told_to_continue(connection):
    body = json.dumps({"metadata": {"name": "asked-first"}}).encode()
    connection.writer.write(
        head(connection, f"POST {CMS} HTTP/1.1", "Expect: 100-continue", f"Content-Length: {len(body)}")
    )
    told = await asyncio.wait_for(connection.reader.readuntil(b"\r\n\r\n"), 30)
    assert told.startswith(b"HTTP/1.1 100 ")
    connection.writer.write(body)
    assert (await receive(connection))[0] == 201


async def test_a_body_in_chunks(connection):
    body = json.dumps({"metadata": {"name": "in-chunks"}}).encode()
    connection.writer.write(head(connection, f"POST {CMS} HTTP/1.1", "Transfer-Encoding: chunked"))
    for byte in range(0, len(body), 9):
        part = body[byte : byte + 9]
        connection.writer.write(b"%x\r\n%b\r\n" % (len(part), part))
        await asyncio.sleep(0)
    connection.writer.write(b"0\r\n\r\n")
    assert (await receive(connection))[0] == 201


async def test_a_chunked_body_over_the_limit_is_413(connection, plane):
    limit = plane.settings.max_request_bytes
    connection.writer.write(head(connection, f"POST {CMS} HTTP/1.1", "Transfer-Encoding: chunked"))
    part = b" " * 100_000
    for _ in range(limit // len(part) + 2):
        connection.writer.write(b"%x\r\n%b\r\n" % (len(part), part))
    status, body = await receive(connection)
    assert (status, json.loads(body)["reason"]) == (413, "RequestEntityTooLarge")


async def test_a_large_body_of_somebody_unknown_is_not_waited_for(connection):
    connection.writer.write(
        head(connection, f"POST {CMS} HTTP/1.1", "Authorization: Bearer nonsense", "Content-Length: 2000000")
    )
    status, body = await receive(connection)
    assert (status, json.loads(body)["reason"]) == (401, "Unauthorized")
    assert await closed(connection)


async def test_answers_come_in_the_order_of_the_requests(connection):
    names = ["default", "kube-system", "absent", "default", "kube-public"] * 10
    connection.writer.write(
        b"".join(head(connection, f"GET /api/v1/namespaces/{name}?pretty=false HTTP/1.1") for name in names)
    )
    for name in names:
        status, body = await receive(connection)
        assert status == (404 if name == "absent" else 200)
        told = json.loads(body)
        assert (told["details"] if status == 404 else told["metadata"])["name"] == name


async def test_connections_end_when_the_client_says_so(connection):
    connection.writer.write(head(connection, "GET /api/v1/namespaces/default HTTP/1.1", "Connection: close"))
    assert (await receive(connection))[0] == 200
    assert await closed(connection)


async def test_version_1_0_ends_after_one_answer(connection):
    connection.writer.write(head(connection, "GET /version HTTP/1.0"))
    assert (await receive(connection))[0] == 200
    assert await closed(connection)


async def test_head_has_no_body(connection):
    connection.writer.write(head(connection, "HEAD /version HTTP/1.1"))
    told = await asyncio.wait_for(connection.reader.readuntil(b"\r\n\r\n"), 30)
    assert told.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: " in told
    assert (await connection.ask("GET", "/version"))[0] == 200


@pytest.mark.parametrize(
    "raw",
    [
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
)
async def test_what_is_not_http_is_refused_and_ends_the_connection(connection, raw):
    connection.writer.write(raw)
    status, _ = await receive(connection)
    assert status == 400
    assert await closed(connection)


async def test_another_protocol_is_not_begun(connection):
    """A websocket for exec of a pod that isn't there: an answer in HTTP, and no more on that connection."""
    connection.writer.write(head(connection, f"GET {CMS}/absent HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket"))
    assert (await receive(connection))[0] == 404
    assert await closed(connection)


async def test_a_writer_that_goes_away_does_not_stop_its_write(plane, connection):
    body = json.dumps({"metadata": {"name": "left-behind"}}).encode()
    other = await bench.Connection(bench.Target(plane.kubeconfig)).open()
    other.writer.write(head(other, f"POST {CMS} HTTP/1.1", f"Content-Length: {len(body)}") + body)
    await other.writer.drain()
    other.writer.close()
    deadline = asyncio.get_running_loop().time() + 30
    while (await connection.ask("GET", f"{CMS}/left-behind"))[0] != 200:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.05)


async def test_an_answer_that_is_never_read_is_given_up(plane, connection, monkeypatch):
    monkeypatch.setattr("chandlery.controlplane.server.connection.STALL_SECONDS", 0.5)
    body = json.dumps({"metadata": {"name": "large"}, "data": {"x": "y" * 900_000}}).encode()
    status, _ = await connection.ask("POST", CMS, body)
    assert status == 201
    known = set(plane.plane._http.connections)
    other = await bench.Connection(bench.Target(plane.kubeconfig)).open()
    assert (await other.ask("GET", "/version"))[0] == 200
    [held] = set(plane.plane._http.connections) - known
    other.writer.transport.pause_reading()
    for _ in range(60):  # more than all buffers on the way take
        other.writer.write(head(other, f"GET {CMS}/large?pretty=false HTTP/1.1"))
    deadline = asyncio.get_running_loop().time() + 60
    while held in plane.plane._http.connections:
        assert asyncio.get_running_loop().time() < deadline, "the connection is still held"
        await asyncio.sleep(0.1)
    other.writer.transport.abort()
    assert (await connection.ask("DELETE", f"{CMS}/large"))[0] == 200
