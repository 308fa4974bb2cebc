"""Inputs that no client should send: every one is made from a seed and a number, and can be made again.

Seeds are the bodies of the fidelity corpus; they are cut, mixed and filled with values that parsers stumble over.
"""
# ruff: noqa: E501 - tables read best in long lines

from __future__ import annotations

import base64
import copy
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

CORPUS = Path(__file__).parent.parent / "fidelity" / "corpus"
CATEGORIES = (
    "builtin-validation content-negotiation crd-lifecycle crd-schema crud deletion field-validation managedFields"
    " patch-json patch-merge patch-strategic server-side-apply sessions subresources webhooks"
).split()
GROUP = "fuzz.example"
PATCH_TYPES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
BODY_TYPES = ("application/json", "application/yaml", "", "application/vnd.kubernetes.protobuf", "text/plain")

CRD: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": f"claims.{GROUP}"},
    "spec": {
        "group": GROUP,
        "scope": "Namespaced",
        "names": {"kind": "Claim", "plural": "claims"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {
                    "status": {},
                    "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"},
                },
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "x-kubernetes-validations": [{"rule": "!has(self.size) || self.size < 100"}],
                                "properties": {
                                    "engine": {"type": "string", "maxLength": 20},
                                    "size": {"type": "integer", "default": 1},
                                    "tags": {
                                        "type": "array",
                                        "items": {"type": "string"},
                                        "x-kubernetes-list-type": "set",
                                    },
                                    "opts": {"type": "object", "additionalProperties": {"type": "string"}},
                                    "users": {
                                        "type": "array",
                                        "x-kubernetes-list-type": "map",
                                        "x-kubernetes-list-map-keys": ["name"],
                                        "items": {
                                            "type": "object",
                                            "required": ["name"],
                                            "properties": {"name": {"type": "string"}, "role": {"type": "string"}},
                                        },
                                    },
                                    "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                                    "ios": {"x-kubernetes-int-or-string": True},
                                },
                            },
                            "status": {"type": "object", "properties": {"size": {"type": "integer"}}},
                        },
                    }
                },
            }
        ],
    },
}

_POD = {"containers": [{"name": "main", "image": "img:1", "ports": [{"containerPort": 80}], "env": [{"name": "A"}]}]}
OBJECTS: dict[str, dict[str, Any]] = {
    "/api/v1/namespaces/default/configmaps": {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "1"}},
    "/api/v1/namespaces/default/secrets": {"apiVersion": "v1", "kind": "Secret", "data": {"a": "YQ=="}},
    "/api/v1/namespaces/default/services": {
        "apiVersion": "v1",
        "kind": "Service",
        "spec": {"ports": [{"port": 80, "name": "a"}], "selector": {"a": "b"}},
    },
    "/api/v1/namespaces/default/pods": {"apiVersion": "v1", "kind": "Pod", "spec": _POD},
    "/apis/apps/v1/namespaces/default/deployments": {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "spec": {
            "selector": {"matchLabels": {"app": "d"}},
            "template": {"metadata": {"labels": {"app": "d"}}, "spec": _POD},
        },
    },
    f"/apis/{GROUP}/v1/namespaces/default/claims": {
        "apiVersion": f"{GROUP}/v1",
        "kind": "Claim",
        "spec": {"engine": "a", "users": [{"name": "u"}], "tags": ["t"], "opts": {"k": "v"}, "any": {"x": [1]}},
    },
    "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles": {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}],
    },
}

_VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 1.5, 1e30, 2**31, 2**63, 2**64, "", "a", "a b", "a/b", "A", "-", ".", "..", "1", "x" * 300,
    "\u0000", "\ud7ff", "é", "\U0001f600", "2020-01-01T00:00:00Z", "9999-99-99T99:99:99Z", "100m", "1Gi", "1e999", "%d%s",
    "$patch", "delete", "replace", "self.size", "[", "(?P<x", [], {}, [None], [[]], {"a": None}, {"$patch": "replace"},
    {"$retainKeys": ["a"]}, ["a", "a"], [{"name": "a"}, {"name": "a"}], {"": {}}, {"name": 5}, [{"op": "add"}],
]  # fmt: skip
_KEYS = (
    "metadata spec status name generateName namespace labels annotations finalizers ownerReferences managedFields uid"
    " resourceVersion generation creationTimestamp deletionTimestamp template containers replicas ports env image data"
    " stringData engine users tags opts any ios selector matchLabels matchExpressions apiVersion kind type op path strategy"
    " rollingUpdate volumes resources limits cpu imagePullSecrets nodeSelector $patch $setElementOrder/containers"
    " $deleteFromPrimitiveList/finalizers $retainKeys rules verbs schema openAPIV3Schema properties items default"
    " x-kubernetes-validations rule versions names"
).split()
_SELECTORS = [
    "a=b",
    "a!=b",
    "a in (b,c)",
    "!a",
    "a notin ()",
    "metadata.name=x",
    "spec.nodeName=",
    "a==b,c",
    "(",
    ",",
    "a>1",
]
_EXPRESSIONS = [
    "self.size < 100", "has(self.users)", "self.users.all(u, u.name != '')", "self == oldSelf", "oldSelf.size", "1", "'a'",
    "self.tags.exists(t, t in ['a'])", "quantity('1Gi')", "self.engine.matches('(a+)+$')", "self.opts['k']", "true ? 1 : 2",
    "self.any.x[0]", "url('http://a/b').getHost()", "ip('::1')", "cidr('10.0.0.0/8')", "duration('1h')", "-9223372036854775808",
    "1u", "b'\\x00'", "[1, 2].map(x, x * 2)", "{'a': 1}.a", "dyn(1)", "type(self)", "self.ios", "size(self.tags)", "1.0 / 0.0",
    "'%s'.format([self])", "self.?size.orValue(1)", "optional.of(1)", "cel.bind(x, 1, x)", "'a'.find('[')", "semver('1.2.3')",
]  # fmt: skip
_OPERATORS = [
    " && ",
    " || ",
    " + ",
    " - ",
    " * ",
    " / ",
    " % ",
    " == ",
    " in ",
    " < ",
    " ? ",
    " : ",
    ".",
    ", ",
    "(",
    ")",
]
_ACCEPTS = [
    "application/json",
    "application/yaml",
    "*/*",
    "application/vnd.kubernetes.protobuf",
    "application/json;as=Table;v=v1;g=meta.k8s.io",
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
    "application/json;as=Nope;q=x",
    ";;,,",
]


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `number` makes it again."""

    number: int
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def line(self) -> str:
        """The request as a line of kept.jsonl."""
        return json.dumps(
            {"m": self.method, "p": self.path, "h": self.headers, "b64": base64.b64encode(self.body).decode()}
        )


def kept(path: Path) -> Iterator[Request]:
    """The requests that once failed."""
    for number, line in enumerate(path.read_text().splitlines()):
        step = json.loads(line)
        yield Request(number, step["m"], step["p"], step["h"], base64.b64decode(step["b64"]))


def setup() -> Iterator[Request]:
    """What the inputs are about: sent before them, and again now and then."""
    headers = {"Content-Type": "application/json"}
    body = json.dumps(CRD).encode()
    yield Request(-1, "POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", headers, body)
    for path, obj in OBJECTS.items():
        body = json.dumps({**obj, "metadata": {"name": "x"}}).encode()
        yield Request(-1, "POST", path, headers, body)


class Inputs:
    """`make(n)` is input number n of a seed."""

    def __init__(self, seed: int, corpus: Path = CORPUS) -> None:
        self.seed = seed
        self.bodies: list[Any] = []
        self.binary: list[bytes] = []
        for path in sorted(corpus.glob("*/*.jsonl")):
            if path.parent.name not in CATEGORIES:
                continue
            for line in path.read_text().splitlines()[1:]:
                step = json.loads(line)
                if isinstance(step.get("b"), dict | list):
                    self.bodies.append(step["b"])
                if "b64" in step:
                    self.binary.append(base64.b64decode(step["b64"]))

    def make(self, number: int) -> Request:
        return _Maker(self, number).request()


class _Maker:
    def __init__(self, inputs: Inputs, number: int) -> None:
        self.inputs = inputs
        self.number = number
        self.rnd = random.Random(f"{inputs.seed}:{number}")

    def request(self) -> Request:
        rnd = self.rnd
        path = rnd.choice(list(OBJECTS))
        obj = {**OBJECTS[path], "metadata": {"name": "x"}}
        kind = rnd.random()
        if kind < 0.2:
            return self.done("POST", path, self.bytes_of(self.mutate(obj)), rnd.choice(BODY_TYPES))
        if kind < 0.3:
            return self.done("PUT", f"{path}/x{self.sub()}", self.bytes_of(self.mutate(obj)), rnd.choice(BODY_TYPES))
        if kind < 0.6:
            return self.done("PATCH", f"{path}/x{self.sub()}", *self.patch(obj))
        if kind < 0.7 and self.inputs.binary:
            return self.done("POST", path, self.spoil(rnd.choice(self.inputs.binary)), BODY_TYPES[3])
        if kind < 0.85:
            return self.done("GET", path + rnd.choice(["", "/x", "/x/status", "/x/scale", "/none"]), b"", "")
        if kind < 0.9:
            return self.done("DELETE", f"{path}/none{rnd.randint(0, 9)}", self.bytes_of(self.mutate({"kind": "DeleteOptions"})), "application/json")  # fmt: skip
        if kind < 0.95:
            body = copy.deepcopy(CRD)
            body["metadata"]["name"] = f"claims{number_of(rnd)}.{GROUP}"
            if rnd.random() < 0.5:
                schema = body["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
                schema["x-kubernetes-validations"] = [self.rule() for _ in range(rnd.randint(1, 3))]
            where = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
            return self.done("POST", where, self.bytes_of(self.mutate(body)), "application/json", dry=True)
        noise = "/".join(rnd.choice(["api", "apis", "v1", "apps", "namespaces", "default", "pods", "x", "..", "%2f", "%00", "é"]) for _ in range(rnd.randint(1, 7)))  # fmt: skip
        return self.done(
            rnd.choice(["GET", "POST", "PATCH", "DELETE", "OPTIONS"]), "/" + quote(noise, safe="/%."), b"{}", ""
        )

    def sub(self) -> str:
        return self.rnd.choice(["", "", "", "/status", "/scale"])

    def done(self, method: str, path: str, body: bytes, content_type: str, *, dry: bool = False) -> Request:
        rnd = self.rnd
        query: dict[str, str] = {}
        for name, values in (
            ("fieldManager", ["m1", "m2", "kubectl", "x" * 200, "a\nb"]),
            ("force", ["true", "maybe"]),
            ("fieldValidation", ["Strict", "Ignore", "Nope"]),
            ("dryRun", ["All", "Some"]),
            ("labelSelector", [rnd.choice(_SELECTORS), self.selector()]),
            ("fieldSelector", [rnd.choice(_SELECTORS), self.selector()]),
            ("limit", ["1", "-1", "x"]),
            ("continue", ["x", "eyJ2IjoibWV0YS5rOHMuaW8vdjEifQ", "e30"]),
            ("resourceVersion", ["0", "1", "99999999999", "x"]),
            ("resourceVersionMatch", ["Exact", "NotOlderThan", "x"]),
            ("timeoutSeconds", ["1", "x"]),
            ("propagationPolicy", ["Orphan", "x"]),
        ):
            if rnd.random() < (0.35 if name == "fieldManager" else 0.08):
                query[name] = rnd.choice(values)
        if dry:
            query["dryRun"] = "All"
        if query:
            path += "?" + urlencode(query)
        headers = {"Content-Type": content_type} if content_type else {}
        if rnd.random() < 0.2:
            headers["Accept"] = rnd.choice(_ACCEPTS)
        if rnd.random() < 0.03:
            headers["Authorization"] = "Bearer " + rnd.choice(
                ["x", "a.b.c", "e30.e30.e30", "\u00e9".encode().hex(), "." * 9, self.token(), self.token()]
            )
        return Request(self.number, method, path, headers, body)

    def rule(self) -> Any:
        rnd = self.rnd
        text = rnd.choice(_EXPRESSIONS)
        for _ in range(rnd.choice([0, 1, 2, 5])):
            text += rnd.choice(_OPERATORS) + rnd.choice(_EXPRESSIONS)
        wrapped = rnd.choice(["%s", "(%s)", "!%s", "[%s]", "size(%s)", "[1].all(x, %s)"])
        text = text if rnd.random() < 0.8 else text[: rnd.randrange(len(text) + 1)]
        for _ in range(rnd.choice([0, 0, 1, 3, 300])):
            text = wrapped.replace("%s", text)
        out = {"rule": text}
        if rnd.random() < 0.3:
            out[rnd.choice(["messageExpression", "message", "fieldPath", "reason"])] = rnd.choice(_EXPRESSIONS)
        if rnd.random() < 0.2:
            out["optionalOldSelf"] = rnd.choice([True, False, "x"])
        return out

    def token(self) -> str:
        """A token of a ServiceAccount with parts that are wrong."""
        rnd = self.rnd
        claims = {
            "iss": "https://kubernetes.default.svc", "aud": ["https://kubernetes.default.svc"], "exp": 9999999999,
            "sub": "system:serviceaccount:default:default", "kubernetes.io": {"namespace": "default"},
        }  # fmt: skip
        parts = [self.mutate({"alg": "ES256", "kid": "x", "typ": "JWT"}), self.mutate(claims)]
        texts = [base64.urlsafe_b64encode(self.bytes_of(part)).decode().rstrip("=") for part in parts]
        return ".".join([*texts, rnd.choice(["", "AA", "A" * 86, "_", "x.y"])])

    def selector(self) -> str:
        rnd = self.rnd
        words = [
            "a",
            "b.c/d",
            "metadata.name",
            "spec.x",
            "",
            "=",
            "==",
            "!=",
            " in ",
            " notin ",
            "(",
            ")",
            ",",
            "!",
            ">",
            "\\",
            "é",
        ]
        return "".join(rnd.choice(words) for _ in range(rnd.randint(0, 12)))

    def patch(self, obj: Any) -> tuple[bytes, str]:
        rnd = self.rnd
        kind = rnd.choice(PATCH_TYPES)
        if kind == PATCH_TYPES[0] and rnd.random() < 0.9:
            body: Any = [self.operation() for _ in range(rnd.randint(1, 4))]
        else:
            body = self.mutate(rnd.choice([obj, obj, rnd.choice(self.inputs.bodies)]))
        return self.bytes_of(body), kind

    def operation(self) -> Any:
        rnd = self.rnd
        path = "".join("/" + str(rnd.choice([*_KEYS, 0, 1, -1, "-"])) for _ in range(rnd.randint(0, 4)))
        known = [
            "/spec/template/spec/containers/0/image",
            "/metadata/labels",
            "/spec",
            "/metadata",
            "/metadata/resourceVersion",
        ]
        return {
            "op": rnd.choice(["add", "remove", "replace", "move", "copy", "test", "jump"]),
            "path": rnd.choice([path, *known]),
            "from": rnd.choice([path, *known]),
            "value": self.mutate(rnd.choice(self.inputs.bodies)),
        }

    def bytes_of(self, value: Any) -> bytes:
        raw = json.dumps(value).encode()
        return self.spoil(raw) if self.rnd.random() < 0.05 else raw

    def spoil(self, raw: bytes) -> bytes:
        """Some bytes changed, cut or added."""
        out = bytearray(raw)
        for _ in range(self.rnd.randint(1, 4)):
            at = self.rnd.randrange(len(out) + 1)
            out[at : at + self.rnd.randint(0, 3)] = self.rnd.randbytes(self.rnd.randint(0, 2))
        return bytes(out)

    def mutate(self, value: Any, depth: int = 0) -> Any:
        rnd = self.rnd
        if depth and rnd.random() < 0.2:
            return copy.deepcopy(rnd.choice(_VALUES))
        if isinstance(value, dict):
            out = dict(value)
            for _ in range(rnd.randint(1, 2)):
                if out and rnd.random() < 0.7:
                    key = rnd.choice(list(out))
                    if rnd.random() < 0.15:
                        del out[key]
                    else:
                        out[key] = self.mutate(out[key], depth + 1)
                else:
                    out[rnd.choice(_KEYS)] = copy.deepcopy(rnd.choice(_VALUES))
            return out
        if isinstance(value, list):
            items = list(value)
            if items and rnd.random() < 0.7:
                at = rnd.randrange(len(items))
                items[at] = self.mutate(items[at], depth + 1)
            else:
                items.insert(rnd.randint(0, len(items)), copy.deepcopy(rnd.choice(_VALUES)))
            return items
        return copy.deepcopy(rnd.choice(_VALUES)) if depth else value


def number_of(rnd: random.Random) -> str:
    return str(rnd.randint(0, 3))
