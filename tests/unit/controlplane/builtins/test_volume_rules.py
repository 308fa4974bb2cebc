"""Volumes of pods, claims and PersistentVolumes: each source's own rules, as kube-apiserver 1.36 has them."""

from __future__ import annotations

import copy
from typing import Any

import builtin_rules
import pytest
from builtin_rules import RESOURCES, context, told

from chandlery.controlplane.types import Obj


def made(plural: str, **spec: Any) -> Obj:
    return builtin_rules.made(plural, {"spec": spec})


def refused(plural: str, **spec: Any) -> list[str]:
    return builtin_rules.refused(plural, {"spec": spec})


def changed(plural: str, old: Obj, change: Any) -> list[str]:
    new = copy.deepcopy(old)
    change(new)
    strategy = RESOURCES[plural].strategy
    strategy.prepare_for_update(context(plural, "update"), new, old)
    return told(strategy.validate_update(context(plural, "update"), new, old))


REQUIRED = "Required value"


def volumes(*found: Obj) -> list[str]:
    named = [{"name": f"v{index}", **one} for index, one in enumerate(found)]
    return refused("pods", containers=[{"name": "c", "image": "i"}], volumes=named)


@pytest.mark.parametrize(
    ("source", "want"),
    [
        (
            {"nfs": {"server": "s", "path": ""}},
            [f"nfs.path: {REQUIRED}", 'nfs.path: Invalid value: "": must be an absolute path'],
        ),
        (
            {"gitRepo": {"repository": "r", "directory": "/x"}},
            ['gitRepo.directory: Invalid value: "/x": must be a relative path'],
        ),
        (
            {"gcePersistentDisk": {"pdName": "", "partition": 256}},
            [
                "persistentDisk.partition: Invalid value: 256: must be between 1 and 255, inclusive",
                f"persistentDisk.pdName: {REQUIRED}",
            ],
        ),
        ({"flocker": {}}, [f"flocker: {REQUIRED}: one of datasetName and datasetUUID is required"]),
        (
            {"quobyte": {"registry": "nowhere", "volume": "v"}},
            [
                (
                    'quobyte.registry: Invalid value: "nowhere": must be a host:port pair or multiple pairs separated '
                    "by commas"
                )
            ],
        ),
        (
            {"flexVolume": {"driver": "a/b", "options": {"x.k8s.io/y": "z"}}},
            [
                (
                    'flexVolume.options[x.k8s.io/y]: Invalid value: "x.k8s.io/y": kubernetes.io and k8s.io namespaces '
                    "are reserved"
                )
            ],
        ),
        (
            {"azureDisk": {"diskName": "d", "diskURI": "u", "kind": "Managed", "cachingMode": "Odd"}},
            [
                'azureDisk.cachingMode: Unsupported value: "Odd": supported values: "None", "ReadOnly", "ReadWrite"',
                (
                    'azureDisk.diskURI: Unsupported value: "u": supported values: "/subscriptions/{sub-id}/'
                    'resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"'
                ),
            ],
        ),
        (
            {"storageos": {"secretRef": {}}},
            [f"storageos.secretRef.name: {REQUIRED}", f"storageos.volumeName: {REQUIRED}"],
        ),
        (
            {"iscsi": {"targetPortal": "t", "iqn": "naa.x", "lun": 256, "initiatorName": "x"}},
            [
                'iscsi.initiatorname: Invalid value: "x": must be valid format starting with iqn, eui, or naa',
                'iscsi.iqn: Invalid value: "naa.x": must be valid format',
                "iscsi.lun: Invalid value: 256: must be between 0 and 255, inclusive",
            ],
        ),
        ({"csi": {"driver": "d", "nodePublishSecretRef": {"name": "A"}}}, None),
        (
            {"downwardAPI": {"items": [{"path": "a"}, {"path": "../b", "fieldRef": {"fieldPath": "metadata.name"}}]}},
            [
                f"downwardAPI: {REQUIRED}: one of fieldRef and resourceFieldRef is required",
                "downwardAPI.path: Invalid value: \"../b\": must not contain '..'",
            ],
        ),
        (
            {"projected": {"sources": [{"secret": {"name": "s"}, "configMap": {"name": "c"}}, {}]}},
            ["projected.sources[0]: Forbidden: may not specify more than 1 volume type per source"],
        ),
        (
            {
                "projected": {
                    "sources": [
                        {"secret": {"name": "s", "items": [{"key": "k", "path": "a"}]}},
                        {"configMap": {"name": "c", "items": [{"key": "k", "path": "a"}]}},
                        {"serviceAccountToken": {"path": "/a", "expirationSeconds": 5}},
                    ]
                }
            },
            [
                'projected: Invalid value: "c": conflicting duplicate paths',
                'projected.path: Invalid value: "/a": must be a relative path',
                (
                    "projected.sources[2].serviceAccountToken.expirationSeconds: Invalid value: 5: may not specify a "
                    "duration less than 10 minutes"
                ),
            ],
        ),
        (
            {"emptyDir": {}, "cephfs": {}, "downwardAPI": {}},
            [
                "cephFS: Forbidden: may not specify more than 1 volume type",
                "downwarAPI: Forbidden: may not specify more than 1 volume type",
            ],
        ),
    ],
)
def test_every_source_of_a_pods_volume_has_its_rules(source, want):
    found = volumes(source)
    if want is None:
        assert len(found) == 1
        assert found[0].startswith('spec.volumes[0].csi.name: Invalid value: "A": a lowercase RFC 1123 subdomain')
        return
    assert found == sorted(f"spec.volumes[0].{one}" for one in want)


def test_a_claim_that_a_pod_makes_is_not_named_by_another_volume():
    template = {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}
    made_here = {"ephemeral": {"volumeClaimTemplate": template}}
    assert volumes(made_here, {"persistentVolumeClaim": {"claimName": "p-v0"}}) == [
        (
            'spec.volumes[1].persistentVolumeClaim.claimName: Invalid value: "p-v0": must not reference a PVC that '
            "gets created for an ephemeral volume"
        )
    ]
    named = {"ephemeral": {"volumeClaimTemplate": {"metadata": {"name": "x", "labels": {"a": "b"}}, **template}}}
    assert volumes(named) == ["spec.volumes[0].ephemeral.volumeClaimTemplate.metadata.name: Forbidden: cannot be set"]


VOLUME = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]}


@pytest.mark.parametrize(
    ("source", "want"),
    [
        ({"local": {"path": "/a/../b"}}, [
            f"spec.nodeAffinity: {REQUIRED}: Local volume requires node affinity",
            "spec.local.path: Invalid value: \"/a/../b\": must not contain '..'",
        ]),
        ({"cinder": {"volumeID": "v", "secretRef": {"name": "s"}}}, [f"spec.cinder.secretRef.namespace: {REQUIRED}"]),
        ({"azureFile": {"secretName": "s", "shareName": "t", "secretNamespace": ""}}, [
            f"spec.azureFile.secretNamespace: {REQUIRED}"]),
        ({"glusterfs": {"endpoints": "e", "path": "p", "endpointsNamespace": ""}}, [
            ('spec.glusterfs.endpointsNamespace: Invalid value: "": if the endpointnamespace is set, it must be a '
            "valid namespace name")
        ]),
        ({"iscsi": {"targetPortal": "t", "iqn": "x", "lun": 0}}, [
            'spec.iscsi.iqn: Invalid value: "x": must be valid format']),
    ],
)  # fmt: skip
def test_every_source_of_a_volume_has_its_rules(source, want):
    assert refused("persistentvolumes", **VOLUME, **source) == sorted(want)


def test_a_volumes_place_is_kept_but_for_newer_names_of_labels():
    def at(zone: str) -> Obj:
        rule = {"key": "topology.kubernetes.io/zone", "operator": "In", "values": [zone]}
        return {"required": {"nodeSelectorTerms": [{"matchExpressions": [rule]}]}}

    old = made("persistentvolumes", **VOLUME, local={"path": "/a"}, nodeAffinity=at("a"))
    found = changed("persistentvolumes", old, lambda obj: obj["spec"].update(nodeAffinity=at("b")))
    assert len(found) == 1
    assert found[0].endswith(": field is immutable, except for updating from beta label to GA")


@pytest.mark.parametrize(("now", "word"), [(None, "nil"), ("", "empty string")])
def test_a_claims_class_of_attributes_is_kept_once_it_is_in_use(now, word):
    old = made(
        "persistentvolumeclaims",
        accessModes=["ReadWriteOnce"],
        resources={"requests": {"storage": "1Gi"}},
        volumeAttributesClassName="fast",
    )
    old["status"] = {"phase": "Bound", "capacity": {"storage": "1Gi"}}

    def change(obj: Obj) -> None:
        obj["spec"].pop("volumeAttributesClassName")
        if now is not None:
            obj["spec"]["volumeAttributesClassName"] = now

    assert changed("persistentvolumeclaims", old, change) == []
    old["status"]["currentVolumeAttributesClassName"] = "fast"
    assert changed("persistentvolumeclaims", old, change) == [
        (
            f"spec.volumeAttributesClassName: Forbidden: update to {word} is forbidden when "
            "status.currentVolumeAttributesClassName is not nil"
        )
    ]
