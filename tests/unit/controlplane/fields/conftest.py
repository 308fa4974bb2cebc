"""A custom resource with every way of merging in its schema."""

from __future__ import annotations

from typing import Any

import pytest

from chandlery.controlplane.types import Obj, Resource

SCHEMA: Obj = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "engine": {"type": "string"},
                "size": {"type": "integer"},
                "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
                "atom": {"type": "array", "items": {"type": "string"}},
                "opts": {"type": "object", "additionalProperties": {"type": "string"}},
                "amap": {
                    "type": "object",
                    "additionalProperties": {"type": "string"},
                    "x-kubernetes-map-type": "atomic",
                },
                "users": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {
                            "name": {"type": "string"},
                            "role": {"type": "string"},
                            "caps": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
                        },
                    },
                },
                "ports": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["port", "proto"],
                    "items": {
                        "type": "object",
                        "properties": {
                            "port": {"type": "integer"},
                            "proto": {"type": "string", "default": "TCP"},
                            "note": {"type": "string"},
                        },
                    },
                },
                "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            },
        },
        "status": {"type": "object", "properties": {"ready": {"type": "boolean"}}},
    },
}


@pytest.fixture(scope="session")
def claim() -> Resource:
    return resource()


def resource(**changes: Any) -> Resource:
    """The resource of the tests; parts of it may be replaced."""
    parts: dict[str, Any] = {
        "group": "x.example",
        "version": "v1",
        "plural": "claims",
        "singular": "claim",
        "kind": "Claim",
        "list_kind": "ClaimList",
        "namespaced": True,
        "strategy": None,
        "schema": SCHEMA,
        "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.size"}},
    }
    return Resource(**{**parts, **changes})
