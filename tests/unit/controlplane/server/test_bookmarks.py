"""Bookmarks: objects of the watched type in which nothing but metadata is set, in the form of the other events."""

from __future__ import annotations

import json

import pytest

from chandlery.controlplane.builtins.resources import builtin_resources
from chandlery.controlplane.core import Core
from chandlery.controlplane.server.encode import WatchEncoder
from chandlery.controlplane.server.negotiate import PLAIN, Form
from chandlery.controlplane.store.memory import MemoryStore
from chandlery.controlplane.types import Resource
from chandlery.controlplane.verbs.watch import bookmark_object

META = {"resourceVersion": "5", "annotations": {"k8s.io/initial-events-end": "true"}}
WATCHED = [resource for resource in builtin_resources() if "watch" in resource.verbs]
PODS = next(resource for resource in WATCHED if resource.plural == "pods")


def bookmark(resource: Resource, form: Form) -> dict:
    encoder = WatchEncoder(Core(MemoryStore()), resource, form, "")
    event = json.loads(encoder.bookmark(bookmark_object(resource, META)))
    assert event["type"] == "BOOKMARK"
    return event["object"]


def test_a_plain_one_has_what_the_type_always_has():
    wanted = {"apiVersion": "v1", "kind": "Pod", "metadata": META, "spec": {"containers": None}, "status": {}}
    assert bookmark(PODS, PLAIN) == wanted


def test_metadata_alone():
    found = bookmark(PODS, Form("application/json", "PartialObjectMetadata", "v1"))
    assert found == {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": META}


@pytest.mark.parametrize("resource", WATCHED, ids=lambda resource: f"{resource.group}/{resource.plural}")
def test_every_kind_has_a_row_for_it(resource):
    found = bookmark(resource, Form("application/json", "Table", "v1"))
    assert len(found["rows"][0]["cells"]) == len(found["columnDefinitions"])
    assert found["rows"][0]["object"]["metadata"] == META
