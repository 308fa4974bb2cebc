"""What other operators are there of which we make objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chandlery.driver.objects import ResourceType
from chandlery.driver.permissions import Rule
from chandlery.foundation.errors import NotSupported
from chandlery.providers.kubernetes import certificates, metrics
from chandlery.providers.kubernetes.children import Children
from chandlery.providers.kubernetes.driver import MADE
from chandlery.providers.kubernetes.ownership import Owner
from chandlery.providers.kubernetes.session import KubernetesSession
from chandlery.providers.kubernetes.types import CERTIFICATES, SECRETS, SERVICE_MONITORS, SERVICES

FURTHER_RULES = (
    Rule(("apiextensions.k8s.io",), ("customresourcedefinitions",), ("get",)),
    Rule(("cert-manager.io",), ("certificates",), MADE),
    Rule(("monitoring.coreos.com",), ("servicemonitors",), MADE),
)
"""What a driver that uses `further_kinds` needs."""


async def look(session: KubernetesSession, owner: Owner, kinds: Sequence[ResourceType], spec: Any) -> Children:
    """The children of an object, with those of other operators' kinds that the spec asks for, or asked for once."""
    there = await Children(session, owner, kinds).look()
    further = await further_kinds(session, spec, there)
    # first, so that they are removed before what tells that they are there
    return await Children(session, owner, [*further, *kinds]).look() if further else there


async def further_kinds(session: KubernetesSession, spec: Any, there: Children | None = None) -> list[ResourceType]:
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
    elif there is not None and there.get(SECRETS, certificates.ISSUED) and await session.served(certificates.CRD):
        found.append(CERTIFICATES)
    had = there is not None and there.get(SERVICES, metrics.METRICS) is not None
    if (had or metrics.wants_monitor(spec.metrics)) and await session.served(metrics.CRD):
        found.append(SERVICE_MONITORS)
    return found
