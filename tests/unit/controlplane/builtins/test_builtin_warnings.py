"""Warnings: what kube-apiserver 1.36 accepts and shakes its head at."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from chandlery.controlplane.builtins import builtin_resources
from chandlery.controlplane.types import Obj, RequestContext, UserInfo

RESOURCES = {r.plural: r for r in builtin_resources() if r.version == "v1"}
LABELS = {"app": "x"}


def made(plural: str, obj: Obj) -> tuple[Obj, list[str]]:
    """An object as it would be stored, and the warnings on the way."""
    resource = RESOURCES[plural]
    obj = {"metadata": {"name": "p"} | obj.get("metadata", {})} | {k: v for k, v in obj.items() if k != "metadata"}
    obj = copy.deepcopy(obj)
    if resource.namespaced:
        obj["metadata"]["namespace"] = "d"
    ctx = RequestContext(UserInfo("ann"), "create", resource, "d", "p")
    assert resource.strategy.decode(obj) == []
    resource.strategy.default(obj)
    resource.strategy.prepare_for_create(ctx, obj)
    return obj, [*ctx.warnings, *resource.strategy.warnings(ctx, obj, None)]


def pod(**spec: Any) -> list[str]:
    meta = spec.pop("metadata", {})
    return made("pods", {"metadata": meta, "spec": {"containers": [{"name": "c", "image": "i"}], **spec}})[1]


def one(**container: Any) -> list[str]:
    return pod(containers=[{"name": "c", "image": "i", **container}])


ZONE = "failure-domain.beta.kubernetes.io/zone"
OLD_ZONE = 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead'
NEEDED = "requiredDuringSchedulingIgnoredDuringExecution"
NO_POD = "a null labelSelector results in matching no pod"
PORT = {"containerPort": 80}
FIRST = "spec.containers[0]"
SECCOMP = "seccomp.security.alpha.kubernetes.io/pod"
APPARMOR = "container.apparmor.security.beta.kubernetes.io/c"
ITEMS = [{"key": "k", "path": "a"}, {"key": "l", "path": "a/b"}]


@pytest.mark.parametrize(
    ("spec", "want"),
    [
        ({}, []),
        ({"nodeSelector": {ZONE: "z"}}, [f"spec.nodeSelector[{ZONE}]: {OLD_ZONE}"]),
        ({"nodeSelector": {"node-role.kubernetes.io/master": ""}}, [
            'spec.nodeSelector[node-role.kubernetes.io/master]: use "node-role.kubernetes.io/control-plane" instead']),
        ({"affinity": {"podAntiAffinity": {NEEDED: [{"topologyKey": "k"}]}}}, [
            f"spec.affinity.podAntiAffinity.{NEEDED}[0].labelSelector: {NO_POD}"]),
        ({"hostAliases": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.1"}]}, [
            'spec.hostAliases[1].ip: duplicate ip "10.0.0.1"']),
        ({"imagePullSecrets": [{"name": "a"}, {"name": "a"}, {}]}, [
            'spec.imagePullSecrets[1].name: duplicate name "a"',
            'spec.imagePullSecrets[2].name: invalid empty name ""']),
        ({"volumes": [{"name": "v", "storageos": {"volumeName": "v"}}]}, [
            "spec.volumes[0].storageOS: deprecated in v1.22, non-functional in v1.25+"]),
        ({"volumes": [{"name": "v", "configMap": {"name": "m", "items": ITEMS}}]}, [
            'volume "v" (ConfigMap "m"): overlapping paths: "a/b" with "a"']),
        ({"volumes": [{"name": "v", "projected": {"sources": [
            {"secret": {"name": "s", "items": ITEMS[:1]}}, {"serviceAccountToken": {"path": "a/t"}}, {}]}}]}, [
            'volume "v" (Projected) has no sources provided',
            'volume "v" (Projected): overlapping paths: "a/t" (ServiceAccountToken) with "a" (Secret "s")']),
        ({"metadata": {"annotations": {SECCOMP: "unconfined"}}}, [
            f'metadata.annotations[{SECCOMP}]: non-functional in v1.27+; use the "seccompProfile" field instead']),
        ({"metadata": {"annotations": {APPARMOR: "unconfined"}}}, [
            f'metadata.annotations[{APPARMOR}]: deprecated since v1.30; use the "appArmorProfile" field instead']),
        ({"metadata": {"name": "a.b"}}, [
            ("metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label "
            "is recommended: [must not contain dots]")]),
    ],
)  # fmt: skip
def test_pods(spec, want):
    assert pod(**spec) == want


@pytest.mark.parametrize(
    ("container", "want"),
    [
        ({"resources": {"requests": {"memory": "100m"}}}, [
            f'{FIRST}.resources.requests[memory]: fractional byte value "100m" is invalid, must be an integer']),
        ({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "$(A)2"}]}, []),
        ({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "$(A)"}]}, [
            f'{FIRST}.env[1]: hides previous definition of "A", which may be dropped when using apply']),
        ({"ports": [PORT, PORT]}, [f"{FIRST}.ports[1]: duplicate port definition with {FIRST}.ports[0]"]),
        ({"ports": [PORT, PORT | {"hostPort": 1}]}, [
            f"{FIRST}.ports[1]: overlapping port definition with {FIRST}.ports[0]"]),
        ({"ports": [PORT | {"hostIP": "10.0.0.1"}]}, [
            (f"{FIRST}.ports[0]: hostIP set without hostPort: {{Name: HostPort:0 ContainerPort:80 Protocol:TCP "
            "HostIP:10.0.0.1}")]),
        ({"ports": [PORT | {"hostPort": 1}, PORT | {"hostPort": 1, "hostIP": "10.0.0.1"}]}, [
            f"{FIRST}.ports[1]: dangerously ambiguous port definition with {FIRST}.ports[0]"]),
    ],
)  # fmt: skip
def test_containers(container, want):
    assert one(**container) == want


def test_ports_of_one_name_in_two_containers():
    ports = [{"name": "web", "containerPort": number} for number in (80, 81)]
    first, second = ({"name": name, "image": "i", "ports": [port]} for name, port in zip("ab", ports, strict=True))
    assert pod(containers=[first, second]) == [
        (
            f'spec.containers[1].ports[0]: duplicate port name "web" with {FIRST}.ports[0], services and probes that '
            f"select ports by name will use {FIRST}.ports[0]"
        )
    ]


def test_profiles_that_annotations_name_come_into_the_containers():
    found, _ = made(
        "pods",
        {
            "metadata": {"annotations": {APPARMOR: "localhost/a"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        },
    )
    profile = {"type": "Localhost", "localhostProfile": "a"}
    assert found["spec"]["containers"][0]["securityContext"] == {"appArmorProfile": profile}


def template(**spec: Any) -> Obj:
    return {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "c", "image": "i"}], **spec}}


WORKLOAD = {"selector": {"matchLabels": LABELS}, "template": template(nodeSelector={ZONE: "z"})}


@pytest.mark.parametrize(
    ("plural", "obj", "want"),
    [
        ("deployments", {"spec": WORKLOAD}, [f"spec.template.spec.nodeSelector[{ZONE}]: {OLD_ZONE}"]),
        ("daemonsets", {"spec": WORKLOAD}, [f"spec.template.spec.nodeSelector[{ZONE}]: {OLD_ZONE}"]),
        ("podtemplates", {"template": WORKLOAD["template"]}, [f"template.spec.nodeSelector[{ZONE}]: {OLD_ZONE}"]),
        ("statefulsets", {"spec": {**WORKLOAD, "template": template(), "revisionHistoryLimit": -1}}, [
            ("spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is "
            "recommended")]),
        ("persistentvolumeclaims", {"spec": {"resources": {"limits": {"storage": "100m"}}}}, [
            'spec.resources.limits[storage]: fractional byte value "100m" is invalid, must be an integer']),
        ("persistentvolumes", {"spec": {"rbd": {"monitors": ["m"], "image": "i"}}}, [
            "spec.rbd: deprecated in v1.28, non-functional in v1.31+"]),
        ("storageclasses", {"provisioner": "p", "allowedTopologies": [
            {"matchLabelExpressions": [{"key": ZONE, "values": ["z"]}]}]}, [
            f"allowedTopologies[0].matchLabelExpressions[0].key: {ZONE} is {OLD_ZONE}"]),
        ("runtimeclasses", {"handler": "h", "scheduling": {"nodeSelector": {ZONE: "z"}}}, [
            f"scheduling.nodeSelector: {OLD_ZONE}"]),
        ("nodes", {"spec": {"externalID": "x"}}, [
            "spec.externalID: this field is deprecated, and is unused by Kubernetes"]),
        ("endpointslices", {"addressType": "FQDN", "endpoints": []}, [
            "spec.addressType: FQDN endpoints are deprecated"]),
    ],
)  # fmt: skip
def test_kinds(plural, obj, want):
    assert made(plural, obj)[1] == want


def test_an_update_warns_again_only_when_the_spec_changed():
    old, _ = made("deployments", {"spec": WORKLOAD})
    strategy = RESOURCES["deployments"].strategy
    ctx = RequestContext(UserInfo("ann"), "update", RESOURCES["deployments"], "d", "p")
    assert strategy.warnings(ctx, old | {"metadata": {"name": "p", "labels": LABELS}}, old) == []
    assert len(strategy.warnings(ctx, old | {"spec": old["spec"] | {"replicas": 3}}, old)) == 1
    first, _ = made("pods", {"spec": WORKLOAD["template"]["spec"]})
    assert RESOURCES["pods"].strategy.warnings(ctx, first | {"spec": {}}, first) == []
