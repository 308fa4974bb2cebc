"""Defaults, kind by kind: what the API fills in where the client said nothing."""

from __future__ import annotations

from collections.abc import Callable

from chandlery.controlplane.builtins.defaults import core, devices, pods, workloads
from chandlery.controlplane.types import Obj

DEFAULTS: dict[tuple[str, str, str], Callable[[Obj], None]] = {
    ("", "v1", "Pod"): pods.pod,
    ("", "v1", "PodTemplate"): pods.pod_template,
    ("", "v1", "ReplicationController"): workloads.replication_controller,
    ("", "v1", "Namespace"): core.namespace,
    ("", "v1", "Service"): core.service,
    ("", "v1", "Secret"): core.secret,
    ("", "v1", "PersistentVolume"): core.persistent_volume,
    ("", "v1", "PersistentVolumeClaim"): core.persistent_volume_claim,
    ("", "v1", "Endpoints"): core.endpoints,
    ("", "v1", "Node"): core.node,
    ("", "v1", "LimitRange"): core.limit_range,
    ("", "v1", "ResourceQuota"): core.resource_quota,
    ("apps", "v1", "Deployment"): workloads.deployment,
    ("apps", "v1", "StatefulSet"): workloads.stateful_set,
    ("apps", "v1", "DaemonSet"): workloads.daemon_set,
    ("apps", "v1", "ReplicaSet"): workloads.replica_set,
    ("batch", "v1", "Job"): workloads.job,
    ("batch", "v1", "CronJob"): workloads.cron_job,
    ("autoscaling", "v1", "HorizontalPodAutoscaler"): workloads.autoscaler_v1,
    ("autoscaling", "v2", "HorizontalPodAutoscaler"): workloads.autoscaler_v2,
    ("networking.k8s.io", "v1", "NetworkPolicy"): core.network_policy,
    ("networking.k8s.io", "v1", "IngressClass"): core.ingress_class,
    ("rbac.authorization.k8s.io", "v1", "RoleBinding"): core.role_binding,
    ("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding"): core.role_binding,
    ("storage.k8s.io", "v1", "StorageClass"): core.storage_class,
    ("scheduling.k8s.io", "v1", "PriorityClass"): core.priority_class,
    ("discovery.k8s.io", "v1", "EndpointSlice"): core.endpoint_slice,
    ("admissionregistration.k8s.io", "v1", "MutatingAdmissionPolicy"): core.admission_policy,
    ("admissionregistration.k8s.io", "v1", "MutatingAdmissionPolicyBinding"): core.admission_policy_binding,
    ("admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration"): core.mutating_webhooks,
    ("admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration"): core.validating_webhooks,
    ("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy"): core.admission_policy,
    ("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicyBinding"): core.admission_policy_binding,
    ("apiregistration.k8s.io", "v1", "APIService"): core.api_service,
    ("storage.k8s.io", "v1", "CSIDriver"): core.csi_driver,
    ("flowcontrol.apiserver.k8s.io", "v1", "FlowSchema"): core.flow_schema,
    ("flowcontrol.apiserver.k8s.io", "v1", "PriorityLevelConfiguration"): core.priority_level,
    ("resource.k8s.io", "v1", "ResourceClaim"): devices.claim,
    ("resource.k8s.io", "v1", "ResourceClaimTemplate"): devices.claim_template,
    ("resource.k8s.io", "v1", "ResourceSlice"): devices.resource_slice,
}
"""(group, version, kind) -> the function that fills an object's defaults in place."""
