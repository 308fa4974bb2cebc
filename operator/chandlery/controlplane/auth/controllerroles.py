"""What the controllers of kube-controller-manager may do, each as a ServiceAccount in kube-system.

The facts are those of Kubernetes 1.36's bootstrap policy with its default feature gates. Written as
`verbs : group : resources [: names]`, one rule a line.
"""

READ = "get list watch"
WRITE = "create delete deletecollection patch update"
ALL = "create delete deletecollection get list patch update watch"
EVENTS = "create patch update : ,events.k8s.io : events"

CONTROLLER_ROLES = {
    "attachdetach-controller": f"""
list watch : : persistentvolumeclaims persistentvolumes
{READ} : : nodes
patch update : : nodes/status
list watch : : pods
{EVENTS}
create delete get list watch : storage.k8s.io : volumeattachments
{READ} : storage.k8s.io : csidrivers
{READ} : storage.k8s.io : csinodes
""",
    "clusterrole-aggregation-controller": """
escalate get list patch update watch : rbac.authorization.k8s.io : clusterroles
""",
    "cronjob-controller": f"""
get list update watch : batch : cronjobs
create delete get list patch update watch : batch : jobs
update : batch : cronjobs/status
update : batch : cronjobs/finalizers
delete list watch : : pods
{EVENTS}
""",
    "daemon-set-controller": f"""
{READ} : apps,extensions : daemonsets
update : apps,extensions : daemonsets/status
update : apps,extensions : daemonsets/finalizers
list watch : : nodes
create delete list patch watch : : pods
create : : pods/binding
create delete get list patch update watch : apps : controllerrevisions
{EVENTS}
""",
    "deployment-controller": f"""
get list update watch : apps,extensions : deployments
update : apps,extensions : deployments/status
update : apps,extensions : deployments/finalizers
create delete get list patch update watch : apps,extensions : replicasets
get list update watch : : pods
{EVENTS}
""",
    "disruption-controller": f"""
{READ} : apps,extensions : deployments
{READ} : apps,extensions : replicasets
{READ} : : replicationcontrollers
{READ} : policy : poddisruptionbudgets
{READ} : apps : statefulsets
update : policy : poddisruptionbudgets/status
patch update : : pods/status
get : * : */scale
{EVENTS}
""",
    "endpoint-controller": f"""
{READ} : : pods services
create delete get list update watch : : endpoints
create : : endpoints/restricted
{EVENTS}
""",
    "endpointslice-controller": f"""
{READ} : : nodes pods services
update : : services/finalizers
create delete get list update watch : discovery.k8s.io : endpointslices
{EVENTS}
""",
    "endpointslicemirroring-controller": f"""
{READ} : : endpoints services
update : : services/finalizers
update : : endpoints/finalizers
create delete get list update watch : discovery.k8s.io : endpointslices
{EVENTS}
""",
    "expand-controller": f"""
get list patch update watch : : persistentvolumes
patch update : : persistentvolumeclaims/status
{READ} : : persistentvolumeclaims
{EVENTS}
get : : services
""",
    "ephemeral-volume-controller": f"""
{READ} : : pods
update : : pods/finalizers
create get list watch : : persistentvolumeclaims
{EVENTS}
""",
    "resource-claim-controller": f"""
{READ} : : pods
update : : pods/finalizers
create delete get list watch : resource.k8s.io : resourceclaims
patch update : resource.k8s.io : resourceclaims resourceclaims/status
patch update : resource.k8s.io : resourceclaims/binding
patch update : : pods/status
{EVENTS}
""",
    "device-taint-eviction-controller": f"""
delete get list watch : : pods
patch update : : pods/status
{READ} : resource.k8s.io : resourceclaims
{READ} : resource.k8s.io : resourceslices
{READ} : resource.k8s.io : deviceclasses
{EVENTS}
""",
    "generic-garbage-collector": f"""
delete get list patch update watch : * : *
{EVENTS}
""",
    "horizontal-pod-autoscaler": f"""
{READ} : autoscaling : horizontalpodautoscalers
update : autoscaling : horizontalpodautoscalers/status
get update : * : */scale
list watch : : pods
list watch : metrics.k8s.io : pods
{READ} : custom.metrics.k8s.io : *
{READ} : external.metrics.k8s.io : *
{EVENTS}
""",
    "job-controller": f"""
get list patch update watch : batch : jobs
update : batch : jobs/status
update : batch : jobs/finalizers
create delete list patch watch : : pods
{EVENTS}
""",
    "namespace-controller": """
delete get list watch : : namespaces
update : : namespaces/finalize namespaces/status
delete deletecollection get list watch : * : *
""",
    "node-controller": f"""
delete get list patch update watch : : nodes
patch update : : nodes/status
patch update : : pods/status
delete get list watch : : pods
{EVENTS}
""",
    "persistent-volume-binder": f"""
create delete get list update watch : : persistentvolumes
update : : persistentvolumes/status
get list update watch : : persistentvolumeclaims
update : : persistentvolumeclaims/status
create delete get list watch : : pods
{READ} : storage.k8s.io : storageclasses
list watch : : nodes
{EVENTS}
watch : : events
get : : services
""",
    "pod-garbage-collector": f"""
delete list watch : : pods
{READ} : : nodes
patch : : pods/status
""",
    "replicaset-controller": f"""
get list update watch : apps,extensions : replicasets
update : apps,extensions : replicasets/status
update : apps,extensions : replicasets/finalizers
create delete list patch watch : : pods
{EVENTS}
""",
    "replication-controller": f"""
get list update watch : : replicationcontrollers
update : : replicationcontrollers/status
update : : replicationcontrollers/finalizers
create delete list patch watch : : pods
{EVENTS}
""",
    "resourcequota-controller": f"""
list watch : * : *
update : : resourcequotas/status
{EVENTS}
""",
    "route-controller": f"""
list watch : : nodes
patch : : nodes/status
{EVENTS}
""",
    "service-account-controller": f"""
create : : serviceaccounts
{EVENTS}
""",
    "service-controller": f"""
{READ} : : services
patch update : : services/status
list watch : : nodes
{EVENTS}
""",
    "service-cidrs-controller": f"""
get list patch update watch : networking.k8s.io : servicecidrs
patch update : networking.k8s.io : servicecidrs/finalizers
patch update : networking.k8s.io : servicecidrs/status
{READ} : networking.k8s.io : ipaddresses
{EVENTS}
""",
    "statefulset-controller": f"""
list watch : : pods
{READ} : apps : statefulsets
update : apps : statefulsets/status
update : apps : statefulsets/finalizers
create delete get patch update : : pods
create delete get list patch update watch : apps : controllerrevisions
create get list watch : : persistentvolumeclaims
{EVENTS}
delete update : : persistentvolumeclaims
update : : pods/finalizers
""",
    "ttl-controller": f"""
list patch update watch : : nodes
{EVENTS}
""",
    "certificate-controller": f"""
delete get list watch : certificates.k8s.io : certificatesigningrequests
update : certificates.k8s.io : certificatesigningrequests/approval certificatesigningrequests/status
approve : certificates.k8s.io : signers : kubernetes.io/kube-apiserver-client-kubelet
sign : certificates.k8s.io : signers : kubernetes.io/kube-apiserver-client\
 kubernetes.io/kube-apiserver-client-kubelet kubernetes.io/kubelet-serving kubernetes.io/legacy-unknown
create : authorization.k8s.io : subjectaccessreviews
{EVENTS}
""",
    "pvc-protection-controller": f"""
get list update watch : : persistentvolumeclaims
{READ} : : pods
{EVENTS}
""",
    "pv-protection-controller": f"""
get list update watch : : persistentvolumes
{EVENTS}
""",
    "volumeattributesclass-protection-controller": f"""
{READ} : : persistentvolumeclaims
{READ} : : persistentvolumes
get list update watch : storage.k8s.io : volumeattributesclasses
{EVENTS}
""",
    "ttl-after-finished-controller": f"""
delete get list watch : batch : jobs
{EVENTS}
""",
    "root-ca-cert-publisher": f"""
create update : : configmaps
{EVENTS}
""",
    "validatingadmissionpolicy-status-controller": f"""
{READ} : admissionregistration.k8s.io : validatingadmissionpolicies
get patch update : admissionregistration.k8s.io : validatingadmissionpolicies/status
{EVENTS}
""",
    "legacy-service-account-token-cleaner": """
get : : configmaps : kube-apiserver-legacy-service-account-token-tracking
delete patch : : secrets
""",
    "selinux-warning-controller": f"""
{EVENTS}
{READ} : : persistentvolumes
{READ} : : persistentvolumeclaims
{READ} : : pods
{READ} : storage.k8s.io : csidrivers
""",
}
