"""Growing a PersistentVolumeClaim: only when it is bound and its class allows it.

Source: Kubernetes docs, admission controller PersistentVolumeClaimResize.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chandlery.controlplane.admission.common import forbid
from chandlery.controlplane.builtins import quantity
from chandlery.controlplane.types import Obj, RequestContext

if TYPE_CHECKING:
    from chandlery.controlplane.types import LocalApi

_BETA_CLASS = "volume.beta.kubernetes.io/storage-class"


def check_resize(api: LocalApi, ctx: RequestContext, obj: Obj, old: Obj | None) -> None:
    """Raises ApiError 403."""
    if old is None or ctx.subresource or ctx.resource.plural != "persistentvolumeclaims" or ctx.resource.group:
        return
    wanted, had = _size(obj), _size(old)
    if wanted is None or quantity.parse(wanted)[0] <= quantity.parse(had or "0")[0]:
        return
    if (old.get("status") or {}).get("phase") != "Bound":
        raise forbid(ctx, obj, "Only bound persistent volume claims can be expanded")
    name = _class(obj)
    found = api.get("storage.k8s.io", "storageclasses", "", name) if name and name == _class(old) else None
    if not (found or {}).get("allowVolumeExpansion"):
        why = (
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support"
        )
        raise forbid(ctx, obj, f"{why} resize")


def _size(claim: Obj) -> str | None:
    size = (((claim.get("spec") or {}).get("resources") or {}).get("requests") or {}).get("storage")
    return None if size is None else str(size)


def _class(claim: Obj) -> str:
    annotations = claim["metadata"].get("annotations") or {}
    name: str = annotations.get(_BETA_CLASS) or (claim.get("spec") or {}).get("storageClassName") or ""
    return name
