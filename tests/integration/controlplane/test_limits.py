"""Limits: bodies, headers, watches, clients that don't read, parts of requests, many connections."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chandlery.testing import RunningControlPlane, start_control_plane

_spec = importlib.util.spec_from_file_location(
    "bench_controlplane", Path(__file__).parents[2] / "bench" / "controlplane.py"
)
assert _spec is not None
assert _spec.loader is not None
bench = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(bench)

CMS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture(scope="module")
def small() -> Iterator[RunningControlPlane]:
    with start_control_plane(max_request_bytes=20_000, max_watches=3) as plane:
        yield plane


@pytest.fixture
def target(small: RunningControlPlane) -> Any:
    return bench.Target(small.kubeconfig)


async def test_a_body_over_the_limit_is_413(target):
    connection = await bench.Connection(target).open()
    status, body = await connection.ask("POST", CMS, b"{" + b" " * 30_000)
    assert status == 413
    assert json.loads(body)["reason"] == "RequestEntityTooLarge"
    connection.close()


@pytest.mark.parametrize("size", [70_000, 1_000_000])
async def test_headers_over_the_limit_are_refused(target, size):
    connection = await bench.Connection(target).open()
    connection.writer.write(f"GET {CMS} HTTP/1.1\r\nHost: x\r\nX: {'y' * size}\r\n\r\n".encode())
    try:
        status, _ = await connection.receive()
        assert status == 431
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # closed without reading it all: as good
    connection.close()


async def test_watches_over_the_limit_are_429(target):
    opened = [await bench.Connection(target).open() for _ in range(4)]
    for connection in opened:
        connection.send("GET", f"{CMS}?watch=true")
        head = await connection.reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 429")
    assert b"retry-after" in head.lower()
    for connection in opened:
        connection.close()


async def test_the_places_of_clients_that_went_are_free_again(target, small):
    for _ in range(4):
        connection = await bench.Connection(target).open()
        connection.send("GET", f"{CMS}?watch=true&timeoutSeconds=30")
        await connection.reader.readuntil(b"\r\n\r\n")
        connection.writer.transport.abort()
        deadline = asyncio.get_running_loop().time() + 20
        while small.plane._app.open_watches:
            assert asyncio.get_running_loop().time() < deadline, "a watch outlived its client"
            await asyncio.sleep(0.1)


async def test_a_client_that_does_not_read_costs_no_one_else(target, small):
    """Thousands of events for a client that never reads: others go on, and memory is bounded by the queue."""
    lazy = await bench.Connection(target).open()
    lazy.send("GET", f"{CMS}?watch=true")
    await lazy.reader.readuntil(b"\r\n\r\n")
    lazy.writer.transport.pause_reading()
    writer = await bench.Connection(target).open()
    await writer.ask("POST", CMS, {"metadata": {"name": "busy"}, "data": {"v": "x" * 15_000}})
    for number in range(700):
        status, _ = await writer.ask(
            "PATCH", f"{CMS}/busy", {"data": {"n": str(number)}}, "application/merge-patch+json"
        )
        assert status == 200
    app = small.plane._app
    for watch in list(app.running.watches):
        assert len(watch._subscription.queue) <= watch._subscription.limit
    lazy.close()
    writer.close()


async def the_server_went_round(target) -> None:
    """What was sent before this has been read: another request on another connection was answered."""
    other = await bench.Connection(target).open()
    assert (await other.ask("GET", "/version"))[0] == 200
    other.close()


async def test_requests_in_pieces_and_several_in_one_piece(target):
    connection = await bench.Connection(target).open()
    request = f"GET /api/v1/namespaces/default HTTP/1.1\r\n{target.headers}\r\n".encode()
    for byte in range(0, len(request), 7):
        connection.writer.write(request[byte : byte + 7])
        await asyncio.sleep(0)
    status, body = await connection.receive()
    assert (status, json.loads(body)["metadata"]["name"]) == (200, "default")
    connection.writer.write(request * 3)
    for _ in range(3):
        status, body = await connection.receive()
        assert (status, json.loads(body)["kind"]) == (200, "Namespace")
    body = json.dumps({"metadata": {"name": "pieces"}}).encode()
    head = f"POST {CMS} HTTP/1.1\r\n{target.headers}Content-Length: {len(body)}\r\n\r\n".encode()
    connection.writer.write(head)
    await the_server_went_round(target)
    connection.writer.write(body)
    status, _ = await connection.receive()
    assert status == 201
    connection.close()


async def test_a_body_that_looks_like_a_request_is_a_body(target):
    """The short way for plain GETs must not take the middle of another request for one."""
    connection = await bench.Connection(target).open()
    trap = b"GET /api/v1/namespaces/default HTTP/1.1\r\nHost: x\r\n\r\n"
    head = f"POST {CMS} HTTP/1.1\r\n{target.headers}Content-Length: {len(trap)}\r\n\r\n".encode()
    connection.writer.write(head)
    await the_server_went_round(target)
    connection.writer.write(trap)
    status, body = await connection.receive()
    assert status == 400
    assert json.loads(body)["kind"] == "Status"
    status, _ = await connection.ask("GET", "/api/v1/namespaces/default")
    assert status == 200
    connection.close()


async def test_without_rights_the_short_way_refuses_too(small):
    target = bench.Target(small.kubeconfig)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    target.tls = context
    connection = await bench.Connection(target).open()
    status, body = await connection.ask("GET", "/api/v1/namespaces/default")
    assert (status, json.loads(body)["reason"]) == (403, "Forbidden")
    connection.send("GET", "/api/v1/namespaces/default")
    await connection.receive()
    head = f"GET /api/v1/namespaces/default HTTP/1.1\r\nHost: {target.host}\r\n"
    connection.writer.write(f"{head}Authorization: Bearer nonsense\r\n\r\n".encode())
    status, _ = await connection.receive()
    assert status == 401
    connection.close()


async def test_a_control_plane_that_stops_ends_its_watches():
    with start_control_plane() as plane:
        target = bench.Target(plane.kubeconfig)
        connection = await bench.Connection(target).open()
        connection.send("GET", f"{CMS}?watch=true")
        await connection.reader.readuntil(b"\r\n\r\n")
        await asyncio.to_thread(plane.stop)
        rest = await asyncio.wait_for(connection.reader.read(), 10)
        assert rest.endswith(b"0\r\n\r\n") or rest == b"" or b"kube-root-ca.crt" in rest
        connection.close()


async def test_clients_that_fall_silent_are_let_go(target, small, monkeypatch):
    monkeypatch.setattr("chandlery.controlplane.server.connection.HEAD_SECONDS", 0.5)
    monkeypatch.setattr("chandlery.controlplane.server.connection.BODY_SECONDS", 0.5)
    silent = await bench.Connection(target).open()
    half = await bench.Connection(target).open()
    half.writer.write(b"GET /api/v1/name")
    bodiless = await bench.Connection(target).open()
    bodiless.writer.write(f"POST {CMS} HTTP/1.1\r\n{target.headers}Content-Length: 100\r\n\r\n{{".encode())
    status, body = await asyncio.wait_for(bodiless.receive(), 20)
    assert (status, json.loads(body)["reason"]) == (408, "Timeout")
    kept = await bench.Connection(target).open()
    await kept.ask("GET", "/api/v1/namespaces/default")
    for connection in (silent, half):
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await asyncio.wait_for(connection.receive(), 20)
    status, _ = await kept.ask("GET", "/api/v1/namespaces/default")
    assert status == 200
    for connection in (silent, half, bodiless, kept):
        connection.close()
