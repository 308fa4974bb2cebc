"""Spans around passes with those of driver calls inside; metrics that can be switched off."""

from __future__ import annotations

from prometheus_client import generate_latest

from chandlery.foundation import telemetry
from chandlery.reconcile.metrics import Metrics


async def test_a_pass_is_a_span_and_driver_calls_are_its_children(stage):
    with telemetry.memory_spans() as spans:
        await stage.start()
        await stage.apply("Cache")
        await stage.ready("Cache")
        await stage.delete("Cache")
        await stage.until(lambda obj: obj is None, "Cache")
    passes = {span.context.span_id: span for span in spans if span.name == "reconcile"}
    calls = [span for span in spans if span.name.startswith("Cache.")]
    assert {span.name for span in calls} == {"Cache.observe", "Cache.create", "Cache.delete"}
    for call in calls:
        parent = passes[call.parent.span_id]
        assert parent.context.trace_id == call.context.trace_id
        assert parent.start_time <= call.start_time <= call.end_time <= parent.end_time
    first = next(iter(passes.values()))
    assert dict(first.attributes) == {"chandlery.kind": "Cache", "chandlery.namespace": "shop", "chandlery.name": "one"}
    assert len({span.context.trace_id for span in passes.values()}) == len(passes)


async def test_logs_of_a_pass_have_the_trace_id_of_its_span(stage, monkeypatch):
    from chandlery.reconcile.env import Environment

    seen = []
    inner = Environment.context

    async def context(self, *args):
        made = await inner(self, *args)
        seen.append(made.base.trace_id)
        return made

    monkeypatch.setattr(Environment, "context", context)
    with telemetry.memory_spans() as spans:
        await stage.start()
        await stage.apply("Cache")
        await stage.ready("Cache")
    assert seen
    assert set(seen) <= {f"{span.context.trace_id:032x}" for span in spans if span.name == "reconcile"}


def use(metrics: Metrics) -> bytes:
    metrics.verb("Cache", "memory", "observe", "ok", 0.1)
    metrics.passed("Cache", 0.1, failed=False)
    metrics.waited("Cache", 0.1)
    metrics.request("apply", "caches", "200")
    metrics.retained.labels("Cache").inc()
    metrics.leader.set(1)
    metrics.follow("chandlery_depth", "Depth.", lambda: 1.0)
    return generate_latest(metrics.registry)


def test_everything_is_measured_by_default():
    text = use(Metrics()).decode()
    for name in (
        "chandlery_driver_call_seconds", "chandlery_reconcile_seconds", "chandlery_queue_wait_seconds",
        "chandlery_api_requests_total", "chandlery_retained_total", "chandlery_leader", "chandlery_depth",
    ):  # fmt: skip
        assert f"# TYPE {name.removesuffix('_total')}" in text, name


def test_metrics_that_are_switched_off_leave_nothing(monkeypatch):
    monkeypatch.setattr(telemetry.metrics, "enabled", False)
    assert use(Metrics()) == b""
