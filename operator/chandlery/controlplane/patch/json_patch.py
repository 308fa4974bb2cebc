from __future__ import annotations

from collections.abc import Mapping  # noqa: F401
from typing import Any

from chandlery.controlplane.types import Obj


def json_patch(doc: Obj, ops: Any) -> Obj:
    raise NotImplementedError
