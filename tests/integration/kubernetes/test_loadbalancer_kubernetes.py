"""Load balancers as Deployments of real HAProxy: traffic through the Service, targets changed while it runs."""

import asyncio
from typing import Self

import aiohttp
import pytest
from aiohttp import web
from kubernetes_cluster import eventually

from chandlery.providers.kubernetes.types import DEPLOYMENTS, PODS, SERVICES

pytestmark = pytest.mark.engine


class Backend:
    """A web server that says its name, where pods can reach it."""

    def __init__(self, name: str, host: str) -> None:
        self.name = name
        self.host = host

    async def __aenter__(self) -> Self:
        async def answer(_request: web.Request) -> web.Response:
            return web.Response(text=self.name)

        app = web.Application()
        app.router.add_get("/{tail:.*}", answer)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


def spec(*backends: Backend, **more):
    targets = [{"name": b.name, "address": b.host, "port": b.port} for b in backends]
    return {
        "listeners": [{"name": "web", "protocol": "HTTP", "port": 18080, "pool": "app"}],
        "pools": [{"name": "app", "targets": targets}],
        **more,
    }


async def answers(kube, name, times=8):
    [(host, port), *_] = await eventually(lambda: kube.workloads.behind(kube.namespace, f"{name}-loadbalancer"))
    async with aiohttp.ClientSession() as session:
        found = []
        for _ in range(times):
            async with session.get(f"http://{host}:{port}/") as response:
                found.append(await response.text())
        return set(found)


async def test_targets_come_and_go_without_a_new_pod(kube):
    host = kube.workloads.host
    async with Backend("one", host) as one, Backend("two", host) as two:
        await kube.apply("LoadBalancer", "front", spec(one))
        status = await kube.ready("LoadBalancer", "front")
        assert status["targets"] == 1
        assert await answers(kube, "front") == {"one"}
        before = [p["metadata"]["uid"] for p in (await kube.api.list(PODS, kube.namespace)).items]

        await kube.apply("LoadBalancer", "front", spec(one, two))
        await kube.ready("LoadBalancer", "front")
        await eventually(lambda: _both(kube))
        await kube.apply("LoadBalancer", "front", spec(two))
        await kube.ready("LoadBalancer", "front")
        assert await answers(kube, "front") == {"two"}
        assert [p["metadata"]["uid"] for p in (await kube.api.list(PODS, kube.namespace)).items] == before

        # what is not about targets is a new configuration: new pods
        await kube.apply("LoadBalancer", "front", spec(two, timeouts={"client": "7s"}))
        await asyncio.sleep(0)
        await kube.ready("LoadBalancer", "front")
        assert await answers(kube, "front") == {"two"}
        assert [p["metadata"]["uid"] for p in (await kube.api.list(PODS, kube.namespace)).items] != before

        # drift is repaired; what others add stays
        service = await kube.get(SERVICES, "front-loadbalancer")
        service["spec"]["ports"][0]["port"] = 18081
        service["metadata"]["labels"]["team"] = "web"
        await kube.api.replace(SERVICES, service)

        async def repaired():
            found = await kube.get(SERVICES, "front-loadbalancer")
            return found["spec"]["ports"][0]["port"] == 18080 and found["metadata"]["labels"]["team"] == "web"

        await eventually(repaired)
    await kube.delete("LoadBalancer", "front")
    assert (await kube.api.list(DEPLOYMENTS, kube.namespace)).items == []


async def _both(kube):
    return await answers(kube, "front") == {"one", "two"}
