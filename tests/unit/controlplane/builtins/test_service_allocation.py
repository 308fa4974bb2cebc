"""Cluster IPs and node ports: who gets which, and what is refused."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from chandlery.controlplane.builtins import ServiceAllocator
from chandlery.controlplane.types import ApiError, Obj


def service(name: str, **spec: Any) -> Obj:
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("ports", [{"port": 80, "protocol": "TCP"}])
    return {"metadata": {"name": name, "uid": name}, "spec": spec}


def told(errors: list[Any]) -> list[str]:
    return [f"{error.path}: {error.detail}" for error in errors]


def test_every_service_gets_an_address_of_its_own_until_the_range_is_full() -> None:
    allocator = ServiceAllocator("10.9.0.0/29")
    made: list[Obj] = []
    for number in range(6):
        one = service(f"s{number}")
        assert allocator.allocate(one, None, made) == []
        made.append(one)
    found = [one["spec"]["clusterIP"] for one in made]
    assert sorted(found) == [str(ip) for ip in ipaddress.ip_network("10.9.0.0/29").hosts()]
    assert all(one["spec"]["clusterIPs"] == [one["spec"]["clusterIP"]] for one in made)
    late = service("late")
    for others in (made, made[1:]):  # an address may still be on its way to its Service
        with pytest.raises(ApiError, match="Internal error occurred: failed to allocate a serviceIP: range is full"):
            allocator.allocate(late, None, others)


def test_an_address_is_free_again_when_its_service_is_gone() -> None:
    allocator = ServiceAllocator("10.9.0.0/30")
    first, second, third = service("a"), service("b"), service("c")
    for one, others in ((first, []), (second, [first]), (third, [second])):
        assert allocator.allocate(one, None, others) == []
        allocator.settle(one["metadata"]["uid"])
    assert third["spec"]["clusterIP"] == first["spec"]["clusterIP"]


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ("10.9.0.1", "provided IP is already allocated"),
        ("10.8.0.1", "the provided network does not match the current range"),
        ("10.9.0.0", "the provided IP (10.9.0.0) is not in the valid range. The range of valid IPs is 10.9.0.0/24"),
    ],
)
def test_an_address_that_cannot_be_had_is_refused(asked: str, problem: str) -> None:
    allocator = ServiceAllocator("10.9.0.0/24")
    taken = service("a", clusterIP="10.9.0.1", clusterIPs=["10.9.0.1"])
    errors = allocator.allocate(service("b", clusterIP=asked, clusterIPs=[asked]), None, [taken])
    assert told(errors) == [f'spec.clusterIPs: Invalid value: ["{asked}"]: failed to allocate IP {asked}: {problem}']


def test_headless_and_external_services_take_nothing() -> None:
    allocator = ServiceAllocator("10.9.0.0/30")
    headless = service("h", clusterIP="None", selector={"a": "b"})
    assert allocator.allocate(headless, None, []) == []
    assert headless["spec"]["clusterIPs"] == ["None"]
    external = service("x", type="ExternalName", externalName="a.example")
    assert allocator.allocate(external, None, []) == []
    assert "clusterIP" not in external["spec"]


def test_node_ports_are_unique_among_services_and_shared_by_the_same_port() -> None:
    allocator = ServiceAllocator("10.9.0.0/24", (30000, 30001))
    dns = service("dns", type="NodePort", ports=[{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}])
    assert allocator.allocate(dns, None, []) == []
    first, second = (port["nodePort"] for port in dns["spec"]["ports"])
    assert first == second
    other = service("other", type="NodePort")
    assert allocator.allocate(other, None, [dns]) == []
    assert {first, other["spec"]["ports"][0]["nodePort"]} == {30000, 30001}
    full = service("full", type="NodePort")
    with pytest.raises(ApiError, match="Internal error occurred: failed to allocate a nodePort: range is full"):
        allocator.allocate(full, None, [dns, other])


def test_node_ports_that_cannot_be_had_are_refused() -> None:
    allocator = ServiceAllocator("10.9.0.0/24", (30000, 30009))
    taken = service("a", type="NodePort", ports=[{"port": 1, "protocol": "TCP", "nodePort": 30000}])
    ports = [{"port": 1, "protocol": "TCP", "nodePort": 30000}, {"port": 2, "protocol": "TCP", "nodePort": 80}]
    assert told(allocator.allocate(service("b", type="NodePort", ports=ports), None, [taken])) == [
        "spec.ports[0].nodePort: Invalid value: 30000: provided port is already allocated"
    ], "one at a time"
    ports[0]["nodePort"] = 30001
    assert told(allocator.allocate(service("b", type="NodePort", ports=ports), None, [taken])) == [
        (
            "spec.ports[1].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid "
            "ports is 30000-30009"
        ),
    ]
    ports = [{"port": 1, "protocol": "UDP", "nodePort": 30000}]
    assert told(allocator.allocate(service("c", type="NodePort", ports=ports), None, [taken])) == [
        "spec.ports[0].nodePort: Invalid value: 30000: provided port is already allocated"
    ], "of whatever protocol"


def test_a_health_port_that_cannot_be_had_is_refused() -> None:
    allocator = ServiceAllocator("10.9.0.0/24", (30000, 30009))
    taken = service("a", type="NodePort", ports=[{"port": 1, "protocol": "TCP", "nodePort": 30000}])
    local: dict[str, Any] = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30000}
    local["ports"] = [{"port": 1, "protocol": "TCP", "nodePort": 30005}]
    with pytest.raises(ApiError, match="failed to allocate requested HealthCheck NodePort 30000: provided port is alr"):
        allocator.allocate(service("b", **local), None, [taken])
    local["healthCheckNodePort"] = 30001
    made = service("b", **local)
    assert allocator.allocate(made, None, [taken]) == []
    assert allocator.allocate(service("b", **local), made, [taken, made]) == []


def test_an_update_keeps_the_ports_it_had_and_gets_others_for_new_ones() -> None:
    allocator = ServiceAllocator("10.9.0.0/24", (30000, 30009))
    ip: dict[str, Any] = {"type": "NodePort", "clusterIP": "10.9.0.1", "clusterIPs": ["10.9.0.1"]}
    old = service("a", **ip, ports=[{"port": 1, "protocol": "TCP", "nodePort": 30000}])
    ports: list[Any] = [{"port": 1, "protocol": "TCP", "nodePort": 30000}, {"port": 2, "protocol": "TCP"}]
    new = service("a", **ip, ports=ports)
    assert allocator.allocate(new, old, [old]) == []
    assert ports[0]["nodePort"] == 30000
    assert 30000 < ports[1]["nodePort"] <= 30009
    bad = service("a", **ip, ports=[{"port": 1, "protocol": "TCP", "nodePort": 90}])
    assert told(allocator.allocate(bad, old, [old])) == [
        (
            "spec.ports[0].nodePort: Invalid value: 90: provided port is not in the valid range. The range of valid "
            "ports is 30000-30009"
        ),
    ]


def test_a_dry_run_gets_values_that_stand_for_those_to_come() -> None:
    allocator = ServiceAllocator("10.9.0.0/24", (30000, 30009))
    ports = [{"port": 1, "protocol": "TCP"}, {"port": 2, "protocol": "TCP"}, {"port": 2, "protocol": "UDP"}]
    one = service("a", type="NodePort", ports=ports)
    assert allocator.allocate(one, None, [], dry_run=True) == []
    assert one["spec"]["clusterIP"] == "10.9.0.0"
    assert [port["nodePort"] for port in ports] == [32769, 32770, 32770]
    taken = service("b", clusterIP="10.9.0.1", clusterIPs=["10.9.0.1"])
    asked = service("c", clusterIP="10.9.0.1", clusterIPs=["10.9.0.1"])
    assert allocator.allocate(asked, None, [taken], dry_run=True) == []
    asked = service("c", clusterIP="10.8.0.1", clusterIPs=["10.8.0.1"])
    assert told(allocator.allocate(asked, None, [], dry_run=True)) == [
        (
            'spec.clusterIPs: Invalid value: ["10.8.0.1"]: failed to allocate IP 10.8.0.1: the provided IP (10.8.0.1) '
            "is not in the valid range. The range of valid IPs is 10.9.0.0/24"
        ),
    ]


def test_addresses_come_from_every_service_cidr_that_is_ready() -> None:
    allocator = ServiceAllocator("10.9.0.0/30")
    made = [service(f"s{n}", clusterIP=ip, clusterIPs=[ip]) for n, ip in enumerate(("10.9.0.1", "10.9.0.2"))]
    more: Obj = {"spec": {"cidrs": ["10.10.0.0/30", "fd00::/64"]}, "status": {}}
    for number in range(2):
        one = service(f"more{number}")
        assert allocator.allocate(one, None, made, [more]) == []
        assert one["spec"]["clusterIP"].startswith("10.10.0.")
        made.append(one)
    asked = service("asked", clusterIP="10.10.0.3", clusterIPs=["10.10.0.3"])
    assert "The range of valid IPs is 10.10.0.0/30" in told(allocator.allocate(asked, None, made, [more]))[0]
    more["status"] = {"conditions": [{"type": "Ready", "status": "False"}]}
    with pytest.raises(ApiError, match="range is full"):
        allocator.allocate(service("late"), None, made, [more])


def test_a_local_balancer_gets_a_health_port_beside_its_node_ports() -> None:
    allocator = ServiceAllocator("10.9.0.0/24", (30000, 30001))
    one = service("lb", type="LoadBalancer", externalTrafficPolicy="Local", allocateLoadBalancerNodePorts=True)
    assert allocator.allocate(one, None, []) == []
    assert {one["spec"]["ports"][0]["nodePort"], one["spec"]["healthCheckNodePort"]} == {30000, 30001}


def test_a_cluster_of_one_family_refuses_what_needs_two() -> None:
    allocator = ServiceAllocator("10.9.0.0/24")
    errors = allocator.allocate(service("a", ipFamilies=["IPv6"], ipFamilyPolicy="RequireDualStack"), None, [])
    assert told(errors) == [
        'spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster',
        (
            'spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack '
            "services"
        ),
    ]
