"""Owner references: the same owner twice is told about and kept once."""

from __future__ import annotations

from chandlery.controlplane.types import Obj, RequestContext


def dedup_owners(ctx: RequestContext, obj: Obj) -> None:
    """Drop repeated references in place, with the real server's warning."""
    owners = obj["metadata"].get("ownerReferences")
    if not owners or len(owners) < 2:
        return
    kept: list[Obj] = []
    doubled: list[str] = []
    for owner in owners:
        if owner in kept:
            uid = owner.get("uid", "")
            if uid not in doubled:
                doubled.append(uid)
        else:
            kept.append(owner)
    if doubled:
        obj["metadata"]["ownerReferences"] = kept
        warning = (
            ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and "
            "may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: "
            + ", ".join(doubled)
        )
        if warning not in ctx.warnings:
            ctx.warnings.append(warning)
