"""Certificates, tokens, rights and the audit log, as clients on the network meet them."""

from __future__ import annotations

import http.client
import json
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from chandlery.controlplane.pki import Authority
from chandlery.testing import start_control_plane

RBAC = "/apis/rbac.authorization.k8s.io/v1"
WHOAMI = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


def call(api: Any, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    """A request without the admin's certificate, but with these headers."""
    context = ssl.create_default_context()
    context.load_verify_locations(cadata=_ca(api))
    data = None if body is None else json.dumps(body).encode()
    sent = {"Content-Type": "application/json", **{key.replace("_", "-"): value for key, value in headers.items()}}
    request = urllib.request.Request(api.server + path, data=data, method=method, headers=sent)
    try:
        with urllib.request.urlopen(request, context=context, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def _ca(api: Any) -> str:
    return "".join(ssl.DER_cert_to_PEM_cert(der) for der in api.context.get_ca_certs(binary_form=True))


def review() -> dict[str, str]:
    return {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}


def test_the_admins_certificate_names_a_master(api: Any) -> None:
    status, answer = api("POST", WHOAMI, review())
    assert status == 201
    assert answer["status"]["userInfo"]["groups"] == ["system:masters", "system:authenticated"]


def test_nobody_sees_the_public_paths_only(api: Any) -> None:
    assert call(api, "GET", "/version")[0] == 200
    status, answer = call(api, "GET", "/api/v1/secrets")
    assert status == 403
    assert 'User "system:anonymous" cannot list resource "secrets"' in answer["message"]
    status, answer = call(api, "GET", "/version", Authorization="Bearer nonsense")
    assert (status, answer["reason"]) == (401, "Unauthorized")


def test_a_service_account_acts_with_the_rights_it_is_given(api: Any) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}}
    assert api("POST", "/api/v1/namespaces/default/serviceaccounts", account)[0] == 201
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    status, answer = api("POST", "/api/v1/namespaces/default/serviceaccounts/robot/token", body)
    assert status == 201
    bearer = f"Bearer {answer['status']['token']}"
    status, answer = call(api, "POST", WHOAMI, review(), Authorization=bearer)
    assert answer["status"]["userInfo"]["username"] == "system:serviceaccount:default:robot"
    assert call(api, "GET", "/api/v1/namespaces/default/configmaps", Authorization=bearer)[0] == 403
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "robot"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": "default"}],
    }
    assert api("POST", f"{RBAC}/namespaces/default/rolebindings", binding)[0] == 201
    assert call(api, "GET", "/api/v1/namespaces/default/configmaps", Authorization=bearer)[0] == 200, "at once"
    assert call(api, "GET", "/api/v1/namespaces/default/secrets", Authorization=bearer)[0] == 403
    assert call(api, "GET", "/api/v1/namespaces/kube-system/configmaps", Authorization=bearer)[0] == 403
    assert api("DELETE", f"{RBAC}/namespaces/default/rolebindings/robot")[0] == 200
    assert call(api, "GET", "/api/v1/namespaces/default/configmaps", Authorization=bearer)[0] == 403
    assert api("DELETE", "/api/v1/namespaces/default/serviceaccounts/robot")[0] == 200
    assert call(api, "GET", "/version", Authorization=bearer)[0] == 401, "the token goes with its account"


def test_a_list_of_one_name_needs_the_right_on_that_name_only(api: Any) -> None:
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "one"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["one"], "verbs": ["list"]}],
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "one"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "one"},
        "subjects": [{"kind": "Group", "name": "system:unauthenticated"}],
    }
    assert api("POST", f"{RBAC}/namespaces/default/roles", role)[0] == 201
    assert api("POST", f"{RBAC}/namespaces/default/rolebindings", binding)[0] == 201
    path = "/api/v1/namespaces/default/configmaps"
    assert call(api, "GET", f"{path}?fieldSelector=metadata.name%3Done")[0] == 200
    status, answer = call(api, "GET", f"{path}?fieldSelector=metadata.name%3Dtwo")
    assert status == 403
    assert answer["message"].startswith('configmaps "two" is forbidden')
    assert call(api, "GET", path)[0] == 403


def test_the_issuer_publishes_its_key(api: Any) -> None:
    status, answer = api("GET", "/openid/v1/jwks")
    assert status == 200
    assert [key["alg"] for key in answer["keys"]] == ["ES256"]
    assert api("GET", "/.well-known/openid-configuration")[1]["issuer"] == "https://kubernetes.default.svc"


def test_changes_and_refusals_are_in_the_audit_log(api: Any, plane: Any) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"generateName": "audited-"},
        "stringData": {"password": "correct horse battery staple"},
    }
    status, made = api("POST", "/api/v1/namespaces/default/secrets", secret)
    assert status == 201
    name = made["metadata"]["name"]
    assert api("DELETE", f"/api/v1/namespaces/default/secrets/{name}")[0] == 200
    call(api, "GET", f"/api/v1/namespaces/default/secrets/{name}")
    path = plane.settings.data_dir / "audit.log"
    deadline = time.monotonic() + 10
    while len(found := [line for line in _lines(path) if line.get("objectRef", {}).get("name") == name]) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    created, deleted, refused = found
    assert (created["verb"], created["code"], created["user"]) == ("create", 201, "admin")
    assert deleted["before"] == created["after"]
    assert "after" not in deleted
    assert (refused["decision"], refused["user"]) == ("forbid", "system:anonymous")
    text = path.read_text()
    assert "correct horse" not in text
    assert made["data"]["password"] not in text


def _lines(path: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_impersonation_headers_count_in_any_case(api: Any) -> None:
    host = api.server.removeprefix("https://")
    for name in ("Impersonate-User", "IMPERSONATE-USER", "impersonate-user"):
        connection = http.client.HTTPSConnection(host, context=api.context, timeout=30)
        try:
            headers = {"Content-Type": "application/json", name: "ann"}
            connection.request("POST", WHOAMI, json.dumps(review()), headers)
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        assert answer["status"]["userInfo"]["username"] == "ann", name


def test_another_authority_names_users_and_tls_may_be_new_only(tmp_path: Path) -> None:
    other = Authority(tmp_path / "other")
    other.issue("carol", "carol", organizations=("dev",))
    options: dict[str, Any] = {"client_ca_file": tmp_path / "other" / "ca.crt", "tls_min_version": "VersionTLS13"}
    with start_control_plane(tmp_path / "data", binaries=False, **options) as plane:
        context = ssl.create_default_context(cafile=str(tmp_path / "data" / "pki" / "ca.crt"))
        context.load_cert_chain(tmp_path / "other" / "carol.crt", tmp_path / "other" / "carol.key")
        headers = {"Content-Type": "application/json"}
        body = json.dumps(review()).encode()
        request = urllib.request.Request(plane.url + WHOAMI, data=body, method="POST", headers=headers)
        with urllib.request.urlopen(request, context=context, timeout=30) as answer:
            info = json.loads(answer.read())["status"]["userInfo"]
        assert (info["username"], info["groups"]) == ("carol", ["dev", "system:authenticated"])
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(request, context=context, timeout=30).close()
