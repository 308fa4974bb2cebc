"""What admission adds to new objects, and what it refuses before anybody else looks."""

from typing import Any

import pytest

from chandlery.controlplane.admission.claims import check_resize
from chandlery.controlplane.admission.common import matches_selector
from chandlery.controlplane.admission.defaults import apply_defaults
from chandlery.controlplane.admission.lifecycle import check_namespace
from chandlery.controlplane.types import ApiError, RequestContext, UserInfo


class Resource:
    def __init__(self, plural: str, group: str = "", *, namespaced: bool = True) -> None:
        self.group, self.plural, self.namespaced = group, plural, namespaced
        self.group_resource = f"{plural}.{group}" if group else plural


class Api:
    def __init__(self, **objects: list[dict[str, Any]]) -> None:
        self.objects = objects

    def get(self, group: str, plural: str, namespace: str, name: str) -> dict[str, Any] | None:
        return next((o for o in self.objects.get(plural, []) if o["metadata"]["name"] == name), None)

    def list(self, group: str, plural: str, namespace: str | None = None) -> list[dict[str, Any]]:
        return self.objects.get(plural, [])


def named(name: str, **body: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, **body}


def context(plural: str, verb: str = "create", name: str = "", **more: Any) -> RequestContext:
    resource = Resource(plural, namespaced=plural != "namespaces")
    return RequestContext(UserInfo("ann"), verb, resource, namespace="n" if resource.namespaced else "", name=name)


async def pod(api: Api, **spec: Any) -> dict[str, Any]:
    obj = named("p", spec={"containers": [{"name": "c"}], **spec})
    await apply_defaults(api, context("pods"), obj, None)
    return obj["spec"]


ACCOUNTS = [named("default"), named("quiet", automountServiceAccountToken=False)]


async def test_a_pod_gets_account_token_tolerations_and_priority() -> None:
    spec = await pod(Api(serviceaccounts=ACCOUNTS))
    assert (spec["serviceAccountName"], spec["serviceAccount"]) == ("default", "default")
    assert (spec["priority"], spec["preemptionPolicy"]) == (0, "PreemptLowerPriority")
    assert [t["tolerationSeconds"] for t in spec["tolerations"]] == [300, 300]
    (volume,) = spec["volumes"]
    assert volume["name"].startswith("kube-api-access-")
    assert len(volume["name"]) == len("kube-api-access-") + 5
    (mount,) = spec["containers"][0]["volumeMounts"]
    assert mount == {
        "name": volume["name"],
        "readOnly": True,
        "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
    }


@pytest.mark.parametrize(
    "spec", [{"automountServiceAccountToken": False}, {"serviceAccountName": "quiet"}], ids=["pod", "account"]
)
async def test_no_token_where_none_is_wanted(spec: dict[str, Any]) -> None:
    assert "volumes" not in await pod(Api(serviceaccounts=ACCOUNTS), **spec)


async def test_defaults_are_idempotent() -> None:
    api = Api(serviceaccounts=ACCOUNTS)
    obj = named("p", spec={"containers": [{"name": "c"}]})
    await apply_defaults(api, context("pods"), obj, None)
    once = repr(obj)
    await apply_defaults(api, context("pods"), obj, None)
    assert repr(obj) == once


async def test_a_pod_with_an_unknown_account_or_priority_is_refused() -> None:
    with pytest.raises(ApiError, match='error looking up service account n/ghost: serviceaccount "ghost" not found'):
        await pod(Api(serviceaccounts=ACCOUNTS), serviceAccountName="ghost")
    with pytest.raises(ApiError, match="no PriorityClass with name ghost was found"):
        await pod(Api(serviceaccounts=ACCOUNTS), priorityClassName="ghost")


async def test_priorities_come_from_classes() -> None:
    classes = [named("high", value=1000), named("usual", value=7, globalDefault=True, preemptionPolicy="Never")]
    api = Api(serviceaccounts=ACCOUNTS, priorityclasses=classes)
    assert (await pod(api, priorityClassName="high"))["priority"] == 1000
    spec = await pod(api)
    assert (spec["priority"], spec["priorityClassName"], spec["preemptionPolicy"]) == (7, "usual", "Never")
    with pytest.raises(ApiError, match=r"priority \(5\) must not be provided"):
        await pod(api, priority=5)


async def test_a_claim_is_protected_and_takes_the_default_class() -> None:
    annotation = {"storageclass.kubernetes.io/is-default-class": "true"}
    classes = [
        {"metadata": {"name": "old", "annotations": annotation, "creationTimestamp": "2026-01-01T00:00:00Z"}},
        {"metadata": {"name": "new", "annotations": annotation, "creationTimestamp": "2026-02-01T00:00:00Z"}},
    ]
    obj = named("c", spec={})
    await apply_defaults(Api(storageclasses=classes), context("persistentvolumeclaims"), obj, None)
    assert obj["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
    assert obj["spec"]["storageClassName"] == "new"
    obj = named("c", spec={"storageClassName": ""})
    await apply_defaults(Api(storageclasses=classes), context("persistentvolumeclaims"), obj, None)
    assert obj["spec"]["storageClassName"] == ""


def test_nothing_is_made_in_a_missing_or_ending_namespace() -> None:
    with pytest.raises(ApiError) as caught:
        check_namespace(Api(), context("configmaps"), named("c"), None)
    assert (caught.value.code, caught.value.message) == (404, 'namespaces "n" not found')
    ending = Api(namespaces=[named("n", status={"phase": "Terminating"})])
    with pytest.raises(ApiError) as caught:
        check_namespace(ending, context("configmaps"), named("c"), None)
    assert caught.value.details == {
        "name": "c",
        "kind": "configmaps",
        "causes": [
            {
                "reason": "NamespaceTerminating",
                "message": "namespace n is being terminated",
                "field": "metadata.namespace",
            }
        ],
    }
    check_namespace(ending, context("configmaps", "update"), named("c"), named("c"))
    check_namespace(ending, context("configmaps", "delete"), None, named("c"))


@pytest.mark.parametrize("name", ["default", "kube-system", "kube-public"])
def test_the_systems_namespaces_stay(name: str) -> None:
    with pytest.raises(ApiError, match="this namespace may not be deleted"):
        check_namespace(Api(), context("namespaces", "delete", name), None, named(name))
    check_namespace(Api(), context("namespaces", "delete", "mine"), None, named("mine"))


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        ({}, True),
        (None, True),
        ({"matchLabels": {"a": "1"}}, True),
        ({"matchLabels": {"a": "2"}}, False),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}, True),
        ({"matchExpressions": [{"key": "b", "operator": "NotIn", "values": ["1"]}]}, True),
        ({"matchExpressions": [{"key": "b", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "b", "operator": "DoesNotExist"}]}, True),
    ],
)
def test_label_selectors(selector: dict[str, Any] | None, matches: bool) -> None:
    assert matches_selector(selector, {"a": "1"}) is matches


@pytest.mark.parametrize(
    ("phase", "storage_class", "why"),
    [
        ("Pending", "grows", "Only bound persistent volume claims can be expanded"),
        ("Bound", "fixed", "the storageclass that provisions the pvc must support resize"),
        ("Bound", None, "the storageclass that provisions the pvc must support resize"),
        ("Bound", "grows", ""),
    ],
)
def test_a_claim_grows_when_it_is_bound_and_its_class_lets_it(phase: str, storage_class: str | None, why: str) -> None:
    api = Api(storageclasses=[named("fixed"), named("grows", allowVolumeExpansion=True)])

    def claim(size: str) -> dict[str, Any]:
        spec: dict[str, Any] = {"resources": {"requests": {"storage": size}}}
        if storage_class:
            spec["storageClassName"] = storage_class
        return {"metadata": {"name": "c", "namespace": "n"}, "spec": spec, "status": {"phase": phase}}

    ctx = RequestContext(UserInfo("ann"), "update", Resource("persistentvolumeclaims"), "n", "c")
    check_resize(api, ctx, claim("1Gi"), claim("1Gi"))
    if not why:
        check_resize(api, ctx, claim("2Gi"), claim("1Gi"))
        return
    with pytest.raises(ApiError, match=why):
        check_resize(api, ctx, claim("2Gi"), claim("1Gi"))
