#!/usr/bin/env python3
"""Write the table of protobuf field numbers that request bodies are decoded with.

    hack/protobuf-table/extract.py DIR

DIR holds the sources of k8s.io/api, apimachinery, apiextensions-apiserver and kube-aggregator, as folders api,
apimachinery, apiextensions-apiserver and kube-aggregator (git checkouts of a release tag, or the contents of
Debian's golang-k8s-*-dev packages). Numbers and wire types come from the generated.proto files, JSON names and
inlining from the struct tags of the Go types. Only the numbers, names and types are kept, for the messages of
the group versions in GROUPS.
"""

import json
import re
import sys
import zlib
from pathlib import Path

OUT = Path(__file__).resolve().parents[2] / "operator/chandlery/controlplane/codec/data/protobuf.json.z"
API, META = "k8s.io.api", "k8s.io.apimachinery.pkg.apis.meta.v1"
GROUPS = {
    "v1": f"{API}.core.v1",
    "admissionregistration.k8s.io/v1": f"{API}.admissionregistration.v1",
    "apiextensions.k8s.io/v1": "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1",
    "apiregistration.k8s.io/v1": "k8s.io.kube_aggregator.pkg.apis.apiregistration.v1",
    "apps/v1": f"{API}.apps.v1",
    "authentication.k8s.io/v1": f"{API}.authentication.v1",
    "authorization.k8s.io/v1": f"{API}.authorization.v1",
    "autoscaling/v1": f"{API}.autoscaling.v1",
    "autoscaling/v2": f"{API}.autoscaling.v2",
    "batch/v1": f"{API}.batch.v1",
    "certificates.k8s.io/v1": f"{API}.certificates.v1",
    "coordination.k8s.io/v1": f"{API}.coordination.v1",
    "discovery.k8s.io/v1": f"{API}.discovery.v1",
    "events.k8s.io/v1": f"{API}.events.v1",
    "flowcontrol.apiserver.k8s.io/v1": f"{API}.flowcontrol.v1",
    "meta.k8s.io/v1": META,
    "networking.k8s.io/v1": f"{API}.networking.v1",
    "node.k8s.io/v1": f"{API}.node.v1",
    "policy/v1": f"{API}.policy.v1",
    "rbac.authorization.k8s.io/v1": f"{API}.rbac.v1",
    "resource.k8s.io/v1": f"{API}.resource.v1",
    "scheduling.k8s.io/v1": f"{API}.scheduling.v1",
    "storage.k8s.io/v1": f"{API}.storage.v1",
}
SCALARS = {
    "string": "s",
    "bytes": "b",
    "bool": "t",
    "int32": "i",
    "int64": "i",
    "uint32": "u",
    "uint64": "u",
    "double": "d",
}
MESSAGE = re.compile(r"^message (\w+) \{(.*?)^\}", re.DOTALL | re.MULTILINE)
FIELD = re.compile(r"^\s*(optional|repeated|required|map<string, ([\w.]+)>) ?([\w.]*) (\w+) = (\d+)", re.MULTILINE)
STRUCT = re.compile(r"^type (\w+) struct \{(.*?)^\}", re.DOTALL | re.MULTILINE)
TAG = re.compile(r'`json:"([^"]*)"[^`]*protobuf:"\w+,(\d+)')


def tags(folder: Path) -> dict[str, dict[int, str]]:
    """{struct: {field number: JSON name, "" when inlined}}."""
    out: dict[str, dict[int, str]] = {}
    for path in sorted(folder.glob("*.go")):
        if path.name.startswith(("generated.", "zz_generated")) or path.name.endswith("_test.go"):
            continue
        for name, body in STRUCT.findall(path.read_text()):
            found = {int(number): tag.split(",")[0] for tag, number in TAG.findall(body)}
            if found:
                out[name] = found
    return out


def wire_type(kind: str, package: str) -> str:
    """A scalar's letter, or M and the full name of a message."""
    if kind in SCALARS:
        return SCALARS[kind]
    return "M" + (kind.lstrip(".") if "." in kind else f"{package}.{kind}")


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    messages: dict[str, dict[str, list[str]]] = {}
    for path in sorted(Path(sys.argv[1]).glob("*/**/generated.proto")):
        text = re.sub(r"//[^\n]*", "", path.read_text())
        package = re.search(r"^package ([\w.]+);", text, re.MULTILINE)[1]
        names = tags(path.parent)
        for message, body in MESSAGE.findall(text):
            table = messages[f"{package}.{message}"] = {}
            for label, map_value, kind, name, number in FIELD.findall(body):
                wire = wire_type(map_value or kind, package)
                wire = "{" + wire if map_value else ("*" if label == "repeated" else "") + wire
                table[number] = [names.get(message, {}).get(int(number), name), wire]
    wanted: dict[str, dict[str, list[str]]] = {}
    queue = [m for m in messages if m.rpartition(".")[0] in GROUPS.values() and not m.endswith("List")]
    while queue:
        name = queue.pop()
        if name in wanted:
            continue
        wanted[name] = messages[name]
        queue += [kind.lstrip("*{")[1:] for _, kind in messages[name].values() if kind.lstrip("*{")[0] == "M"]
    data = json.dumps({"groups": GROUPS, "messages": dict(sorted(wanted.items()))}, separators=(",", ":"))
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_bytes(zlib.compress(data.encode(), 9))
    print(f"{OUT}: {len(wanted)} messages, {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
