"""Rules of pods beyond the common ones: operating systems, profiles, gates, addresses in the status."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from chandlery.controlplane.builtins import builtin_resources
from chandlery.controlplane.types import Obj, RequestContext, UserInfo

PODS = next(r for r in builtin_resources() if (r.group, r.plural) == ("", "pods"))


def pod(meta: Obj | None = None, container: Obj | None = None, **spec: Any) -> Obj:
    """A pod as it is just before its validation."""
    obj: Obj = {
        "metadata": {"name": "p", "namespace": "d", "uid": "u", **(meta or {})},
        "spec": {"containers": [{"name": "c", "image": "i", **(container or {})}], **spec},
    }
    assert PODS.strategy.decode(obj) == []
    PODS.strategy.default(obj)
    PODS.strategy.prepare_for_create(RequestContext(UserInfo("ann"), "create", PODS, "d", "p"), obj)
    return obj


def told(errors: list[Any]) -> list[str]:
    return [f"{error.path}: {error.detail.splitlines()[0]}" for error in errors]


def refused(obj: Obj) -> list[str]:
    return told(PODS.strategy.validate_create(RequestContext(UserInfo("ann"), "create", PODS, "d", "p"), obj))


def changed(old: Obj, change: Any, subresource: str = "") -> list[str]:
    new = copy.deepcopy(old)
    change(new)
    PODS.strategy.default(new)
    ctx = RequestContext(UserInfo("ann"), "update", PODS, "d", "p", subresource)
    PODS.strategy.prepare_for_update(ctx, new, old)
    return told(PODS.strategy.validate_update(ctx, new, old))


@pytest.mark.parametrize(
    ("given", "want"),
    [
        ({"os": {"name": "x"}}, ['spec.os: Unsupported value: "x": supported values: "linux", "windows"']),
        ({"os": {"name": ""}}, ["spec.os.name: Required value: cannot be empty"]),
        (
            {"os": {"name": "windows"}, "hostPID": True, "securityContext": {"runAsUser": 1}},
            [
                "spec.securityContext.runAsUser: Forbidden: cannot be set for a windows pod",
                "spec.hostPID: Forbidden: cannot be set for a windows pod",
            ],
        ),
        (
            {"os": {"name": "linux"}, "container": {"securityContext": {"windowsOptions": {}}}},
            [
                (
                    "spec.containers[0].securityContext.windowsOptions: Forbidden: "
                    "windows options cannot be set for a linux pod"
                )
            ],
        ),
        (
            {"securityContext": {"windowsOptions": {"hostProcess": True}}},
            [
                (
                    "spec.hostNetwork: Invalid value: false: hostNetwork must be true if pod contains any hostProcess "
                    "containers"
                ),
                "spec: Forbidden: hostProcess containers are disallowed by cluster policy",
            ],
        ),
        (
            {"securityContext": {"windowsOptions": {"runAsUserName": "a b\\...", "gmsaCredentialSpec": ""}}},
            [
                (
                    'spec.securityContext.windowsOptions.gmsaCredentialSpec: Invalid value: "": gmsaCredentialSpec '
                    "cannot be an empty string"
                ),
                (
                    'spec.securityContext.windowsOptions.runAsUserName: Invalid value: "a b\\\\...": runAsUserName\'s '
                    "User cannot contain only periods or spaces"
                ),
            ],
        ),
        (
            {"securityContext": {"seccompProfile": {"type": "Unconfined", "localhostProfile": "x"}}},
            [
                (
                    'spec.securityContext.seccompProfile.localhostProfile: Invalid value: {"Type":"Unconfined",'
                    '"LocalhostProfile":"x"}: can only be set when seccomp type is Localhost'
                )
            ],
        ),
        (
            {"hostPID": True, "shareProcessNamespace": True},
            [
                (
                    "spec.securityContext.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and "
                    "HostPID cannot both be enabled"
                )
            ],
        ),
        (
            {"hostNetwork": True, "securityContext": {"sysctls": [{"name": "net.core.x", "value": "1"}]}},
            [
                (
                    'spec.securityContext.sysctls[0].name: Invalid value: "net.core.x": may not be specified when '
                    "'hostNetwork' is true"
                )
            ],
        ),
        (
            {"meta": {"annotations": {"container.apparmor.security.beta.kubernetes.io/z": "bad"}}},
            [
                (
                    'metadata.annotations[container.apparmor.security.beta.kubernetes.io/z]: Invalid value: "z": '
                    "container not found"
                ),
                (
                    'metadata.annotations[container.apparmor.security.beta.kubernetes.io/z]: Invalid value: "bad": '
                    'invalid AppArmor profile name: "bad"'
                ),
            ],
        ),
        (
            {
                "meta": {"annotations": {"seccomp.security.alpha.kubernetes.io/pod": "unconfined"}},
                "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            },
            [
                "spec.securityContext.seccompProfile.type: Forbidden: seccomp type in annotation and field must match",
            ],
        ),
        (
            {"container": {"resources": {"requests": {"cpu": "2"}}}, "resources": {"requests": {"cpu": "1"}}},
            [
                (
                    'spec.resources.requests[cpu]: Invalid value: "1": must be greater than or equal to aggregate '
                    "container requests of 2"
                )
            ],
        ),
        (
            {"resourceClaims": [{"name": "a", "resourceClaimName": "x"}, {"name": "a", "resourceClaimName": "y"}]},
            ['spec.resourceClaims[1].name: Duplicate value: "a"'],
        ),
        (
            {
                "container": {
                    "env": [
                        {"name": "A", "valueFrom": {"fieldRef": {"apiVersion": "v2", "fieldPath": "spec.nodeName"}}}
                    ]
                }
            },
            [
                (
                    'spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: "spec.nodeName": error '
                    "converting fieldPath: unsupported pod version: v2"
                )
            ],
        ),
        (
            {
                "volumes": [
                    {"name": "v", "iscsi": {"targetPortal": "x", "iqn": "bad", "lun": 0}},
                    {"name": "w", "fc": {"targetWWNs": ["a"]}},
                ]
            },
            [
                'spec.volumes[0].iscsi.iqn: Invalid value: "bad": must be valid format starting with iqn, eui, or naa',
                "spec.volumes[1].fc.lun: Required value: lun is required if targetWWNs is specified",
            ],
        ),
    ],
)
def test_pods_are_refused_in_the_words_of_the_api(given: Obj, want: list[str]) -> None:
    assert sorted(refused(pod(**given))) == sorted(want)


def test_label_keys_of_an_affinity_need_a_selector_and_differ() -> None:
    term = {"topologyKey": "z", "matchLabelKeys": ["a"]}
    where = "podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0]"
    lone = pod(affinity={"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}})
    text = "must not be specified when labelSelector is not set"
    assert refused(lone) == [f"spec.affinity.{where}.matchLabelKeys: Forbidden: {text}"]
    both = {**term, "mismatchLabelKeys": ["a"], "labelSelector": {"matchLabels": {"x": "y"}}}
    both_given = pod(affinity={"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [both]}})
    text = 'Invalid value: "a": exists in both matchLabelKeys and mismatchLabelKeys'
    assert refused(both_given) == [f"spec.affinity.{where}.matchLabelKeys[0]: {text}"]


def test_gates_are_only_taken_away_and_the_place_is_only_narrowed() -> None:
    old = pod(schedulingGates=[{"name": "g"}], nodeSelector={"a": "b"})
    assert changed(old, lambda p: p["spec"].pop("schedulingGates")) == []
    assert changed(old, lambda p: p["spec"]["nodeSelector"].update(c="d")) == []
    assert changed(old, lambda p: p["spec"]["schedulingGates"].append({"name": "h"})) == [
        "spec.schedulingGates[1].name: Forbidden: only deletion is allowed, but found new scheduling gate 'h'"
    ]
    assert changed(old, lambda p: p["spec"]["nodeSelector"].update(a="z")) == [
        (
            'spec.nodeSelector: Invalid value: {"a":"z"}: only additions to spec.nodeSelector are allowed '
            "(no mutations or deletions)"
        )
    ]


def test_a_deadline_is_only_shortened() -> None:
    old = pod(activeDeadlineSeconds=10)
    assert changed(old, lambda p: p["spec"].update(activeDeadlineSeconds=5)) == []
    assert changed(old, lambda p: p["spec"].update(activeDeadlineSeconds=20)) == [
        "spec.activeDeadlineSeconds: Invalid value: 20: must be less than or equal to previous value"
    ]
    assert changed(old, lambda p: p["spec"].pop("activeDeadlineSeconds")) == [
        "spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value"
    ]


def test_the_status_holds_valid_addresses_and_ended_containers_stay_ended() -> None:
    old = pod(restartPolicy="Never")
    old["status"]["containerStatuses"] = [{"name": "c", "state": {"terminated": {"exitCode": 0}}}]

    def change(new: Obj) -> None:
        new["status"]["containerStatuses"] = [
            {"name": "c", "ready": False, "restartCount": 0, "image": "i", "imageID": "", "state": {"running": {}}}
        ]
        new["status"]["podIP"] = "x"
        new["status"]["podIPs"] = [{"ip": "x"}]

    assert changed(old, change, "status") == [
        "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state",
        'status.podIPs[0]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)',
    ]


def test_the_class_of_a_pod_stays_when_its_status_leaves_it_out() -> None:
    old = pod()
    old["status"]["qosClass"] = "BestEffort"
    new = copy.deepcopy(old)
    new["status"] = {"phase": "Running"}
    ctx = RequestContext(UserInfo("ann"), "update", PODS, "d", "p", "status")
    PODS.strategy.prepare_for_update(ctx, new, old)
    assert new["status"] == {"phase": "Running", "qosClass": "BestEffort"}
    assert changed(old, lambda p: p["status"].update(qosClass="Burstable"), "status") == [
        'status.qosClass: Invalid value: "Burstable": field is immutable'
    ]


def with_rules(policy: str | None, *rules: Obj) -> Obj:
    return {"restartPolicyRules": list(rules)} | ({} if policy is None else {"restartPolicy": policy})


CODES = {"operator": "In", "values": [1]}
FIRST = "spec.containers[0].restartPolicyRules[0]"
OVERRIDE = "spec.hostnameOverride: Forbidden: may not be specified when"


@pytest.mark.parametrize(
    ("container", "want"),
    [
        (with_rules("Never", {"action": "Restart", "exitCodes": CODES}), []),
        (
            with_rules(None, {"action": "Restart", "exitCodes": CODES}),
            [
                (
                    "spec.containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules "
                    "are used"
                )
            ],
        ),
        (
            with_rules("Never", {"action": "Stop", "exitCodes": {"operator": "Is", "values": [1]}}),
            [
                f'{FIRST}.action: Unsupported value: "Stop": supported values: "Restart", "RestartAllContainers"',
                f'{FIRST}.exitCodes.operator: Unsupported value: "Is": supported values: "In", "NotIn"',
            ],
        ),
        (with_rules("Never", {"action": "Restart"}), [f"{FIRST}.exitCodes: Required value: must be specified"]),
        (
            with_rules("Never", *[{"action": "Restart", "exitCodes": CODES}] * 21),
            ["spec.containers[0].restartPolicyRules: Too many: 21: must have at most 20 items"],
        ),
        (
            {"env": [{"name": "E", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "p", "key": "K"}}}]},
            ['spec.containers[0].env[0].valueFrom.fileKeyRef.volumeName: Not found: "v"'],
        ),
    ],
)
def test_containers_say_when_they_are_started_again_and_where_values_come_from(container, want):
    assert refused(pod(container=container)) == want


def test_a_file_of_values_is_in_a_volume_of_the_pods_own():
    env = [{"name": "E", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "p", "key": "K"}}}]
    here = "spec.containers[0].env[0].valueFrom.fileKeyRef.volumeName"
    own = {"container": {"env": env}, "volumes": [{"name": "v", "emptyDir": {}}]}
    assert refused(pod(**own)) == []
    own["volumes"] = [{"name": "v", "configMap": {"name": "c"}}]
    assert refused(pod(**own)) == [f'{here}: Invalid value: "v": referenced volume must be of type emptyDir']


def test_a_sidecar_has_no_rules():
    init = {"name": "s", "image": "i", **with_rules("Always", {"action": "Restart", "exitCodes": CODES})}
    assert refused(pod(initContainers=[init])) == [
        (
            "spec.initContainers[0].restartPolicyRules: Forbidden: restartPolicyRules are not allowed for init "
            "containers with restart policy Always"
        )
    ]


@pytest.mark.parametrize(
    ("spec", "want"),
    [
        ({"hostUsers": False, "hostPID": True}, ["spec.HostPID: Forbidden: when `hostUsers` is false"]),
        ({"hostnameOverride": "a", "setHostnameAsFQDN": True}, [f"{OVERRIDE} setHostnameAsFQDN is true"]),
        ({"hostnameOverride": "a", "hostNetwork": True}, [f"{OVERRIDE} hostNetwork is true"]),
        ({"hostnameOverride": "a" * 65}, ["spec.hostnameOverride: Too long: may not be more than 64 bytes"]),
        (
            {
                "resources": {"claims": [{"name": "x"}], "requests": {"cpu": "1"}},
                "container": {"resources": {"requests": {"cpu": 2}}},
            },
            [
                'spec.resources.claims[0].name: Not found: "x"',
                "spec.resources.claims: Forbidden: claims may not be set for Resources at pod-level",
                (
                    'spec.resources.requests[cpu]: Invalid value: "1": must be greater than or equal to aggregate '
                    "container requests of 2"
                ),
            ],
        ),
        (
            {"meta": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "2147483648"}}},
            [
                (
                    "metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: "
                    '"2147483648": must be a 32bit integer'
                )
            ],
        ),
    ],
)
def test_fields_of_a_pod_that_rule_each_other_out(spec, want):
    assert refused(pod(**spec)) == want


@pytest.mark.parametrize(
    ("status", "want"),
    [
        (
            {"conditions": [{"type": "a b", "status": "True", "observedGeneration": -1}]},
            ["status.conditions[0].observedGeneration: Invalid value: -1: must be a non-negative integer"],
        ),
        ({"observedGeneration": -2}, ["status.observedGeneration: Invalid value: -2: must be a non-negative integer"]),
        ({"nominatedNodeName": "n2"}, [
            "status.nominatedNodeName: Forbidden: may not be set on pods that are already bound to a node"
        ]),
        ({"resourceClaimStatuses": [{"name": "x"}]}, [
            ('status.resourceClaimStatuses[0].name: Invalid value: "x": must match the name of an entry in '
            "`spec.resourceClaims`")
        ]),
        ({"containerStatuses": [{"name": "c", "allocatedResourcesStatus": [{"name": "a.b/c", "resources": [
            {"resourceID": "1", "health": "Ill"}]}]}]}, [
            ('status.containerStatuses[0].allocatedResourcesStatus[0].name: Invalid value: "a.b/c": must match one of '
            "the container's resource requests"),
            ('status.containerStatuses[0].allocatedResourcesStatus[0].resources[0].health: Unsupported value: "Ill": '
            'supported values: "Healthy", "Unhealthy", "Unknown"'),
        ]),
        ({"podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.1"}]}, [
            ('status.podIPs: Invalid value: [{"IP":"10.0.0.1"},{"IP":"10.0.0.1"}]: may specify no more than one IP for '
            "each IP family")
        ]),
    ],
)  # fmt: skip
def test_a_status_names_what_the_pod_has(status, want):
    found = changed(pod(nodeName="n"), lambda obj: obj["status"].update(status), "status")
    assert found[: len(want)] == want


@pytest.mark.parametrize(
    ("spec", "change", "want"),
    [
        ({}, {"containers": [{"name": "c", "image": "i"}, {"name": "d", "image": "i"}]}, [
            "spec.containers: Forbidden: containers may not be added or removed on resize"]),
        ({"initContainers": [{"name": "s", "image": "i"}]}, {"initContainers": []}, [
            "spec.initContainers: Forbidden: initContainers may not be added or removed on resize"]),
        ({"initContainers": [{"name": "s", "image": "i"}]}, {"initContainers": [{"name": "t", "image": "i"}]}, [
            "spec.initContainers[0].name: Forbidden: initContainers may not be renamed or reordered on resize"]),
        ({"initContainers": [{"name": "s", "image": "i", "resources": {"limits": {"example.com/x": "1"}}}]},
         {"initContainers": [{"name": "s", "image": "i", "resources": {"limits": {"example.com/x": "2"}}}]}, [
            "spec: Forbidden: resources for non-sidecar init containers are immutable"]),
        ({"os": {"name": "windows"}}, {}, [": Forbidden: windows pods cannot be resized"]),
        ({"resources": {"requests": {"cpu": "1"}}}, {"resources": {"requests": {"memory": "1Gi"}}}, [
            "spec.resources.requests: Forbidden: pod-level resource requests cannot be removed"]),
        ({"resources": {"requests": {"cpu": "1"}}}, {"resources": {"requests": {"cpu": "2"}}}, []),
    ],
)  # fmt: skip
def test_a_resize_keeps_containers_and_bounds(spec, change, want):
    assert changed(pod(**spec), lambda obj: obj["spec"].update(change), "resize") == want
