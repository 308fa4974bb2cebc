"""Every recorded creation of a built-in object, through decode, defaults, preparation and rules, without a server."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chandlery.controlplane import metadata
from chandlery.controlplane.builtins import ServiceAllocator, builtin_resources
from chandlery.controlplane.types import ApiError, FieldError, Obj, RequestContext, Resource, UserInfo

CORPUS = Path(__file__).resolve().parents[3] / "fidelity" / "corpus"
CATEGORIES = ("builtin-validation", "crud", "tables", "names-and-labels")
PATH = re.compile(r"^/(?:api|apis/([^/]+))/([^/]+)/(?:namespaces/([^/]+)/)?([^/]+)$")
SERVED = {(r.group, r.version, r.plural): r for r in builtin_resources()}
SYSTEM = ("managedFields", "uid", "creationTimestamp", "resourceVersion", "generation", "namespace")
FINALIZERS = {
    "PersistentVolumeClaim": "kubernetes.io/pvc-protection",
    "PersistentVolume": "kubernetes.io/pv-protection",
}


def found(path: str) -> tuple[Resource, str] | None:
    path = path.partition("?")[0]
    if path == "/api/v1/namespaces":
        return SERVED["", "v1", "namespaces"], ""
    m = PATH.match(path)
    resource = SERVED.get((m[1] or "", m[2], m[4])) if m else None
    if m is None or resource is None or "list" not in resource.verbs or resource.kind == "CustomResourceDefinition":
        return None
    return resource, m[3] or ""


def creations() -> Iterator[Any]:
    for category in CATEGORIES:
        for file in sorted((CORPUS / category).glob("*.jsonl")):
            for number, line in enumerate(file.read_text().splitlines()[1:], 2):
                step = json.loads(line)
                if step.get("m") != "POST" or not isinstance(step.get("b"), dict) or "fid.example" in step["p"]:
                    continue
                if found(step["p"]) and step["r"]["s"] in (201, 400, 422):
                    yield pytest.param(step, id=f"{category}/{file.stem}:{number}")


def admit(obj: Obj) -> None:
    """What admission adds, which isn't ours."""
    finalizer = FINALIZERS.get(obj["kind"])
    if finalizer:
        obj["metadata"]["finalizers"] = [finalizer]
    if obj["kind"] == "Pod":
        spec = obj["spec"]
        spec["serviceAccountName"] = spec["serviceAccount"] = "default"
        spec |= {"priority": 0, "preemptionPolicy": "PreemptLowerPriority"}
        spec["tolerations"] = [
            *(spec.get("tolerations") or ()),
            *(
                {
                    "key": f"node.kubernetes.io/{key}",
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": 300,
                }
                for key in ("not-ready", "unreachable")
                if not any(t.get("operator") == "Exists" and not t.get("key") for t in spec.get("tolerations") or ())
            ),
        ]


def bare(obj: Obj) -> Obj:
    obj = copy.deepcopy(obj)
    for field in SYSTEM:
        obj["metadata"].pop(field, None)
    (obj.get("status") or {}).pop("lastPhaseTransitionTime", None)
    return obj


def create(
    resource: Resource, namespace: str, body: Obj, uid: str, *, dry_run: bool
) -> tuple[Obj, list[FieldError], list[str]]:
    ctx = RequestContext(UserInfo("admin"), "create", resource, namespace)
    obj = copy.deepcopy(body)
    strategy = resource.strategy
    strategy.decode(obj)
    strategy.default(obj)
    if namespace:
        obj["metadata"]["namespace"] = namespace
    obj["metadata"]["uid"] = uid
    admit(obj)
    strategy.prepare_for_create(ctx, obj)
    errors = metadata.validate_create(resource, obj) + strategy.validate_create(ctx, obj)
    if not errors and resource.plural == "services":
        errors = ServiceAllocator("10.0.0.0/24").allocate(obj, None, [], dry_run=dry_run)
    warnings = strategy.warnings(ctx, obj, None) + ([resource.deprecation] if resource.deprecation else [])
    return obj, errors, warnings


@pytest.mark.parametrize("step", list(creations()))
def test_recorded_creation(step: Any) -> None:
    known = found(step["p"])
    assert known is not None
    resource, namespace = known
    want, status = step["r"]["b"], step["r"]["s"]
    uid = (want.get("metadata") or {}).get("uid", "u")
    if status == 400:
        with pytest.raises(ApiError) as caught:
            create(resource, namespace, step["b"], uid, dry_run="dryRun=" in step["p"])
        assert (caught.value.code, caught.value.message) == (400, want["message"])
        return
    obj, errors, warnings = create(resource, namespace, step["b"], uid, dry_run="dryRun=" in step["p"])
    if status == 422:
        causes = [(c["field"], c["reason"], c["message"]) for c in want["details"]["causes"]]
        assert sorted((e.path, e.type, e.detail) for e in errors) == sorted(causes)
        return
    assert errors == []
    assert bare(obj) == bare(want)
    headers = [text for text in (step["r"].get("h") or {}).get("Warning") or () if "unknown field" not in text]
    told = [text.replace("\\", "\\\\").replace('"', '\\"') for text in warnings]
    assert sorted(f'299 - "{text}"' for text in told) == sorted(headers)
    again = copy.deepcopy(obj)
    assert resource.strategy.decode(again) == []
    resource.strategy.default(again)
    assert again == obj, "what was stored must read back the same"
