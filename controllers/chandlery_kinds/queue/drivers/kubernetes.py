"""Queues as StatefulSets of NATS or RabbitMQ on Kubernetes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from chandlery.driver.permissions import Rule
from chandlery.driver.protocol import DriverContext, Unsupported
from chandlery.model.base import DeletionPolicy
from chandlery.model.parts import ClientAuthentication
from chandlery.providers.kubernetes.backup import refused
from chandlery.providers.kubernetes.driver import AUTH, MADE, KubernetesDriver, Pass, child_rules
from chandlery.providers.kubernetes.foreign import FURTHER_RULES
from chandlery.providers.kubernetes.types import RABBITMQ_CLUSTERS, SECRETS, STATEFUL_SETS
from chandlery_kinds.queue.drivers import kubernetes_rabbit_delegate
from chandlery_kinds.queue.drivers.kubernetes_nats import NatsPods
from chandlery_kinds.queue.drivers.kubernetes_rabbit import RabbitPods
from chandlery_kinds.queue.drivers.kubernetes_rabbit_delegate import CLUSTER_CRD, RabbitDelegate
from chandlery_kinds.queue.kubernetes.parameters import QueueParameters
from chandlery_kinds.queue.kubernetes.rabbit_delegate import TOPOLOGY
from chandlery_kinds.queue.model import Queue, QueueEngine


class QueueDriver(KubernetesDriver[Queue, QueueParameters]):
    """The `kubernetes` driver of Queue."""

    parameters: ClassVar[type[QueueParameters]] = QueueParameters
    permissions: ClassVar[tuple[Rule, ...]] = (
        *child_rules(
            ("", ("services", "secrets")),
            ("apps", ("statefulsets",)),
            ("batch", ("cronjobs", "jobs")),
            ("policy", ("poddisruptionbudgets",)),
            ("networking.k8s.io", ("networkpolicies",)),
        ),
        Rule(("",), ("pods",), ("list", "watch")),
        Rule(("",), ("persistentvolumeclaims",), ("list", "watch", "patch", "delete")),
        Rule(("rabbitmq.com",), tuple(kind.plural for kind in (RABBITMQ_CLUSTERS, *TOPOLOGY)), MADE),
        *FURTHER_RULES,
    )

    def refused(self, obj: Queue, parameters: QueueParameters) -> Iterator[Unsupported]:
        spec = obj.spec
        if spec.engine is QueueEngine.NATS:
            yield from self._refused_by_nats(obj)
        elif parameters.rabbitmq_operator is not None:
            yield from kubernetes_rabbit_delegate.refused(obj, parameters.rabbitmq_operator)
        if spec.broker_ref is not None:
            why = "queues on Kubernetes have a broker of their own"
            yield Unsupported("spec.brokerRef", spec.broker_ref.name, why)
        if spec.dead_letter is not None and spec.dead_letter.queue is not None:
            why = "dead letters stay with the queue's own broker"
            yield Unsupported("spec.deadLetter.queue", spec.dead_letter.queue.name, why)
        if spec.engine is QueueEngine.NATS:
            yield from refused(spec)
            return
        why = "RabbitMQ has no copy of a queue's messages to give: move them to another queue with its shovel plugin"
        if spec.backup is not None:
            yield Unsupported("spec.backup", "set", why)
        if spec.restore_from is not None:
            yield Unsupported("spec.restoreFrom", "set", why)
        if spec.deletion_policy is DeletionPolicy.SNAPSHOT:
            yield Unsupported("spec.deletionPolicy", "Snapshot", why)

    def _refused_by_nats(self, obj: Queue) -> Iterator[Unsupported]:
        spec = obj.spec
        if spec.tls is not None and spec.tls.client_authentication is ClientAuthentication.OPTIONAL:
            why = "NATS asks all clients for a certificate or none"
            yield Unsupported("spec.tls.clientAuthentication", "optional", why)
        if spec.tls is not None and spec.tls.enabled and not spec.tls.required:
            why = "NATS speaks TLS with all clients of a port or with none"
            yield Unsupported("spec.tls.required", "false", why)

    async def begin(self, ctx: DriverContext, obj: Queue) -> Pass:
        if obj.spec.engine is QueueEngine.RABBITMQ:
            pods = await RabbitPods.of(ctx, obj)
            return await RabbitDelegate.of(ctx, obj) if await _handed_over(ctx, pods) else pods
        return await NatsPods.of(ctx, obj)


async def _handed_over(ctx: DriverContext, pods: RabbitPods) -> bool:
    """Whether RabbitMQ's operators run it. What was made in one way stays so, whatever the class says later."""
    if pods.there.get(STATEFUL_SETS) is not None:
        return False
    if ctx.parameters.rabbitmq_operator is not None:
        return True
    session, owner = pods.session, pods.owner
    if pods.there.get(SECRETS, AUTH) is None or not await session.served(CLUSTER_CRD):
        return False
    return await session.api.get(RABBITMQ_CLUSTERS, owner.namespace, owner.base) is not None
