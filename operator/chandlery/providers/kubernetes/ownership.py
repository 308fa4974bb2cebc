"""Whose a child is: names, labels, owner references. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chandlery.driver.objects import ResourceType
from chandlery.driver.protocol import external_name
from chandlery.model.base import AnyResource
from chandlery.providers.kubernetes.types import OWNER_UID, Obj

_LABEL = re.compile(r"^[a-z]([-a-z0-9]*[a-z0-9])?$")
LONGEST = 40
"""Of a base name: suffixes, a pod's number and a revision's hash must fit into 63 characters behind it."""


def base_name(name: str, kind: str) -> str:
    """The name of an object's children: `orders-cache`; shortened, with a hash, when it wouldn't be a DNS label."""
    plain = f"{name}-{kind.lower()}"
    if len(plain) <= LONGEST and _LABEL.match(plain):
        return plain
    digest = hashlib.sha256(plain.encode()).hexdigest()[:8]
    clean = re.sub(r"[^a-z0-9]+", "-", name.lower())[: LONGEST - len(kind) - 12].strip("-")
    return f"x{clean}-{digest}-{kind.lower()}" if not clean[:1].isalpha() else f"{clean}-{digest}-{kind.lower()}"


@dataclass(frozen=True, slots=True)
class Owner:
    """The object whose children are built."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str
    identity: str
    """`external_name` of the object."""
    app: str
    """What runs: valkey, postgresql, ..."""

    @classmethod
    def of(cls, obj: AnyResource, app: str) -> Owner:
        meta = obj.metadata
        return cls(obj.api_version, obj.kind, meta.namespace, meta.name, meta.uid, external_name(obj), app)

    @property
    def base(self) -> str:
        return base_name(self.name, self.kind)

    @property
    def selector(self) -> dict[str, str]:
        """Labels that all pods of the object have, and no others."""
        return {"app.kubernetes.io/instance": self.identity, "app.kubernetes.io/managed-by": "chandlery"}

    @property
    def labels(self) -> dict[str, str]:
        return {
            **self.selector,
            "app.kubernetes.io/name": self.app,
            "app.kubernetes.io/part-of": self.name[:63].rstrip("-."),
            "chandlery.dev/kind": self.kind,
            OWNER_UID: self.uid,
        }

    def child(self, kind: ResourceType, suffix: str = "", **body: Any) -> Obj:
        """A child named `<base><suffix>` with labels and the controlling owner reference."""
        return {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": {
                "name": self.base + suffix,
                "namespace": self.namespace,
                "labels": self.labels,
                "ownerReferences": [
                    {
                        "apiVersion": self.api_version,
                        "kind": self.kind,
                        "name": self.name,
                        "uid": self.uid,
                        "controller": True,
                        "blockOwnerDeletion": False,
                    }
                ],
            },
            **body,
        }


def annotated(obj: Obj, annotations: Mapping[str, str]) -> Obj:
    """The object with further annotations."""
    meta = obj["metadata"]
    return {**obj, "metadata": {**meta, "annotations": {**meta.get("annotations", {}), **annotations}}}
