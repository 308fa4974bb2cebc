"""Write the data files of the built-in kinds: schemas, descriptions and facts about their Go types.

    hack/builtin-schemas/extract.py --go DIR [--out DIR]

Schemas and descriptions come from the development dependency `kubernetes-validate` (the published OpenAPI
definitions of Kubernetes 1.36). What the OpenAPI can't say (which fields are pointers, which are left out when empty,
the types' names as error texts show them) comes from the Go sources of the same release: DIR holds checkouts of
k8s.io/api, apimachinery, apiextensions-apiserver and kube-aggregator (`go mod download`, or the Debian packages
golang-k8s-*-dev). Only needed when the supported Kubernetes version changes: the results are committed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import zlib
from pathlib import Path
from typing import Any

VERSION = "v1.36.0-local"
DATA = Path(__file__).resolve().parents[2] / "operator/chandlery/controlplane/builtins/data"
REF = "#/components/schemas/"

META = "io.k8s.apimachinery.pkg.apis.meta.v1."
EXT = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1."
AGG = "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1."
ROOTS = {
    "io.k8s.api.core.v1.": (
        "Namespace Secret ConfigMap Service ServiceAccount Pod PersistentVolumeClaim PersistentVolume Event Endpoints "
        "Node "
        "ResourceQuota LimitRange ReplicationController PodTemplate Binding ComponentStatus"
    ),
    "io.k8s.api.apps.v1.": "Deployment StatefulSet ReplicaSet DaemonSet ControllerRevision",
    "io.k8s.api.batch.v1.": "Job CronJob",
    "io.k8s.api.policy.v1.": "PodDisruptionBudget Eviction",
    "io.k8s.api.networking.v1.": "NetworkPolicy Ingress IngressClass IPAddress ServiceCIDR",
    "io.k8s.api.autoscaling.v1.": "HorizontalPodAutoscaler Scale",
    "io.k8s.api.autoscaling.v2.": "HorizontalPodAutoscaler",
    "io.k8s.api.rbac.v1.": "Role RoleBinding ClusterRole ClusterRoleBinding",
    "io.k8s.api.coordination.v1.": "Lease",
    "io.k8s.api.storage.v1.": (
        "StorageClass CSIDriver CSINode CSIStorageCapacity VolumeAttachment VolumeAttributesClass"
    ),
    "io.k8s.api.certificates.v1.": "CertificateSigningRequest",
    "io.k8s.api.flowcontrol.v1.": "FlowSchema PriorityLevelConfiguration",
    "io.k8s.api.node.v1.": "RuntimeClass",
    "io.k8s.api.resource.v1.": "DeviceClass ResourceClaim ResourceClaimTemplate ResourceSlice",
    "io.k8s.api.events.v1.": "Event",
    "io.k8s.api.discovery.v1.": "EndpointSlice",
    "io.k8s.api.admissionregistration.v1.": (
        "MutatingWebhookConfiguration ValidatingWebhookConfiguration ValidatingAdmissionPolicy "
        "ValidatingAdmissionPolicyBinding MutatingAdmissionPolicy MutatingAdmissionPolicyBinding"
    ),
    "io.k8s.api.scheduling.v1.": "PriorityClass",
    "io.k8s.api.authentication.v1.": "TokenReview SelfSubjectReview TokenRequest",
    "io.k8s.api.authorization.v1.": (
        "SubjectAccessReview SelfSubjectAccessReview LocalSubjectAccessReview SelfSubjectRulesReview"
    ),
    EXT: "CustomResourceDefinition",
    AGG: "APIService",
    META: "DeleteOptions Status WatchEvent APIResourceList APIGroup APIGroupList APIVersions",
}
PACKAGES = {
    "io.k8s.api.core.v1.": "api/core/v1",
    "io.k8s.api.apps.v1.": "api/apps/v1",
    "io.k8s.api.batch.v1.": "api/batch/v1",
    "io.k8s.api.policy.v1.": "api/policy/v1",
    "io.k8s.api.networking.v1.": "api/networking/v1",
    "io.k8s.api.autoscaling.v1.": "api/autoscaling/v1",
    "io.k8s.api.autoscaling.v2.": "api/autoscaling/v2",
    "io.k8s.api.rbac.v1.": "api/rbac/v1",
    "io.k8s.api.coordination.v1.": "api/coordination/v1",
    "io.k8s.api.storage.v1.": "api/storage/v1",
    "io.k8s.api.certificates.v1.": "api/certificates/v1",
    "io.k8s.api.flowcontrol.v1.": "api/flowcontrol/v1",
    "io.k8s.api.node.v1.": "api/node/v1",
    "io.k8s.api.resource.v1.": "api/resource/v1",
    "io.k8s.api.events.v1.": "api/events/v1",
    "io.k8s.api.discovery.v1.": "api/discovery/v1",
    "io.k8s.api.admissionregistration.v1.": "api/admissionregistration/v1",
    "io.k8s.api.scheduling.v1.": "api/scheduling/v1",
    "io.k8s.api.authentication.v1.": "api/authentication/v1",
    "io.k8s.api.authorization.v1.": "api/authorization/v1",
    EXT: "apiextensions-apiserver/pkg/apis/apiextensions/v1",
    AGG: "kube-aggregator/pkg/apis/apiregistration/v1",
    META: "apimachinery/pkg/apis/meta/v1",
}


def definitions() -> dict[str, Any]:
    spec = importlib.util.find_spec("kubernetes_validate")
    if spec is None or spec.origin is None:
        raise SystemExit("kubernetes-validate is not installed: install the development dependencies first")
    path = Path(spec.origin).parent / "kubernetes-json-schema" / VERSION / "_definitions.json"
    found: dict[str, Any] = json.loads(path.read_text())["$defs"]
    return found


def clean(schema: Any, name: str = "") -> Any:
    """One schema as the API server publishes it: no null types, no pinned apiVersion, refs into components."""
    if isinstance(schema, list):
        return [clean(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    out = {}
    for key, value in schema.items():
        if key == "type" and isinstance(value, list):
            out[key] = next(v for v in value if v != "null")
        elif key == "$ref":
            out[key] = REF + value.rsplit("/", 1)[1]
        elif key == "enum":
            if name not in ("apiVersion", "kind"):
                out[key] = [v for v in value if v is not None]
        elif key == "properties":
            out[key] = {prop: clean(sub, prop) for prop, sub in value.items()}
        elif key in ("required", "x-kubernetes-group-version-kind"):
            out[key] = value
        else:
            out[key] = clean(value)
    return out


def closure(defs: dict[str, Any]) -> list[str]:
    todo = [prefix + kind for prefix, kinds in ROOTS.items() for kind in kinds.split()]
    todo += [name + "List" for name in todo if name + "List" in defs]
    seen: set[str] = set()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        todo += re.findall(r'"#/\$defs/([^"]+)"', json.dumps(defs[name]))
    return sorted(seen)


def split_descriptions(schema: Any) -> tuple[Any, Any]:
    """(schema without descriptions, descriptions by property: {"": own, prop: text})."""
    texts = {}
    if "description" in schema:
        texts[""] = schema.pop("description")
    for prop, sub in schema.get("properties", {}).items():
        if "description" in sub:
            texts[prop] = sub.pop("description")
    return schema, texts


STRUCT = re.compile(r"^type (\w+) struct \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
GROUPED = re.compile(r"^type (\w+) ((?:map|\[\]|\*)?[\w.\[\]*]+)$", re.MULTILINE)
MARKER = re.compile(r"^\s*//\s*\+default=(.+?)\s*$")
FIELD = re.compile(r"^\t(?:(\w+)\s+)?(\S+)\s+`(?:[^`]*)json:\"([^\"]*)\"")


CONSTANT = re.compile(r'^\t(?:const )?(\w+)\s+(\w+)\s*=\s*"([^"]*)"')


def enumerations(root: Path) -> dict[str, list[tuple[str, str]]]:
    """{`v1.Protocol`, by definition prefix: [(value, what it means)]} of the types that are marked as enumerations."""
    found: dict[str, list[tuple[str, str]]] = {}
    for prefix, folder in PACKAGES.items():
        marked: set[str] = set()
        values: dict[str, list[tuple[str, str]]] = {}
        for path in sorted((root / folder).glob("*.go")):
            if path.name.startswith(("zz_", "generated")) or path.name.endswith("_test.go"):
                continue
            comment: list[str] = []
            for line in path.read_text().splitlines():
                bare = line.strip()
                if bare.startswith("//"):
                    comment.append(bare[2:].strip())
                    continue
                kind = re.match(r"^type (\w+) string$", line)
                if kind and "+enum" in comment:
                    marked.add(kind.group(1))
                constant = CONSTANT.match(line if line.startswith("\t") else "\t" + line)
                if constant:
                    name, of, value = constant.groups()
                    told = " ".join(one for one in comment if not one.startswith("+"))
                    told = re.sub(r"\s+", " ", told.strip().removeprefix(name)).strip()
                    values.setdefault(of, []).append((value, told))
                comment = []
        for name in marked:
            found[prefix + name] = sorted(values.get(name, []))
    return found


def add_enumeration(schema: Any, texts: dict[str, str], field: str, members: list[tuple[str, str]]) -> None:
    """Tell a property's values, as the API server's own documents do."""
    listed = [value for value, _ in members]
    if schema.get("type") == "array":
        schema["items"]["enum"] = listed
    elif schema.get("type") == "string":
        schema["enum"] = listed
        lines = "\n".join(f' - `"{value}"` {told}'.rstrip() for value, told in members)
        texts[field] = f"{texts.get(field, '')}\n\nPossible enum values:\n{lines}"


def go_facts(root: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """({definition: [[json name, Go name, Go type, flags, default?]]}, {named scalar: underlying type}).

    Flags: o = omitempty, z = omitzero. Types are as reflect prints them: `*v1.PodSpec`, `[]string`.
    """
    structs: dict[str, list[list[Any]]] = {}
    aliases: dict[str, str] = {}
    for prefix, folder in PACKAGES.items():
        package = prefix.rstrip(".").rsplit(".", 1)[1]
        for path in sorted((root / folder).glob("*.go")):
            if path.name.startswith(("zz_", "generated")) or path.name.endswith("_test.go"):
                continue
            text = path.read_text()
            imports = dict(re.findall(r'^\t(\w+) "([^"]+)"$', text, re.MULTILINE))
            imports.update({p.rsplit("/", 1)[-1]: p for p in re.findall(r'^\t"([^"]+)"$', text, re.MULTILINE)})

            def qualify(kind: str, package: str = package, imports: dict[str, str] = imports) -> str:
                def one(found: re.Match[str]) -> str:
                    word = found.group(0)
                    if "." in word:
                        pkg, _, name = word.partition(".")
                        return f"{imports.get(pkg, pkg).rsplit('/', 1)[1] if pkg in imports else pkg}.{name}"
                    return f"{package}.{word}" if word[0].isupper() else word

                return re.sub(r"[A-Za-z_][\w.]*", one, kind)

            for m in STRUCT.finditer(text):
                fields: list[list[Any]] = []
                default = None
                for line in m.group(2).splitlines():
                    marker = MARKER.match(line)
                    if marker and not marker.group(1).startswith("ref("):
                        default = json.loads(marker.group(1))
                    f = FIELD.match(line)
                    if not f:
                        continue
                    tag = f.group(3).split(",")
                    kind = qualify(f.group(2))
                    if "inline" in tag:
                        fields.append(["", "", kind, ""])
                    elif tag[0] and tag[0] != "-":
                        flags = ("o" if "omitempty" in tag else "") + ("z" if "omitzero" in tag else "")
                        fields.append([tag[0], f.group(1), kind, flags] + ([] if default is None else [default]))
                        default = None
                structs[prefix + m.group(1)] = fields
            for m in GROUPED.finditer(text):
                if m.group(2) not in ("struct", "interface"):
                    aliases[f"{prefix}{m.group(1)}"] = qualify(m.group(2))
    return structs, aliases


def inline(name: str, structs: dict[str, Any]) -> list[list[Any]]:
    out = []
    for fact in structs[name]:
        field, _, kind = fact[:3]
        if field:
            out.append(fact)
            continue
        short = kind.lstrip("*").split(".")[-1]
        if short == "TypeMeta":
            out += [["kind", "Kind", "string", "o"], ["apiVersion", "APIVersion", "string", "o"]]
            continue
        target = next(
            (
                c
                for c in (name.rsplit(".", 1)[0] + "." + short, "io.k8s.api.core.v1." + short, META + short)
                if c in structs
            ),
            None,
        )
        if target is None:
            raise SystemExit(f"{name}: embedded {kind} not found")
        out += inline(target, structs)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--go", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=DATA)
    args = parser.parse_args()
    defs = definitions()
    names = closure(defs)
    schemas, descriptions = {}, {}
    for name in names:
        schemas[name], texts = split_descriptions(clean(defs[name]))
        if texts:
            descriptions[name] = texts
    structs, aliases = go_facts(args.go)
    enums = enumerations(args.go)
    facts, missing = {}, []
    for name in names:
        if name in structs:
            facts[name] = inline(name, structs)
            props = set(schemas[name].get("properties", {}))
            if props != {f[0] for f in facts[name]}:
                missing.append((name, props ^ {f[0] for f in facts[name]}))
            for field, _, kind, *_ in facts[name]:
                bare = kind.lstrip("*[]")
                prefix = next(
                    (
                        one
                        for one in (name.rsplit(".", 1)[0] + ".", "io.k8s.api.core.v1.", META)
                        if one + bare.rpartition(".")[2] in enums
                        and one.rstrip(".").rsplit(".", 1)[1] == bare.partition(".")[0]
                    ),
                    None,
                )
                if prefix:
                    members = enums[prefix + bare.rpartition(".")[2]]
                    add_enumeration(
                        schemas[name]["properties"][field], descriptions.setdefault(name, {}), field, members
                    )
        elif schemas[name].get("properties"):
            missing.append((name, "no struct"))
    for item in missing:
        print("differs:", *item)
    used = json.dumps(facts)
    scalars = {
        f"{n.rsplit('.', 2)[1]}.{n.rsplit('.', 1)[1]}": t
        for n, t in aliases.items()
        if f"{n.rsplit('.', 2)[1]}.{n.rsplit('.', 1)[1]}" in used
    }
    for file, data in (
        ("schemas", schemas),
        ("descriptions", descriptions),
        ("gotypes", {"structs": facts, "aliases": scalars}),
    ):
        raw = json.dumps(data, separators=(",", ":"), ensure_ascii=False, sort_keys=False).encode()
        packed = zlib.compress(raw, 9)
        (args.out / f"{file}.json.z").write_bytes(packed)
        print(f"{file}: {len(data)} entries, {len(raw)} bytes, {len(packed)} compressed")


if __name__ == "__main__":
    main()
