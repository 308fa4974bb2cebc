"""Custom resources in two versions, converted by a webhook over real HTTPS."""

from __future__ import annotations

import base64
import itertools
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from chandlery.controlplane.pki import Authority

Obj = dict[str, Any]
_groups = itertools.count()


def between(obj: Obj, api_version: str) -> Obj:
    """v1 has `spec.host` and `spec.port`, v2 `spec.address`."""
    spec = obj["spec"]
    if api_version.endswith("/v2"):
        spec = {"address": f"{spec.get('host', '')}:{spec['port']}"}
    else:
        host, _, port = spec["address"].partition(":")
        spec = {"host": host, "port": int(port)}
    return {**obj, "apiVersion": api_version, "spec": spec, "bogus": 1}


class Hook:
    """A conversion webhook whose answer a test may spoil."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[Obj] = []
        self.spoil: Callable[[Obj], object] = lambda review: None
        authority = Authority(folder)
        cert, key = authority.issue("hook", "hook", hosts=("127.0.0.1",))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = hook.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.client = {
            "url": f"https://127.0.0.1:{self.server.server_port}/convert",
            "caBundle": base64.b64encode(authority.pem).decode(),
        }
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, review: Obj) -> bytes:
        request = review.pop("request")
        self.asked.append(request)
        review["response"] = {
            "uid": request["uid"],
            "result": {"status": "Success"},
            "convertedObjects": [between(obj, request["desiredAPIVersion"]) for obj in request["objects"]],
        }
        self.spoil(review)
        return json.dumps(review).encode()


@pytest.fixture(scope="module")
def hook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hook]:
    hook = Hook(tmp_path_factory.mktemp("hook"))
    yield hook
    hook.server.shutdown()
    hook.server.server_close()


class Endpoints:
    """A custom resource of its own group in v1 and v2 (the storage version)."""

    def __init__(self, api: Any, hook: Hook, **webhook: Any) -> None:
        self.api, self.group = api, f"g{next(_groups)}.conv.example"

        def version(name: str, spec: Obj) -> Obj:
            schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": spec}}}
            return {"name": name, "served": True, "storage": name == "v2", "schema": {"openAPIV3Schema": schema}}

        crd = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"endpoints.{self.group}"},
            "spec": {
                "group": self.group,
                "scope": "Namespaced",
                "names": {"plural": "endpoints", "kind": "Endpoint"},
                "versions": [
                    version("v1", {"host": {"type": "string"}, "port": {"type": "integer", "default": 80}}),
                    version("v2", {"address": {"type": "string"}}),
                ],
                "conversion": {
                    "strategy": "Webhook",
                    "webhook": {"clientConfig": hook.client, "conversionReviewVersions": ["v1"], **webhook},
                },
            },
        }
        code, made = api("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
        assert code == 201, made
        for _ in range(100):
            if api("GET", self.path("v1"))[0] == 200:
                return
            time.sleep(0.05)
        raise AssertionError("the custom resource is not served")

    def path(self, version: str, name: str = "") -> str:
        return f"/apis/{self.group}/{version}/namespaces/default/endpoints{name and '/' + name}"

    def create(self, version: str, name: str, spec: Obj, **metadata: Any) -> tuple[int, Any]:
        obj = {
            "apiVersion": f"{self.group}/{version}",
            "kind": "Endpoint",
            "metadata": {"name": name, **metadata},
            "spec": spec,
        }
        return self.api("POST", self.path(version), obj)  # type: ignore[no-any-return]

    def get(self, version: str, name: str = "") -> Any:
        return self.api("GET", self.path(version, name))[1]


@pytest.fixture
def endpoints(api: Any, hook: Hook) -> Iterator[Endpoints]:
    made = Endpoints(api, hook)
    hook.asked.clear()
    yield made
    hook.spoil = lambda review: None


def test_each_version_shows_its_own_form(endpoints: Endpoints, hook: Hook) -> None:
    code, made = endpoints.create("v1", "a", {"host": "h"})
    assert (code, made["apiVersion"], made["spec"]) == (201, f"{endpoints.group}/v1", {"host": "h", "port": 80})
    assert endpoints.get("v2", "a")["spec"] == {"address": "h:80"}
    shown = endpoints.get("v1", "a")
    assert shown["spec"] == {"host": "h", "port": 80}
    assert "bogus" not in shown, "what a webhook answers is pruned by the version's schema"
    assert hook.asked[0]["desiredAPIVersion"] == f"{endpoints.group}/v2"
    assert [obj["metadata"]["name"] for obj in hook.asked[0]["objects"]] == ["a"]


def test_objects_of_the_stored_version_need_no_webhook(endpoints: Endpoints, hook: Hook) -> None:
    endpoints.create("v2", "a", {"address": "h:1"})
    endpoints.get("v2")
    assert hook.asked == []


def test_a_list_is_converted_in_one_review(endpoints: Endpoints, hook: Hook) -> None:
    for number in range(5):
        endpoints.create("v2", f"e{number}", {"address": f"h:{number}"})
    items = endpoints.get("v1")["items"]
    assert [item["spec"]["port"] for item in items] == [0, 1, 2, 3, 4]
    assert [len(request["objects"]) for request in hook.asked] == [5]
    endpoints.get("v1")
    assert len(hook.asked) == 1, "what did not change is not converted again"


def test_large_answers_arrive_whole(endpoints: Endpoints) -> None:
    for number in range(12):
        endpoints.create("v2", f"e{number:02}", {"address": f"{'h' * 100_000}:{number}"})
    items = endpoints.get("v1")["items"]
    assert [(len(item["spec"]["host"]), item["spec"]["port"]) for item in items] == [(100_000, n) for n in range(12)]


def test_updates_and_patches_in_the_other_version(endpoints: Endpoints) -> None:
    endpoints.create("v2", "a", {"address": "h:1"})
    live = endpoints.get("v1", "a")
    live["spec"]["port"] = 2
    code, updated = endpoints.api("PUT", endpoints.path("v1", "a"), live)
    assert (code, updated["spec"], updated["metadata"]["generation"]) == (200, {"host": "h", "port": 2}, 2)
    patch = {"spec": {"host": "other"}}
    code, patched = endpoints.api("PATCH", endpoints.path("v1", "a"), patch, "application/merge-patch+json")
    assert (code, patched["spec"]) == (200, {"host": "other", "port": 2})
    assert endpoints.get("v2", "a")["spec"] == {"address": "other:2"}


def test_webhooks_may_change_labels_and_annotations_only(endpoints: Endpoints, hook: Hook) -> None:
    endpoints.create("v2", "a", {"address": "h:1"}, labels={"a": "b"}, finalizers=["x.example/y"])

    def spoil(review: Obj) -> None:
        for obj in review["response"]["convertedObjects"]:
            obj["metadata"] |= {"annotations": {"from": "hook"}, "finalizers": [], "generation": 7}
            del obj["metadata"]["labels"]

    hook.spoil = spoil
    metadata = endpoints.get("v1", "a")["metadata"]
    assert (metadata["annotations"], metadata["finalizers"]) == ({"from": "hook"}, ["x.example/y"])
    assert metadata["generation"] == 1
    assert "labels" not in metadata


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r: r["response"].update(result={"status": "Failure", "message": "no"}), "failed: no"),
        (
            lambda r: r["response"].update(result={"status": "Odd"}),
            "failed: response.result.status was 'Odd', not 'Success'",
        ),
        (lambda r: r.pop("response"), "failed: no response provided"),
        (
            lambda r: r.update(apiVersion="apiextensions.k8s.io/v1beta1"),
            (
                "failed: expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, "
                "got apiextensions.k8s.io/v1beta1, Kind=ConversionReview"
            ),
        ),
        (lambda r: r["response"].update(convertedObjects=[]), "returned 0 objects, expected 1"),
        (
            lambda r: r["response"]["convertedObjects"][0].update(kind="Other"),
            "returned invalid object at index 0: invalid kind (expected Endpoint, received Other)",
        ),
        (
            lambda r: r["response"]["convertedObjects"][0].update(apiVersion="x/v9"),
            "returned invalid object at index 0: invalid groupVersion (expected {group}/v1, received x/v9)",
        ),
        (
            lambda r: r["response"]["convertedObjects"][0]["metadata"].update(name="b"),
            "returned invalid object: must have the same name: a != b",
        ),
        (
            lambda r: r["response"]["convertedObjects"][0]["metadata"].update(labels={"a": 1}),
            "returned invalid metadata: metadata.labels[a] must be a string, but is int64 in converted object",
        ),
    ],
)
def test_answers_that_are_not_accepted(
    endpoints: Endpoints, hook: Hook, spoil: Callable[[Obj], object], message: str
) -> None:
    endpoints.create("v2", "a", {"address": "h:1"})
    hook.spoil = spoil
    code, status = endpoints.api("GET", endpoints.path("v1", "a"))
    assert (code, status["message"]) == (
        500,
        f"conversion webhook for {endpoints.group}/v2, Kind=Endpoint {message.replace('{group}', endpoints.group)}",
    )
    hook.spoil = lambda review: None
    assert endpoints.get("v1", "a")["spec"] == {"host": "h", "port": 1}, "failures are not kept"


def test_a_webhook_that_cannot_be_reached(api: Any, hook: Hook) -> None:
    client = {**hook.client, "url": "https://127.0.0.1:1/convert"}
    endpoints = Endpoints(api, hook, clientConfig=client)
    code, status = endpoints.create("v1", "a", {"host": "h"})
    assert (code, status["message"]) == (
        500,
        (
            f"conversion webhook for {endpoints.group}/v1, Kind=Endpoint failed: "
            'Post "https://127.0.0.1:1/convert?timeout=30s": dial tcp 127.0.0.1:1: connect: connection refused'
        ),
    )


def test_old_reviews(api: Any, hook: Hook) -> None:
    endpoints = Endpoints(api, hook, conversionReviewVersions=["v9", "v1beta1", "v1"])
    endpoints.create("v2", "a", {"address": "h:1"})
    seen: list[Obj] = []

    def spoil(review: Obj) -> None:
        seen.append(dict(review))
        review["response"]["uid"] = "other"

    hook.spoil = spoil
    assert endpoints.get("v1", "a")["spec"] == {"host": "h", "port": 1}
    assert seen[0]["apiVersion"] == "apiextensions.k8s.io/v1beta1"
    hook.spoil = lambda review: None
