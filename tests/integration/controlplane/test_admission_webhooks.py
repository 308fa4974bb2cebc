"""Admission webhooks over real HTTPS: what they are told, and what their answers do."""

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from chandlery.controlplane.pki import Authority
from chandlery.controlplane.plane import ControlPlane
from chandlery.controlplane.settings import ControlPlaneSettings
from chandlery.controlplane.types import ApiError, RequestContext, UserInfo

ROOT = UserInfo("root", "0", groups=("system:masters",))
Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any] | web.Response]]


class Hooks:
    """An HTTPS server whose answers the tests choose, by path."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.port = 0
        self.bundle = ""

    async def handle(self, request: web.Request) -> web.Response:
        review = await request.json()
        self.asked.append((request.path, review))
        answer = await self.answers[request.path](review["request"])
        if isinstance(answer, web.Response):
            return answer
        response = {"uid": review["request"]["uid"], "allowed": True, **answer}
        return web.json_response({"apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response})

    def patch(self, path: str, *operations: dict[str, Any], note: str = "") -> None:
        encoded = base64.b64encode(json.dumps(operations).encode()).decode()

        async def answer(request: dict[str, Any]) -> dict[str, Any]:
            return {"patchType": "JSONPatch", "patch": encoded, **({"warnings": [note]} if note else {})}

        self.answers[path] = answer

    def says(self, path: str, **response: Any) -> None:
        async def answer(request: dict[str, Any]) -> dict[str, Any]:
            return response

        self.answers[path] = answer


@pytest.fixture
async def hooks(tmp_path: Path) -> AsyncIterator[Hooks]:
    hooks = Hooks()
    authority = Authority(tmp_path / "hook-pki")
    cert, key = authority.issue("hook", "hook", hosts=("127.0.0.1", "hook.default.svc"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    app = web.Application()
    app.router.add_post("/{tail:.*}", hooks.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    hooks.port = runner.addresses[0][1]
    hooks.bundle = base64.b64encode(authority.pem).decode()
    yield hooks
    await runner.cleanup()


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    plane = ControlPlane(ControlPlaneSettings(data_dir=tmp_path / "data", store="memory", audit=False))
    await plane.start()
    yield plane
    await plane.stop()


async def configure(plane: ControlPlane, hooks: Hooks, kind: str, *webhooks: dict[str, Any]) -> None:
    """A Mutating or Validating configuration for configmaps, with usable defaults for what a test leaves out."""
    assert plane.api is not None
    full = []
    for webhook in webhooks:
        path = webhook.pop("path", "/hook")
        base = {
            "name": "a.hook.example",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "clientConfig": {"url": f"https://127.0.0.1:{hooks.port}{path}", "caBundle": hooks.bundle},
            "rules": [
                {"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]},
            ],
        }
        full.append({**base, **webhook})
    obj = {"metadata": {"name": kind.lower()}, "webhooks": full}
    plural = f"{kind.lower()}webhookconfigurations"
    await plane.api.create("admissionregistration.k8s.io", plural, obj, user=ROOT, manager="test")


async def create(plane: ControlPlane, name: str = "c", **more: Any) -> Any:
    assert plane.api is not None
    meta = {"name": name, "namespace": "default", **more.pop("metadata", {})}
    return await plane.api.create("", "configmaps", {"metadata": meta, **more}, user=ROOT, manager="test")


async def refused(plane: ControlPlane, name: str = "c", **more: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await create(plane, name, **more)
    return caught.value


async def test_a_mutating_webhook_changes_the_object_before_it_is_stored(plane: ControlPlane, hooks: Hooks) -> None:
    hooks.patch("/hook", {"op": "add", "path": "/data", "value": {"a": "1"}})
    await configure(plane, hooks, "Mutating", {})
    made = await create(plane)
    assert made["data"] == {"a": "1"}
    assert "managedFields" not in made["metadata"], "nobody's manager owns what a webhook wrote"
    _, review = hooks.asked[-1]
    request = review["request"]
    assert (request["operation"], request["name"], request["namespace"]) == ("CREATE", "c", "default")
    assert request["userInfo"] == {"username": "root", "uid": "0", "groups": ["system:masters"]}
    assert request["resource"] == {"group": "", "version": "v1", "resource": "configmaps"}
    assert request["object"]["kind"] == "ConfigMap"
    assert (request["oldObject"], request["dryRun"]) == (None, False)


async def test_what_a_webhook_writes_is_decoded_like_a_clients_body(plane: ControlPlane, hooks: Hooks) -> None:
    hooks.patch("/hook", {"op": "add", "path": "/bogus", "value": 1})
    await configure(plane, hooks, "Mutating", {})
    assert "bogus" not in await create(plane)


async def test_denials_carry_the_webhooks_words_and_code(plane: ControlPlane, hooks: Hooks) -> None:
    status = {"code": 409, "message": "no way", "reason": "Odd"}
    hooks.says("/hook", allowed=False, status=status)
    await configure(plane, hooks, "Validating", {})
    error = await refused(plane)
    message = 'admission webhook "a.hook.example" denied the request: no way'
    assert (error.code, error.reason, error.message) == (409, "Odd", message)
    hooks.says("/hook", allowed=False)
    error = await refused(plane)
    assert (error.code, error.reason) == (400, "")
    assert error.message == 'admission webhook "a.hook.example" denied the request without explanation'


async def test_deletions_are_admitted_with_the_old_object_only(plane: ControlPlane, hooks: Hooks) -> None:
    await create(plane)
    hooks.says("/hook", allowed=False, status={"message": "stay"})
    await configure(plane, hooks, "Validating", {})
    assert plane.api is not None
    with pytest.raises(ApiError, match="denied the request: stay"):
        await plane.api.delete("", "configmaps", "default", "c", user=ROOT)
    request = hooks.asked[-1][1]["request"]
    assert (request["operation"], request["object"]) == ("DELETE", None)
    assert request["oldObject"]["metadata"]["name"] == "c"


async def test_failure_policy_decides_when_a_webhook_cannot_be_asked(plane: ControlPlane, hooks: Hooks) -> None:
    async def broken(request: dict[str, Any]) -> web.Response:
        return web.Response(status=500, text="broken")

    hooks.answers["/hook"] = broken
    await configure(plane, hooks, "Mutating", {"failurePolicy": "Ignore"})
    await create(plane, "ignored")
    await configure(plane, hooks, "Validating", {})
    error = await refused(plane)
    assert (error.code, error.reason) == (500, "InternalError")
    assert error.message == (
        'Internal error occurred: failed calling webhook "a.hook.example": failed to call webhook:'
        ' an error on the server ("broken") has prevented the request from succeeding'
    )


async def test_a_slow_webhook_times_out(plane: ControlPlane, hooks: Hooks) -> None:
    released = asyncio.Event()

    async def slow(request: dict[str, Any]) -> dict[str, Any]:
        await released.wait()
        return {}

    hooks.answers["/hook"] = slow
    await configure(plane, hooks, "Validating", {"timeoutSeconds": 1})
    error = await refused(plane)
    released.set()
    assert error.message.endswith(f':{hooks.port}/hook?timeout=1s": context deadline exceeded')


async def test_only_the_named_authority_is_trusted(plane: ControlPlane, hooks: Hooks, tmp_path: Path) -> None:
    hooks.says("/hook")
    other = base64.b64encode(Authority(tmp_path / "other").pem).decode()
    client = {"url": f"https://127.0.0.1:{hooks.port}/hook", "caBundle": other}
    await configure(plane, hooks, "Validating", {"clientConfig": client})
    assert "tls: failed to verify certificate" in (await refused(plane)).message
    assert hooks.asked == []


async def test_a_service_reference_is_resolved_and_its_name_is_verified(plane: ControlPlane, hooks: Hooks) -> None:
    assert plane.api is not None
    hooks.says("/deep/hook", allowed=False, status={"message": "reached"})
    service = {"namespace": "default", "name": "hook", "path": "/deep/hook", "port": hooks.port}
    client = {"service": service, "caBundle": hooks.bundle}
    await configure(plane, hooks, "Validating", {"clientConfig": client})
    assert 'service "hook" not found' in (await refused(plane)).message
    spec = {"type": "ExternalName", "externalName": "localhost"}
    body = {"metadata": {"name": "hook", "namespace": "default"}, "spec": spec}
    await plane.api.create("", "services", body, user=ROOT, manager="test")
    # The certificate is for hook.default.svc (and 127.0.0.1), not for localhost.
    assert (await refused(plane)).message.endswith("denied the request: reached")


async def test_selectors_rules_and_conditions_choose(plane: ControlPlane, hooks: Hooks) -> None:
    hooks.says("/hook", allowed=False, status={"message": "asked"})
    webhook = {
        "objectSelector": {"matchLabels": {"watched": "yes"}},
        "namespaceSelector": {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "Exists"}]},
        "matchConditions": [
            {"name": "not-skip", "expression": "object.metadata.name != 'skip'"},
            {"name": "create", "expression": "request.operation == 'CREATE'"},
            {"name": "may", "expression": "authorizer.requestResource.check('create').allowed()"},
        ],
    }
    await configure(plane, hooks, "Validating", webhook)
    await create(plane, "unlabelled")
    await create(plane, "skip", metadata={"labels": {"watched": "yes"}})
    assert hooks.asked == []
    error = await refused(plane, metadata={"labels": {"watched": "yes"}})
    assert error.message.endswith("asked")


async def test_a_condition_that_fails_refuses_or_skips(plane: ControlPlane, hooks: Hooks) -> None:
    hooks.says("/hook")
    conditions = [{"name": "x", "expression": "object.data.missing == 'x'"}]
    await configure(plane, hooks, "Mutating", {"matchConditions": conditions, "failurePolicy": "Ignore"})
    await create(plane, "skipped", data={"a": "b"})
    await configure(plane, hooks, "Validating", {"matchConditions": conditions})
    error = await refused(plane, data={"a": "b"})
    assert error.code == 403
    assert "object.data.missing == 'x'" in error.message
    assert hooks.asked == []


async def test_a_webhook_asks_to_see_what_later_ones_changed(plane: ControlPlane, hooks: Hooks) -> None:
    async def first(request: dict[str, Any]) -> dict[str, Any]:
        seen = (request["object"].get("data") or {}).get("second", "no")
        patch = [{"op": "add", "path": "/metadata/annotations", "value": {"seen": seen}}]
        return {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(patch).encode()).decode()}

    hooks.answers["/first"] = first
    hooks.patch("/second", {"op": "add", "path": "/data", "value": {"second": "yes"}})
    await configure(
        plane,
        hooks,
        "Mutating",
        {"name": "first.hook.example", "path": "/first", "reinvocationPolicy": "IfNeeded"},
        {"name": "second.hook.example", "path": "/second"},
    )
    assert (await create(plane))["metadata"]["annotations"] == {"seen": "yes"}
    assert [path for path, _ in hooks.asked] == ["/first", "/second", "/first"]


async def test_a_dry_run_asks_only_webhooks_without_side_effects(plane: ControlPlane, hooks: Hooks) -> None:
    assert plane.core is not None
    assert plane.core.admission is not None
    assert plane.api is not None
    hooks.says("/hook")
    await configure(plane, hooks, "Validating", {"sideEffects": "None"})
    resource = plane.api.resource("", "configmaps")
    assert resource is not None
    ctx = RequestContext(ROOT, "create", resource, namespace="default", dry_run=True)
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "default"}}
    await plane.core.admission.validate(ctx, obj, None)
    assert hooks.asked[-1][1]["request"]["dryRun"] is True
    webhook = plane.core.admission._webhooks.validating.current()[0]
    object.__setattr__(webhook, "side_effects", "Some")
    with pytest.raises(ApiError, match="does not support dry run") as caught:
        await plane.core.admission.validate(ctx, obj, None)
    assert caught.value.code == 400


async def test_webhook_configurations_are_never_sent_to_webhooks(plane: ControlPlane, hooks: Hooks) -> None:
    assert plane.api is not None
    hooks.says("/hook", allowed=False)
    rules = [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}]
    await configure(plane, hooks, "Validating", {"rules": rules})
    await refused(plane)
    await plane.api.delete(
        "admissionregistration.k8s.io", "validatingwebhookconfigurations", "", "validating", user=ROOT
    )
    await create(plane)
