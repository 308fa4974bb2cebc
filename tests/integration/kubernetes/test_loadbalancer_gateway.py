"""Load balancers as objects of the Gateway API, with an implementation that says what the test tells it."""

from __future__ import annotations

import pytest
from foreign_crds import GATEWAY_API
from kubernetes_cluster import CRDS, eventually

from chandlery.providers.kubernetes.types import GATEWAYS, HTTP_ROUTES, SERVICES, STATEFUL_SETS
from chandlery.reconcile.api import RESOURCE_CLASSES

CLASS = {
    "metadata": {"name": "front"},
    "spec": {"kind": "LoadBalancer", "driver": "kubernetes", "parameters": {"gateway": {"className": "harbour"}}},
}
SPEC = {
    "className": "front",
    "listeners": [{"name": "web", "protocol": "HTTP", "port": 80, "hostnames": ["shop.example"], "pool": "app"}],
    "pools": [{"name": "app", "targets": [{"name": "cache", "object": {"kind": "Cache", "name": "shop"}}]}],
}


@pytest.fixture
async def gateway(kube):
    for crd in GATEWAY_API:
        await kube.api.apply(CRDS, crd)
    await kube.api.apply(RESOURCE_CLASSES, CLASS)
    yield kube
    await kube.api.delete(RESOURCE_CLASSES, "", "front")
    for crd in GATEWAY_API:
        await kube.api.delete(CRDS, "", crd["metadata"]["name"])


async def implementation(kube, kind, name, *, good=True, **more):
    """What an implementation says of an object, once it is there."""
    obj = await eventually(lambda: kube.get(kind, name))
    generation = obj["metadata"]["generation"]

    def conditions(*kinds):
        status, reason = ("True", "Good") if good else ("False", "NoMatchingParent")
        return [{"type": k, "status": status, "reason": reason, "observedGeneration": generation} for k in kinds]

    if kind is GATEWAYS:
        web = {"name": "web", "conditions": conditions("Programmed")}
        status = {"conditions": conditions("Accepted", "Programmed"), "listeners": [web], **more}
    else:
        status = {"parents": [{"conditions": conditions("Accepted", "ResolvedRefs")}]}
    await kube.workloads._status(kind, obj, status)


async def test_a_gateway_leads_to_what_the_spec_names(gateway):
    kube = gateway
    await kube.apply("Cache", "shop", {"memory": "32Mi"})
    await kube.apply("LoadBalancer", "web", SPEC)
    made = await eventually(lambda: kube.get(GATEWAYS, "web-loadbalancer"), 40)
    assert made["spec"]["gatewayClassName"] == "harbour"
    await kube.ready("Cache", "shop", 60)

    async def routed():
        [route] = (await kube.api.list(HTTP_ROUTES, kube.namespace)).items
        refs = route["spec"]["rules"][0].get("backendRefs")
        return route if refs and refs[0]["name"] == "shop-cache" and refs[0]["port"] == 6379 else None

    route = await eventually(routed, 40)
    assert route["spec"]["hostnames"] == ["shop.example"]
    await implementation(kube, HTTP_ROUTES, route["metadata"]["name"], good=False)

    async def told():
        return "NoMatchingParent" in str((await kube.get("LoadBalancer", "web"))["status"]["conditions"])

    address = [{"type": "IPAddress", "value": "192.0.2.7"}]
    await implementation(kube, GATEWAYS, "web-loadbalancer", addresses=address)
    await eventually(told)
    await implementation(kube, HTTP_ROUTES, route["metadata"]["name"])
    status = await kube.ready("LoadBalancer", "web")
    assert status["address"] == "192.0.2.7"
    assert status["endpoint"] == {"host": "192.0.2.7", "port": 80}
    assert (await kube.secret("web"))["uri"] == "http://192.0.2.7:80"

    # another listener is another entry; drift of a route is repaired
    more = [*SPEC["listeners"], {"name": "raw", "protocol": "TCP", "port": 6379, "pool": "app"}]
    await kube.apply("LoadBalancer", "web", {**SPEC, "listeners": more})

    async def both():
        found = await kube.get(GATEWAYS, "web-loadbalancer")
        return [x["protocol"] for x in found["spec"]["listeners"]] == ["HTTP", "TCP"]

    await eventually(both)
    await kube.api.delete(HTTP_ROUTES, kube.namespace, route["metadata"]["name"])
    again = await eventually(routed, 40)
    assert again["metadata"]["uid"] != route["metadata"]["uid"]
    await kube.delete("LoadBalancer", "web")
    for kind in (GATEWAYS, HTTP_ROUTES):
        assert (await kube.api.list(kind, kube.namespace)).items == []
    assert await kube.get(STATEFUL_SETS, "shop-cache")  # others' things stay
    assert await kube.get(SERVICES, "shop-cache")
