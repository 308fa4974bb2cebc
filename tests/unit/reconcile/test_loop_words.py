"""Every log line of a pass says which object it is about; what is said about objects goes over the bus."""

from __future__ import annotations

import io
import json
import logging as stdlib

import pytest

from chandlery.foundation import logging
from chandlery.reconcile.said import Said

WORDS = ("kind", "namespace", "name", "uid", "generation", "driver", "trace_id")


@pytest.fixture
def stream():
    target = io.StringIO()
    level = stdlib.getLogger().level
    logging.configure(format="json", level="info", stream=target)
    yield target
    root = stdlib.getLogger()
    root.handlers = [handler for handler in root.handlers if not getattr(handler, "chandlery", False)]
    root.setLevel(level)


async def test_every_line_of_a_pass_says_what_it_is_about(stage, stream):
    core = await stage.start()
    driver = core.drivers.get(stage.kinds["Cache"], "memory")

    class Chatty(type(driver.inner)):
        async def create(self, ctx, obj):
            ctx.base.logger.info("by the context")
            logging.get_logger("somewhere").info("by a logger of its own")
            stdlib.getLogger("library").warning("by the standard library")
            await super().create(ctx, obj)

    driver.inner = Chatty()
    await stage.apply("Cache")
    await stage.ready("Cache")
    live = await stage.get("Cache")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    said = {line["event"]: line for line in lines}
    assert {"by the context", "by a logger of its own", "by the standard library", "driver call done"} <= set(said)
    for event in ("by the context", "by a logger of its own", "by the standard library", "driver call done"):
        line = said[event]
        assert [line.get(word) for word in WORDS[:-1]] == ["Cache", "shop", "one", live["metadata"]["uid"], 1, "memory"]
        assert line["trace_id"] == said["by the context"]["trace_id"]
        assert len(line["trace_id"]) == 32


async def test_whoever_listens_hears_what_is_said(stage):
    core = await stage.start()
    heard: list[Said] = []
    core.bus.subscribe(Said, heard.append)
    await stage.apply("Cache")
    await stage.ready("Cache")
    await stage.apply("Cache", spec={"memory": "128Mi"})
    await stage.ready("Cache")
    await stage.delete("Cache")
    await stage.until(lambda obj: obj is None, "Cache")
    assert [(said.reason, said.routine) for said in heard] == [("Created", True), ("Updated", True), ("Deleted", True)]
    assert await stage.events() == [], "in a cluster routine is no Event"
    counted = core.metrics.registry.get_sample_value
    words = {"kind": "Cache", "type": "Normal"}
    assert counted("chandlery_said_total", {**words, "reason": "Created"}) == 1


async def test_a_subscriber_that_fails_disturbs_nobody(stage):
    core = await stage.start()

    def broken(_said: Said) -> None:
        raise RuntimeError("no")

    core.bus.subscribe(Said, broken)
    await stage.apply("Cache")
    assert (await stage.ready("Cache"))["phase"] == "Ready"


async def test_routine_is_told_by_events_where_that_is_wanted(stages):
    from dataclasses import replace

    from chandlery_kinds import KINDS

    made = stages([kind for kind in KINDS if kind.name == "Cache"])
    made.settings = replace(made.settings, routine_events=True)
    await made.prepare()
    await made.start()
    try:
        await made.apply("Cache")
        await made.ready("Cache")
        assert [reason for reason, _ in await made.events()] == ["Created"]
    finally:
        await made.kill()
