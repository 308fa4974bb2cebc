"""The last look before a write leaves: asked when the request begins and when its bytes go, in passes only."""

import asyncio

import pytest
from aiohttp import ClientSession, web

from chandlery.foundation.errors import Fenced
from chandlery.reconcile.api import Key
from chandlery.reconcile.guard import GuardedRequest, guarded
from chandlery_kinds.cache.resp import RespClient

KEY = Key("Cache", "shop", "orders")


class Fence:
    """Up until it was asked so often."""

    def __init__(self, times):
        self.times = times
        self.asked = 0

    def __call__(self):
        self.asked += 1
        if self.asked > self.times:
            raise Fenced("another replica works on this object")
        return 1


@pytest.fixture
async def server():
    heard = []

    async def answer(request):
        heard.append((request.method, await request.text()))
        return web.json_response({})

    app = web.Application()
    app.router.add_route("*", "/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    async with ClientSession(request_class=GuardedRequest) as session:
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        yield session, url, heard
    await runner.cleanup()


async def in_a_pass(fence, work):
    async def reconcile(_key):
        return await work()

    return await guarded(reconcile, fence, None, None)(KEY)


@pytest.mark.parametrize("times", [0, 1])
async def test_nothing_leaves_once_the_fence_is_down(server, times):
    session, url, heard = server

    async def work():
        async with session.patch(url, data=b"{}") as response:
            return response.status

    fence = Fence(times)
    with pytest.raises(Fenced):
        await in_a_pass(fence, work)
    assert fence.asked == times + 1
    async with session.get(url) as response:  # the server is well, and heard of nothing before
        assert response.status == 200
    assert heard == [("GET", "")]


async def test_writes_of_a_good_pass_get_through_and_reads_always_do(server):
    session, url, heard = server

    async def work():
        async with session.put(url, data=b"news") as response:
            return response.status

    async def look():
        async with session.get(url) as response:
            return response.status

    assert await in_a_pass(Fence(2), work) == 200
    down = Fence(0)
    assert await in_a_pass(down, look) == 200
    assert down.asked == 0
    assert heard == [("PUT", "news"), ("GET", "")]


async def test_what_isn_t_part_of_a_pass_is_its_own_business(server):
    session, url, heard = server
    down = Fence(0)

    async def renew():  # as the Lease is renewed while a pass is fenced
        async with session.put(url, data=b"lease") as response:
            return response.status

    renewing = asyncio.create_task(renew())

    async def work():
        return await asyncio.wait_for(renewing, 30)

    assert await in_a_pass(down, work) == 200
    assert down.asked == 0
    assert heard == [("PUT", "lease")]


async def test_nothing_reaches_an_engine_once_the_fence_is_down():
    """A process that stood still in a pass, between two commands, promotes nobody when it wakes up."""
    heard = bytearray()

    async def engine(reader, writer):
        while data := await reader.read(1000):
            heard.extend(data)
            writer.write(b"+OK\r\n")
        writer.close()

    server = await asyncio.start_server(engine, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with await RespClient.connect("127.0.0.1", port) as client:

            async def work():
                await client.command("CONFIG", "SET", "maxmemory", 1)
                await client.command("REPLICAOF", "NO", "ONE")

            with pytest.raises(Fenced):
                await in_a_pass(Fence(1), work)
            assert b"maxmemory" in heard
            assert b"REPLICAOF" not in heard
            assert await client.command("PING") == "OK"  # outside of a pass nobody is asked
    finally:
        server.close()
        await server.wait_closed()
