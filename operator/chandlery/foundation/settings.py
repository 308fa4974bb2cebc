"""The foundation's own settings: logs and telemetry."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le

from chandlery.foundation.config import section

__all__ = ["LogSettings", "TelemetrySettings"]


@section("log", title="Logs")
@dataclass(frozen=True, slots=True)
class LogSettings:
    level: Literal["debug", "info", "warning", "error"] = "info"
    """Lines below this level are not written."""
    format: Literal["auto", "json", "console"] = "auto"
    """One JSON object a line, or text for people; auto takes text on a terminal and JSON elsewhere."""

    def resolved(self, *, terminal: bool) -> Literal["json", "console"]:
        """The format, with auto decided."""
        if self.format == "auto":
            return "console" if terminal else "json"
        return self.format


@section("telemetry", title="Traces and metrics")
@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    traces: Literal["none", "console", "otlp"] = "none"
    """Where spans go; otlp needs the package opentelemetry-exporter-otlp-proto-http."""
    endpoint: str = "http://127.0.0.1:4318/v1/traces"
    """Of the OTLP collector."""
    sample: Annotated[float, Ge(0), Le(1)] = 1.0
    """Part of the traces that are recorded, from 0 to 1."""
    metrics: bool = True
    """Count and measure; false makes every instrument do nothing."""
