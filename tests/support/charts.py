"""Rendering the chart, and a look at what comes out: Kubernetes' own schemas, and a small policy."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "chandlery"
VERSIONS = ("1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37")
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
SECRET_WORD = re.compile(r"PASSWORD|SECRET(?!S$)|TOKEN|CREDENTIAL|PRIVATE|_KEY$")
FILE = re.compile(r"^/|^$")

Obj = dict[str, Any]


def documents(text: str) -> list[Obj]:
    return [document for document in yaml.load_all(text, LOADER) if document]


def schema_problems(objects: Iterable[Obj], versions: Iterable[str] = VERSIONS) -> list[str]:
    """What the schemas of these Kubernetes versions don't like; kinds that aren't Kubernetes' own are passed over."""
    found = []
    objects = list(objects)
    for version in versions:
        for obj in objects:
            try:
                kubernetes_validate.validate(obj, version, strict=True)
            except kubernetes_validate.SchemaNotFoundError:
                continue
            except kubernetes_validate.ValidationError as error:
                found.append(f"{version}: {obj['kind']} {obj['metadata']['name']}: {error.path}: {error.message}")
    return found


def pod_specs(obj: Obj) -> Iterator[Obj]:
    if obj["kind"] == "Pod":
        yield obj["spec"]
    elif obj["kind"] == "CronJob":
        yield obj["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    elif isinstance(obj.get("spec"), dict) and "template" in obj["spec"] and obj["kind"] != "CustomResourceDefinition":
        yield obj["spec"]["template"]["spec"]


def policy_problems(objects: Iterable[Obj]) -> list[str]:
    """Restricted pod security, pinned images, requests and limits, no secrets in the environment, own namespace."""
    found = []
    for obj in objects:
        name = f"{obj['kind']} {obj['metadata']['name']}"
        for spec in pod_specs(obj):
            found += [f"{name}: {problem}" for problem in restricted_problems(spec)]
        if obj["kind"] in ("Role", "ClusterRole"):
            for rule in obj.get("rules") or ():
                if "*" in (*rule.get("verbs", ()), *rule.get("resources", ()), *rule.get("apiGroups", ())):
                    found.append(f"{name}: a rule with *")
    return found


def restricted_problems(spec: Obj) -> Iterator[str]:
    """What speaks against a pod under our policy, which holds all of the `restricted` pod security standard."""
    security = spec.get("securityContext") or {}
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield key
    if security.get("runAsUser") == 0 or not security.get("runAsNonRoot"):
        yield "may run as root"
    if (security.get("seccompProfile") or {}).get("type") != "RuntimeDefault":
        yield "no seccomp profile"
    if any("hostPath" in volume for volume in spec.get("volumes") or ()):
        yield "a hostPath volume"
    for container in (*(spec.get("initContainers") or ()), *spec["containers"]):
        yield from (f"container {container['name']}: {problem}" for problem in _container_problems(container))


def _container_problems(container: Obj) -> Iterator[str]:
    own = container.get("securityContext") or {}
    if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
        yield "may gain privileges"
    if not own.get("readOnlyRootFilesystem"):
        yield "can write its root file system"
    capabilities = own.get("capabilities") or {}
    if capabilities.get("drop") != ["ALL"] or capabilities.get("add"):
        yield "keeps capabilities"
    image = str(container["image"])
    if "@sha256:" not in image and (":" not in image.rpartition("/")[2] or image.endswith(":latest")):
        yield f"the image {image} is not pinned"
    if not container.get("command"):
        yield "depends on the image's entrypoint"
    asked = container.get("resources") or {}
    if not {"cpu", "memory"} <= set(asked.get("requests") or {}) or "memory" not in (asked.get("limits") or {}):
        yield "no requests or no limit of memory"
    for variable in container.get("env") or ():
        if "secretKeyRef" in (variable.get("valueFrom") or {}):
            yield f"the variable {variable['name']} is a secret"
        if SECRET_WORD.search(variable["name"]) and not FILE.search(str(variable.get("value", ""))):
            yield f"the variable {variable['name']} sounds like a secret"
