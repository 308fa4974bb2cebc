from __future__ import annotations

from collections.abc import Mapping  # noqa: F401
from typing import Any

from chandlery.controlplane.types import Obj


def strategic_merge_patch(doc: Obj, patch: Any, schema: Obj, definitions: Mapping[str, Obj]) -> Obj:
    raise NotImplementedError
