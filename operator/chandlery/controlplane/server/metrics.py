"""Request metrics under the real server's names, in the Prometheus text format."""

from __future__ import annotations

import resource as process
import time
from collections.abc import Callable

from chandlery.controlplane.server.path import Target

_BUCKETS = (
    0.005,
    0.025,
    0.05,
    0.1,
    0.2,
    0.4,
    0.6,
    0.8,
    1.0,
    1.25,
    1.5,
    2.0,
    3.0,
    4.0,
    5.0,
    8.0,
    10.0,
    20.0,
    30.0,
    60.0,
)
_KNOWN_LIMIT = 5000


class Metrics:
    """Counts requests by verb, resource and code. Gauges are read when the page is asked for."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, str, str, str, int], int] = {}
        self._times: dict[tuple[str, str, str, str, str], list[float]] = {}
        self._gauges: list[tuple[str, str, Callable[[], dict[str, float]]]] = []
        self._started = time.time()

    def gauge(self, name: str, text: str, values: Callable[[], dict[str, float]]) -> None:
        """`values` answers {label text such as `resource="pods"` or "": value}."""
        self._gauges.append((name, text, values))

    def observe(self, verb: str, target: Target, code: int, seconds: float) -> None:
        series = (verb.upper(), target.group, target.version, target.resource, target.subresource)
        if code == 404 and series not in self._times and len(self._times) > _KNOWN_LIMIT:
            return
        key = (*series, code)
        self._counts[key] = self._counts.get(key, 0) + 1
        times = self._times.get(series)
        if times is None:
            times = self._times[series] = [0.0] * (len(_BUCKETS) + 2)
        times[-1] += seconds
        times[-2] += 1
        for index, bound in enumerate(_BUCKETS):
            if seconds <= bound:
                times[index] += 1
                break

    def render(self) -> bytes:
        out = [
            "# HELP apiserver_request_total Counter of apiserver requests broken out for each verb, resource and code.",
            "# TYPE apiserver_request_total counter",
        ]
        for (verb, group, version, resource, subresource, code), count in sorted(self._counts.items()):
            labels = (
                f'code="{code}",dry_run="",group="{group}",resource="{resource}",'
                f'subresource="{subresource}",verb="{verb}",version="{version}"'
            )
            out.append(f"apiserver_request_total{{{labels}}} {count}")
        out += [
            "# HELP apiserver_request_duration_seconds Response latency distribution in seconds.",
            "# TYPE apiserver_request_duration_seconds histogram",
        ]
        for (verb, group, version, resource, subresource), times in sorted(self._times.items()):
            labels = (
                f'group="{group}",resource="{resource}",subresource="{subresource}",verb="{verb}",version="{version}"'
            )
            total = 0.0
            for bound, hits in zip(_BUCKETS, times, strict=False):
                total += hits
                out.append(f'apiserver_request_duration_seconds_bucket{{{labels},le="{bound}"}} {total:.0f}')
            out.append(f'apiserver_request_duration_seconds_bucket{{{labels},le="+Inf"}} {times[-2]:.0f}')
            out.append(f"apiserver_request_duration_seconds_sum{{{labels}}} {times[-1]}")
            out.append(f"apiserver_request_duration_seconds_count{{{labels}}} {times[-2]:.0f}")
        for name, text, values in self._gauges:
            out += [f"# HELP {name} {text}", f"# TYPE {name} gauge"]
            for label, value in sorted(values().items()):
                out.append(f"{name}{{{label}}} {value}" if label else f"{name} {value}")
        usage = process.getrusage(process.RUSAGE_SELF)
        out += [
            "# HELP process_cpu_seconds_total Total user and system CPU time spent in seconds.",
            "# TYPE process_cpu_seconds_total counter",
            f"process_cpu_seconds_total {usage.ru_utime + usage.ru_stime}",
            "# HELP process_start_time_seconds Start time of the process since unix epoch in seconds.",
            "# TYPE process_start_time_seconds gauge",
            f"process_start_time_seconds {self._started}",
        ]
        return ("\n".join(out) + "\n").encode()


def escape(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
