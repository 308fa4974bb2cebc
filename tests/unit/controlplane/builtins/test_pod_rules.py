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
