"""What a connection held is let go of when it ends, without waiting for the garbage collector."""

from __future__ import annotations

import asyncio
import gc

from local_harness import until

from chandlery.controlplane.server.connection import Connection, HttpServer
from chandlery.controlplane.server.http import Request, Response


async def _handle(_: Request) -> Response:
    return Response(b"{}", 200, {})


def _alive() -> int:
    return sum(isinstance(found, Connection) for found in gc.get_objects())


async def test_a_connection_that_ended_is_no_garbage():
    http = HttpServer(_handle, refuse=lambda _request, status, _why: Response(b"", status, {}), body_limit=1024)
    server = await asyncio.get_running_loop().create_server(http, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    gc.collect()
    before = _alive()
    gc.disable()
    try:
        for _ in range(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /version HTTP/1.1\r\nHost: here\r\n\r\n")
            assert (await reader.readuntil(b"{}")).startswith(b"HTTP/1.1 200 ")
            writer.close()
            await writer.wait_closed()
        # The last one may still be held by what the loop ran last.
        await until(lambda: not http.connections and _alive() <= before + 1)
    finally:
        gc.enable()
        server.close()
        await server.wait_closed()
