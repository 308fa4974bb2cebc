"""Rules of built-in kinds: what a creation or an update is refused for, in the API's words."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from chandlery.controlplane.builtins import builtin_resources
from chandlery.controlplane.types import Obj, RequestContext, Resource, UserInfo

UID = "11111111-2222-4333-8444-555555555555"


def resource(kind: str) -> Resource:
    """The newest version of a kind."""
    return next(r for r in reversed(builtin_resources()) if r.kind == kind)


def context(kind: str, verb: str, subresource: str = "") -> RequestContext:
    return RequestContext(user=UserInfo("ann"), verb=verb, resource=resource(kind), subresource=subresource)


def made(kind: str, body: str) -> Obj:
    """The object as it is just before it is validated at creation."""
    obj: Obj = yaml.safe_load(body) or {}
    obj["metadata"] = {"name": "a", "uid": UID} | (obj.get("metadata") or {})
    strategy = resource(kind).strategy
    assert strategy.decode(obj) == []
    strategy.default(obj)
    strategy.prepare_for_create(context(kind, "create"), obj)
    return obj


def told(errors: list[Any]) -> list[str]:
    return [f"{error.path}: {error.detail}" for error in errors]


def refused(kind: str, body: str) -> list[str]:
    return told(resource(kind).strategy.validate_create(context(kind, "create"), made(kind, body)))


def changed(kind: str, body: str, *changes: tuple[str, Any], subresource: str = "") -> list[str]:
    """What an update of a valid object is refused for; a change is (path with dots, value), None removes."""
    old = made(kind, body)
    new = copy.deepcopy(old)
    for path, value in changes:
        *parents, last = path.split(".")
        place: Any = new
        for key in parents:
            place = place[int(key)] if isinstance(place, list) else place.setdefault(key, {})
        if value is None:
            place.pop(last)
        else:
            place[int(last) if isinstance(place, list) else last] = value
    strategy, ctx = resource(kind).strategy, context(kind, "update", subresource)
    strategy.default(new)
    strategy.prepare_for_update(ctx, new, old)
    return told(strategy.validate_update(ctx, new, old))


POD_SPEC = "{containers: [{name: c, image: i}]}"
TEMPLATE = f"{{metadata: {{labels: {{app: a}}}}, spec: {POD_SPEC}}}"
DEPLOYMENT = f"spec: {{selector: {{matchLabels: {{app: a}}}}, template: {TEMPLATE}}}"
STATEFUL_SET = f"spec: {{selector: {{matchLabels: {{app: a}}}}, serviceName: s, template: {TEMPLATE}}}"
JOB_TEMPLATE = "{spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}"
JOB = f"spec: {{template: {JOB_TEMPLATE}}}"
SERVICE = "spec: {ports: [{port: 80}]}"
CLAIM = "spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}"
INGRESS_PATH = "{path: /, pathType: Prefix, backend: {service: {name: s, port: {number: 80}}}}"
NON_NEGATIVE = "must be greater than or equal to 0"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("Deployment", DEPLOYMENT),
        ("StatefulSet", STATEFUL_SET),
        ("DaemonSet", DEPLOYMENT),
        ("ReplicaSet", DEPLOYMENT),
        ("Job", JOB),
        ("CronJob", f"spec: {{schedule: '@hourly', jobTemplate: {{{JOB}}}}}"),
        ("Service", SERVICE),
        ("Service", "spec: {clusterIP: None}"),
        ("Service", "spec: {type: ExternalName, externalName: x.example.}"),
        ("PersistentVolumeClaim", CLAIM),
        ("NetworkPolicy", "spec: {podSelector: {}, ingress: [{from: [{podSelector: {}, namespaceSelector: {}}]}]}"),
        ("Ingress", f"spec: {{rules: [{{host: '*.x.example', http: {{paths: [{INGRESS_PATH}]}}}}]}}"),
        ("Lease", "spec: {strategy: OldestEmulationVersion, leaseDurationSeconds: 5}"),
        ("LimitRange", "spec: {limits: [{type: Container, max: {cpu: '2'}, min: {cpu: 100m}, default: {cpu: '1'}}]}"),
        ("ResourceQuota", "spec: {hard: {pods: '3'}, scopes: [BestEffort]}"),
        ("PriorityClass", "{metadata: {name: system-node-critical}, value: 2000001000}"),
        ("EndpointSlice", "{addressType: FQDN, endpoints: [{addresses: [a.example.]}]}"),
        ("StorageClass", "provisioner: x.example/y"),
    ],
)
def test_valid_objects_are_taken(kind: str, body: str) -> None:
    assert refused(kind, body) == []
    assert changed(kind, body, ("metadata.labels", {"a": "b"})) == []


@pytest.mark.parametrize(
    ("kind", "body", "want"),
    [
        (
            "Deployment",
            f"spec: {{replicas: -1, minReadySeconds: -1, selector: {{matchLabels: {{app: b}}}}, template: {TEMPLATE}}}",
            [
                f"spec.replicas: Invalid value: -1: {NON_NEGATIVE}",
                (
                    'spec.template.metadata.labels: Invalid value: {"app":"a"}: `selector` does not match template '
                    "`labels`"
                ),
                f"spec.minReadySeconds: Invalid value: -1: {NON_NEGATIVE}",
            ],
        ),
        (
            "Deployment",
            f"spec: {{selector: {{matchExpressions: [{{key: app, operator: Odd}}]}}, template: {TEMPLATE}}}",
            [
                'spec.selector.matchExpressions[0].operator: Invalid value: "Odd": not a valid selector operator',
                (
                    'spec.selector: Invalid value: {"matchExpressions":[{"key":"app","operator":"Odd"}]}: '
                    "invalid label selector"
                ),
            ],
        ),
        (
            "DaemonSet",
            (
                f"spec: {{selector: {{matchLabels: {{app: a}}}}, template: {TEMPLATE}, updateStrategy: "
                f"{{rollingUpdate: "
                "{maxUnavailable: 0, maxSurge: 120%}}}"
            ),
            ['spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: "120%": must not be greater than 100%'],
        ),
        (
            "StatefulSet",
            STATEFUL_SET.replace("serviceName: s", "serviceName: S_x, ordinals: {start: -1}"),
            [
                f"spec.ordinals.start: Invalid value: -1: {NON_NEGATIVE}",
                (
                    'spec.serviceName: Invalid value: "S_x": a lowercase RFC 1123 label must consist of lower case '
                    "alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. "
                    "'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
                ),
            ],
        ),
        (
            "Job",
            f"spec: {{completionMode: Indexed, parallelism: 100001, template: {JOB_TEMPLATE}, successPolicy: {{}}}}",
            [
                "spec.completions: Required value: when completion mode is Indexed",
                (
                    "spec.parallelism: Invalid value: 100001: must be less than or equal to 100000 when completion "
                    "mode is "
                    "Indexed"
                ),
                (
                    "spec.successPolicy.rules: Required value: at least one rules must be specified when the "
                    "successPolicy "
                    "is specified"
                ),
            ],
        ),
        (
            "Job",
            (
                f"spec: {{completionMode: Indexed, completions: 5, template: {JOB_TEMPLATE}, successPolicy: {{rules: "
                "[{succeededIndexes: '0-1,3', succeededCount: 4}, {succeededIndexes: '3,1'}, {succeededIndexes: '9'}]}}"
            ),
            [
                (
                    "spec.successPolicy.rules[0].succeededCount: Invalid value: 4: must be less than or equal to 3 "
                    "(the "
                    "number of indexes in the specified succeededIndexes field)"
                ),
                (
                    'spec.successPolicy.rules[1].succeededIndexes: Invalid value: "3,1": error parsing '
                    "succeededIndexes: "
                    "non-increasing order, previous: 3, current: 1"
                ),
                (
                    'spec.successPolicy.rules[2].succeededIndexes: Invalid value: "9": error parsing succeededIndexes: '
                    'too large index: "9"'
                ),
            ],
        ),
        (
            "Job",
            (
                f"spec: {{backoffLimitPerIndex: 1, template: {JOB_TEMPLATE}, podFailurePolicy: {{rules: [{{action: "
                f"Ignore, "
                "onExitCodes: {operator: In, values: [3, 0, 3]}}, {action: Count}]}}"
            ),
            [
                "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode",
                (
                    "spec.podFailurePolicy.rules[0].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In "
                    "operator"
                ),
                "spec.podFailurePolicy.rules[0].onExitCodes.values[2]: Duplicate value: 3",
                "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [3,0,3]: must be ordered",
                (
                    "spec.podFailurePolicy.rules[1]: Invalid value: specifying one of OnExitCodes and "
                    "OnPodConditions is "
                    "required"
                ),
            ],
        ),
        (
            "CronJob",
            f"spec: {{schedule: 'TZ=UTC 61 * * * *', timeZone: Mars/Base, jobTemplate: {{{JOB}}}}}",
            [
                'spec.schedule: Invalid value: "TZ=UTC 61 * * * *": end of range (61) above maximum (59): 61',
                (
                    'spec.schedule: Invalid value: "TZ=UTC 61 * * * *": cannot use TZ or CRON_TZ in schedule, use '
                    "timeZone "
                    "field instead"
                ),
                'spec.timeZone: Invalid value: "Mars/Base": unknown time zone Mars/Base',
            ],
        ),
        (
            "HorizontalPodAutoscaler",
            (
                "spec: {maxReplicas: 1, minReplicas: 2, scaleTargetRef: {kind: Deployment, name: d, apiVersion: "
                "apps/v1}, "
                "metrics: [{type: Pods, resource: {name: cpu, target: {type: Utilization, averageUtilization: 0}}}]}"
            ),
            [
                "spec.maxReplicas: Invalid value: 1: must be greater than or equal to `minReplicas`",
                "spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0",
                "spec.metrics[0].pods: Required value: must populate information for the given metric source",
            ],
        ),
        (
            "Service",
            (
                "spec: {type: NodePort, ports: [{name: a, port: 80, nodePort: 30001}, {name: b, port: 80, nodePort: "
                "30001}]}"
            ),
            [
                "spec.ports[1].nodePort: Duplicate value: 30001",
                (
                    "spec.ports[1]: Duplicate value: "
                    '{"Name":"","Protocol":"TCP","AppProtocol":null,"Port":80,"TargetPort":0,'
                    '"NodePort":0}'
                ),
            ],
        ),
        (
            "Service",
            (
                "spec: {ports: [{port: 80, nodePort: 30001}], loadBalancerClass: x.example/y, sessionAffinity: "
                "ClientIP, "
                "sessionAffinityConfig: {clientIP: {timeoutSeconds: 0}}, externalIPs: [127.0.0.1]}"
            ),
            [
                (
                    "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 0: must be greater than 0 "
                    "and less "
                    "than 86400"
                ),
                (
                    'spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, '
                    "::1/128)"
                ),
                "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
                "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
            ],
        ),
        (
            "EndpointSlice",
            (
                "{addressType: IPv6, endpoints: [{addresses: [10.0.0.1]}], ports: [{name: a, port: 1}, {name: a, port: "
                "2}]}"
            ),
            [
                'endpoints[0].addresses[0]: Invalid value: "10.0.0.1": must be a valid IPv6 address',
                'ports[1].name: Duplicate value: "a"',
            ],
        ),
        (
            "Node",
            (
                "spec: {taints: [{key: a, effect: NoSchedule}, {key: a, effect: NoSchedule}], podCIDRs: [10.0.0.0/24, "
                "10.1.0.0/24]}"
            ),
            [
                (
                    "metadata.taints[1]: Duplicate value: "
                    '{"Key":"a","Value":"","Effect":"NoSchedule","TimeAdded":null}: taints '
                    "must be unique by key and effect pair"
                ),
                (
                    'spec.podCIDRs: Invalid value: ["10.0.0.0/24","10.1.0.0/24"]: may specify no more than one '
                    "CIDR for "
                    "each IP family"
                ),
            ],
        ),
        (
            "LimitRange",
            (
                "spec: {limits: [{type: Pod, max: {cpu: '1'}, min: {cpu: '2'}, default: {cpu: '1'}, "
                "maxLimitRequestRatio: {cpu: 900m}}]}"
            ),
            [
                "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
                'spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1',
                'spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: "900m": ratio 900m is less than 1',
                (
                    'spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: "900m": ratio 900m is greater than '
                    "max/min = "
                    "0.500000"
                ),
            ],
        ),
        (
            "ResourceQuota",
            "spec: {hard: {odd: '1', cpu: '1'}, scopes: [BestEffort, NotBestEffort]}",
            [
                'spec.hard[odd]: Invalid value: "odd": must be a standard resource type or fully qualified',
                'spec.hard[odd]: Invalid value: "odd": must be a standard resource for quota',
                'spec.scopes: Invalid value: ["BestEffort","NotBestEffort"]: unsupported scope applied to resource',
                'spec.scopes: Invalid value: ["BestEffort","NotBestEffort"]: conflicting scopes',
            ],
        ),
        (
            "PersistentVolumeClaim",
            (
                "spec: {accessModes: [ReadWriteOncePod, ReadWriteMany], resources: {requests: {storage: '0'}}, "
                "volumeMode: Odd, dataSourceRef: {kind: Thing, name: x}}"
            ),
            [
                "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
                'spec.resources[storage]: Invalid value: "0": must be greater than zero',
                'spec.volumeMode: Unsupported value: "Odd": supported values: "Block", "Filesystem"',
                (
                    "spec.dataSourceRef: Invalid value: \"Thing\": must be 'PersistentVolumeClaim' when "
                    "referencing the default "
                    "apiGroup"
                ),
            ],
        ),
        (
            "StorageClass",
            "{provisioner: '', allowedTopologies: [{matchLabelExpressions: [{key: zone, values: []}]}]}",
            ["provisioner: Required value", "allowedTopologies[0].matchLabelExpressions[0].values: Required value"],
        ),
        (
            "PriorityClass",
            "{metadata: {name: system-node-critical}, value: 1}",
            [
                (
                    "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system "
                    "use only. "
                    "error: value of system-node-critical PriorityClass must be 2000001000"
                )
            ],
        ),
        (
            "Lease",
            "spec: {leaseDurationSeconds: 0, strategy: Odd}",
            [
                "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
                'spec.strategy.strategy: Unsupported value: "Odd": supported values: "OldestEmulationVersion"',
            ],
        ),
        (
            "NetworkPolicy",
            (
                "spec: {podSelector: {}, egress: [{ports: [{port: 90, endPort: 80}], to: [{ipBlock: {cidr: 10.0.0.0/8, "
                "except: [11.0.0.0/16]}, podSelector: {}}]}], policyTypes: [Odd]}"
            ),
            [
                "spec.egress[0].ports[0].endPort: Invalid value: 80: must be greater than or equal to `port`",
                (
                    'spec.egress[0].to[0].ipBlock.except[0]: Invalid value: "11.0.0.0/16": must be a strict subset of '
                    "`cidr`"
                ),
                "spec.egress[0].to[0]: Forbidden: may not specify both ipBlock and another peer",
                'spec.policyTypes[0]: Unsupported value: "Odd": supported values: "Ingress", "Egress"',
            ],
        ),
        (
            "ClusterRoleBinding",
            (
                "{roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: r}, subjects: [{kind: "
                "ServiceAccount, "
                "name: s}, {kind: Odd, name: x}]}"
            ),
            [
                'roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"',
                "subjects[0].namespace: Required value",
                'subjects[1].kind: Unsupported value: "Odd": supported values: "ServiceAccount", "User", "Group"',
            ],
        ),
        (
            "IngressClass",
            "spec: {controller: nowhere, parameters: {kind: K, name: n, scope: Namespace}}",
            [
                'spec.controller: Invalid value: "nowhere": must be a domain-prefixed path (such as "acme.io/foo")',
                "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
            ],
        ),
        (
            "Service",
            (
                "spec: {ports: [{port: 80}], externalIPs: [010.0.0.1, '::ffff:10.0.0.2', 10.0.0.3], type: LoadBalancer,"
                " loadBalancerSourceRanges: [10.0.0.1/8, 10.0.0.0/08, 10.0.0.0/255.0.0.0, '2001:DB8::/32']}"
            ),
            [
                'spec.externalIPs[0]: Invalid value: "010.0.0.1": must not have leading 0s',
                'spec.externalIPs[1]: Invalid value: "::ffff:10.0.0.2": must not be an IPv4-mapped IPv6 address',
                (
                    'spec.LoadBalancerSourceRanges[0]: Invalid value: "10.0.0.1/8": must not have bits set beyond the '
                    "prefix "
                    "length"
                ),
                (
                    'spec.LoadBalancerSourceRanges[1]: Invalid value: "10.0.0.0/08": must not have leading 0s in IP or '
                    "prefix "
                    "length"
                ),
                (
                    'spec.LoadBalancerSourceRanges[2]: Invalid value: "10.0.0.0/255.0.0.0": must be a valid CIDR '
                    "value, (e.g. "
                    "10.9.8.0/24 or 2001:db8::/64)"
                ),
            ],
        ),
        (
            "Secret",
            "{type: kubernetes.io/ssh-auth, data: {ssh-privatekey: ''}}",
            ["data[ssh-privatekey]: Required value"],
        ),
    ],
)
def test_creations_are_refused_in_the_words_and_order_of_the_api(kind: str, body: str, want: list[str]) -> None:
    assert refused(kind, body) == want


@pytest.mark.parametrize(
    ("kind", "body", "changes", "want"),
    [
        (
            "Deployment",
            DEPLOYMENT,
            [("spec.selector.matchLabels", {"app": "b"}), ("spec.template.metadata.labels", {"app": "b"})],
            ['spec.selector: Invalid value: {"matchLabels":{"app":"b"}}: field is immutable'],
        ),
        ("StatefulSet", STATEFUL_SET, [("spec.replicas", 3), ("spec.minReadySeconds", 4)], []),
        (
            "StatefulSet",
            STATEFUL_SET,
            [("spec.serviceName", "other")],
            [
                (
                    "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', "
                    "'template', "
                    "'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and "
                    "'minReadySeconds' are forbidden"
                )
            ],
        ),
        (
            "DaemonSet",
            DEPLOYMENT,
            [("spec.minReadySeconds", -1)],
            [f"spec.minReadySeconds: Invalid value: -1: {NON_NEGATIVE}"] * 2,
        ),
        ("Job", JOB, [("spec.completions", 3)], ["spec.completions: Invalid value: 3: field is immutable"]),
        ("Job", JOB, [("spec.suspend", True), ("spec.parallelism", 7)], []),
        (
            "Service",
            "spec: {clusterIP: 10.0.0.9, ports: [{port: 80}]}",
            [("spec.clusterIP", "10.0.0.8"), ("spec.clusterIPs", ["10.0.0.8"])],
            ['spec.clusterIPs[0]: Invalid value: ["10.0.0.8"]: may not change once set'],
        ),
        (
            "Secret",
            "{immutable: true, data: {a: YQ==}}",
            [("data.a", "Yg=="), ("immutable", False), ("type", "other")],
            [
                'type: Invalid value: "other": field is immutable',
                "immutable: Forbidden: field is immutable when `immutable` is set",
                "data: Forbidden: field is immutable when `immutable` is set",
            ],
        ),
        (
            "StorageClass",
            "provisioner: x.example/y",
            [("provisioner", "x.example/z"), ("reclaimPolicy", "Retain")],
            [
                "provisioner: Forbidden: updates to provisioner are forbidden.",
                "reclaimPolicy: Forbidden: updates to reclaimPolicy are forbidden.",
            ],
        ),
        ("PriorityClass", "value: 5", [("value", 6)], ["value: Forbidden: may not be changed in an update."]),
        (
            "RoleBinding",
            "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: r}",
            [("roleRef.name", "other")],
            [
                (
                    'roleRef: Invalid value: {"APIGroup":"rbac.authorization.k8s.io","Kind":"Role","Name":"other"}: '
                    "cannot change roleRef"
                )
            ],
        ),
        (
            "ResourceQuota",
            "spec: {hard: {pods: '1'}, scopes: [BestEffort]}",
            [("spec.scopes", ["Terminating"])],
            ['spec.scopes: Invalid value: ["Terminating"]: field is immutable'],
        ),
        (
            "EndpointSlice",
            "{addressType: IPv4, endpoints: []}",
            [("addressType", "IPv6")],
            ['addressType: Invalid value: "IPv6": field is immutable'],
        ),
        (
            "IngressClass",
            "spec: {controller: a.example/b}",
            [("spec.controller", "a.example/c")],
            ['spec.controller: Invalid value: "a.example/c": field is immutable'],
        ),
        (
            "Node",
            "spec: {providerID: p, podCIDR: 10.0.0.0/24}",
            [("spec.providerID", "q"), ("spec.podCIDRs", ["10.0.1.0/24"]), ("spec.podCIDR", "10.0.1.0/24")],
            [
                'spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid',
                'spec.providerID: Forbidden: node updates may not change providerID except from "" to valid',
            ],
        ),
    ],
)
def test_updates_keep_what_may_not_change(
    kind: str, body: str, changes: list[tuple[str, Any]], want: list[str]
) -> None:
    assert changed(kind, body, *changes) == want


@pytest.mark.parametrize(
    ("kind", "body", "changes", "want"),
    [
        (
            "Deployment",
            DEPLOYMENT,
            [("status.replicas", 1), ("status.readyReplicas", 2), ("status.availableReplicas", 3)],
            [
                "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas",
                "status.availableReplicas: Invalid value: 3: cannot be greater than status.replicas",
                "status.availableReplicas: Invalid value: 3: cannot be greater than readyReplicas",
            ],
        ),
        (
            "Job",
            JOB,
            [("status.conditions", [{"type": "Complete", "status": "True"}]), ("status.active", 1)],
            [
                "status.completionTime: Required value: completionTime is required for Complete jobs",
                (
                    "status.conditions: Invalid value: cannot set Complete=True condition without the "
                    "SuccessCriteriaMet=true condition"
                ),
                "status.active: Invalid value: 1: active>0 is invalid for finished job",
                "status.startTime: Required value: startTime is required for finished job",
            ],
        ),
        (
            "Namespace",
            "{}",
            [("status.phase", "Terminating")],
            ["status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty"],
        ),
        (
            "ResourceQuota",
            "spec: {hard: {pods: '1'}}",
            [("status.used", {"pods": "-1"})],
            [f'status.used[pods]: Invalid value: "-1": {NON_NEGATIVE}'],
        ),
        ("Service", SERVICE, [("status.conditions", [])], []),
    ],
)
def test_status_updates_have_rules_of_their_own(
    kind: str, body: str, changes: list[tuple[str, Any]], want: list[str]
) -> None:
    assert changed(kind, body, *changes, subresource="status") == want


def test_a_status_update_leaves_the_spec_and_an_update_the_status() -> None:
    old = made("Deployment", DEPLOYMENT)
    new = copy.deepcopy(old)
    new["spec"]["replicas"], new["status"] = 9, {"replicas": 1}
    strategy = resource("Deployment").strategy
    through_status, through_main = copy.deepcopy(new), copy.deepcopy(new)
    strategy.prepare_for_update(context("Deployment", "update", "status"), through_status, old)
    strategy.prepare_for_update(context("Deployment", "update"), through_main, old)
    assert (through_status["spec"]["replicas"], through_status["status"]) == (1, {"replicas": 1})
    assert (through_main["spec"]["replicas"], through_main["status"]) == (9, old["status"])


def test_what_this_version_has_switched_off_is_not_kept() -> None:
    pod = made(
        "Pod",
        "spec: {schedulingGroup: {podGroupName: g}, volumes: [{name: v, projected: {sources: [{podCertificate: "
        "{signerName: x.example/y, keyType: ED25519}}]}}], containers: [{name: c, image: i, lifecycle: "
        "{stopSignal: SIGUSR1}}]}",
    )
    assert "schedulingGroup" not in pod["spec"]
    assert "lifecycle" not in pod["spec"]["containers"][0]
    assert pod["spec"]["volumes"][0]["projected"]["sources"] == [{}]
    rolling = "updateStrategy: {rollingUpdate: {maxUnavailable: 2, partition: 1}}"
    stateful = made("StatefulSet", STATEFUL_SET.replace("serviceName: s", f"serviceName: s, {rolling}"))
    assert stateful["spec"]["updateStrategy"]["rollingUpdate"] == {"partition": 1}
    elsewhere = "dataSourceRef: {kind: PersistentVolumeClaim, name: x, namespace: n}, accessModes"
    claim = CLAIM.replace("accessModes", elsewhere)
    assert "dataSourceRef" not in made("PersistentVolumeClaim", claim)["spec"]


def test_a_pod_fills_in_the_values_of_its_label_keys() -> None:
    spread = (
        "topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, "
        "matchLabelKeys: [v], labelSelector: SELECTOR}]"
    )
    body = f"{{metadata: {{labels: {{v: '1'}}}}, spec: {{containers: [{{name: c, image: i}}], {spread}}}}}"
    fine = body.replace("SELECTOR", "{matchLabels: {app: a}}")
    rules = made("Pod", fine)["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchExpressions"]
    assert rules == [{"key": "v", "operator": "In", "values": ["1"]}]
    assert refused("Pod", fine) == []
    assert refused("Pod", body.replace("SELECTOR", "{matchLabels: {v: '1'}}")) == [
        (
            'spec.topologySpreadConstraints[0].matchLabelKeys[0]: Invalid value: "v": exists in both '
            "matchLabelKeys and "
            "labelSelector"
        )
    ]


def test_a_pod_that_limits_itself_asks_for_what_its_containers_ask() -> None:
    pod = made(
        "Pod",
        "spec: {resources: {limits: {cpu: '2', memory: 1Gi, hugepages-2Mi: 4Mi}}, containers: [{name: c, image: i, "
        "resources: {requests: {cpu: 200m}}}, {name: d, image: i, resources: {requests: {cpu: '1'}}}], initContainers: "
        "[{name: e, image: i, resources: {requests: {cpu: 500m}}}]}",
    )
    assert pod["spec"]["resources"]["requests"] == {"cpu": "1200m", "memory": "1Gi", "hugepages-2Mi": "4Mi"}
