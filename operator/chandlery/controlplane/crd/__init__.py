"""CustomResourceDefinitions as data: their defaults and rules, and the resources that they define.

`default_crd`, `validate_crd_create` and `validate_crd_update` serve the CRD kind itself;
`custom_resources` turns an accepted CRD into one `Resource` for each served version, whose strategy is a
`CustomStrategy`.
"""

from __future__ import annotations

from chandlery.controlplane.crd.defaults import default_crd, prepare_crd_create, prepare_crd_update
from chandlery.controlplane.crd.resources import custom_resources
from chandlery.controlplane.crd.strategy import CustomStrategy
from chandlery.controlplane.crd.validation import crd_warnings, validate_crd_create, validate_crd_update

__all__ = [
    "CustomStrategy",
    "crd_warnings",
    "custom_resources",
    "default_crd",
    "prepare_crd_create",
    "prepare_crd_update",
    "validate_crd_create",
    "validate_crd_update",
]
