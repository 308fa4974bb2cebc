"""What Prometheus needs of an object: a Service that finds the exporters, and a ServiceMonitor. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from chandlery.model.base import Condition, ConditionStatus
from chandlery.model.parts import Metrics
from chandlery.providers.kubernetes import pods
from chandlery.providers.kubernetes.ownership import Owner
from chandlery.providers.kubernetes.types import SERVICE_MONITORS, SERVICES, Obj

CRD = "servicemonitors.monitoring.coreos.com"
METRICS = "-metrics"
PORT_NAME = "metrics"
_LABEL = {"chandlery.dev/service": "metrics"}


def enabled(metrics: Metrics | None) -> bool:
    return metrics is not None and metrics.enabled


def wants_monitor(metrics: Metrics | None) -> bool:
    return metrics is not None and metrics.enabled and metrics.monitor


def exporter_condition(workload_pods: Iterable[Obj]) -> tuple[Condition, ...]:
    """The condition that tells of exporters that fail; none while they serve."""
    for pod in workload_pods:
        for said in (pod.get("status") or {}).get("containerStatuses") or ():
            wrong = pods.container_problem(said) if said["name"] == pods.EXPORTER else None
            if wrong:
                message = f"the exporter of {pod['metadata']['name']}: {wrong[1]}"
                return (
                    Condition(
                        type="MetricsAvailable",
                        status=ConditionStatus.FALSE,
                        reason=wrong[0],
                        message=f"{message.rstrip('.')}. Clients are served all the same.",
                    ),
                )
    return ()


def metrics_children(owner: Owner, metrics: Metrics | None, port: int, *, monitors: bool, path: str = "") -> list[Obj]:
    """The Service of the exporters, and the ServiceMonitor where the Prometheus operator is installed.

    Args:
        owner: whose pods have a port named `metrics`.
        metrics: as in the spec.
        port: of the exporter.
        monitors: whether ServiceMonitors are served.
        path: of the metrics, `/metrics` by default.
    """
    if metrics is None or not metrics.enabled:
        return []
    service = owner.child(
        SERVICES,
        METRICS,
        spec={
            "type": "ClusterIP",
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": owner.selector,
            "ports": [{"name": PORT_NAME, "port": port, "targetPort": PORT_NAME, "protocol": "TCP"}],
        },
    )
    service["metadata"]["labels"] = {**service["metadata"]["labels"], **_LABEL}
    if not (metrics.monitor and monitors):
        return [service]
    endpoint: dict[str, Any] = {
        "port": PORT_NAME,
        "interval": str(metrics.interval),
        **({"path": path} if path else {}),
    }
    monitor = owner.child(
        SERVICE_MONITORS,
        spec={
            "selector": {"matchLabels": {**owner.selector, **_LABEL}},
            "namespaceSelector": {"matchNames": [owner.namespace]},
            "endpoints": [endpoint],
        },
    )
    monitor["metadata"]["labels"] = {**monitor["metadata"]["labels"], **metrics.labels}
    return [service, monitor]
