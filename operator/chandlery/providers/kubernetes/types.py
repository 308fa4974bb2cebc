"""The kinds of objects that drivers make, and what is asked of the API server, as a protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final, Protocol

from chandlery.driver.objects import ResourceType

Obj = dict[str, Any]

MANAGER: Final = "chandlery"
OWNER_UID: Final = "chandlery.dev/owner-uid"
ROLE: Final = "chandlery.dev/role"

PODS: Final = ResourceType("", "v1", "pods", "Pod")
SERVICES: Final = ResourceType("", "v1", "services", "Service")
SECRETS: Final = ResourceType("", "v1", "secrets", "Secret")
CONFIG_MAPS: Final = ResourceType("", "v1", "configmaps", "ConfigMap")
CLAIMS: Final = ResourceType("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
STATEFUL_SETS: Final = ResourceType("apps", "v1", "statefulsets", "StatefulSet")
DEPLOYMENTS: Final = ResourceType("apps", "v1", "deployments", "Deployment")
BUDGETS: Final = ResourceType("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
NETWORK_POLICIES: Final = ResourceType("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
CNPG_CLUSTERS: Final = ResourceType("postgresql.cnpg.io", "v1", "clusters", "Cluster")
CNPG_POOLERS: Final = ResourceType("postgresql.cnpg.io", "v1", "poolers", "Pooler")
CNPG_BACKUPS: Final = ResourceType("postgresql.cnpg.io", "v1", "backups", "Backup")
CNPG_SCHEDULES: Final = ResourceType("postgresql.cnpg.io", "v1", "scheduledbackups", "ScheduledBackup")
OBJECT_STORES: Final = ResourceType("barmancloud.cnpg.io", "v1", "objectstores", "ObjectStore")
MARIADBS: Final = ResourceType("k8s.mariadb.com", "v1alpha1", "mariadbs", "MariaDB")
JOBS: Final = ResourceType("batch", "v1", "jobs", "Job")
CRON_JOBS: Final = ResourceType("batch", "v1", "cronjobs", "CronJob")
SERVICE_MONITORS: Final = ResourceType("monitoring.coreos.com", "v1", "servicemonitors", "ServiceMonitor")
CERTIFICATES: Final = ResourceType("cert-manager.io", "v1", "certificates", "Certificate")
KUBEVIRT_MACHINES: Final = ResourceType("kubevirt.io", "v1", "virtualmachines", "VirtualMachine")
KUBEVIRT_INSTANCES: Final = ResourceType("kubevirt.io", "v1", "virtualmachineinstances", "VirtualMachineInstance")
DATA_VOLUMES: Final = ResourceType("cdi.kubevirt.io", "v1beta1", "datavolumes", "DataVolume")
RABBITMQ_CLUSTERS: Final = ResourceType("rabbitmq.com", "v1beta1", "rabbitmqclusters", "RabbitmqCluster")
RABBITMQ_VHOSTS: Final = ResourceType("rabbitmq.com", "v1beta1", "vhosts", "Vhost")
RABBITMQ_QUEUES: Final = ResourceType("rabbitmq.com", "v1beta1", "queues", "Queue")
RABBITMQ_EXCHANGES: Final = ResourceType("rabbitmq.com", "v1beta1", "exchanges", "Exchange")
RABBITMQ_BINDINGS: Final = ResourceType("rabbitmq.com", "v1beta1", "bindings", "Binding")
RABBITMQ_USERS: Final = ResourceType("rabbitmq.com", "v1beta1", "users", "User")
RABBITMQ_PERMISSIONS: Final = ResourceType("rabbitmq.com", "v1beta1", "permissions", "Permission")
RABBITMQ_TOPIC_PERMISSIONS: Final = ResourceType("rabbitmq.com", "v1beta1", "topicpermissions", "TopicPermission")
RABBITMQ_POLICIES: Final = ResourceType("rabbitmq.com", "v1beta1", "policies", "Policy")
GATEWAYS: Final = ResourceType("gateway.networking.k8s.io", "v1", "gateways", "Gateway")
HTTP_ROUTES: Final = ResourceType("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute")
TLS_ROUTES: Final = ResourceType("gateway.networking.k8s.io", "v1", "tlsroutes", "TLSRoute")
TCP_ROUTES: Final = ResourceType("gateway.networking.k8s.io", "v1", "tcproutes", "TCPRoute")
CRDS: Final = ResourceType(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)

BY_KIND: Final = {
    (t.group, t.kind): t
    for t in (
        PODS,
        SERVICES,
        SECRETS,
        CONFIG_MAPS,
        CLAIMS,
        STATEFUL_SETS,
        DEPLOYMENTS,
        BUDGETS,
        NETWORK_POLICIES,
        CNPG_CLUSTERS,
        CNPG_POOLERS,
        CNPG_BACKUPS,
        CNPG_SCHEDULES,
        OBJECT_STORES,
        MARIADBS,
        JOBS,
        CRON_JOBS,
        SERVICE_MONITORS,
        CERTIFICATES,
        KUBEVIRT_MACHINES,
        KUBEVIRT_INSTANCES,
        DATA_VOLUMES,
        RABBITMQ_CLUSTERS,
        RABBITMQ_VHOSTS,
        RABBITMQ_QUEUES,
        RABBITMQ_EXCHANGES,
        RABBITMQ_BINDINGS,
        RABBITMQ_USERS,
        RABBITMQ_PERMISSIONS,
        RABBITMQ_TOPIC_PERMISSIONS,
        RABBITMQ_POLICIES,
        GATEWAYS,
        HTTP_ROUTES,
        TLS_ROUTES,
        TCP_ROUTES,
    )
}
"""By API group and kind: a `Queue` or a `VirtualMachine` is several things."""


def type_of(obj: Obj) -> ResourceType:
    """What a manifest, or a live object, is."""
    return BY_KIND[obj["apiVersion"].rpartition("/")[0], obj["kind"]]


class Page(Protocol):
    """A whole list and the version to watch from."""

    @property
    def items(self) -> list[Obj]: ...

    @property
    def resource_version(self) -> str: ...


class Event(Protocol):
    """One line of a watch."""

    @property
    def type(self) -> str: ...

    @property
    def object(self) -> Obj: ...


class Api(Protocol):
    """What drivers need of an API server; `chandlery.reconcile.client.HttpApi` has it. Errors are the project's."""

    async def get(self, kind: ResourceType, namespace: str, name: str) -> Obj | None: ...

    async def list(self, kind: ResourceType, namespace: str = "", *, labels: str = "") -> Page: ...

    def watch(
        self, kind: ResourceType, namespace: str = "", *, version: str, labels: str = "", seconds: float = 290.0
    ) -> AsyncIterator[Event]: ...

    async def apply(
        self, kind: ResourceType, body: Obj, *, manager: str = MANAGER, subresource: str = "", force: bool = True
    ) -> Obj: ...

    async def create(self, kind: ResourceType, body: Obj) -> Obj: ...

    async def json_patch(
        self, kind: ResourceType, namespace: str, name: str, operations: Sequence[Mapping[str, Any]]
    ) -> Obj | None: ...

    async def merge_patch(
        self, kind: ResourceType, namespace: str, name: str, patch: Mapping[str, Any]
    ) -> Obj | None: ...

    async def delete(
        self, kind: ResourceType, namespace: str, name: str, *, uid: str = "", propagation: str = ""
    ) -> bool: ...
