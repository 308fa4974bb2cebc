"""The composition root: which kinds, which providers, which settings make up an operator."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

from chandlery.app.home import Home
from chandlery.app.settings import LocalSettings, RunSettings
from chandlery.driver.kind import Kind
from chandlery.driver.provider import ProviderFactory, third_party_factories
from chandlery.foundation import telemetry
from chandlery.foundation.config import load
from chandlery.foundation.errors import InvalidConfiguration
from chandlery.foundation.logging import configure, get_logger
from chandlery.foundation.settings import LogSettings, TelemetrySettings
from chandlery.providers.kubernetes import KubernetesProviderFactory
from chandlery.providers.settings import KubernetesSettings
from chandlery.reconcile.api import Key
from chandlery.reconcile.credentials import load as load_credentials
from chandlery.reconcile.operator import Operator, OperatorSettings
from chandlery.reconcile.server import Listen
from chandlery.reconcile.settings import LoopSettings

_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


def switched_on(wanted: str) -> list[Kind]:
    """The kinds that a setting names.

    Raises:
        InvalidConfiguration: one of them doesn't exist.
    """
    from chandlery_kinds import KINDS

    if wanted.strip() == "*":
        return list(KINDS)
    names = [name.strip().lower() for name in wanted.split(",") if name.strip()]
    known = {kind.name.lower(): kind for kind in KINDS}
    for name in names:
        if name not in known:
            raise InvalidConfiguration(
                "no such kind",
                field="CHANDLERY_OPERATOR_KINDS",
                value=name,
                hint=f"Kinds are {', '.join(k.name for k in KINDS)}.",
            )
    return [known[name] for name in names]


def preload(data_dir: Path | None) -> None:
    """Load the code that will be needed in any case.

    Raises:
        InvalidConfiguration: a setting is wrong, told before anything is waited for.
    """
    for each in (LogSettings, TelemetrySettings, LoopSettings, KubernetesSettings):
        load(each)
    for kind in switched_on(load(RunSettings).kinds):
        if data_dir is not None and "local" in kind.drivers:
            kind.load_driver("local")


def providers(data_dir: Path | None) -> dict[str, ProviderFactory]:
    """What drivers connect by. Local engines need a data directory; without one there is no local provider."""
    from chandlery.providers.memory.provider import MemoryProvider

    found: dict[str, ProviderFactory] = {**third_party_factories(), "memory": MemoryProvider()}
    if data_dir is not None:
        from chandlery.providers.local import LocalProviderFactory
        from chandlery.providers.local.housekeeping import Limits

        local = load(LocalSettings)
        limits = Limits(local.log_megabytes << 20, local.log_files, local.disk_reserve_megabytes << 20)
        found["local"] = LocalProviderFactory(data_dir, local.ports, local.cache_dir, local.image_folders, limits)
    return found


def admission(run: RunSettings, kubeconfig: Path | None, data_dir: Path | None) -> tuple[Listen, Path | None]:
    """Where webhooks are served, and the folder with the certificate for them, where somebody made one.

    Beside an embedded control plane they always are: it is on this machine, and has made a certificate for us.
    """
    listen = Listen(run.webhook_host, run.webhook_port, run.webhook_certificate, run.webhook_key)
    if not run.webhooks:
        return replace(listen, port=None), None
    if data_dir is None or kubeconfig != Home(data_dir).kubeconfig:
        return listen, None
    if listen.port is None:
        listen = replace(listen, port=0)
    made = Home(data_dir).controlplane / "pki"
    found = listen.certificate is None and listen.host in _LOOPBACK and (made / "webhook.crt").exists()
    return listen, made if found else None


def make_operator(*, kubeconfig: Path | None, data_dir: Path | None) -> Operator:
    """An operator, ready to start.

    Raises:
        InvalidConfiguration: settings or credentials are wrong.
    """
    log = load(LogSettings)
    configure(level=log.level, format=log.resolved(terminal=sys.stderr.isatty()))
    tracing = load(TelemetrySettings)
    telemetry.configure(tracing.traces, endpoint=tracing.endpoint, sample=tracing.sample, with_metrics=tracing.metrics)
    # kopf tells of each event that a handler took; our own lines say what was done.
    logging.getLogger("kopf").setLevel(logging.WARNING)
    # And it warns, at each start, that it leaves signals to us, as it should.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
    run = load(RunSettings)
    loop = load(LoopSettings)
    if loop.routine_events is None:
        loop = replace(loop, routine_events=data_dir is not None)
    webhook, files = admission(run, kubeconfig, data_dir)
    settings = OperatorSettings(
        loop=loop,
        # One data directory has one operator: its lock says so already, and a Lease would cost the first second.
        leader_election=run.leader_election and data_dir is None,
        lease_namespace=run.lease_namespace,
        lease_seconds=run.lease_seconds,
        shards=run.shards if run.sharding else 0,
        plain=Listen(run.metrics_host, run.metrics_port),
        other_kinds=run.other_kinds,
        webhook=webhook,
        webhook_files=files,
        webhook_service=run.webhook_service,
        webhook_registration=run.webhook_registration,
        namespace=run.namespace,
    )
    logger = get_logger("chandlery.audit")

    def audit(what: str, key: Key, why: str) -> None:
        logger.warning(what, kind=key.kind, namespace=key.namespace, name=key.name, why=why)

    kubernetes = KubernetesProviderFactory(load(KubernetesSettings))
    factories = {**providers(data_dir), "kubernetes": kubernetes}
    kinds = switched_on(run.kinds)
    others = [kind for kind in switched_on("*") if kind not in kinds]
    credentials = load_credentials(kubeconfig)
    operator = Operator(credentials, kinds, factories, others=others, settings=settings, audit=audit)
    kubernetes.api = operator.api  # workloads are made where our own objects are, over the same connections
    return operator
