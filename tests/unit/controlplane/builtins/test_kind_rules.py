"""Rules of kinds that the recordings reach only here and there: what kube-apiserver 1.36 says, each cause of it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from builtin_rules import RESOURCES, context, made, refused, told

from chandlery.controlplane.types import Obj

LABELS = {"app": "x"}
POD = {"containers": [{"name": "c", "image": "i"}]}
TEMPLATE = {"metadata": {"labels": LABELS}, "spec": POD}
WORKLOAD = {"selector": {"matchLabels": LABELS}, "template": TEMPLATE}
MISSING = "Required value"
LOWER = "a lowercase RFC 1123 subdomain"


def changed(plural: str, old: Obj, new: Obj) -> list[str]:
    before, after = made(plural, old), made(plural, new)
    strategy = RESOURCES[plural].strategy
    strategy.prepare_for_update(context(plural, "update"), after, before)
    return told(strategy.validate_update(context(plural, "update"), after, before))


def ingress(**meta: Any) -> Obj:
    backend = {"service": {"name": "s", "port": {"number": 80}}}
    return {"metadata": meta, "spec": {"ingressClassName": "a", "defaultBackend": backend}}


def attachment(**status: Any) -> Obj:
    return {"spec": {"attacher": "a.b", "nodeName": "n", "source": {"persistentVolumeName": "v"}}, "status": status}


def in_place(**volume: Any) -> Obj:
    return {"spec": {"attacher": "a.b", "nodeName": "n", "source": {"inlineVolumeSpec": volume}}}


INLINE = "spec.source.inlineVolumeSpec"
CSI = {"csi": {"driver": "a.b", "volumeHandle": "h"}, "accessModes": ["ReadWriteOnce"]}
IN_PLACE = "specified in the context of inline volumes"


@pytest.mark.parametrize(
    ("plural", "obj", "want"),
    [
        ("controllerrevisions", {"revision": 1, "data": {"a": 1}}, []),
        ("controllerrevisions", {"revision": 1}, [f"data: {MISSING}: data is mandatory"]),
        ("controllerrevisions", {"revision": 1, "data": "x"}, [f"data: {MISSING}: data must be a valid JSON object"]),
        (
            "ingresses",
            ingress(annotations={"kubernetes.io/ingress.class": "b"}),
            [
                (
                    'annotations.kubernetes.io/ingress.class: Invalid value: "b": must match `ingressClassName` when '
                    "both are specified"
                )
            ],
        ),
        (
            "ingressclasses",
            {"spec": {"controller": "a.b/c d"}},
            [
                (
                    'spec.controller: Invalid value: "c d": Invalid path (regex used for validation is '
                    "'[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')"
                )
            ],
        ),
        ("csinodes", {"spec": {"drivers": [{"name": "", "nodeID": "n", "topologyKeys": ["a", "a"]}]}}, None),
        ("csistoragecapacities", {"storageClassName": "s", "maximumVolumeSize": "-1"}, []),
        (
            "volumeattachments",
            in_place(**CSI, storageClassName="s", volumeMode="Block", persistentVolumeReclaimPolicy="Delete"),
            [
                (
                    f"{INLINE}.persistentVolumeReclaimPolicy: Forbidden: may only be Retain in the context of inline "
                    "volumes"
                ),
                f"{INLINE}.storageClassName: Forbidden: may not be {IN_PLACE}",
                (
                    f"{INLINE}.volumeMode: Forbidden: may not specify volumeMode other than Filesystem in the context "
                    "of inline volumes"
                ),
            ],
        ),
        (
            "volumeattachments",
            in_place(accessModes=["ReadWriteOnce"]),
            [f"{INLINE}.csi: {MISSING}: has to be {IN_PLACE}", f"{INLINE}: {MISSING}: must specify a volume type"],
        ),
        (
            "servicecidrs",
            {"spec": {"cidrs": ["10.1.0.0/24", "10.2.0.0/24"]}},
            [
                (
                    'spec.cidrs: Invalid value: ["10.1.0.0/24","10.2.0.0/24"]: may specify no more than one IP for '
                    "each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
                )
            ],
        ),
        (
            "servicecidrs",
            {"spec": {"cidrs": ["2001:DB8::/64"]}},
            ['spec.cidrs[0]: Invalid value: "2001:DB8::/64": must be in canonical form ("2001:db8::/64")'],
        ),
        (
            "statefulsets",
            {"spec": {**WORKLOAD, "template": {"metadata": {"labels": LABELS | {"b": "-"}}, "spec": POD}}},
            None,
        ),
    ],
)
def test_a_creation_is_refused_for_every_fault(plural, obj, want):
    found = refused(plural, obj)
    if plural == "statefulsets":  # told twice, there and here
        assert [one.split(":")[0] for one in found] == ["spec.template.labels"] * 2
    elif plural == "csinodes":
        assert [one.split(": ")[:2] for one in found] == [
            ["spec.drivers[0].name", "Invalid value"],
            ["spec.drivers[0].name", MISSING],
            ["spec.drivers[0]", "Duplicate value"],
        ]
    else:
        assert found == sorted(want)


def node(**driver: Any) -> Obj:
    return {"spec": {"drivers": [{"name": "a.b", "nodeID": "n", **driver}]}}


def stateful(**spec: Any) -> Obj:
    return {"spec": {**WORKLOAD, "serviceName": "s", **spec}}


@pytest.mark.parametrize(
    ("plural", "old", "new", "want"),
    [
        ("controllerrevisions", {"revision": 1, "data": {"a": 1}}, {"revision": 2, "data": {"a": 1}}, []),
        ("csinodes", node(), node(allocatable={"count": 2}), []),
        (
            "csinodes",
            node(),
            node(topologyKeys=["a"]),
            [
                (
                    'spec.drivers: Invalid value: {"Name":"a.b","NodeID":"n","TopologyKeys":["a"],"Allocatable":null}: '
                    "field is immutable"
                )
            ],
        ),
        (
            "volumeattachments",
            attachment(),
            {"spec": attachment()["spec"] | {"nodeName": "o"}},
            [
                (
                    'spec: Invalid value: {"Attacher":"a.b","Source":{"PersistentVolumeName":"v","InlineVolumeSpec":'
                    'null},"NodeName":"o"}: field is immutable'
                )
            ],
        ),
        (
            "ipaddresses",
            {"spec": {"parentRef": {"resource": "services", "name": "a"}}},
            {"spec": {"parentRef": {"resource": "services", "name": "b"}}},
            [
                (
                    'spec.parentRef: Invalid value: {"Group":"","Resource":"services","Namespace":"","Name":"b"}: '
                    "field is immutable"
                )
            ],
        ),
        (
            "servicecidrs",
            {"spec": {"cidrs": ["10.1.0.0/24"]}},
            {"spec": {"cidrs": ["10.2.0.0/24"]}},
            ['spec.cidrs[0]: Invalid value: "10.2.0.0/24": field is immutable'],
        ),
        ("servicecidrs", {"spec": {"cidrs": ["10.1.0.0/24"]}}, {"spec": {"cidrs": ["10.1.0.0/24", "fd00::/64"]}}, []),
        (
            "statefulsets",
            stateful(),
            stateful(volumeClaimTemplates=[{"metadata": {"name": "d"}, "spec": {}}]),
            [
                (
                    "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', "
                    "'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and "
                    "'minReadySeconds' are forbidden"
                )
            ],
        ),
    ],
)
def test_an_update_keeps_what_is_fixed(plural, old, new, want):
    assert changed(plural, old, new) == want


def test_a_failure_to_attach_is_told_in_few_words():
    plural, old = "volumeattachments", made("volumeattachments", attachment())
    ctx = context(plural, "update")
    ctx.subresource = "status"
    new = copy.deepcopy(old) | {"status": {"attached": False, "attachError": {"message": "x" * 1025, "errorCode": -1}}}
    assert told(RESOURCES[plural].strategy.validate_update(ctx, new, old)) == [
        "status.attachError.errorCode: Invalid value: -1: must be between 0 and 2147483647, inclusive",
        "status.attachError.message: Too long: may not be more than 262144 bytes",
    ]
