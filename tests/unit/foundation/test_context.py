import asyncio
import io
import json
import logging as stdlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

from chandlery.foundation import logging
from chandlery.foundation.clock import FakeClock
from chandlery.foundation.context import Context
from chandlery.foundation.errors import Internal, Timeout


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    target = io.StringIO()
    level = stdlib.getLogger().level
    logging.configure(format="json", level="debug", stream=target)
    yield target
    root = stdlib.getLogger()
    root.handlers = [handler for handler in root.handlers if not getattr(handler, "chandlery", False)]
    root.setLevel(level)


async def test_a_child_never_outlives_its_parent() -> None:
    clock = FakeClock()
    parent = Context(clock=clock).child(timeout=10)
    assert parent.remaining() == 10
    assert parent.child(timeout=60).remaining() == 10
    assert parent.child(timeout=3).remaining() == 3
    assert parent.child().trace_id == parent.trace_id
    assert Context(clock=clock).remaining() is None
    await clock.advance(11)
    assert parent.remaining() == 0
    with pytest.raises(Timeout, match="time allowed for tea"):
        parent.check("tea")
    Context(clock=clock).check()


async def test_sleep_ends_at_the_deadline() -> None:
    clock = FakeClock()
    task = asyncio.create_task(Context(clock=clock).child(timeout=5).sleep(60, "the pool"))
    await clock.advance(5)
    with pytest.raises(Timeout, match="the pool"):
        await task
    task = asyncio.create_task(Context(clock=clock).child(timeout=5).sleep(1))
    await clock.advance(1)
    await task


async def test_limit_turns_the_deadline_into_our_timeout_and_leaves_other_timeouts_alone() -> None:
    clock = FakeClock()
    ctx = Context(clock=clock).child(timeout=5)

    async def work(foreign: bool) -> None:
        async with ctx.limit("the migration", timeout=2) as inner:
            assert inner.remaining() == 2
            if foreign:
                raise TimeoutError("a socket's")
            await clock.sleep(100)

    task = asyncio.create_task(work(False))
    await clock.advance(2)
    with pytest.raises(Timeout, match=r"the migration is used up \(2 s\)"):
        await task
    with pytest.raises(TimeoutError, match="a socket's") as caught:
        await work(True)
    assert not isinstance(caught.value, Timeout)


def test_clients_are_found_by_type_or_name_and_their_absence_is_our_fault() -> None:
    ctx = Context(clients={"s3": 1, dict: {"a": 2}})
    assert ctx.client("s3") == 1
    assert ctx.client(dict) == {"a": 2}
    child = ctx.child(clients={"s3": 3})
    assert (child.client("s3"), ctx.client("s3")) == (3, 1)
    with pytest.raises(Internal, match="no client list in the context"):
        ctx.client(list)


def test_is_frozen_and_carries_flags_down() -> None:
    ctx = Context().child(dry_run=True, fencing_token=7)
    assert (ctx.child().dry_run, ctx.child().fencing_token) == (True, 7)
    assert ctx.child(dry_run=False).dry_run is False
    with pytest.raises(AttributeError):
        ctx.dry_run = False  # type: ignore[misc]


def test_words_of_every_level_reach_the_line(stream: io.StringIO) -> None:
    ctx = Context().child(kind="Cache", namespace="shop", name="sessions", uid="u", generation=3).child(driver="local")
    ctx.logger.info("created")
    line = json.loads(stream.getvalue())
    expected = {
        "kind": "Cache",
        "namespace": "shop",
        "name": "sessions",
        "uid": "u",
        "generation": 3,
        "driver": "local",
    }
    assert {key: line[key] for key in expected} == expected
    assert line["trace_id"] == ctx.trace_id
    assert len(ctx.trace_id) == 32


def test_the_quick_modules_stay_quick_to_import() -> None:
    heavy = {"pydantic", "opentelemetry", "prometheus_client", "structlog", "orjson", "yaml", "kubernetes", "aiohttp"}
    code = (
        "import sys, chandlery.foundation.errors, chandlery.foundation.clock, chandlery.foundation.context,"
        "chandlery.foundation.validation, chandlery.foundation.concurrency, chandlery.foundation.resilience,"
        "chandlery.foundation.events, chandlery.foundation.telemetry, chandlery.foundation.secret;"
        f"print(sorted({heavy!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
