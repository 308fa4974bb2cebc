"""A small application that uses a cache, a database and a queue.

Each request counts a visit in the cache, and hands the visit to the queue; a worker takes it from there into the
database. Bindings are files, as servicebinding.io has them: $SERVICE_BINDING_ROOT/<name>/<entry>.

    GET /          {"served_by": ..., "visits": ..., "recorded": ...}
    GET /healthz   ok, once all three services answer
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import asyncpg
import nats
import redis.asyncio as redis
from aiohttp import web

PORT = int(sys.argv[1])


def binding(name: str, entry: str) -> str:
    return (Path(os.environ["SERVICE_BINDING_ROOT"]) / name / entry).read_text()


async def connect(app: web.Application):
    app["cache"] = redis.from_url(binding("demo-cache", "uri"))
    app["database"] = await asyncpg.create_pool(binding("demo-database", "uri"), min_size=1, max_size=4)
    await app["database"].execute(
        "CREATE TABLE IF NOT EXISTS visits (number bigint PRIMARY KEY, served_by text, at timestamptz DEFAULT now())"
    )
    app["nats"] = await nats.connect(binding("demo-queue", "uri"))
    app["stream"] = app["nats"].jetstream()
    worker = asyncio.create_task(record_visits(app))
    yield
    worker.cancel()
    await app["nats"].close()
    await app["database"].close()
    await app["cache"].aclose()


async def record_visits(app: web.Application) -> None:
    """Take visits from the queue into the database; acknowledged only when they are stored."""
    queue = await app["stream"].pull_subscribe_bind(
        consumer=binding("demo-queue", "consumer"), stream=binding("demo-queue", "stream")
    )
    while True:
        try:
            messages = await queue.fetch(10, timeout=5)
        except nats.errors.TimeoutError:
            continue
        for message in messages:
            visit = json.loads(message.data)
            await app["database"].execute(
                "INSERT INTO visits (number, served_by) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                visit["number"],
                visit["served_by"],
            )
            await message.ack()


async def index(request: web.Request) -> web.Response:
    app = request.app
    number = await app["cache"].incr("visits")
    served_by = f"app on port {PORT}"
    await app["stream"].publish(
        binding("demo-queue", "subject"), json.dumps({"number": number, "served_by": served_by}).encode()
    )
    recorded = await app["database"].fetchval("SELECT count(*) FROM visits")
    return web.json_response({"served_by": served_by, "visits": number, "recorded": recorded})


async def healthz(request: web.Request) -> web.Response:
    await request.app["cache"].ping()
    await request.app["database"].fetchval("SELECT 1")
    await request.app["nats"].flush()
    return web.Response(text="ok")


app = web.Application()
app.cleanup_ctx.append(connect)
app.add_routes([web.get("/", index), web.get("/healthz", healthz)])
web.run_app(app, host="127.0.0.1", port=PORT, print=None)
