"""Services with selectors lead to pods that have addresses."""

from __future__ import annotations

from typing import Any

SPEC: dict[str, Any] = {
    "containers": [{"name": "c", "image": "i", "ports": [{"name": "web", "containerPort": 8080, "protocol": "TCP"}]}]
}


async def service(world, **spec):
    ports = [{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}]
    return await world.create("services", "s", spec={"selector": {"app": "x"}, "ports": ports, **spec})


async def pod(world, name, ip, *, ready=True, **labels):
    made = await world.create("pods", name, metadata={"labels": labels or {"app": "x"}}, spec=SPEC)
    return await place(world, made, ip, ready=ready)


async def place(world, found, ip, *, ready=True, phase="Running"):
    status = {
        "phase": phase,
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
    }
    return await world.change("pods", found, subresource="status", status=status)


def slices(world):
    return world.api.list("discovery.k8s.io", "endpointslices", "default")


async def test_a_service_leads_to_the_pods_that_it_selects(world):
    await service(world)
    await world.settled()
    [empty] = slices(world)  # as long as no pod has an address
    assert (empty["addressType"], empty.get("endpoints"), empty.get("ports")) == ("IPv4", None, None)
    assert "subsets" not in world.get("endpoints", "s")
    await pod(world, "a", "10.1.0.1")
    await pod(world, "b", "10.1.0.2", ready=False)
    await pod(world, "other", "10.1.0.3", app="y")
    await world.until(lambda: len(slices(world)[0].get("endpoints") or ()) == 2)
    [found] = slices(world)
    assert found["metadata"]["name"].startswith("s-")
    assert found["metadata"]["labels"]["kubernetes.io/service-name"] == "s"
    assert found["metadata"]["ownerReferences"][0]["kind"] == "Service"
    assert found["ports"] == [{"name": "http", "protocol": "TCP", "port": 8080}]
    ready = {one["addresses"][0]: one["conditions"]["ready"] for one in found["endpoints"]}
    assert ready == {"10.1.0.1": True, "10.1.0.2": False}
    await world.settled()
    [subset] = world.get("endpoints", "s")["subsets"]
    assert [one["ip"] for one in subset["addresses"]] == ["10.1.0.1"]
    assert [one["ip"] for one in subset["notReadyAddresses"]] == ["10.1.0.2"]


async def test_pods_that_end_are_left_out(world):
    await service(world)
    made = await pod(world, "a", "10.1.0.1")
    await world.until(lambda: slices(world) and slices(world)[0].get("endpoints"))
    await place(world, made, "10.1.0.1", phase="Succeeded")
    await world.until(lambda: not slices(world)[0].get("endpoints"))
    await world.until(lambda: not world.get("endpoints", "s").get("subsets"))


async def test_what_has_no_selector_is_left_alone(world):
    await world.create("services", "s", spec={"ports": [{"port": 80, "protocol": "TCP"}]})
    await world.create("endpoints", "s", subsets=[{"addresses": [{"ip": "10.9.9.9"}]}])
    await pod(world, "a", "10.1.0.1")
    await world.settled()
    assert slices(world) == []
    assert world.get("endpoints", "s")["subsets"][0]["addresses"][0]["ip"] == "10.9.9.9"


async def test_everything_goes_with_the_service(world):
    await service(world)
    await pod(world, "a", "10.1.0.1")
    await world.until(lambda: slices(world) and world.get("endpoints", "s"))
    await world.delete("services", "s")
    await world.until(lambda: not slices(world) and world.get("endpoints", "s") is None)
