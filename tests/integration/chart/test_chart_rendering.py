"""`helm lint`, and `helm template` over a matrix of values, held against schemas and a policy."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from charts import CHART, ROOT, VERSIONS, Obj, documents, policy_problems, schema_problems

from chandlery.gen.chart import exported
from chandlery_kinds import KINDS

QUIET = {"crds": {"install": False}}
EVERYTHING: dict[str, Any] = {
    **QUIET,
    "nameOverride": "supplies",
    "commonLabels": {"team": "platform"},
    "commonAnnotations": {"example.com/owner": "platform"},
    "image": {"registry": "registry.example", "digest": "sha256:" + "a" * 64},
    "imagePullSecrets": ["pull"],
    "replicas": 3,
    "drivers": {"images": {"valkey": "registry.example/valkey:9.1.1"}, "pullSecrets": ["pull"]},
    "resourceClasses": {"parameters": {"Cache": {"image": "registry.example/valkey@sha256:" + "b" * 64}}},
    "serviceAccount": {"annotations": {"example.com/role": "chandlery"}},
    "rbac": {"extraRules": [{"apiGroups": ["acme.example"], "resources": ["caches"], "verbs": ["get"]}]},
    "telemetry": {"traces": "otlp", "endpoint": "http://collector:4318/v1/traces", "sample": 0.1},
    "settings": {"CHANDLERY_LOOP_WORKERS": "64"},
    "metrics": {
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": True},
        "dashboard": {"enabled": True},
    },
    "networkPolicy": {
        "enabled": True,
        "metricsFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
        "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}],
    },
    "priorityClass": {"create": True},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "control-plane", "operator": "Exists"}],
    "podLabels": {"team": "platform"},
    "podAnnotations": {"example.com/note": "x"},
}
MATRIX: dict[str, dict[str, Any]] = {
    "defaults": {},
    "everything": EVERYTHING,
    "one-namespace": {**QUIET, "watchNamespace": "shop", "kinds": ["Cache", "Queue"]},
    "cert-manager": {**QUIET, "webhook": {"certificates": "cert-manager"}, "priorityClassName": "high"},
    "own-issuer": {**QUIET, "webhook": {"certificates": "cert-manager", "certManager": {"issuerRef": {"name": "ca"}}}},
    "helm-certificate": {**QUIET, "webhook": {"certificates": "helm", "failurePolicy": "Fail"}},
    "definitions-go": {"crds": {"keep": False}, "kinds": ["Cache"]},
    "sharded": {**QUIET, "replicas": 3, "sharding": {"enabled": True, "shards": 64}, "leaseSeconds": 10},
    "bare": {
        **QUIET,
        "replicas": 1,
        "webhook": {"enabled": False},
        "resourceClasses": {"create": False},
        "rbac": {"aggregate": False},
        "test": {"enabled": False},
        "runAsUser": 0,
    },
}  # fmt: skip


def by(objects: list[Obj], kind: str, suffix: str = "") -> Obj:
    found = [o for o in objects if o["kind"] == kind and o["metadata"]["name"].endswith(suffix)]
    assert found, f"no {kind} *{suffix}"
    return found[0]


def env(objects: list[Obj]) -> dict[str, str]:
    container = by(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    return {variable["name"]: variable["value"] for variable in container["env"]}


@pytest.fixture(scope="session", params=list(MATRIX))
def rendered(request: pytest.FixtureRequest, render: Any) -> list[Obj]:
    return list(render(MATRIX[request.param]))


def test_the_schemas_of_every_supported_kubernetes_take_it(rendered: list[Obj]) -> None:
    assert schema_problems(o for o in rendered if o["kind"] != "CustomResourceDefinition") == []


def test_the_schemas_see_what_they_should(render: Any) -> None:
    deployment = by(render(QUIET), "Deployment")
    deployment["spec"]["replicas"] = "two"
    deployment["spec"]["template"]["spec"]["enableServicelinks"] = False
    assert {problem.partition(":")[0] for problem in schema_problems([deployment])} == set(VERSIONS)


def test_the_policy_takes_it(rendered: list[Obj]) -> None:
    assert policy_problems(rendered) == []


def test_names_are_unique_and_namespaces_said(rendered: list[Obj]) -> None:
    places = [(o["apiVersion"], o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in rendered]
    assert len(places) == len(set(places))
    cluster = {"CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding", "ValidatingWebhookConfiguration",
               "ResourceClass", "PriorityClass"}  # fmt: skip
    assert {k for _, k, namespace, _ in places if namespace is None} <= cluster
    assert not cluster & {k for _, k, namespace, _ in places if namespace}


def test_both_helms_render_the_same(render: Any, helm3: Any) -> None:
    ours = render(MATRIX["everything"])
    theirs = render(MATRIX["everything"], helm=helm3)
    key = lambda o: (o["kind"], o["metadata"]["name"])  # noqa: E731
    assert sorted(ours, key=key) == sorted(theirs, key=key)


@pytest.mark.parametrize("which", ["helm3", "helm4"])
def test_lint(which: str, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(which)("lint", "--strict", str(CHART))


def test_every_object_of_the_schema_knows_its_values() -> None:
    """values.yaml and values.schema.json tell of the same values: none undocumented, none unchecked."""
    schema = json.loads((CHART / "values.schema.json").read_text())

    def compare(node: Obj, values: Any, path: str) -> None:
        if not node.get("properties") or not isinstance(values, dict) or path.endswith("issuerRef"):
            return
        assert set(node["properties"]) - {"global"} == set(values), path
        for name, child in node["properties"].items():
            compare(child, values.get(name), f"{path}.{name}")

    compare(schema, yaml.safe_load((CHART / "values.yaml").read_text()), "values")


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("image.tag=latest", "tag"),
        ("replicas=0", "replicas"),
        ("webhook.certificates=mine", "certificates"),
        ("nodeselector.a=b", "nodeselector"),
        ("settings.PASSWORD=x", "PASSWORD"),
        ("drivers.images.valkey=valkey:latest", "valkey"),
        ("crds.install=true,crds.keep=false,watchNamespace=shop", "crds.keep: the definitions belong to the whole"),
        ("kinds={Teapot}", "there is no kind Teapot; there are Cache, Database"),
    ],
)
def test_wrong_values_are_refused_by_name(helm4: Any, flag: str, says: str) -> None:
    done = helm4.run("template", "rel", str(CHART), "--set", "crds.install=false", "--set", flag)
    assert done.returncode != 0
    assert says in done.stderr


def test_the_crds_are_ours_and_stay(render: Any) -> None:
    objects = {o["metadata"]["name"]: o for o in render({}) if o["kind"] == "CustomResourceDefinition"}
    ours = [documents(path.read_text())[0] for path in sorted((ROOT / "crds").glob("*.yaml"))]
    assert set(objects) == {crd["metadata"]["name"] for crd in ours}
    for crd in ours:
        made = objects[crd["metadata"]["name"]]
        assert made["spec"] == crd["spec"]
        assert made["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    gone = render({"crds": {"keep": False}})
    assert all("annotations" not in o["metadata"] for o in gone if o["kind"] == "CustomResourceDefinition")


def test_values_reach_the_operator(render: Any) -> None:
    found = env(render(EVERYTHING))
    # the operator's own image is that of the pods that make backups
    [found_image] = {
        c["image"]
        for o in render(EVERYTHING)
        if o["kind"] == "Deployment"
        for c in o["spec"]["template"]["spec"]["containers"]
    }
    images = {"valkey": "registry.example/valkey:9.1.1", "chandlery": found_image}
    assert json.loads(found["CHANDLERY_KUBERNETES_IMAGES"]) == images
    assert found["CHANDLERY_KUBERNETES_PULL_SECRETS"] == "pull"
    assert found["CHANDLERY_LOOP_WORKERS"] == "64"
    assert found["CHANDLERY_TELEMETRY_SAMPLE"] == "0.1"
    assert found["CHANDLERY_OPERATOR_WEBHOOK_SERVICE"] == "rel-supplies-webhook.chandlery-system"
    assert "CHANDLERY_OPERATOR_SHARDING" not in found
    shared = env(render(MATRIX["sharded"]))
    assert (shared["CHANDLERY_OPERATOR_SHARDING"], shared["CHANDLERY_OPERATOR_SHARDS"]) == ("true", "64")
    assert shared["CHANDLERY_OPERATOR_LEASE_SECONDS"] == "10"
    found = {**found, **shared}
    documented = (ROOT / "docs" / "reference" / "configuration.md").read_text()
    assert [name for name in found if f"`{name}`" not in documented] == []
    container = by(render(EVERYTHING), "Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "registry.example/chandlery/chandlery@sha256:" + "a" * 64
    assert container["command"] == ["chandlery", "operator"]


def test_one_namespace_and_some_kinds_ask_for_less(render: Any) -> None:
    objects = render(MATRIX["one-namespace"])
    found = env(objects)
    assert (found["CHANDLERY_OPERATOR_NAMESPACE"], found["CHANDLERY_OPERATOR_KINDS"]) == ("shop", "Cache,Queue")
    role = by(objects, "Role", "-workloads")
    assert role["metadata"]["namespace"] == "shop"
    resources = {resource for rule in role["rules"] for resource in rule["resources"]}
    assert {"caches", "queues/status"} <= resources
    assert not {"databases", "virtualmachines"} & resources
    wide = [rule for o in objects if o["kind"] == "ClusterRole" and "aggregate" not in str(o["metadata"]["labels"])
            for rule in o["rules"]]  # fmt: skip
    assert not any({"secrets", "pods", "caches"} & set(rule["resources"]) for rule in wide)
    webhook = by(objects, "ValidatingWebhookConfiguration")["webhooks"][0]
    assert webhook["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}
    assert [rule["resources"] for rule in webhook["rules"]] == [["caches"], ["queues"]]


def test_the_certificate_that_helm_makes_is_good(render: Any) -> None:
    import base64

    from cryptography import x509

    objects = render(MATRIX["helm-certificate"])
    secret = by(objects, "Secret", "-webhook-tls")["data"]
    chain = x509.load_pem_x509_certificate(base64.b64decode(secret["tls.crt"]))
    authority = x509.load_pem_x509_certificate(base64.b64decode(secret["ca.crt"]))
    chain.verify_directly_issued_by(authority)
    names = chain.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["rel-chandlery-webhook.chandlery-system.svc"]
    client = by(objects, "ValidatingWebhookConfiguration")["webhooks"][0]["clientConfig"]
    assert client["caBundle"] == secret["ca.crt"]


def test_the_webhook_is_what_the_operator_would_register(render: Any) -> None:
    from chandlery.reconcile.admission import configuration

    plain = lambda hook: {k: v for k, v in hook.items() if k not in ("clientConfig", "rules")}  # noqa: E731
    flat = lambda hook: {  # noqa: E731
        (g, r, v, tuple(rule["operations"]))
        for rule in hook["rules"] for g in rule["apiGroups"] for r in rule["resources"] for v in rule["apiVersions"]
    }  # fmt: skip
    ours = configuration({k.name: k for k in KINDS}, {})["webhooks"]
    for made, own in zip(by(render(QUIET), "ValidatingWebhookConfiguration")["webhooks"], ours, strict=True):
        assert plain(made) == plain(own)
        assert flat(made) == flat(own)


def test_classes_come_before_the_operator_whatever_the_policy_for_objects(render: Any) -> None:
    objects, settings = by(render({**QUIET, "webhook": {"failurePolicy": "Fail"}}), "ValidatingWebhookConfiguration")[
        "webhooks"
    ]
    assert (objects["failurePolicy"], settings["failurePolicy"]) == ("Fail", "Ignore")


def test_alerts_and_dashboard_speak_of_metrics_that_exist(render: Any) -> None:
    names = set()
    for metric in exported():
        suffixes = {"histogram": ("_bucket", "_count", "_sum"), "counter": ("_total",)}.get(metric.type, ("",))
        names |= {metric.name + suffix for suffix in suffixes}
    objects = render(EVERYTHING)
    rules = by(objects, "PrometheusRule")["spec"]["groups"][0]["rules"]
    board = json.loads(by(objects, "ConfigMap", "-dashboard")["data"]["chandlery.json"])
    used = " ".join([rule["expr"] for rule in rules] + [t["expr"] for p in board["panels"] for t in p["targets"]])
    asked = set(re.findall(r"chandlery_[a-z_]+", used))
    assert asked <= names, asked - names
    assert all("{{ $labels" not in rule["expr"] for rule in rules)
    assert any("{{ $labels.kind }}" in rule["annotations"]["summary"] for rule in rules)
    shown = {metric.name for metric in exported() if any(name.startswith(metric.name) for name in asked)}
    assert shown == {metric.name for metric in exported()}


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda c: c.update(image="valkey:latest"), "not pinned"),
        (lambda c: c.update(image="registry.example:5000/valkey"), "not pinned"),
        (lambda c: c.pop("command"), "entrypoint"),
        (lambda c: c["securityContext"].update(readOnlyRootFilesystem=False), "root file system"),
        (lambda c: c["securityContext"].update(capabilities={"add": ["NET_ADMIN"], "drop": ["ALL"]}), "capabilities"),
        (lambda c: c["env"].append({"name": "DB_PASSWORD", "value": "x"}), "sounds like a secret"),
        (lambda c: c.update(resources={}), "requests"),
    ],
)
def test_the_policy_sees_what_it_should(render: Any, break_it: Any, says: str) -> None:
    objects = render(QUIET)
    break_it(by(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0])
    assert any(says in problem for problem in policy_problems(objects))
