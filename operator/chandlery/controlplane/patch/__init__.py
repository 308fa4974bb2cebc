"""The three client-side patch formats: JSON patch (RFC 6902), merge patch (RFC 7386), strategic merge patch.

None of the functions changes its arguments; the result may share parts with them. Server-side apply
is the fourth patch format and lives in `chandlery.controlplane.fields`.
"""

from __future__ import annotations

from chandlery.controlplane.patch.json_patch import PatchFailedError, explained_json_patch, json_patch
from chandlery.controlplane.patch.merge import merge_patch
from chandlery.controlplane.patch.strategic import strategic_merge_patch

__all__ = ["PatchFailedError", "explained_json_patch", "json_patch", "merge_patch", "strategic_merge_patch"]
