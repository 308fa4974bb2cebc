"""What the loop reports: Prometheus metrics in a registry of its own, OpenTelemetry spans around passes and calls.

CHANDLERY_TELEMETRY_METRICS=false makes all of it do nothing: the registry stays empty.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from chandlery.foundation import telemetry
from chandlery.foundation.context import Context

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Metrics:
    """Telemetry of drivers (see `driver.instrumented`) and of the engine.

    Args:
        registry: where to register; by default one of its own.
        enabled: by default as the process is configured (`telemetry.configure`).
    """

    def __init__(self, registry: CollectorRegistry | None = None, *, enabled: bool | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self.enabled = telemetry.metrics.enabled if enabled is None else enabled
        into = self.registry if self.enabled else None
        self._verbs = Histogram(
            "chandlery_driver_call_seconds",
            "Time of calls of a driver's verbs.",
            ("kind", "driver", "verb", "outcome"),
            buckets=_SECONDS,
            registry=into,
        )
        self._passes = Histogram(
            "chandlery_reconcile_seconds",
            "Time of passes over one object.",
            ("kind", "result"),
            buckets=_SECONDS,
            registry=into,
        )
        self._waits = Histogram(
            "chandlery_queue_wait_seconds",
            "Time that objects waited in the queue.",
            ("kind",),
            buckets=_SECONDS,
            registry=into,
        )
        self.writes = Counter(
            "chandlery_api_requests_total",
            "Requests to the API server.",
            ("verb", "resource", "code"),
            registry=into,
        )
        self.retained = Counter(
            "chandlery_retained_total",
            "Objects let go while their resource was retained, because it could not be deleted.",
            ("kind",),
            registry=into,
        )
        self._said = Counter(
            "chandlery_said_total",
            "What the loop and drivers said about objects, as Events do.",
            ("kind", "type", "reason"),
            registry=into,
        )
        self.leader = Gauge("chandlery_leader", "1 while this replica leads.", registry=into)
        self._children: dict[tuple[str, ...], Any] = {}

    def verb(self, kind: str, driver: str, verb: str, outcome: str, seconds: float) -> None:
        if self.enabled:
            self._child(self._verbs, kind, driver, verb, outcome).observe(seconds)

    def span(self, name: str, ctx: Context | None = None, **attributes: str) -> Any:
        return telemetry.span(name, ctx, **attributes)

    def passed(self, kind: str, seconds: float, *, failed: bool) -> None:
        if self.enabled:
            self._child(self._passes, kind, "failed" if failed else "ok").observe(seconds)

    def waited(self, kind: str, seconds: float) -> None:
        if self.enabled:
            self._child(self._waits, kind).observe(seconds)

    def said(self, kind: str, type_: str, reason: str) -> None:
        if self.enabled:
            self._child(self._said, kind, type_, reason).inc()

    def request(self, verb: str, resource: str, code: str) -> None:
        if self.enabled:
            self._child(self.writes, verb, resource, code).inc()

    def follow(self, name: str, text: str, value: Callable[[], float]) -> None:
        """A gauge that asks when it is scraped."""
        if self.enabled:
            Gauge(name, text, registry=self.registry).set_function(value)

    def _child(self, metric: Any, *labels: str) -> Any:
        key = (metric._name, *labels)  # noqa: SLF001 - metric.labels() takes a lock and builds the key anew each time
        found = self._children.get(key)
        if found is None:
            found = self._children[key] = metric.labels(*labels)
        return found
