"""The RBAC objects that every control plane starts with.

The facts (names, rules, subjects) are those of Kubernetes 1.36; see its docs, "Default roles and role
bindings". Written as `verbs : group : resources [: names]`, one rule a line; `@` marks non-resource URLs.
"""

from __future__ import annotations

from chandlery.controlplane.auth.authz import RBAC_GROUP
from chandlery.controlplane.auth.controllerroles import ALL as _ALL
from chandlery.controlplane.auth.controllerroles import CONTROLLER_ROLES
from chandlery.controlplane.auth.controllerroles import EVENTS as _EVENTS
from chandlery.controlplane.auth.controllerroles import READ as _READ
from chandlery.controlplane.auth.controllerroles import WRITE as _WRITE
from chandlery.controlplane.auth.rules import Rule
from chandlery.controlplane.types import Obj

_DELEGATE = """
create : authentication.k8s.io : tokenreviews
create : authorization.k8s.io : subjectaccessreviews
"""

_LEADING = """
create get list update watch : coordination.k8s.io : leases
create get list update watch : coordination.k8s.io : leasecandidates
"""

_CLUSTER_ROLES = {
    "cluster-admin": "* : * : *\n* @ *",
    "system:discovery": (
        "get @ /api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/\n"
        "get @ /.well-known /.well-known/*"
    ),
    "system:public-info-viewer": "get @ /healthz /livez /readyz /version /version/",
    "system:monitoring": (
        "get @ /healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*\n"
        "get : : nodes/metrics\nget @ /flagz\nget @ /statusz"
    ),
    "system:service-account-issuer-discovery": (
        "get @ /.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/"
    ),
    "system:basic-user": """
create : authorization.k8s.io : selfsubjectaccessreviews selfsubjectrulesreviews
create : authentication.k8s.io : selfsubjectreviews
""",
    "system:aggregate-to-admin": f"""
create : authorization.k8s.io : localsubjectaccessreviews
{_ALL} : {RBAC_GROUP} : rolebindings roles
""",
    "system:aggregate-to-edit": f"""
{_READ} : : pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy
impersonate : : serviceaccounts
{_WRITE} : : pods pods/attach pods/exec pods/portforward pods/proxy
create : : pods/eviction
{_WRITE} : : configmaps events persistentvolumeclaims replicationcontrollers replicationcontrollers/scale\
 secrets serviceaccounts services services/proxy
create : : serviceaccounts/token
{_WRITE} : apps : daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale\
 statefulsets statefulsets/scale
{_WRITE} : autoscaling : horizontalpodautoscalers
{_WRITE} : batch : cronjobs jobs
{_WRITE} : events.k8s.io : events
{_WRITE} : extensions : daemonsets deployments deployments/rollback deployments/scale ingresses networkpolicies\
 replicasets replicasets/scale replicationcontrollers/scale
{_WRITE} : policy : poddisruptionbudgets
{_WRITE} : networking.k8s.io : ingresses networkpolicies
{_ALL} : coordination.k8s.io : leases
{_WRITE} : resource.k8s.io : resourceclaims resourceclaimtemplates
""",
    "system:aggregate-to-view": f"""
{_READ} : : configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers\
 replicationcontrollers/scale serviceaccounts services services/status
{_READ} : : bindings events limitranges namespaces/status pods/log pods/status replicationcontrollers/status\
 resourcequotas resourcequotas/status
{_READ} : : namespaces
{_READ} : discovery.k8s.io : endpointslices
{_READ} : apps : controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status\
 replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status
{_READ} : autoscaling : horizontalpodautoscalers horizontalpodautoscalers/status
{_READ} : batch : cronjobs cronjobs/status jobs jobs/status
{_READ} : events.k8s.io : events
{_READ} : extensions : daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses\
 ingresses/status networkpolicies replicasets replicasets/scale replicasets/status replicationcontrollers/scale
{_READ} : policy : poddisruptionbudgets poddisruptionbudgets/status
{_READ} : networking.k8s.io : ingresses ingresses/status networkpolicies
{_READ} : resource.k8s.io : resourceclaims resourceclaims/status resourceclaimtemplates
""",
    "system:auth-delegator": _DELEGATE,
    "system:kube-aggregator": f"{_READ} : : endpoints services",
    "system:kube-dns": "list watch : : endpoints services",
    "system:heapster": f"{_READ} : : events namespaces nodes pods\n{_READ} : extensions : deployments",
    "system:kubelet-api-admin": f"""
{_READ} : : nodes
proxy : : nodes
* : : nodes/log nodes/metrics nodes/proxy nodes/stats
* : : nodes/configz nodes/healthz nodes/pods
""",
    "system:kube-controller-manager": f"""
{_EVENTS}
create : coordination.k8s.io : leases
get update : coordination.k8s.io : leases : kube-controller-manager
create : : secrets serviceaccounts
delete : : secrets
get : : configmaps namespaces secrets serviceaccounts
update : : secrets serviceaccounts
{_DELEGATE}
list watch : * : *
create : : serviceaccounts/token
""",
    "system:kube-scheduler": f"""
{_EVENTS}
create : coordination.k8s.io : leases
get list update watch : coordination.k8s.io : leases : kube-scheduler
{_ALL} : coordination.k8s.io : leasecandidates
{_READ} : : nodes
delete get list watch : : pods
create : : bindings pods/binding
patch update : : pods/status
{_READ} : : replicationcontrollers services
{_READ} : apps,extensions : replicasets
{_READ} : apps : statefulsets
{_READ} : policy : poddisruptionbudgets
{_READ} : : persistentvolumeclaims persistentvolumes
{_DELEGATE}
{_READ} : storage.k8s.io : csinodes
{_READ} : storage.k8s.io : volumeattachments
{_READ} : : namespaces
{_READ} : storage.k8s.io : csidrivers
{_READ} : storage.k8s.io : csistoragecapacities
{_READ} : resource.k8s.io : deviceclasses
get list patch update watch : resource.k8s.io : resourceclaims
get list patch update watch : resource.k8s.io : resourceclaims/status
patch update : resource.k8s.io : resourceclaims/binding
update : : pods/finalizers
{_READ} : resource.k8s.io : resourceslices
create delete : resource.k8s.io : resourceclaims
""",
    "system:volume-scheduler": f"""
get list patch update watch : : persistentvolumes
{_READ} : storage.k8s.io : storageclasses
get list patch update watch : : persistentvolumeclaims
""",
    "system:persistent-volume-provisioner": f"""
create delete get list watch : : persistentvolumes
get list update watch : : persistentvolumeclaims
{_READ} : storage.k8s.io : storageclasses
watch : : events
{_EVENTS}
""",
    "system:node": f"""
create : authentication.k8s.io : tokenreviews
create : authorization.k8s.io : localsubjectaccessreviews subjectaccessreviews
{_READ} : : services
create get list watch : : nodes
patch update : : nodes/status
patch update : : nodes
create patch update : : events
{_READ} : : pods
create delete : : pods
patch update : : pods/status
create : : pods/eviction
{_READ} : : configmaps secrets
get : : persistentvolumeclaims persistentvolumes
get : : endpoints
create get list watch : certificates.k8s.io : certificatesigningrequests
create delete get patch update : coordination.k8s.io : leases
get : storage.k8s.io : volumeattachments
create : : serviceaccounts/token
get patch update : : persistentvolumeclaims/status
{_READ} : storage.k8s.io : csidrivers
create delete get patch update : storage.k8s.io : csinodes
{_READ} : node.k8s.io : runtimeclasses
get : resource.k8s.io : resourceclaims
deletecollection : resource.k8s.io : resourceslices
get : : serviceaccounts
""",
    "system:node-bootstrapper": "create get list watch : certificates.k8s.io : certificatesigningrequests",
    "system:node-problem-detector": f"get : : nodes\npatch : : nodes/status\n{_EVENTS}",
    "system:node-proxier": f"""
list watch : : endpoints services
{_READ} : : nodes
{_EVENTS}
list watch : networking.k8s.io : servicecidrs
list watch : discovery.k8s.io : endpointslices
""",
    "system:certificates.k8s.io:certificatesigningrequests:nodeclient": (
        "create : certificates.k8s.io : certificatesigningrequests/nodeclient"
    ),
    "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient": (
        "create : certificates.k8s.io : certificatesigningrequests/selfnodeclient"
    ),
    **{
        f"system:certificates.k8s.io:{name}-approver": f"approve : certificates.k8s.io : signers : kubernetes.io/{name}"
        for name in ("kube-apiserver-client", "kube-apiserver-client-kubelet", "kubelet-serving", "legacy-unknown")
    },
    **{f"system:controller:{name}": rules for name, rules in CONTROLLER_ROLES.items()},
}

_AGGREGATED = {"admin": "aggregate-to-admin", "edit": "aggregate-to-edit", "view": "aggregate-to-view"}
_AGGREGATES_TO = {
    "edit": "aggregate-to-admin",
    "view": "aggregate-to-edit",
    "system:aggregate-to-admin": "aggregate-to-admin",
    "system:aggregate-to-edit": "aggregate-to-edit",
    "system:aggregate-to-view": "aggregate-to-view",
}

_CLUSTER_BINDINGS = {
    "cluster-admin": ("Group system:masters",),
    "system:discovery": ("Group system:authenticated",),
    "system:basic-user": ("Group system:authenticated",),
    "system:public-info-viewer": ("Group system:authenticated", "Group system:unauthenticated"),
    "system:monitoring": ("Group system:monitoring",),
    "system:service-account-issuer-discovery": ("Group system:serviceaccounts",),
    "system:node": (),
    "system:node-proxier": ("User system:kube-proxy",),
    "system:kube-controller-manager": ("User system:kube-controller-manager",),
    "system:kube-dns": ("ServiceAccount kube-system/kube-dns",),
    "system:kube-scheduler": ("User system:kube-scheduler",),
    "system:volume-scheduler": ("User system:kube-scheduler",),
    **{f"system:controller:{name}": (f"ServiceAccount kube-system/{name}",) for name in CONTROLLER_ROLES},
}

_ROLES = {
    ("kube-system", "extension-apiserver-authentication-reader"): (
        f"{_READ} : : configmaps : extension-apiserver-authentication",
        (),
    ),
    ("kube-system", "system::leader-locking-kube-controller-manager"): (
        f"watch : : configmaps\nget update : : configmaps : kube-controller-manager\n{_LEADING}",
        (
            "User system:kube-controller-manager",
            "ServiceAccount kube-system/kube-controller-manager",
            "ServiceAccount kube-system/leader-election-controller",
        ),
    ),
    ("kube-system", "system::leader-locking-kube-scheduler"): (
        f"watch : : configmaps\nget update : : configmaps : kube-scheduler\n{_LEADING}",
        ("User system:kube-scheduler", "ServiceAccount kube-system/kube-scheduler"),
    ),
    ("kube-system", "system:controller:bootstrap-signer"): (
        f"{_READ} : : secrets",
        ("ServiceAccount kube-system/bootstrap-signer",),
    ),
    ("kube-system", "system:controller:cloud-provider"): (
        "create get list watch : : configmaps",
        ("ServiceAccount kube-system/cloud-provider",),
    ),
    ("kube-system", "system:controller:token-cleaner"): (
        f"delete get list watch : : secrets\n{_EVENTS}",
        ("ServiceAccount kube-system/token-cleaner",),
    ),
    ("kube-public", "system:controller:bootstrap-signer"): (
        f"{_READ} : : configmaps\nupdate : : configmaps : cluster-info\n{_EVENTS}",
        ("ServiceAccount kube-system/bootstrap-signer",),
    ),
}

_AUTHENTICATION_READERS = ("User system:kube-controller-manager", "User system:kube-scheduler")


def _parse(text: str) -> list[Obj]:
    rules = []
    for line in text.split("\n"):
        if not line.strip():
            continue
        if "@" in line:
            verbs, _, urls = line.partition("@")
            rule = Rule(tuple(verbs.split()), urls=tuple(urls.split()))
        else:
            # A colon also stands inside resource names such as kubernetes.io/x: only " :" separates.
            verbs, groups, resources, *names = (part.strip() for part in (line + " ").split(" :"))
            rule = Rule(
                tuple(verbs.split()),
                tuple(group.strip() for group in groups.split(",")),
                tuple(resources.split()),
                tuple(names[0].split()) if names else (),
            )
        rules.append(rule.to_obj())
    return rules


def _meta(name: str, namespace: str = "", **labels: str) -> Obj:
    meta: Obj = {
        "name": name,
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults", **labels},
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
    }
    if namespace:
        meta["namespace"] = namespace
    return meta


def _subject(text: str) -> Obj:
    kind, _, name = text.partition(" ")
    if kind == "ServiceAccount":
        namespace, _, name = name.partition("/")
        return {"kind": kind, "name": name, "namespace": namespace}
    return {"kind": kind, "apiGroup": RBAC_GROUP, "name": name}


def _object(kind: str, metadata: Obj, **rest: object) -> Obj:
    return {"apiVersion": f"{RBAC_GROUP}/v1", "kind": kind, "metadata": metadata, **rest}


def _binding(kind: str, metadata: Obj, role_kind: str, role: str, subjects: tuple[str, ...]) -> Obj:
    body = _object(kind, metadata, roleRef={"apiGroup": RBAC_GROUP, "kind": role_kind, "name": role})
    if subjects:
        body["subjects"] = [_subject(subject) for subject in subjects]
    return body


def bootstrap_objects() -> list[Obj]:
    """ClusterRoles, ClusterRoleBindings, Roles and RoleBindings to create at start when they are missing.

    admin, edit and view come with the rules that aggregation gives them, so that they hold before the
    controller has run. The namespaces kube-system and kube-public must exist before the Roles are made.
    """
    rules = {name: _parse(text) for name, text in _CLUSTER_ROLES.items()}
    rules["view"] = rules["system:aggregate-to-view"]
    rules["edit"] = rules["system:aggregate-to-edit"] + rules["view"]
    rules["admin"] = rules["edit"] + rules["system:aggregate-to-admin"]
    objects: list[Obj] = []
    for name, found in rules.items():
        target = _AGGREGATES_TO.get(name)
        labels = {f"{RBAC_GROUP}/{target}": "true"} if target else {}
        role = _object("ClusterRole", _meta(name, **labels), rules=found)
        if name in _AGGREGATED:
            selector = {"matchLabels": {f"{RBAC_GROUP}/{_AGGREGATED[name]}": "true"}}
            role["aggregationRule"] = {"clusterRoleSelectors": [selector]}
        objects.append(role)
    objects += [
        _binding("ClusterRoleBinding", _meta(name), "ClusterRole", name, subjects)
        for name, subjects in _CLUSTER_BINDINGS.items()
    ]
    for (namespace, name), (text, subjects) in _ROLES.items():
        objects.append(_object("Role", _meta(name, namespace), rules=_parse(text)))
        if subjects:
            objects.append(_binding("RoleBinding", _meta(name, namespace), "Role", name, subjects))
    reader = "extension-apiserver-authentication-reader"
    meta = _meta(f"system::{reader}", "kube-system")
    objects.append(_binding("RoleBinding", meta, "Role", reader, _AUTHENTICATION_READERS))
    return objects
