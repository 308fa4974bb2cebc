"""What quotas and limit ranges let through, and how they refuse."""

from typing import Any

import pytest

from chandlery.controlplane.admission.limits import apply_limit_defaults, check_limits
from chandlery.controlplane.admission.quota import QuotaPlugin, compute_used, covers
from chandlery.controlplane.admission.quota.usage import usage_of
from chandlery.controlplane.types import ApiError, RequestContext, UserInfo


class Resource:
    namespaced = True

    def __init__(self, plural: str, group: str = "") -> None:
        self.group, self.plural = group, plural
        self.storage_key = (group, plural)
        self.group_resource = f"{plural}.{group}" if group else plural


class Api:
    def __init__(self, **objects: list[dict[str, Any]]) -> None:
        self.objects = objects
        self.updates: list[dict[str, Any]] = []

    def resource(self, group: str, plural: str) -> Resource:
        return Resource(plural, group)

    def list(self, group: str, plural: str, namespace: str | None = None) -> list[dict[str, Any]]:
        return self.objects.get(plural, [])

    def count(self, group: str, plural: str, namespace: str | None = None) -> int:
        return len(self.list(group, plural, namespace))

    async def update(self, group: str, plural: str, obj: dict[str, Any], **how: Any) -> dict[str, Any]:
        assert (how["subresource"], how["manager"]) == ("status", "kube-apiserver")
        self.updates.append(obj)
        self.objects[plural] = [obj if o["metadata"] == obj["metadata"] else o for o in self.objects[plural]]
        return obj


def quota(name: str = "q", used: dict[str, str] | None = None, spec: Any = None, **hard: str) -> dict[str, Any]:
    hard = {key.replace("__", "/").replace("_", "."): value for key, value in hard.items()}
    obj: dict[str, Any] = {"metadata": {"name": name, "namespace": "n"}, "spec": {"hard": hard, **(spec or {})}}
    if used is not None:
        obj["status"] = {"hard": hard, "used": used}
    return obj


def pod(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "p", "namespace": "n"},
        "spec": {"containers": [{"name": f"c{n}", "resources": r} for n, r in enumerate(containers)], **spec},
    }


def context(plural: str, *, dry_run: bool = False) -> RequestContext:
    return RequestContext(UserInfo("ann"), "create", Resource(plural), namespace="n", dry_run=dry_run)


def config(name: str = "c") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "n"}}


async def test_a_creation_is_charged_in_the_status() -> None:
    api = Api(resourcequotas=[quota(used={"count/configmaps": "1"}, count__configmaps="2")])
    await QuotaPlugin(api).check(context("configmaps"), config(), None)
    assert api.updates[0]["status"]["used"] == {"count/configmaps": "2"}


async def test_what_would_exceed_is_refused_with_the_sums() -> None:
    api = Api(
        resourcequotas=[
            quota(used={"count/configmaps": "1", "configmaps": "1"}, count__configmaps="1", configmaps="1")
        ],
        configmaps=[config("there")],
    )
    with pytest.raises(ApiError) as caught:
        await QuotaPlugin(api).check(context("configmaps"), config("new"), None)
    assert caught.value.status() == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'configmaps "new" is forbidden: exceeded quota: q, requested: configmaps=1,count/configmaps=1,'
        " used: configmaps=1,count/configmaps=1, limited: configmaps=1,count/configmaps=1",
        "reason": "Forbidden",
        "details": {"name": "new", "kind": "configmaps"},
        "code": 403,
    }
    assert api.updates == []


async def test_stale_books_are_counted_again_before_a_refusal() -> None:
    api = Api(resourcequotas=[quota(used={"count/configmaps": "1"}, count__configmaps="1")], configmaps=[])
    await QuotaPlugin(api).check(context("configmaps"), config(), None)
    assert api.updates == [], "one was deleted, one is made: the books already say so"


async def test_a_new_quota_counts_before_its_controller_did() -> None:
    api = Api(resourcequotas=[quota(count__configmaps="1")], configmaps=[config("there")])
    with pytest.raises(ApiError, match=r"used: count/configmaps=1"):
        await QuotaPlugin(api).check(context("configmaps"), config(), None)


async def test_a_dry_run_is_checked_and_not_charged() -> None:
    api = Api(resourcequotas=[quota(used={"count/configmaps": "0"}, count__configmaps="1")])
    await QuotaPlugin(api).check(context("configmaps", dry_run=True), config(), None)
    assert api.updates == []


async def test_compute_quotas_ask_pods_for_their_needs() -> None:
    api = Api(resourcequotas=[quota(limits_memory="1Gi", requests_cpu="1")])
    with pytest.raises(ApiError) as caught:
        await QuotaPlugin(api).check(context("pods"), pod({}, {"requests": {"cpu": "1"}}), None)
    assert caught.value.message == (
        'pods "p" is forbidden: failed quota: q: must specify limits.memory for: c0,c1; requests.cpu for: c0'
    )


async def test_growth_by_update_is_charged_too() -> None:
    api = Api(resourcequotas=[quota(used={"services.nodeports": "1"}, services_nodeports="1")])
    old = {"metadata": {"name": "s", "namespace": "n"}, "spec": {"type": "NodePort", "ports": [{}]}}
    new = {**old, "spec": {"type": "NodePort", "ports": [{}, {}]}}
    api.objects["services"] = [old]
    with pytest.raises(ApiError, match=r"requested: services\.nodeports=1, used: services\.nodeports=1"):
        await QuotaPlugin(api).check(context("services"), new, old)
    await QuotaPlugin(api).check(context("services"), old, new)


def test_a_pod_uses_the_larger_of_containers_and_init_containers() -> None:
    init = [
        {"name": "i", "resources": {"requests": {"cpu": "3"}}},
        {"name": "side", "restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
    ]
    used = usage_of("", "pods", pod({"requests": {"cpu": "500m"}}, {"requests": {"cpu": "1"}}, initContainers=init))
    assert used["requests.cpu"][0] == 3
    init[0]["resources"]["requests"]["cpu"] = "1"
    used = usage_of("", "pods", pod({"requests": {"cpu": "500m"}}, {"requests": {"cpu": "1"}}, initContainers=init))
    assert float(used["cpu"][0]) == 1.6


def test_finished_pods_use_nothing_but_their_count() -> None:
    done = {**pod({"requests": {"cpu": "1"}}), "status": {"phase": "Succeeded"}}
    assert set(usage_of("", "pods", done)) == {"count/pods"}


def test_used_is_canonical() -> None:
    pods = [pod({"requests": {"cpu": "500m", "memory": "512Mi"}}) for _ in range(2)]
    found = compute_used(Api(pods=pods), quota(requests_cpu="4", memory="4Gi", count__pods="10"))
    assert found == {"count/pods": "2", "memory": "1Gi", "requests.cpu": "1"}


def test_what_nobody_serves_is_not_told() -> None:
    api = Api()
    api.resource = lambda group, plural: None if plural == "widgets" else Resource(plural, group)  # type: ignore[assignment]
    assert compute_used(api, quota(count__configmaps="1", count__widgets_x_io="1")) == {"count/configmaps": "0"}


@pytest.mark.parametrize(
    ("scope", "spec", "covered"),
    [
        ("Terminating", {"activeDeadlineSeconds": 5}, True),
        ("NotTerminating", {"activeDeadlineSeconds": 5}, False),
        ("BestEffort", {}, True),
        ("NotBestEffort", {}, False),
    ],
)
def test_scopes_select(scope: str, spec: dict[str, Any], covered: bool) -> None:
    assert covers(quota(spec={"scopes": [scope]}), "", "pods", pod({}, **spec)) is covered


def test_priority_scopes_select_by_operator() -> None:
    expression = {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}
    limited = quota(spec={"scopeSelector": {"matchExpressions": [expression]}})
    assert covers(limited, "", "pods", pod({}, priorityClassName="high"))
    assert not covers(limited, "", "pods", pod({}))


LIMITS = {
    "type": "Container",
    "default": {"cpu": "1", "memory": "1Gi"},
    "defaultRequest": {"cpu": "100m"},
    "max": {"cpu": "2"},
    "min": {"cpu": "50m"},
    "maxLimitRequestRatio": {"cpu": "4"},
}


def ranges(*limits: dict[str, Any]) -> Api:
    return Api(limitranges=[{"metadata": {"name": "l", "namespace": "n"}, "spec": {"limits": list(limits)}}])


def test_limit_ranges_fill_what_is_not_said() -> None:
    new = pod({"limits": {"cpu": "200m"}})
    apply_limit_defaults(ranges(LIMITS), context("pods"), new, None)
    assert new["spec"]["containers"][0]["resources"] == {
        "requests": {"cpu": "100m"},
        "limits": {"cpu": "200m", "memory": "1Gi"},
    }
    note = new["metadata"]["annotations"]["kubernetes.io/limit-ranger"]
    assert note == "LimitRanger plugin set: cpu request for container c0; memory limit for container c0"


def test_limit_ranges_name_every_bound_that_breaks() -> None:
    with pytest.raises(ApiError) as caught:
        check_limits(ranges(LIMITS), context("pods"), pod({"requests": {"cpu": "10m"}, "limits": {"cpu": "3"}}), None)
    assert caught.value.message == (
        'pods "p" is forbidden: [minimum cpu usage per Container is 50m, but request is 10m,'
        " maximum cpu usage per Container is 2, but limit is 3,"
        " cpu max limit to request ratio per Container is 4, but provided ratio is 300.000000]"
    )
    check_limits(ranges(LIMITS), context("pods"), pod({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}), None)
