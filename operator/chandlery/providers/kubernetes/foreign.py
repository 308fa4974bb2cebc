"""What other operators are there of which we make objects."""

from __future__ import annotations

from typing import Any

from chandlery.driver.objects import ResourceType
from chandlery.driver.permissions import Rule
from chandlery.foundation.errors import NotSupported
from chandlery.providers.kubernetes import certificates, metrics
from chandlery.providers.kubernetes.driver import MADE
from chandlery.providers.kubernetes.session import KubernetesSession
from chandlery.providers.kubernetes.types import CERTIFICATES, SERVICE_MONITORS

FURTHER_RULES = (
    Rule(("apiextensions.k8s.io",), ("customresourcedefinitions",), ("get",)),
    Rule(("cert-manager.io",), ("certificates",), MADE),
    Rule(("monitoring.coreos.com",), ("servicemonitors",), MADE),
)
"""What a driver that uses `further_kinds` needs."""


async def further_kinds(session: KubernetesSession, spec: Any) -> list[ResourceType]:
    """Kinds of cert-manager and the Prometheus operator that a spec (with `tls` and `metrics`) asks for.

    ServiceMonitors are left out where the Prometheus operator isn't installed: the metrics are served all the same.

    Raises:
        NotSupported: an issuer is named, and cert-manager isn't there.
    """
    found: list[ResourceType] = []
    tls = spec.tls
    if tls is not None and tls.enabled and tls.issuer_ref is not None:
        if not await session.served(certificates.CRD):
            raise NotSupported(
                "cert-manager is not installed in this cluster",
                field="spec.tls.issuerRef",
                value=tls.issuer_ref.name,
                hint="Install it, name a certificateSecret, or leave both out to have a certificate made.",
                retry_after=60.0,
            )
        found.append(CERTIFICATES)
    if metrics.wants_monitor(spec.metrics) and await session.served(metrics.CRD):
        found.append(SERVICE_MONITORS)
    return found
