"""Who is asking: tokens, certificates, ServiceAccounts, impersonation."""

import base64
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict

from chandlery.controlplane.auth import (
    Authenticator,
    Authorizer,
    ServiceAccountTokens,
    impersonate,
    read_token_file,
    virtual_resources,
)
from chandlery.controlplane.types import ApiError, RequestContext, UserInfo

ACCOUNT = {"metadata": {"name": "robot", "namespace": "one", "uid": "u-1"}}


class Api:
    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {("serviceaccounts", "one", "robot"): ACCOUNT}

    def get(self, group: str, plural: str, namespace: str, name: str) -> dict[str, Any] | None:
        return self.objects.get((plural, namespace, name))

    def list(self, group: str, plural: str, namespace: str | None = None) -> list[dict[str, Any]]:
        return [obj for (found, _, _), obj in self.objects.items() if found == plural]


@pytest.fixture
def tokens(tmp_path: Path) -> ServiceAccountTokens:
    return ServiceAccountTokens(Api(), tmp_path / "pki" / "sa.key", now=lambda: 1_000_000.0)


def test_the_token_file_is_read_with_groups_and_errors_name_the_line(tmp_path: Path) -> None:
    path = tmp_path / "tokens.csv"
    path.write_text('secret-a,ann,1,"devs,ops"\n\nsecret-b,bob,2\n')
    users = read_token_file(path)
    assert users["secret-a"] == UserInfo("ann", "1", ("devs", "ops"))
    assert users["secret-b"].groups == ()
    path.write_text("a,b\n")
    with pytest.raises(ValueError, match="line 1: expected token,user,uid"):
        read_token_file(path)


def test_a_token_wins_over_a_certificate_and_must_be_good() -> None:
    authenticator = Authenticator(static_tokens={"t": UserInfo("ann", "1")})
    peer = {"subject": ((("commonName", "root"),), (("organizationName", "system:masters"),))}
    user = authenticator.authenticate({"Authorization": "Bearer t"}, peer)
    assert (user.name, user.groups) == ("ann", ("system:authenticated",))
    assert authenticator.authenticate({}, peer).groups == ("system:masters", "system:authenticated")
    assert authenticator.authenticate({}).name == "system:anonymous"
    with pytest.raises(ApiError) as caught:
        authenticator.authenticate({"Authorization": "Bearer wrong"}, peer)
    assert caught.value.status()["message"] == "Unauthorized"
    assert "details" not in caught.value.status()


def test_without_anonymous_access_somebody_must_be_named() -> None:
    with pytest.raises(ApiError):
        Authenticator(anonymous=False).authenticate({})


def test_service_account_tokens_verify_until_they_expire_or_their_account_goes(tmp_path: Path) -> None:
    api = Api()
    clock = [1_000_000.0]
    tokens = ServiceAccountTokens(api, tmp_path / "sa.key", now=lambda: clock[0])
    token, expires = tokens.issue(ACCOUNT, tokens.audiences, 600)
    user = tokens.verify(token)
    assert user is not None
    assert user.name == "system:serviceaccount:one:robot"
    assert user.groups == ("system:serviceaccounts", "system:serviceaccounts:one")
    assert user.extra["authentication.kubernetes.io/credential-id"][0].startswith("JTI=")
    again = ServiceAccountTokens(api, tmp_path / "sa.key", now=lambda: clock[0])
    assert again.verify(token) == user, "the key outlives the process"
    clock[0] = expires
    assert tokens.verify(token) is None
    clock[0] = 1_000_000.0
    api.objects.clear()
    assert tokens.verify(token) is None


def test_forged_tokens_are_refused(tokens: ServiceAccountTokens) -> None:
    token, _ = tokens.issue(ACCOUNT, tokens.audiences, 600)
    head, body, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    claims["sub"] = "system:serviceaccount:kube-system:root"
    forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    deep = base64.urlsafe_b64encode(b"[" * 50_000).decode()
    for bad in (
        f"{deep}.{body}.{signature}",
        f"{head}.{forged}.{signature}",
        f"{none}.{body}.",
        f"{head}.{body}",
        "x",
        "",
        "a.b.c",
        f"{head}...",
    ):
        assert tokens.verify(bad) is None
    assert tokens.verify(token, ("https://elsewhere",)) is None


def test_the_key_is_for_nobody_else(tmp_path: Path) -> None:
    ServiceAccountTokens(Api(), tmp_path / "sa.key")
    assert stat.S_IMODE((tmp_path / "sa.key").stat().st_mode) == 0o600


class Anyone(Authorizer):
    """Allows exactly the listed (verb, resource)."""

    def __init__(self, *allowed: tuple[str, str]) -> None:
        super().__init__(Api())
        self.allowed = allowed
        self.asked: list[tuple[str, str]] = []

    def authorize(self, user: UserInfo, verb: str, **request: Any) -> tuple[bool, str]:
        self.asked.append((verb, request.get("resource", "")))
        return (verb, request.get("resource", "")) in self.allowed, ""


def test_impersonation_tries_the_constrained_way_first_and_reports_it() -> None:
    headers = CIMultiDict([("Impersonate-User", "bob"), ("Impersonate-Group", "ops"), ("impersonate-group", "dev")])
    with pytest.raises(ApiError) as caught:
        impersonate(UserInfo("ann"), headers, Anyone(), "get", resource="pods", namespace="n")
    assert 'User "ann" cannot impersonate-on:user-info:get resource "pods"' in caught.value.message
    user = impersonate(
        UserInfo("ann"), headers, Anyone(("impersonate", "users"), ("impersonate", "groups")), "get", resource="pods"
    )
    assert user == UserInfo("bob", "", ("ops", "dev", "system:authenticated"))
    with pytest.raises(ApiError):
        impersonate(UserInfo("ann"), headers, Anyone(("impersonate", "users")), "get", resource="pods")


def test_impersonating_a_service_account_gives_its_groups() -> None:
    headers = CIMultiDict({"Impersonate-User": "system:serviceaccount:one:robot"})
    user = impersonate(UserInfo("ann"), headers, Anyone(("impersonate", "serviceaccounts")), "get", path="/x")
    assert user.groups == ("system:serviceaccounts", "system:serviceaccounts:one", "system:authenticated")


def test_impersonation_needs_a_name() -> None:
    with pytest.raises(ApiError, match=r'Groups:\[\]string{"a"}, Extra:map\[string\]\[\]string\(nil\)} without'):
        impersonate(UserInfo("ann"), CIMultiDict({"Impersonate-Group": "a"}), Anyone(), "get", path="/")
    assert impersonate(UserInfo("ann"), CIMultiDict(), Anyone(), "get", path="/") == UserInfo("ann")


class Reviews:
    group, plural = "", "serviceaccounts"


def _handlers(tokens: ServiceAccountTokens) -> Any:
    authenticator = Authenticator(static_tokens={"t": UserInfo("ann", "1")}, service_accounts=tokens)
    return virtual_resources(Api(), authenticator, Authorizer(Api()), tokens)


async def test_token_review_tells_who_and_for_whom(tokens: ServiceAccountTokens) -> None:
    review = _handlers(tokens)["authentication.k8s.io", "tokenreviews", ""]
    ctx = RequestContext(UserInfo("root"), "create", Reviews())
    answer = await review(ctx, {"spec": {"token": "t"}})
    assert answer["status"] == {
        "authenticated": True,
        "user": {"username": "ann", "uid": "1", "groups": ["system:authenticated"]},
        "audiences": ["https://kubernetes.default.svc"],
    }
    assert (await review(ctx, {"spec": {"token": "bad"}}))["status"] == {"user": {}, "error": "invalid bearer token"}
    with pytest.raises(ApiError, match="token is required"):
        await review(ctx, {"spec": {}})


async def test_token_review_tells_why_a_token_is_not_taken(tokens: ServiceAccountTokens) -> None:
    handlers = _handlers(tokens)
    request = handlers["", "serviceaccounts", "token"]
    ctx = RequestContext(UserInfo("root"), "create", Reviews(), namespace="one", name="robot")
    token = (await request(ctx, {"spec": {"audiences": ["other"]}}))["status"]["token"]
    answer = await handlers["authentication.k8s.io", "tokenreviews", ""](ctx, {"spec": {"token": token}})
    assert answer["status"]["error"] == (
        '[invalid bearer token, token audiences ["other"] is invalid for the target audiences '
        '["https://kubernetes.default.svc"]]'
    )
    with pytest.raises(ApiError, match="must match the service account name if specified"):
        await request(ctx, {"metadata": {"name": "else"}, "spec": {}})
    with pytest.raises(ApiError, match="cannot bind token to object of type /v1, Kind=Thing"):
        await request(ctx, {"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Thing"}}})


@pytest.mark.parametrize(
    ("selector", "want"),
    [
        ({}, "requirements: Required value: when spec.resourceAttributes.fieldSelector is specified, requirements or"),
        (
            {"rawSelector": "a=b", "requirements": [{"key": "a", "operator": "Exists"}]},
            'rawSelector: Invalid value: "a=b": may not specified at the same time as requirements',
        ),
        ({"requirements": [{"key": "a", "operator": "In"}]}, "values: Required value: must be specified when"),
    ],
)
async def test_selectors_of_access_reviews(tokens: ServiceAccountTokens, selector: Any, want: str) -> None:
    review = _handlers(tokens)["authorization.k8s.io", "selfsubjectaccessreviews", ""]
    ctx = RequestContext(UserInfo("root"), "create", Reviews())
    with pytest.raises(ApiError) as caught:
        await review(ctx, {"spec": {"resourceAttributes": {"verb": "list", "fieldSelector": selector}}})
    assert want in caught.value.message


async def test_token_request_bounds_and_missing_account(tokens: ServiceAccountTokens) -> None:
    request = _handlers(tokens)["", "serviceaccounts", "token"]
    ctx = RequestContext(UserInfo("root"), "create", Reviews(), namespace="one", name="robot")
    answer = await request(ctx, {"spec": {}})
    assert answer["spec"] == {
        "audiences": ["https://kubernetes.default.svc"],
        "expirationSeconds": 3600,
        "boundObjectRef": None,
    }
    assert tokens.verify(answer["status"]["token"]) is not None
    with pytest.raises(ApiError, match="may not specify a duration less than 10 minutes"):
        await request(ctx, {"spec": {"expirationSeconds": 60}})
    ctx.name = "ghost"
    with pytest.raises(ApiError, match='serviceaccounts "ghost" not found'):
        await request(ctx, {"spec": {}})
