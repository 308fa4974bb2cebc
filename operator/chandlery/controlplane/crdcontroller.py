"""CustomResourceDefinitions at work: names, the Established condition, serving, and the end of a CRD.

Source: apiextensions-apiserver `pkg/controller/{status,establish,finalizer}` (behaviour).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import orjson

from chandlery.controlplane import metadata
from chandlery.controlplane.cache import Entry, Event, Table
from chandlery.controlplane.core import Core
from chandlery.controlplane.fields import on_write
from chandlery.controlplane.store.base import Conflict
from chandlery.controlplane.types import ApiError, Obj, RequestContext, Resource, UserInfo
from chandlery.controlplane.verbs.delete import CRD_FINALIZER, DeleteOptions, delete, set_condition

if TYPE_CHECKING:
    from chandlery.controlplane.admission.webhooks.client import WebhookClient

log = logging.getLogger(__name__)

GROUP, PLURAL = "apiextensions.k8s.io", "customresourcedefinitions"
_OWN_STORAGE = {(GROUP, PLURAL), ("apiregistration.k8s.io", "apiservices")}
_APPROVAL = "KubernetesAPIApprovalPolicyConformant"
_MANAGER = "kube-apiserver"
_USER = UserInfo("system:apiserver", groups=("system:masters",))


def condition(crd: Obj, type_: str) -> Obj | None:
    for found in (crd.get("status") or {}).get("conditions") or ():
        if found.get("type") == type_:
            return found  # type: ignore[no-any-return]
    return None


def is_true(crd: Obj, type_: str) -> bool:
    found = condition(crd, type_)
    return found is not None and found.get("status") == "True"


class CrdController:
    """Follows CRDs. Serving changes at once with the event; conditions and clean-up follow in the background."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._pending: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._served: dict[str, object] = {}
        self._stop: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Serve what is stored, then follow."""
        for entry in self._crds().entries.values():
            self._serve(entry)
            self._enqueue(entry.name)
        self._stop = self._core.cache.listen(self._on_event, [(GROUP, PLURAL)])
        self._task = asyncio.create_task(self._run(), name="crd-controller")

    async def stop(self) -> None:
        self._stop()
        if self._task is not None:
            self._task.cancel()
            try:
                await self._task
            except asyncio.CancelledError:
                pass

    def _crds(self) -> Table:
        return self._core.cache.table((GROUP, PLURAL))

    def _on_event(self, kind: str, _where: tuple[str, str], event: Event) -> None:
        if kind == "DELETED":
            self._unserve(event.entry)
        else:
            self._serve(event.entry)
        self._enqueue(event.entry.name)
        if kind == "DELETED":
            self._names_may_be_free()

    def _names_may_be_free(self) -> None:
        """Look again at CRDs that had to do without a name."""
        for entry in self._crds().entries.values():
            if not is_true(entry.obj, "NamesAccepted"):
                self._enqueue(entry.name)

    def _enqueue(self, name: str) -> None:
        if name not in self._pending:
            self._pending.add(name)
            self._queue.put_nowait(name)

    # -- serving

    def _serve(self, entry: Entry) -> None:
        crd = entry.obj
        if not is_true(crd, "Established"):
            return
        fingerprint = (
            crd["metadata"]["uid"],
            orjson.dumps(crd["spec"]),
            orjson.dumps((crd["status"] or {}).get("acceptedNames")),
        )
        if self._served.get(entry.name) == fingerprint:
            return
        from chandlery.controlplane.crd import custom_resources  # schemas and CEL: a good part of start-up, if needed

        try:
            resources = custom_resources(crd, client=self._review_client)
        except Exception:
            log.exception("the CustomResourceDefinition %s can't be served", entry.name)
            return
        self._served[entry.name] = fingerprint
        fresh = not self._core.registry.crd_resources(entry.name)
        self._core.registry.set_crd(entry.name, resources)
        if resources:
            table = self._core.cache.table(resources[0].storage_key)
            if not fresh:
                for item in table.entries.values():
                    item.views = None
                # Watchers of the old schema list again and see the new one.
                self._core.cache.end_watches(table)

    def _review_client(self) -> WebhookClient | None:
        admission = self._core.admission
        return None if admission is None else admission.review_client

    def _unserve(self, entry: Entry) -> None:
        resources = list(self._core.registry.crd_resources(entry.name))
        self._served.pop(entry.name, None)
        self._core.registry.set_crd(entry.name, ())
        for key in {resource.storage_key for resource in resources}:
            self._core.cache.drop(key)

    # -- conditions

    async def _run(self) -> None:
        while True:
            name = await self._queue.get()
            self._pending.discard(name)
            try:
                await self._sync(name)
            except Conflict:
                self._enqueue(name)
            except Exception:
                log.exception("the CustomResourceDefinition %s was not brought up to date; trying again", name)
                asyncio.get_running_loop().call_later(1.0, self._enqueue, name)

    async def _sync(self, name: str) -> None:
        entry = self._crds().entries.get(name)
        resource = self._core.registry.stored(GROUP, PLURAL)
        if entry is None or resource is None:
            return
        if entry.obj["metadata"].get("deletionTimestamp"):
            await self._finalize(resource, entry)
            return
        crd = entry.fresh()
        approved = self._judge_approval(crd)
        if self._accept_names(crd) or approved:
            await self._write(resource, entry, crd)
            self._enqueue(name)
            self._names_may_be_free()
            return
        if is_true(crd, "NamesAccepted") and not is_true(crd, "Established"):
            from chandlery.controlplane.crd.conversion_rules import bundle_problem

            if bundle_problem(crd["spec"]):
                invalid = "The conversion webhook CABundle is invalid"
                set_condition(crd, "Established", "False", "InvalidCABundle", invalid)
            else:
                accepted = "the initial names have been accepted"
                set_condition(crd, "Established", "True", "InitialNamesAccepted", accepted)
            if crd["status"] != entry.obj["status"]:
                await self._write(resource, entry, crd)

    async def _write(self, resource: Resource, entry: Entry, crd: Obj) -> None:
        on_write(resource, entry.obj, crd, manager=_MANAGER, subresource="status", now=metadata.now_text())
        await self._core.write(resource, "", entry.name, entry.rev, crd)

    def _judge_approval(self, crd: Obj) -> bool:
        """Say in a condition whether a CRD of a community group was approved; whether anything changed."""
        from chandlery.controlplane.crd.approval import approval_condition

        wanted = approval_condition(crd)
        known = condition(crd, _APPROVAL) or {}
        if wanted is None or wanted == (known.get("status"), known.get("reason"), known.get("message")):
            return False
        set_condition(crd, _APPROVAL, *wanted)
        return True

    def _accept_names(self, crd: Obj) -> bool:
        """Work out acceptedNames and the NamesAccepted condition in place; whether anything changed."""
        status = crd.setdefault("status", {})
        wanted = {key: value for key, value in crd["spec"]["names"].items() if value}
        known = dict(status.get("acceptedNames") or {"plural": "", "kind": ""})
        if wanted == known:
            return False  # whatever the condition says of names that were asked for in between
        before = orjson.dumps(status, option=orjson.OPT_SORT_KEYS)
        accepted = dict(known)
        resources, kinds = self._taken(crd)
        problem: tuple[str, str] | None = None
        for field, reason, taken in (
            ("plural", "PluralConflict", resources),
            ("singular", "SingularConflict", resources),
            ("shortNames", "ShortNamesConflict", resources),
            ("kind", "KindConflict", kinds),
            ("listKind", "ListKindConflict", kinds),
        ):
            value, mine = wanted.get(field), known.get(field)
            if field == "shortNames":
                clashes = [name for name in value or () if name in taken and name not in (mine or ())]
            else:
                clashes = [value] if value in taken and value != mine else []
            if clashes:
                texts = list(dict.fromkeys(f'"{name}" is already in use' for name in clashes))
                problem = (reason, texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]")
            elif value:
                accepted[field] = value
            else:
                accepted.pop(field, None)
        if wanted.get("categories"):
            accepted["categories"] = wanted["categories"]
        else:
            accepted.pop("categories", None)
        order = ("plural", "singular", "shortNames", "kind", "listKind", "categories")
        status["acceptedNames"] = {key: accepted[key] for key in order if key in accepted}
        if problem is None:
            set_condition(crd, "NamesAccepted", "True", "NoConflicts", "no conflicts found")
            if not is_true(crd, "Established"):
                set_condition(crd, "Established", "False", "Installing", "the initial names have been accepted")
        else:
            set_condition(crd, "NamesAccepted", "False", *problem)
            if condition(crd, "Established") is None:
                set_condition(crd, "Established", "False", "NotAccepted", "not all names are accepted")
        return before != orjson.dumps(status, option=orjson.OPT_SORT_KEYS)

    def _taken(self, crd: Obj) -> tuple[set[str], set[str]]:
        """Resource names and kinds that are accepted in a CRD's group, its own too."""
        resources: set[str] = set()
        kinds: set[str] = set()
        for entry in self._crds().entries.values():
            if entry.obj["spec"]["group"] != crd["spec"]["group"]:
                continue
            names = (entry.obj.get("status") or {}).get("acceptedNames") or {}
            resources |= {names.get("plural", ""), names.get("singular", ""), *(names.get("shortNames") or ())}
            kinds |= {names.get("kind", ""), names.get("listKind", "")}
        resources.discard("")
        kinds.discard("")
        return resources, kinds

    # -- the end

    async def _finalize(self, resource: Resource, entry: Entry) -> None:
        """Delete the custom objects, then let the CRD go."""
        crd = entry.fresh()
        meta = crd["metadata"]
        if CRD_FINALIZER not in (meta.get("finalizers") or ()):
            return
        set_condition(
            crd,
            "Terminating",
            "True",
            "InstanceDeletionInProgress",
            "CustomResource deletion is in progress",
        )
        if crd["status"] != entry.obj["status"]:
            await self._write(resource, entry, crd)
            self._enqueue(entry.name)
            return
        served = self._core.registry.stored(crd["spec"]["group"], crd["spec"]["names"]["plural"])
        if served is not None and not served.builtin:
            table = self._core.table(served)
            for item in list(table.entries.values()):
                ctx = RequestContext(_USER, "delete", served, item.namespace, item.name)
                try:
                    await delete(self._core, ctx, DeleteOptions())
                except ApiError as error:
                    if error.code != 404:
                        log.warning("%s can't be deleted yet: %s", item.key, error.message)
            if table.entries:
                asyncio.get_running_loop().call_later(0.2, self._enqueue, entry.name)
                return
        if (crd["spec"]["group"], crd["spec"]["names"]["plural"]) in _OWN_STORAGE:
            why = ("OverlappingBuiltInResource", "instances overlap with built-in resources in storage")
        elif is_true(crd, "Established"):
            why = ("InstanceDeletionCompleted", "removed all instances")
        else:
            why = ("NeverEstablished", "resource was never established")
        set_condition(crd, "Terminating", "False", *why)
        meta["finalizers"] = [f for f in meta["finalizers"] if f != CRD_FINALIZER]
        if meta["finalizers"]:
            await self._write(resource, entry, crd)
        else:
            del meta["finalizers"]
            await self._core.remove(resource, entry)
