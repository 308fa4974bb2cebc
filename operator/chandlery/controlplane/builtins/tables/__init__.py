"""Tables: columns and cells of built-in kinds, as `kubectl get` shows them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chandlery.controlplane.builtins.tables import cluster, others, workloads
from chandlery.controlplane.builtins.tables.columns import columns_of
from chandlery.controlplane.types import Obj

__all__ = ["columns_of", "conditions_of", "printer_of"]

_PRINTERS: dict[tuple[str, str, str], Callable[[Obj], list[Any]]] = {
    ("", "v1", "Pod"): workloads.pod,
    ("", "v1", "PodTemplate"): workloads.pod_template,
    ("", "v1", "ReplicationController"): workloads.replication_controller,
    ("", "v1", "Service"): others.service,
    ("", "v1", "Endpoints"): others.endpoints,
    ("", "v1", "Node"): others.node,
    ("", "v1", "Event"): others.event,
    ("", "v1", "Namespace"): others.namespace,
    ("", "v1", "Secret"): others.secret,
    ("", "v1", "ConfigMap"): others.config_map,
    ("", "v1", "ServiceAccount"): others.service_account,
    ("", "v1", "ResourceQuota"): others.resource_quota,
    ("", "v1", "PersistentVolume"): others.persistent_volume,
    ("", "v1", "PersistentVolumeClaim"): others.persistent_volume_claim,
    ("apps", "v1", "Deployment"): workloads.deployment,
    ("apps", "v1", "ReplicaSet"): workloads.replica_set,
    ("apps", "v1", "StatefulSet"): workloads.stateful_set,
    ("apps", "v1", "DaemonSet"): workloads.daemon_set,
    ("apps", "v1", "ControllerRevision"): workloads.controller_revision,
    ("batch", "v1", "Job"): workloads.job,
    ("batch", "v1", "CronJob"): workloads.cron_job,
    ("autoscaling", "v1", "HorizontalPodAutoscaler"): workloads.autoscaler_v1,
    ("autoscaling", "v2", "HorizontalPodAutoscaler"): workloads.autoscaler,
    ("policy", "v1", "PodDisruptionBudget"): others.disruption_budget,
    ("networking.k8s.io", "v1", "Ingress"): others.ingress,
    ("networking.k8s.io", "v1", "IngressClass"): others.ingress_class,
    ("networking.k8s.io", "v1", "NetworkPolicy"): others.network_policy,
    ("rbac.authorization.k8s.io", "v1", "RoleBinding"): others.binding,
    ("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding"): others.binding,
    ("coordination.k8s.io", "v1", "Lease"): others.lease,
    ("storage.k8s.io", "v1", "StorageClass"): others.storage_class,
    ("events.k8s.io", "v1", "Event"): others.event_new,
    ("scheduling.k8s.io", "v1", "PriorityClass"): others.priority_class,
    ("discovery.k8s.io", "v1", "EndpointSlice"): others.endpoint_slice,
    ("", "v1", "ComponentStatus"): others.component_status,
    ("admissionregistration.k8s.io", "v1", "MutatingAdmissionPolicy"): others.admission_policy,
    ("admissionregistration.k8s.io", "v1", "MutatingAdmissionPolicyBinding"): others.admission_policy_binding,
    ("admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration"): others.webhooks,
    ("admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration"): others.webhooks,
    ("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy"): others.admission_policy,
    ("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicyBinding"): others.admission_policy_binding,
    ("apiregistration.k8s.io", "v1", "APIService"): others.api_service,
    ("networking.k8s.io", "v1", "IPAddress"): cluster.ip_address,
    ("networking.k8s.io", "v1", "ServiceCIDR"): cluster.service_cidr,
    ("storage.k8s.io", "v1", "CSIDriver"): cluster.driver,
    ("storage.k8s.io", "v1", "CSINode"): cluster.driver_node,
    ("storage.k8s.io", "v1", "VolumeAttachment"): cluster.attachment,
    ("storage.k8s.io", "v1", "VolumeAttributesClass"): cluster.attributes_class,
    ("certificates.k8s.io", "v1", "CertificateSigningRequest"): cluster.signing_request,
    ("flowcontrol.apiserver.k8s.io", "v1", "FlowSchema"): cluster.flow_schema,
    ("flowcontrol.apiserver.k8s.io", "v1", "PriorityLevelConfiguration"): cluster.priority_level,
    ("node.k8s.io", "v1", "RuntimeClass"): cluster.runtime_class,
    ("resource.k8s.io", "v1", "DeviceClass"): cluster.named,
    ("resource.k8s.io", "v1", "ResourceClaim"): cluster.resource_claim,
    ("resource.k8s.io", "v1", "ResourceClaimTemplate"): cluster.named,
    ("resource.k8s.io", "v1", "ResourceSlice"): cluster.resource_slice,
}


def printer_of(key: tuple[str, str, str]) -> Callable[[Obj], list[Any]]:
    """The function that makes a row's cells, for a (group, version, kind)."""
    return _PRINTERS.get(key, others.default)


def conditions_of(kind: str, obj: Obj) -> list[Obj]:
    """`TableRowCondition`s of a row."""
    return workloads.pod_conditions(obj) if kind == "Pod" else []
