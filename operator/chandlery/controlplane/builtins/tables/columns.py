"""The columns of built-in kinds' tables.

Facts: Table answers of kube-apiserver 1.36. A description written `@Definition.field` is that field's own description
(`@ObjectMeta.name`), less the sentence after `!` (some columns still show the text of an older version of the type).
The texts are looked up once, when the first table is asked for.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from chandlery.controlplane.builtins.data import descriptions
from chandlery.controlplane.types import Obj

Column = tuple[str, str, str, int]
"""(name, type, description, priority)"""

_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
NAME: Column = ("Name", "string", f"@{_META}.name", 0)
AGE: Column = ("Age", "string", f"@{_META}.creationTimestamp", 0)
CREATED: Column = ("Created At", "date", f"@{_META}.creationTimestamp", 0)
DEFAULT: tuple[Column, ...] = (NAME, CREATED)

_CORE, _APPS, _BATCH = "@io.k8s.api.core.v1.", "@io.k8s.api.apps.v1.", "@io.k8s.api.batch.v1."
_HPA = "@io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler"
_DRIVER, _SIGNING = "@io.k8s.api.storage.v1.CSIDriverSpec.", "@io.k8s.api.certificates.v1.CertificateSigningRequest"
_FLOW = "@io.k8s.api.flowcontrol.v1."
_CONTAINERS: tuple[Column, ...] = (
    ("Containers", "string", "Names of each container in the template.", 1),
    ("Images", "string", "Images referenced by each container in the template.", 1),
)

_AUTOSCALER: tuple[Column, ...] = (
    NAME,
    ("Reference", "string", _HPA + "Spec.scaleTargetRef", 0),
    ("Targets", "string", _HPA + "Spec.metrics", 0),
    ("MinPods", "string", _HPA + "Spec.minReplicas", 0),
    ("MaxPods", "string", _HPA + "Spec.maxReplicas", 0),
    ("Replicas", "string", _HPA + "Status.currentReplicas", 0),
    AGE,
)
_EVENT: tuple[Column, ...] = (
    ("Last Seen", "string", _CORE + "Event.lastTimestamp", 0),
    ("Type", "string", _CORE + "Event.type", 0),
    ("Reason", "string", _CORE + "Event.reason", 0),
    ("Object", "string", _CORE + "Event.involvedObject", 0),
    ("Subobject", "string", _CORE + "ObjectReference.fieldPath", 1),
    ("Source", "string", _CORE + "Event.source", 1),
    ("Message", "string", _CORE + "Event.message", 0),
    ("First Seen", "string", _CORE + "Event.firstTimestamp", 1),
    ("Count", "string", _CORE + "Event.count", 1),
    ("Name", "string", f"@{_META}.name", 1),
)
_BINDING: tuple[Column, ...] = (
    NAME,
    ("Role", "string", "@io.k8s.api.rbac.v1.RoleBinding.roleRef!This field is immutable.", 0),
    AGE,
    ("Users", "string", "Users in the roleBinding", 1),
    ("Groups", "string", "Groups in the roleBinding", 1),
    ("ServiceAccounts", "string", "ServiceAccounts in the roleBinding", 1),
)
_CLUSTER_BINDING: tuple[Column, ...] = (
    NAME,
    ("Role", "string", "@io.k8s.api.rbac.v1.ClusterRoleBinding.roleRef!This field is immutable.", 0),
    AGE,
    ("Users", "string", "Users in the clusterRoleBinding", 1),
    ("Groups", "string", "Groups in the clusterRoleBinding", 1),
    ("ServiceAccounts", "string", "ServiceAccounts in the clusterRoleBinding", 1),
)
_WEBHOOKS: tuple[Column, ...] = (
    NAME,
    ("Webhooks", "integer", "Webhooks indicates the number of webhooks registered in this configuration", 0),
    AGE,
)

COLUMNS: dict[tuple[str, str], tuple[Column, ...]] = {
    ("", "Pod"): (
        NAME,
        ("Ready", "string", "The aggregate readiness state of this pod for accepting traffic.", 0),
        ("Status", "string", "The aggregate status of the containers in this pod.", 0),
        (
            "Restarts",
            "string",
            (
                "The number of times the containers in this pod have been restarted and when the last container in "
                "this pod has "
                "restarted."
            ),
            0,
        ),
        AGE,
        ("IP", "string", _CORE + "PodStatus.podIP", 1),
        ("Node", "string", _CORE + "PodSpec.nodeName", 1),
        ("Nominated Node", "string", _CORE + "PodStatus.nominatedNodeName", 1),
        ("Readiness Gates", "string", _CORE + "PodSpec.readinessGates", 1),
    ),
    ("", "PodTemplate"): (
        NAME,
        ("Containers", "string", "Names of each container in the template.", 0),
        ("Images", "string", "Images referenced by each container in the template.", 0),
        ("Pod Labels", "string", "The labels for the pod template.", 0),
    ),
    ("", "ReplicationController"): (
        NAME,
        ("Desired", "integer", _CORE + "ReplicationControllerSpec.replicas", 0),
        ("Current", "integer", _CORE + "ReplicationControllerStatus.replicas", 0),
        ("Ready", "integer", _CORE + "ReplicationControllerStatus.readyReplicas", 0),
        AGE,
        *_CONTAINERS,
        ("Selector", "string", _CORE + "ReplicationControllerSpec.selector", 1),
    ),
    ("", "Service"): (
        NAME,
        ("Type", "string", _CORE + "ServiceSpec.type", 0),
        ("Cluster-IP", "string", _CORE + "ServiceSpec.clusterIP", 0),
        ("External-IP", "string", _CORE + "ServiceSpec.externalIPs", 0),
        ("Port(s)", "string", _CORE + "ServiceSpec.ports", 0),
        AGE,
        ("Selector", "string", _CORE + "ServiceSpec.selector", 1),
    ),
    ("", "Endpoints"): (NAME, ("Endpoints", "string", _CORE + "Endpoints.subsets", 0), AGE),
    ("", "Node"): (
        NAME,
        ("Status", "string", "The status of the node", 0),
        ("Roles", "string", "The roles of the node", 0),
        AGE,
        ("Version", "string", _CORE + "NodeSystemInfo.kubeletVersion", 0),
        ("Internal-IP", "string", _CORE + "NodeStatus.addresses", 1),
        ("External-IP", "string", _CORE + "NodeStatus.addresses", 1),
        ("OS-Image", "string", _CORE + "NodeSystemInfo.osImage", 1),
        ("Kernel-Version", "string", _CORE + "NodeSystemInfo.kernelVersion", 1),
        ("Container-Runtime", "string", _CORE + "NodeSystemInfo.containerRuntimeVersion", 1),
    ),
    ("", "Event"): _EVENT,
    ("events.k8s.io", "Event"): _EVENT,
    ("", "Namespace"): (NAME, ("Status", "string", "The status of the namespace", 0), AGE),
    ("", "Secret"): (
        NAME,
        ("Type", "string", _CORE + "Secret.type", 0),
        ("Data", "string", _CORE + "Secret.data", 0),
        AGE,
    ),
    ("", "ConfigMap"): (NAME, ("Data", "string", _CORE + "ConfigMap.data", 0), AGE),
    ("", "ServiceAccount"): (NAME, ("Secrets", "string", _CORE + "ServiceAccount.secrets", 0), AGE),
    ("", "ResourceQuota"): (
        NAME,
        ("Request", "string", "Request represents a minimum amount of cpu/memory that a container may consume.", 0),
        (
            "Limit",
            "string",
            (
                "Limits control the maximum amount of cpu/memory that a container may use independent of contention on "
                "the node."
            ),
            0,
        ),
        AGE,
    ),
    ("", "PersistentVolume"): (
        NAME,
        ("Capacity", "string", _CORE + "PersistentVolumeSpec.capacity", 0),
        ("Access Modes", "string", _CORE + "PersistentVolumeSpec.accessModes", 0),
        ("Reclaim Policy", "string", _CORE + "PersistentVolumeSpec.persistentVolumeReclaimPolicy", 0),
        ("Status", "string", _CORE + "PersistentVolumeStatus.phase", 0),
        ("Claim", "string", _CORE + "PersistentVolumeSpec.claimRef", 0),
        ("StorageClass", "string", "StorageClass of the pv", 0),
        ("VolumeAttributesClass", "string", "VolumeAttributesClass of the pv", 0),
        ("Reason", "string", _CORE + "PersistentVolumeStatus.reason", 0),
        AGE,
        ("VolumeMode", "string", _CORE + "PersistentVolumeSpec.volumeMode", 1),
    ),
    ("", "PersistentVolumeClaim"): (
        NAME,
        ("Status", "string", _CORE + "PersistentVolumeClaimStatus.phase", 0),
        ("Volume", "string", _CORE + "PersistentVolumeClaimSpec.volumeName", 0),
        ("Capacity", "string", _CORE + "PersistentVolumeClaimStatus.capacity", 0),
        ("Access Modes", "string", _CORE + "PersistentVolumeClaimStatus.accessModes", 0),
        ("StorageClass", "string", "StorageClass of the pvc", 0),
        ("VolumeAttributesClass", "string", "VolumeAttributesClass of the pvc", 0),
        AGE,
        ("VolumeMode", "string", _CORE + "PersistentVolumeClaimSpec.volumeMode", 1),
    ),
    ("apps", "Deployment"): (
        NAME,
        ("Ready", "string", "Number of the pod with ready state", 0),
        ("Up-to-date", "string", _APPS + "DeploymentStatus.updatedReplicas", 0),
        ("Available", "string", _APPS + "DeploymentStatus.availableReplicas", 0),
        AGE,
        *_CONTAINERS,
        ("Selector", "string", _APPS + "DeploymentSpec.selector", 1),
    ),
    ("apps", "ReplicaSet"): (
        NAME,
        ("Desired", "integer", _APPS + "ReplicaSetSpec.replicas", 0),
        ("Current", "integer", _APPS + "ReplicaSetStatus.replicas", 0),
        ("Ready", "integer", _APPS + "ReplicaSetStatus.readyReplicas", 0),
        AGE,
        *_CONTAINERS,
        ("Selector", "string", _APPS + "ReplicaSetSpec.selector", 1),
    ),
    ("apps", "StatefulSet"): (NAME, ("Ready", "string", "Number of the pod with ready state", 0), AGE, *_CONTAINERS),
    ("apps", "DaemonSet"): (
        NAME,
        ("Desired", "integer", _APPS + "DaemonSetStatus.desiredNumberScheduled", 0),
        ("Current", "integer", _APPS + "DaemonSetStatus.currentNumberScheduled", 0),
        ("Ready", "integer", _APPS + "DaemonSetStatus.numberReady", 0),
        ("Up-to-date", "integer", _APPS + "DaemonSetStatus.updatedNumberScheduled", 0),
        ("Available", "integer", _APPS + "DaemonSetStatus.numberAvailable", 0),
        ("Node Selector", "string", _CORE + "PodSpec.nodeSelector", 0),
        AGE,
        *_CONTAINERS,
        ("Selector", "string", _APPS + "DaemonSetSpec.selector", 1),
    ),
    ("apps", "ControllerRevision"): (
        NAME,
        ("Controller", "string", "Controller of the object", 0),
        ("Revision", "string", _APPS + "ControllerRevision.revision", 0),
        AGE,
    ),
    ("batch", "Job"): (
        NAME,
        ("Status", "string", "Status of the job.", 0),
        ("Completions", "string", _BATCH + "JobStatus.succeeded", 0),
        ("Duration", "string", "Time required to complete the job.", 0),
        AGE,
        *_CONTAINERS,
        ("Selector", "string", _BATCH + "JobSpec.selector", 1),
    ),
    ("batch", "CronJob"): (
        NAME,
        ("Schedule", "string", _BATCH + "CronJobSpec.schedule", 0),
        ("Timezone", "string", _BATCH + "CronJobSpec.timeZone", 0),
        ("Suspend", "boolean", _BATCH + "CronJobSpec.suspend", 0),
        ("Active", "integer", _BATCH + "CronJobStatus.active", 0),
        ("Last Schedule", "string", _BATCH + "CronJobStatus.lastScheduleTime", 0),
        AGE,
        *_CONTAINERS,
        ("Selector", "string", _BATCH + "JobSpec.selector", 1),
    ),
    ("autoscaling", "HorizontalPodAutoscaler"): _AUTOSCALER,
    ("policy", "PodDisruptionBudget"): (
        NAME,
        ("Min Available", "string", "The minimum number of pods that must be available.", 0),
        ("Max Unavailable", "string", "The maximum number of pods that may be unavailable.", 0),
        ("Allowed Disruptions", "integer", "Calculated number of pods that may be disrupted at this time.", 0),
        AGE,
    ),
    ("networking.k8s.io", "Ingress"): (
        NAME,
        (
            "Class",
            "string",
            "The name of the IngressClass resource that should be used for additional configuration",
            0,
        ),
        ("Hosts", "string", "Hosts that incoming requests are matched against before the ingress rule", 0),
        ("Address", "string", "Address is a list containing ingress points for the load-balancer", 0),
        ("Ports", "string", "Ports of TLS configurations that open", 0),
        AGE,
    ),
    ("networking.k8s.io", "IngressClass"): (
        NAME,
        ("Controller", "string", "Controller that is responsible for handling this class", 0),
        (
            "Parameters",
            "string",
            "A reference to a resource with additional parameters",
            0,
        ),
        AGE,
    ),
    ("networking.k8s.io", "NetworkPolicy"): (
        NAME,
        (
            "Pod-Selector",
            "string",
            (
                "Selects the pods to which this NetworkPolicy object applies.  The array of ingress rules is "
                "applied to any pods "
                "selected by this field. Multiple network policies can select the same set of pods.  In this case, "
                "the ingress "
                "rules for each are combined additively. This field is NOT optional and follows standard label "
                "selector "
                "semantics. An empty podSelector matches all pods in this namespace."
            ),
            0,
        ),
        AGE,
    ),
    ("rbac.authorization.k8s.io", "RoleBinding"): _BINDING,
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): _CLUSTER_BINDING,
    ("coordination.k8s.io", "Lease"): (
        NAME,
        ("Holder", "string", "@io.k8s.api.coordination.v1.LeaseSpec.holderIdentity", 0),
        AGE,
    ),
    ("storage.k8s.io", "StorageClass"): (
        NAME,
        ("Provisioner", "string", "@io.k8s.api.storage.v1.StorageClass.provisioner", 0),
        ("ReclaimPolicy", "string", "@io.k8s.api.storage.v1.StorageClass.reclaimPolicy", 0),
        ("VolumeBindingMode", "string", "@io.k8s.api.storage.v1.StorageClass.volumeBindingMode", 0),
        ("AllowVolumeExpansion", "string", "@io.k8s.api.storage.v1.StorageClass.allowVolumeExpansion", 0),
        AGE,
    ),
    ("scheduling.k8s.io", "PriorityClass"): (
        NAME,
        ("Value", "integer", "@io.k8s.api.scheduling.v1.PriorityClass.value", 0),
        ("Global-Default", "boolean", "@io.k8s.api.scheduling.v1.PriorityClass.globalDefault", 0),
        AGE,
        ("PreemptionPolicy", "string", "@io.k8s.api.scheduling.v1.PriorityClass.preemptionPolicy", 0),
    ),
    ("discovery.k8s.io", "EndpointSlice"): (
        NAME,
        (
            "AddressType",
            "string",
            (
                "addressType specifies the type of address carried by this EndpointSlice. All addresses in this "
                "slice must be the "
                "same type. This field is immutable after creation. The following address types are currently "
                "supported: * IPv4: "
                "Represents an IPv4 Address. * IPv6: Represents an IPv6 Address. * FQDN: Represents a Fully "
                "Qualified Domain Name."
            ),
            0,
        ),
        (
            "Ports",
            "string",
            (
                "ports specifies the list of network ports exposed by each endpoint in this slice. Each port must "
                "have a unique "
                "name. When ports is empty, it indicates that there are no defined ports. When a port is defined "
                "with a nil port "
                'value, it indicates "all ports". Each slice may include a maximum of 100 ports.'
            ),
            0,
        ),
        ("Endpoints", "string", "@io.k8s.api.discovery.v1.EndpointSlice.endpoints", 0),
        AGE,
    ),
    ("", "ComponentStatus"): (
        NAME,
        ("Status", "string", "Status of the component conditions", 0),
        ("Message", "string", "Message of the component conditions", 0),
        ("Error", "string", "Error of the component conditions", 0),
    ),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicy"): (
        NAME,
        ("Mutations", "integer", "Mutation indicates the number of mutations rules defined in this configuration", 0),
        ("ParamKind", "string", "ParamKind specifies the kind of resources used to parameterize this policy", 0),
        AGE,
    ),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding"): (
        NAME,
        ("PolicyName", "string", "PolicyName indicates the policy definition which the policy binding binded to", 0),
        ("ParamRef", "string", "ParamRef indicates the param resource which sets the configration param", 0),
        AGE,
    ),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"): _WEBHOOKS,
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"): _WEBHOOKS,
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"): (
        NAME,
        (
            "Validations",
            "integer",
            "Validations indicates the number of validation rules defined in this configuration",
            0,
        ),
        ("ParamKind", "string", "ParamKind specifies the kind of resources used to parameterize this policy", 0),
        AGE,
    ),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"): (
        NAME,
        ("PolicyName", "string", "PolicyName indicates the policy definition which the policy binding binded to", 0),
        ("ParamRef", "string", "ParamRef indicates the param resource which sets the configration param", 0),
        AGE,
    ),
    ("apiregistration.k8s.io", "APIService"): (
        NAME,
        ("Service", "string", "The reference to the service that hosts this API endpoint.", 0),
        ("Available", "string", "Whether this service is available.", 0),
        AGE,
    ),
    ("networking.k8s.io", "IPAddress"): (
        NAME,
        ("ParentRef", "string", "@io.k8s.api.networking.v1.IPAddressSpec.parentRef", 0),
        AGE,
    ),
    ("networking.k8s.io", "ServiceCIDR"): (
        NAME,
        ("CIDRs", "string", "@io.k8s.api.networking.v1.ServiceCIDRSpec.cidrs", 0),
        AGE,
    ),
    ("storage.k8s.io", "CSIDriver"): (
        NAME,
        ("AttachRequired", "boolean", _DRIVER + "attachRequired", 0),
        ("PodInfoOnMount", "boolean", _DRIVER + "podInfoOnMount", 0),
        ("StorageCapacity", "boolean", _DRIVER + "storageCapacity", 0),
        ("TokenRequests", "string", _DRIVER + "tokenRequests", 0),
        ("RequiresRepublish", "boolean", _DRIVER + "requiresRepublish", 0),
        ("Modes", "string", _DRIVER + "volumeLifecycleModes", 0),
        AGE,
    ),
    ("storage.k8s.io", "CSINode"): (
        NAME,
        ("Drivers", "integer", "Drivers indicates the number of CSI drivers registered on the node", 0),
        AGE,
    ),
    ("storage.k8s.io", "VolumeAttachment"): (
        NAME,
        ("Attacher", "string", "@io.k8s.api.storage.v1.VolumeAttachmentSpec.attacher", 0),
        ("PV", "string", "@io.k8s.api.storage.v1.VolumeAttachmentSource.persistentVolumeName", 0),
        ("Node", "string", "@io.k8s.api.storage.v1.VolumeAttachmentSpec.nodeName", 0),
        ("Attached", "boolean", "@io.k8s.api.storage.v1.VolumeAttachmentStatus.attached", 0),
        AGE,
    ),
    ("storage.k8s.io", "VolumeAttributesClass"): (
        NAME,
        ("DriverName", "string", "@io.k8s.api.storage.v1.VolumeAttributesClass.driverName", 0),
        AGE,
    ),
    ("certificates.k8s.io", "CertificateSigningRequest"): (
        NAME,
        AGE,
        ("SignerName", "string", _SIGNING + "Spec.signerName", 0),
        ("Requestor", "string", _SIGNING + "Spec.request", 0),
        ("RequestedDuration", "string", _SIGNING + "Spec.expirationSeconds", 0),
        ("Condition", "string", _SIGNING + "Status.conditions", 0),
    ),
    ("flowcontrol.apiserver.k8s.io", "FlowSchema"): (
        NAME,
        ("PriorityLevel", "string", _FLOW + "PriorityLevelConfigurationReference.name", 0),
        ("MatchingPrecedence", "string", _FLOW + "FlowSchemaSpec.matchingPrecedence", 0),
        ("DistinguisherMethod", "string", _FLOW + "FlowSchemaSpec.distinguisherMethod", 0),
        AGE,
        ("MissingPL", "string", "references a broken or non-existent PriorityLevelConfiguration", 0),
    ),
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"): (
        NAME,
        ("Type", "string", _FLOW + "PriorityLevelConfigurationSpec.type", 0),
        ("NominalConcurrencyShares", "string", _FLOW + "LimitedPriorityLevelConfiguration.nominalConcurrencyShares", 0),
        ("Queues", "string", _FLOW + "QueuingConfiguration.queues", 0),
        ("HandSize", "string", _FLOW + "QueuingConfiguration.handSize", 0),
        ("QueueLengthLimit", "string", _FLOW + "QueuingConfiguration.queueLengthLimit", 0),
        AGE,
    ),
    ("resource.k8s.io", "DeviceClass"): (NAME, AGE),
    ("resource.k8s.io", "ResourceClaim"): (
        NAME,
        ("State", "string", "A summary of the current state (allocated, pending, reserved, etc.).", 0),
        AGE,
    ),
    ("resource.k8s.io", "ResourceClaimTemplate"): (NAME, AGE),
    ("resource.k8s.io", "ResourceSlice"): (
        NAME,
        ("Node", "string", "@io.k8s.api.resource.v1.ResourceSliceSpec.nodeName", 0),
        ("Driver", "string", "@io.k8s.api.resource.v1.ResourceSliceSpec.driver", 0),
        ("Pool", "string", "@io.k8s.api.resource.v1.ResourcePool.name", 0),
        AGE,
    ),
    ("node.k8s.io", "RuntimeClass"): (
        NAME,
        ("Handler", "string", "@io.k8s.api.node.v1.RuntimeClass.handler", 0),
        AGE,
    ),
}
"""(group, kind) -> columns; the kinds that aren't here have a name and the time of their creation."""

_ENUMERATION = "\n\nPossible enum values:"
"""What OpenAPI documents add to a description; columns are without it."""


@cache
def _resolved() -> dict[tuple[str, str], list[Obj]]:
    texts = descriptions()

    def text(description: str) -> str:
        if not description.startswith("@"):
            return description
        where, _, without = description[1:].partition("!")
        definition, _, field = where.rpartition(".")
        return texts.get(definition, {}).get(field, "").partition(_ENUMERATION)[0].removesuffix(without).rstrip()

    def render(columns: tuple[Column, ...]) -> list[Obj]:
        out: list[Any] = []
        for name, kind, description, priority in columns:
            form = "name" if name == "Name" else ""
            out.append(
                {"name": name, "type": kind, "format": form, "description": text(description), "priority": priority}
            )
        return out

    found = {key: render(columns) for key, columns in COLUMNS.items()}
    found["", ""] = render(DEFAULT)
    return found


def columns_of(group: str, kind: str) -> list[Obj]:
    """`TableColumnDefinition`s of a kind. Shared: never change them."""
    resolved = _resolved()
    return resolved.get((group, kind)) or resolved["", ""]
