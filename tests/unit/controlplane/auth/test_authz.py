"""RBAC decisions, kept current from changes, and the texts of refusals."""

from typing import Any

import pytest

from chandlery.controlplane.auth import Authorizer, bootstrap_objects, check_escalation, forbidden
from chandlery.controlplane.auth.authz import RBAC_GROUP
from chandlery.controlplane.auth.rules import Rule, missing_rules
from chandlery.controlplane.types import ApiError, RequestContext, UserInfo

USER = UserInfo("ann", "1", ("devs", "system:authenticated"))
PLURALS = {
    "ClusterRole": "clusterroles",
    "Role": "roles",
    "ClusterRoleBinding": "clusterrolebindings",
    "RoleBinding": "rolebindings",
}


class Resource:
    group = RBAC_GROUP

    def __init__(self, plural: str) -> None:
        self.plural = plural
        self.group_resource = f"{plural}.{RBAC_GROUP}"


class Api:
    def __init__(self, *objects: dict[str, Any]) -> None:
        self.objects = [*bootstrap_objects(), *objects]

    def list(self, group: str, plural: str, namespace: str | None = None) -> list[dict[str, Any]]:
        return [obj for obj in self.objects if PLURALS[obj["kind"]] == plural]


def role(name: str, namespace: str = "", **rule: list[str]) -> dict[str, Any]:
    kind = "Role" if namespace else "ClusterRole"
    return {"kind": kind, "metadata": {"name": name, "namespace": namespace}, "rules": [rule]}


def binding(name: str, to: dict[str, str], *subjects: dict[str, str], namespace: str = "") -> dict[str, Any]:
    kind = "RoleBinding" if namespace else "ClusterRoleBinding"
    meta = {"name": name, "namespace": namespace}
    return {"kind": kind, "metadata": meta, "roleRef": to, "subjects": list(subjects)}


ANN = {"kind": "User", "name": "ann"}


def test_a_role_binding_allows_in_its_namespace_only() -> None:
    authorizer = Authorizer(
        Api(
            role("reader", "one", verbs=["get"], apiGroups=[""], resources=["pods"]),
            binding("b", {"kind": "Role", "name": "reader"}, ANN, namespace="one"),
        )
    )
    assert authorizer.authorize(USER, "get", resource="pods", namespace="one", name="x") == (
        True,
        'RBAC: allowed by RoleBinding "b/one" of Role "reader" to User "ann"',
    )
    assert authorizer.authorize(USER, "get", resource="pods", namespace="two") == (False, "")
    assert authorizer.authorize(USER, "get", resource="pods") == (False, "")
    assert authorizer.authorize(USER, "list", resource="pods", namespace="one") == (False, "")


@pytest.mark.parametrize(
    ("rule", "request_", "allowed"),
    [
        ({"resources": ["pods"]}, {"resource": "pods", "subresource": "log"}, False),
        ({"resources": ["pods/log"]}, {"resource": "pods", "subresource": "log"}, True),
        ({"resources": ["*/scale"]}, {"resource": "deployments", "subresource": "scale"}, True),
        ({"resources": ["*/scale"]}, {"resource": "deployments"}, False),
        ({"resources": ["*"]}, {"resource": "pods", "subresource": "log"}, True),
        ({"resources": ["pods"], "resourceNames": ["a"]}, {"resource": "pods", "name": "a"}, True),
        ({"resources": ["pods"], "resourceNames": ["a"]}, {"resource": "pods", "name": "b"}, False),
        ({"resources": ["pods"], "resourceNames": ["a"]}, {"resource": "pods"}, False),
        ({"resources": ["pods"], "apiGroups": ["apps"]}, {"resource": "pods"}, False),
        ({"resources": ["pods"], "apiGroups": ["*"]}, {"resource": "pods", "group": "apps"}, True),
        ({"nonResourceURLs": ["/logs/*"]}, {"path": "/logs/x"}, True),
        ({"nonResourceURLs": ["/logs"]}, {"path": "/logs/x"}, False),
    ],
)
def test_rules_match_as_documented(rule: dict[str, Any], request_: dict[str, Any], allowed: bool) -> None:
    rule = {"verbs": ["get"], "apiGroups": [""], **rule}
    authorizer = Authorizer(Api(role("r", **rule), binding("b", {"kind": "ClusterRole", "name": "r"}, ANN)))
    assert authorizer.authorize(USER, "get", **request_)[0] is allowed


def test_changes_count_at_once() -> None:
    api = Api()
    authorizer = Authorizer(api)
    assert not authorizer.authorize(USER, "get", resource="pods", namespace="one")[0]
    grant = binding("b", {"kind": "ClusterRole", "name": "view"}, {"kind": "Group", "name": "devs"}, namespace="one")
    authorizer.observe("ADDED", Resource("rolebindings"), grant, None)
    assert authorizer.authorize(USER, "get", resource="pods", namespace="one") == (
        True,
        'RBAC: allowed by RoleBinding "b/one" of ClusterRole "view" to Group "devs"',
    )
    empty = role("view", verbs=["get"], apiGroups=[""], resources=["secrets"])
    authorizer.observe("MODIFIED", Resource("clusterroles"), empty, None)
    assert not authorizer.authorize(USER, "get", resource="pods", namespace="one")[0]
    assert authorizer.authorize(USER, "get", resource="secrets", namespace="one")[0]
    authorizer.observe("DELETED", Resource("rolebindings"), grant, grant)
    assert not authorizer.authorize(USER, "get", resource="secrets", namespace="one")[0]


def test_a_binding_to_a_missing_role_is_told() -> None:
    authorizer = Authorizer(Api(binding("b", {"kind": "Role", "name": "ghost"}, ANN, namespace="one")))
    reason = f'RBAC: role.{RBAC_GROUP} "ghost" not found'
    assert authorizer.authorize(USER, "get", resource="pods", namespace="one") == (False, reason)
    with pytest.raises(ApiError, match=r'cannot get resource "pods".*: RBAC: role'):
        authorizer.check(USER, "get", resource="pods", namespace="one")


def test_service_accounts_are_users() -> None:
    robot = UserInfo("system:serviceaccount:one:robot", groups=("system:serviceaccounts",))
    subject = {"kind": "ServiceAccount", "name": "robot", "namespace": "one"}
    authorizer = Authorizer(Api(binding("b", {"kind": "ClusterRole", "name": "view"}, subject, namespace="one")))
    allowed, reason = authorizer.authorize(robot, "list", resource="pods", namespace="one")
    assert allowed
    assert reason.endswith('to ServiceAccount "robot/one"')


def test_masters_may_do_everything_without_a_reason() -> None:
    authorizer = Authorizer(Api())
    assert authorizer.authorize(UserInfo("root", groups=("system:masters",)), "x", path="/y") == (True, "")


def test_refusals_read_as_the_real_ones() -> None:
    error = forbidden(USER, "get", group="g.io", resource="cats", subresource="status", namespace="n", name="a")
    assert error.message == (
        'cats.g.io "a" is forbidden: User "ann" cannot get resource "cats/status" in API group "g.io"'
        ' in the namespace "n"'
    )
    assert error.details == {"name": "a", "group": "g.io", "kind": "cats"}
    error = forbidden(USER, "list", resource="nodes")
    assert error.message == (
        'nodes is forbidden: User "ann" cannot list resource "nodes" in API group "" at the cluster scope'
    )
    assert forbidden(USER, "get", path="/x").status()["details"] == {}


def test_missing_rules_are_compacted() -> None:
    owned = [Rule(("list",), ("",), ("configmaps",)), Rule(("*",), ("g",), ("*/scale",))]
    wanted = [
        Rule(("get", "list"), ("",), ("configmaps", "secrets")),
        Rule(("delete",), ("",), ("configmaps",)),
        Rule(("patch",), ("g",), ("a/scale",)),
        Rule(("get",), ("",), ("pods",), ("x",)),
    ]
    assert [rule.text() for rule in missing_rules(owned, wanted)] == [
        '{APIGroups:[""], Resources:["configmaps"], Verbs:["get" "delete"]}',
        '{APIGroups:[""], Resources:["secrets"], Verbs:["get" "list"]}',
        '{APIGroups:[""], Resources:["pods"], ResourceNames:["x"], Verbs:["get"]}',
    ]


def _context(user: UserInfo, plural: str) -> RequestContext:
    return RequestContext(user, "create", Resource(plural), namespace="one")


def test_nobody_grants_what_he_does_not_hold() -> None:
    authorizer = Authorizer(
        Api(
            role("mgr", "one", verbs=["create"], apiGroups=[RBAC_GROUP], resources=["roles", "rolebindings"]),
            binding("mgr", {"kind": "Role", "name": "mgr"}, ANN, namespace="one"),
        )
    )
    new = role("r", "one", verbs=["get"], apiGroups=[""], resources=["secrets"])
    with pytest.raises(ApiError) as caught:
        check_escalation(authorizer, _context(USER, "roles"), new, None)
    assert caught.value.code == 403
    assert caught.value.message == (
        'roles.rbac.authorization.k8s.io "r" is forbidden: user "ann" (groups=["devs" "system:authenticated"]) is'
        " attempting to grant RBAC permissions not currently held:\n"
        '{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}'
    )
    same = role("r", "one", verbs=["create"], apiGroups=[RBAC_GROUP], resources=["roles"])
    check_escalation(authorizer, _context(USER, "roles"), same, None)
    check_escalation(authorizer, _context(UserInfo("root", groups=("system:masters",)), "roles"), new, None)
    to = {"kind": "ClusterRole", "name": "ghost"}
    with pytest.raises(ApiError, match='"ghost" not found'):
        check_escalation(authorizer, _context(USER, "rolebindings"), binding("b", to, ANN, namespace="one"), None)


def test_the_aggregated_roles_hold_before_the_controller_ran() -> None:
    roles = {obj["metadata"]["name"]: obj for obj in bootstrap_objects() if obj["kind"] == "ClusterRole"}
    assert roles["view"]["rules"] == roles["system:aggregate-to-view"]["rules"]
    assert roles["admin"]["rules"][: len(roles["edit"]["rules"])] == roles["edit"]["rules"]
    assert not any("secrets" in rule.get("resources", ()) for rule in roles["view"]["rules"])
    assert roles["cluster-admin"]["rules"][1] == {"verbs": ["*"], "nonResourceURLs": ["*"]}


@pytest.mark.parametrize(
    ("role", "position", "rule"),
    [
        ("system:monitoring", 1, {"verbs": ["get"], "apiGroups": [""], "resources": ["nodes/metrics"]}),
        ("system:monitoring", 3, {"verbs": ["get"], "nonResourceURLs": ["/statusz"]}),
        ("system:node", -1, {"verbs": ["get"], "apiGroups": [""], "resources": ["serviceaccounts"]}),
        (
            "system:controller:disruption-controller",
            -2,
            {"verbs": ["get"], "apiGroups": ["*"], "resources": ["*/scale"]},
        ),
        (
            "system:controller:deployment-controller",
            5,
            {"verbs": ["create", "patch", "update"], "apiGroups": ["", "events.k8s.io"], "resources": ["events"]},
        ),
    ],
)
def test_the_bootstrap_roles_have_the_rules_of_the_real_server(role: str, position: int, rule: dict[str, Any]) -> None:
    roles = {obj["metadata"]["name"]: obj for obj in bootstrap_objects() if obj["kind"] == "ClusterRole"}
    assert roles[role]["rules"][position] == rule


def test_each_controller_has_its_role_bound_to_its_service_account() -> None:
    found = [obj for obj in bootstrap_objects() if obj["metadata"]["name"].startswith("system:controller:")]
    bound = {obj["roleRef"]["name"]: obj["subjects"] for obj in found if obj["kind"] == "ClusterRoleBinding"}
    assert set(bound) == {obj["metadata"]["name"] for obj in found if obj["kind"] == "ClusterRole"}
    assert bound["system:controller:job-controller"] == [
        {"kind": "ServiceAccount", "name": "job-controller", "namespace": "kube-system"}
    ]
    for obj in found:
        for rule in obj.get("rules", ()):
            assert all(rule[key] == sorted(rule[key]) for key in rule)
