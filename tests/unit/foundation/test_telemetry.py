import subprocess
import sys

import pytest
from prometheus_client.parser import text_string_to_metric_families

from chandlery.foundation import telemetry
from chandlery.foundation.clock import FakeClock
from chandlery.foundation.context import Context
from chandlery.foundation.errors import InvalidConfiguration, Unavailable
from chandlery.foundation.telemetry import Metrics, counter, gauge, histogram, memory_spans, span


def test_instruments_record_and_render() -> None:
    registry = Metrics()
    passes = counter("passes_total", "Passes.", "kind", "result", of=registry)
    depth = gauge("queue_depth", "Depth.", of=registry)
    passes.inc(kind="Cache", result="ready")
    passes.inc(2, result="ready", kind="Cache")
    passes.inc(kind="Queue", result="failed")
    depth.set(7)
    depth.inc()
    depth.dec(3)
    assert registry.value("passes_total", kind="Cache", result="ready") == 3
    assert registry.value("passes_total", kind="Cache", result="never") == 0
    assert registry.value("queue_depth") == 5
    text, content_type = registry.render()
    assert content_type.startswith("text/plain")
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }
    assert samples["chandlery_passes_total", "Queue", "failed"] == 1


async def test_histograms_measure_by_the_contexts_clock() -> None:
    registry, clock = Metrics(), FakeClock()
    seconds = histogram("pass_seconds", "How long.", "kind", of=registry)
    with seconds.time(Context(clock=clock), kind="Cache"):
        await clock.advance(12)
    assert registry.value("pass_seconds_sum", kind="Cache") == 12
    assert registry.value("pass_seconds_bucket", kind="Cache", le="10.0") == 0
    assert registry.value("pass_seconds_bucket", kind="Cache", le="30.0") == 1


def test_wrong_labels_are_refused() -> None:
    registry = Metrics()
    passes = counter("passes_total", "Passes.", "kind", of=registry)
    for labels in ({}, {"kind": "a", "more": "b"}, {"sort": "a"}):
        with pytest.raises(ValueError, match="has the labels kind"):
            passes.inc(**labels)


def test_two_places_may_declare_the_same_and_a_reset_forgets() -> None:
    registry = Metrics()
    first, second = counter("x_total", "X.", "a", of=registry), counter("x_total", "X.", "a", of=registry)
    first.inc(a="1")
    second.inc(a="1")
    assert registry.value("x_total", a="1") == 2
    first.remove(a="1")
    assert registry.value("x_total", a="1") == 0
    registry.reset()
    first.inc(a="1")
    assert registry.value("x_total", a="1") == 1


def test_disabled_metrics_import_nothing() -> None:
    code = """
import sys
from chandlery.foundation import telemetry
from chandlery.foundation.context import Context
passes = telemetry.counter("passes_total", "Passes.", "kind")
telemetry.metrics.enabled = False
passes.inc(kind="Cache")
with telemetry.span("observe", Context(), driver="local") as current:
    assert current is None
print(sorted({"prometheus_client", "opentelemetry", "structlog"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_spans_nest_carry_the_contexts_trace_id_and_record_errors() -> None:
    ctx = Context()

    def work() -> None:
        with span("pass", ctx, kind="Cache", nothing=None):
            with span("observe", ctx, driver="local", tries=2):
                pass
            raise Unavailable("away")

    with memory_spans() as spans, pytest.raises(Unavailable):
        work()
    inner, outer = spans
    assert (inner.name, outer.name) == ("observe", "pass")
    assert inner.parent is not None
    assert outer.context is not None
    assert inner.parent.span_id == outer.context.span_id
    assert outer.parent is None
    assert f"{outer.context.trace_id:032x}" == ctx.trace_id
    assert dict(outer.attributes or {}) == {"chandlery.kind": "Cache"}
    assert dict(inner.attributes or {}) == {"chandlery.driver": "local", "chandlery.tries": 2}
    assert not outer.status.is_ok
    assert outer.events[0].name == "exception"
    with span("after") as current:
        assert current is None


def test_each_context_is_a_trace_of_its_own() -> None:
    with memory_spans() as spans:
        for _ in range(2):
            with span("pass", Context()):
                pass
    first, second = (each.context for each in spans)
    assert first is not None
    assert second is not None
    assert first.trace_id != second.trace_id


def test_console_traces_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure("console")
    with span("pass", Context()):
        pass
    telemetry.shutdown()
    out, err = capsys.readouterr()
    assert out == ""
    assert '"name": "pass"' in err
    telemetry.configure("none", with_metrics=True)


def test_a_missing_exporter_is_said_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(InvalidConfiguration, match="CHANDLERY_TELEMETRY_TRACES"):
        telemetry.configure("otlp")


def test_the_loops_telemetry_is_a_door_to_this_one() -> None:
    from chandlery.reconcile.metrics import Metrics as LoopMetrics

    ctx = Context()
    with memory_spans() as spans, LoopMetrics().span("Cache.create", ctx, kind="Cache"):
        pass
    assert [each.name for each in spans] == ["Cache.create"]
    assert spans[0].context is not None
    assert f"{spans[0].context.trace_id:032x}" == ctx.trace_id
