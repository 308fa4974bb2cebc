"""Metrics by prometheus-client and traces by OpenTelemetry, behind two small doors that cost nothing when shut.

Neither library is imported before something is really recorded. Instruments are declared at import, where they are
used, and bound to the registry on first use:

    PASSES = counter("passes_total", "Reconcile passes.", "kind", "result")
    PASSES.inc(kind="Cache", result="ready")

    with span("observe", ctx, driver="local"):
        ...
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Literal

from chandlery.foundation.context import Context
from chandlery.foundation.errors import InvalidConfiguration

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from prometheus_client import CollectorRegistry

__all__ = [
    "Counter",
    "Gauge",
    "Histogram",
    "Metrics",
    "configure",
    "counter",
    "gauge",
    "histogram",
    "memory_spans",
    "metrics",
    "shutdown",
    "span",
    "tracing",
]

NAMESPACE: Final = "chandlery"
# From a cached answer to a database restored from a backup.
BUCKETS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)


class Metrics:
    """The registry of this process. One exists (`metrics`); tests may make their own."""

    def __init__(self) -> None:
        self.enabled = True
        self.generation = 0  # grows with each reset, so that instruments notice
        self._registry: CollectorRegistry | None = None
        self._made: dict[str, Any] = {}

    @property
    def registry(self) -> "CollectorRegistry":
        if self._registry is None:
            from prometheus_client import CollectorRegistry

            self._registry = CollectorRegistry(auto_describe=True)
        return self._registry

    def make(self, kind: str, name: str, doc: str, labels: Sequence[str], buckets: Sequence[float] = BUCKETS) -> Any:
        """The collector of that name, made when it is first asked for."""
        found = self._made.get(name)
        if found is None:
            import prometheus_client

            more = {"buckets": buckets} if kind == "Histogram" else {}
            found = getattr(prometheus_client, kind)(
                name, doc, list(labels), namespace=NAMESPACE, registry=self.registry, **more
            )
            self._made[name] = found
        return found

    def render(self) -> tuple[bytes, str]:
        """The text that a scrape gets, and its content type."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return generate_latest(self.registry), CONTENT_TYPE_LATEST

    def value(self, name: str, **labels: str) -> float:
        """The present value of a sample, such as `passes_total` or `pass_seconds_count`; 0 when never recorded."""
        found = self.registry.get_sample_value(f"{NAMESPACE}_{name}", labels)
        return 0.0 if found is None else found

    def reset(self) -> None:
        """Forget everything; for tests."""
        self._registry = None
        self._made.clear()
        self.generation += 1


metrics: Final = Metrics()


class _Instrument:
    __slots__ = ("_bound", "_buckets", "_children", "_doc", "_generation", "_labels", "_metrics", "_name")
    kind = ""

    def __init__(
        self, name: str, doc: str, labels: Sequence[str], *, of: Metrics, buckets: Sequence[float] = BUCKETS
    ) -> None:
        self._name, self._doc, self._labels, self._metrics, self._buckets = name, doc, tuple(labels), of, buckets
        self._bound: Any = None
        self._children: dict[tuple[str, ...], Any] = {}
        self._generation = -1

    def _child(self, labels: dict[str, str]) -> Any:
        if self._generation != self._metrics.generation:
            self._generation = self._metrics.generation
            self._bound = self._metrics.make(self.kind, self._name, self._doc, self._labels, self._buckets)
            self._children.clear()
        if not self._labels and not labels:
            return self._bound
        try:
            key = tuple([labels[name] for name in self._labels])  # from a list: quicker than a generator
        except KeyError:
            key = None
        if key is None or len(key) != len(labels):
            raise ValueError(f"{self._name} has the labels {', '.join(self._labels)} (got {', '.join(labels)})")
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._bound.labels(*key)
        return child

    def remove(self, **labels: str) -> None:
        """Forget one set of labels, as when its object is gone."""
        if self._metrics.enabled and self._generation == self._metrics.generation:
            key = tuple(labels[name] for name in self._labels)
            if self._children.pop(key, None) is not None:
                self._bound.remove(*key)


class Counter(_Instrument):
    """Something that happened; only grows."""

    __slots__ = ()
    kind = "Counter"

    def inc(self, amount: float = 1.0, **labels: str) -> None:
        if self._metrics.enabled:
            self._child(labels).inc(amount)


class Gauge(_Instrument):
    """Something that is so now."""

    __slots__ = ()
    kind = "Gauge"

    def set(self, value: float, **labels: str) -> None:
        if self._metrics.enabled:
            self._child(labels).set(value)

    def inc(self, amount: float = 1.0, **labels: str) -> None:
        if self._metrics.enabled:
            self._child(labels).inc(amount)

    def dec(self, amount: float = 1.0, **labels: str) -> None:
        if self._metrics.enabled:
            self._child(labels).dec(amount)


class Histogram(_Instrument):
    """How long, or how large, things were."""

    __slots__ = ()
    kind = "Histogram"

    def observe(self, value: float, **labels: str) -> None:
        if self._metrics.enabled:
            self._child(labels).observe(value)

    @contextmanager
    def time(self, ctx: Context, **labels: str) -> Iterator[None]:
        """Measure a block in seconds, by the context's clock."""
        began = ctx.clock.monotonic()
        try:
            yield
        finally:
            self.observe(ctx.clock.monotonic() - began, **labels)


def counter(name: str, doc: str, *labels: str, of: Metrics = metrics) -> Counter:
    """Declare a counter; the name ends in `_total`, and `chandlery_` comes before it."""
    return Counter(name, doc, labels, of=of)


def gauge(name: str, doc: str, *labels: str, of: Metrics = metrics) -> Gauge:
    """Declare a gauge."""
    return Gauge(name, doc, labels, of=of)


def histogram(
    name: str, doc: str, *labels: str, buckets: Sequence[float] = BUCKETS, of: Metrics = metrics
) -> Histogram:
    """Declare a histogram; the name ends in the unit, such as `_seconds` or `_bytes`."""
    return Histogram(name, doc, labels, of=of, buckets=buckets)


# --- traces ---------------------------------------------------------------------------------------------------------

_tracer: Any = None  # None: spans cost one comparison
_provider: Any = None
_trace_id: ContextVar[str | None] = ContextVar("chandlery_trace_id", default=None)


def tracing() -> bool:
    """Whether spans are recorded, for whoever would prepare much for one."""
    return _tracer is not None


_NOTHING: Final[AbstractContextManager[Any]] = nullcontext()


def span(name: str, ctx: Context | None = None, /, **attributes: Any) -> AbstractContextManager[Any]:
    """A span around a block; an error in it is recorded. Yields the span, or None when traces are off.

    Args:
        name: what is done: `observe`, `Cache/create`.
        ctx: a new trace takes its trace id, so that logs and traces are found by the same one.
        **attributes: facts; plain values only, never secrets.
    """
    return _NOTHING if _tracer is None else _span(name, ctx, attributes)


@contextmanager
def _span(name: str, ctx: Context | None, attributes: Mapping[str, Any]) -> Iterator[Any]:
    token = _trace_id.set(ctx.trace_id if ctx is not None else None)
    try:
        shown = {f"{NAMESPACE}.{key}": _plain(value) for key, value in attributes.items() if value is not None}
        with _tracer.start_as_current_span(name, attributes=shown) as current:
            yield current
    finally:
        _trace_id.reset(token)


def configure(
    traces: Literal["none", "console", "otlp"] = "none",
    *,
    endpoint: str = "",
    sample: float = 1.0,
    with_metrics: bool = True,
    service: str = NAMESPACE,
) -> None:
    """Set telemetry up for the process; called once by the composition root.

    Raises:
        InvalidConfiguration: the exporter isn't installed.
    """
    metrics.enabled = with_metrics
    if traces == "none":
        shutdown()
        return
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

    exporter: Any
    if traces == "console":
        import sys

        exporter = ConsoleSpanExporter(out=sys.stderr)
    else:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # type: ignore[import-not-found, unused-ignore]
                OTLPSpanExporter,
            )
        except ImportError:
            raise InvalidConfiguration(
                "the OTLP exporter is not installed",
                field="CHANDLERY_TELEMETRY_TRACES",
                value=traces,
                hint="Install opentelemetry-exporter-otlp-proto-http, or set it to none or console.",
            ) from None
        exporter = OTLPSpanExporter(endpoint=endpoint or None)
    _install(BatchSpanProcessor(exporter), service, sample)


@contextmanager
def memory_spans() -> Iterator["list[ReadableSpan]"]:
    """For tests: within the block traces are on, and ended spans appear in the list that it yields."""
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

    spans: list[ReadableSpan] = []

    class Keep(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            spans.append(span)

    global _tracer, _provider
    before = (_tracer, _provider)
    _tracer, _provider = None, None
    _install(Keep(), NAMESPACE, 1.0)
    try:
        yield spans
    finally:
        shutdown()
        _tracer, _provider = before


def shutdown() -> None:
    """Send what waits, and stop tracing."""
    global _tracer, _provider
    provider, _tracer, _provider = _provider, None, None
    if provider is not None:
        provider.shutdown()


def _install(processor: Any, service: str, sample: float) -> None:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    class OurIds(IdGenerator):
        """New traces take the context's trace id."""

        def __init__(self) -> None:
            self._random = RandomIdGenerator()

        def generate_span_id(self) -> int:
            return self._random.generate_span_id()

        def generate_trace_id(self) -> int:
            ours = _trace_id.get()
            return int(ours, 16) if ours else self._random.generate_trace_id()

    global _tracer, _provider
    shutdown()
    # Ours alone, never the global provider: the process may belong to somebody else, as in tests.
    _provider = TracerProvider(
        resource=Resource.create({"service.name": service}),
        sampler=ParentBased(TraceIdRatioBased(sample)),
        id_generator=OurIds(),
        shutdown_on_exit=True,
    )
    _provider.add_span_processor(processor)
    _tracer = _provider.get_tracer(NAMESPACE)


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool) else str(value)
