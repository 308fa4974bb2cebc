"""Delete and deletecollection: preconditions, finalizers, propagation."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import orjson

from chandlery.controlplane import errors, metadata
from chandlery.controlplane.cache import Entry
from chandlery.controlplane.core import Core
from chandlery.controlplane.store.base import Conflict
from chandlery.controlplane.types import ApiError, FieldError, Obj, RequestContext, Resource
from chandlery.controlplane.verbs.options import ListOptions, Query, as_flag, as_int, dry_run_problems
from chandlery.controlplane.verbs.read import Listing, list_

ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"
CRD_FINALIZER = "customresourcecleanup.apiextensions.k8s.io"
_ATTEMPTS = 6
_POLICIES = ("Background", "Foreground", "Orphan")
_ORPHANED = frozenset({("", "replicationcontrollers"), ("batch", "jobs")})
"""Kinds whose dependents stay unless the client says what becomes of them, as in the first versions of the API."""
_NOT_COLLECTED = frozenset({("", "events")})
"""Kinds that own nothing: how their dependents are deleted is not looked at."""
_KEPT_PODS = (
    "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or "
    "set propagationPolicy=Orphan to suppress this warning"
)


@dataclass(slots=True)
class DeleteOptions:
    """`metav1.DeleteOptions`, from the body or the query."""

    uid: str | None = None
    resource_version: str | None = None
    propagation: str | None = None
    orphan: bool | None = None
    grace: int | None = None
    dry_run: bool = False


def delete_options(body: Obj | None, query: Query, all_dry_runs: list[str]) -> DeleteOptions:
    """Parse and check. Raises ApiError 400, 422."""
    options = DeleteOptions()
    dry_runs = list(all_dry_runs)
    if body is not None:  # an empty object too: then the query is not looked at
        conditions = body.get("preconditions") or {}
        options.uid = conditions.get("uid")
        options.resource_version = conditions.get("resourceVersion")
        options.propagation = body.get("propagationPolicy")
        options.orphan = body.get("orphanDependents")
        options.grace = body.get("gracePeriodSeconds")
        dry_runs = list(body.get("dryRun") or [])
    else:
        options.propagation = query.get("propagationPolicy")
        if "orphanDependents" in query:
            options.orphan = as_flag(query["orphanDependents"])
        options.grace = as_int(query.get("gracePeriodSeconds"))
    problems: list[FieldError] = []
    if options.orphan is not None and options.propagation is not None:
        problems.append(
            metadata.invalid(
                "propagationPolicy",
                options.propagation,
                "orphanDependents and deletionPropagation cannot be both set",
            )
        )
    if options.propagation is not None and options.propagation not in _POLICIES:
        problems.append(
            FieldError(
                "propagationPolicy",
                "FieldValueNotSupported",
                f'Unsupported value: "{options.propagation}": supported values: '
                '"Foreground", "Background", "Orphan", "nil"',
            )
        )
    problems += dry_run_problems(dry_runs)
    if problems:
        raise errors.invalid_options("DeleteOptions", problems)
    options.dry_run = bool(dry_runs)
    return options


def _check_preconditions(resource: Resource, obj: Obj, options: DeleteOptions) -> None:
    meta = obj["metadata"]
    qualified = f"{resource.kind}.{resource.group}" if resource.group else resource.kind

    def conflict(why: str) -> ApiError:
        details: Obj = {"name": meta["name"]}
        if resource.group:
            details["group"] = resource.group
        details["kind"] = resource.kind
        return ApiError(
            409, "Conflict", f'Operation cannot be fulfilled on {qualified} "{meta["name"]}": {why}', details
        )

    if options.uid is not None and options.uid != meta.get("uid"):
        raise conflict(
            f"the UID in the precondition ({options.uid}) does not match the UID in record ({meta.get('uid')}). "
            "The object might have been deleted and then recreated"
        )
    if options.resource_version is not None and options.resource_version != meta["resourceVersion"]:
        raise conflict(
            f"the ResourceVersion in the precondition ({options.resource_version}) does not match the "
            f"ResourceVersion in record ({meta['resourceVersion']}). The object might have been modified"
        )


def _policy(resource: Resource, options: DeleteOptions, finalizers: list[str]) -> str:
    """orphan, foregroundDeletion or "" (background)."""
    if resource.storage_key in _NOT_COLLECTED:
        return ""
    if options.orphan is not None:
        return ORPHAN if options.orphan else ""
    if options.propagation is not None:
        return {"Orphan": ORPHAN, "Foreground": FOREGROUND}.get(options.propagation, "")
    if ORPHAN in finalizers:
        return ORPHAN
    if FOREGROUND in finalizers:
        return FOREGROUND
    return ORPHAN if resource.storage_key in _ORPHANED else ""


def _warn(ctx: RequestContext, options: DeleteOptions) -> None:
    """A Job whose pods will stay because nobody said what becomes of them."""
    said = options.orphan is not None or options.propagation is not None
    if ctx.resource.storage_key == ("batch", "jobs") and not said and _KEPT_PODS not in ctx.warnings:
        ctx.warnings.append(_KEPT_PODS)


def mark_deleting(obj: Obj) -> None:
    """Set deletionTimestamp; the first time it also counts as a change of generation."""
    meta = obj["metadata"]
    if meta.get("deletionGracePeriodSeconds") is None and meta.get("generation"):
        meta["generation"] += 1
    meta.setdefault("deletionTimestamp", metadata.now_text())
    if obj.get("kind") != "Namespace" or not (obj.get("spec") or {}).get("finalizers"):
        # A namespace that its controller still empties has no grace period: it is not deleted, it ends.
        meta["deletionGracePeriodSeconds"] = 0


async def delete(core: Core, ctx: RequestContext, options: DeleteOptions) -> tuple[bytes, bool]:
    """Delete or mark one object; answers the body of the response and whether it is gone. Raises ApiError."""
    ctx.dry_run = options.dry_run
    _warn(ctx, options)
    for _ in range(_ATTEMPTS):
        entry = core.get(ctx.resource, ctx.namespace, ctx.name)
        try:
            return await _delete_once(core, ctx, entry, options)
        except Conflict:
            continue
    raise errors.modified(ctx.resource, ctx.name)


async def _delete_once(core: Core, ctx: RequestContext, entry: Entry, options: DeleteOptions) -> tuple[bytes, bool]:
    resource = ctx.resource
    live = await core.object(resource, entry)
    if core.admission is not None:
        await core.admission.mutate(ctx, None, live)
    _check_preconditions(resource, live, options)
    if core.admission is not None:
        await core.admission.validate(ctx, None, live)
    obj = await core.own_object(resource, entry)
    meta = obj["metadata"]
    pod_grace = None
    if (resource.group, resource.plural) == ("", "pods"):
        if _waits(obj, options):
            return orjson.dumps(live), False
        pod_grace = mark_pod(obj, options)
    finalizers = list(meta.get("finalizers") or [])
    policy = _policy(resource, options, finalizers)
    wanted = [f for f in finalizers if f not in (ORPHAN, FOREGROUND)]
    if policy:
        wanted.append(policy)
    changed = set(wanted) != set(finalizers)
    if changed:
        meta["finalizers"] = wanted
        if not wanted:
            del meta["finalizers"]
    held = bool(wanted)
    if (resource.group, resource.plural) == ("", "namespaces"):
        held = _start_namespace_deletion(obj) or held
    elif resource.kind == "CustomResourceDefinition" and resource.builtin and not meta.get("deletionTimestamp"):
        _start_crd_deletion(obj)
        meta["deletionTimestamp"] = metadata.now_text()
        if ctx.dry_run:
            return orjson.dumps(obj), False
        return await core.write(resource, ctx.namespace, ctx.name, entry.rev, obj), False
    if pod_grace is not None:  # a pod ends in two steps: it is marked, and goes when its time is up
        gone = not held and not pod_grace
        marked = orjson.dumps(obj)
        if not ctx.dry_run:
            marked = await core.write(resource, ctx.namespace, ctx.name, entry.rev, obj)
        if ctx.dry_run or not gone:
            return marked, gone
        entry = core.get(resource, ctx.namespace, ctx.name)
    elif held:
        mark_deleting(obj)
        if obj == live or ctx.dry_run:
            return orjson.dumps(obj), False
        return await core.write(resource, ctx.namespace, ctx.name, entry.rev, obj), False
    last = orjson.dumps(live) if ctx.dry_run else await core.remove(resource, entry)
    if resource.returns_deleted:
        return last, True
    details: Obj = {"name": ctx.name}
    if resource.group:
        details["group"] = resource.group
    details |= {"kind": resource.plural, "uid": meta.get("uid")}
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
    return orjson.dumps(status), True


def _waits(pod: Obj, options: DeleteOptions) -> bool:
    """Whether a pod is on its way out already, and isn't asked to go sooner."""
    meta = pod["metadata"]
    known = meta.get("deletionGracePeriodSeconds")
    if not meta.get("deletionTimestamp") or not known:
        return False
    return options.grace is None or _seconds(options.grace) >= int(known)


def _seconds(grace: int) -> int:
    """A grace period as it is taken: none is shorter than nothing."""
    return 1 if grace < 0 else grace


def mark_pod(pod: Obj, options: DeleteOptions) -> int | None:
    """Set a pod's deletion time, in place; the seconds that it is given, None when its time is up already.

    A pod that no node runs, or that has ended, is given none.
    """
    meta, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    if meta.get("deletionTimestamp"):
        known = int(meta.get("deletionGracePeriodSeconds") or 0)
        if not known:
            return None
        grace = _seconds(options.grace or 0)
        begun = datetime.fromisoformat(meta["deletionTimestamp"]) - timedelta(seconds=known)
    else:
        asked = spec.get("terminationGracePeriodSeconds") if options.grace is None else options.grace
        runs = spec.get("nodeName") and status.get("phase") not in ("Failed", "Succeeded")
        grace = _seconds(int(asked or 0)) if runs else 0
        begun = datetime.now(UTC)
        if meta.get("generation"):
            meta["generation"] += 1
    meta["deletionTimestamp"] = (begun + timedelta(seconds=grace)).strftime("%Y-%m-%dT%H:%M:%SZ")
    meta["deletionGracePeriodSeconds"] = grace
    return grace


def _start_namespace_deletion(obj: Obj) -> bool:
    """A namespace stays, Terminating, until its controller has emptied it."""
    if not obj["metadata"].get("deletionTimestamp"):
        obj.setdefault("status", {})["phase"] = "Terminating"
    return bool((obj.get("spec") or {}).get("finalizers"))


def _start_crd_deletion(obj: Obj) -> None:
    """A CRD stays until its objects are gone: its controller takes the finalizer off."""
    finalizers = obj["metadata"].setdefault("finalizers", [])
    if CRD_FINALIZER not in finalizers:
        finalizers.append(CRD_FINALIZER)
    set_condition(
        obj,
        "Terminating",
        "True",
        "InstanceDeletionPending",
        "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
    )


def set_condition(obj: Obj, type_: str, status: str, reason: str, message: str) -> None:
    """Set one condition of a CRD; the transition time moves when the status does."""
    conditions = obj.setdefault("status", {}).setdefault("conditions", [])
    if conditions is None:
        conditions = obj["status"]["conditions"] = []
    wanted = {
        "type": type_,
        "status": status,
        "lastTransitionTime": metadata.now_text(),
        "reason": reason,
        "message": message,
    }
    for index, condition in enumerate(conditions):
        if condition.get("type") == type_:
            if condition.get("status") == status:
                wanted["lastTransitionTime"] = condition.get("lastTransitionTime") or wanted["lastTransitionTime"]
            conditions[index] = wanted
            return
    conditions.append(wanted)


async def delete_collection(core: Core, ctx: RequestContext, options: DeleteOptions, selection: ListOptions) -> Listing:
    """Delete what a list with these parameters would show; answers that list."""
    listing = await list_(core, ctx, selection)
    for entry in listing.entries:
        one = RequestContext(
            user=ctx.user,
            verb=ctx.verb,
            resource=ctx.resource,
            namespace=entry.namespace,
            name=entry.name,
            dry_run=options.dry_run,
            field_manager=ctx.field_manager,
            field_validation=ctx.field_validation,
            warnings=ctx.warnings,
            user_agent=ctx.user_agent,
        )
        try:
            await delete(core, one, options)
        except ApiError as error:
            if error.code != 404:
                raise
    return listing
