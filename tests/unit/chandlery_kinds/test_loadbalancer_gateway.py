"""Load balancers as Gateways: what is said in the Gateway API's words, and what is refused because it has none."""

import pytest

from chandlery.providers.kubernetes.ownership import Owner
from chandlery_kinds.loadbalancer.drivers.kubernetes import LoadBalancerDriver
from chandlery_kinds.loadbalancer.kubernetes.gateway import Backend, common, gateway, kinds_for, routes
from chandlery_kinds.loadbalancer.kubernetes.parameters import LoadBalancerParameters
from chandlery_kinds.loadbalancer.model import LoadBalancer

TARGETS = [{"name": "a", "service": {"name": "shop"}, "port": 8080}]
GATEWAY = {"gateway": {"className": "cilium"}}


def an(spec):
    names = LoadBalancer.names
    meta = {"name": "web", "namespace": "shop", "uid": "0b8f2f6e-6f0d-4d6c-8f51-0a4a4c4f2d10"}
    body = {"apiVersion": names.api_version, "kind": names.kind, "metadata": meta, "spec": spec, "status": {}}
    return LoadBalancer.model_validate(body)


def made(spec, **backends):
    obj = an(spec)
    return routes(Owner.of(obj, "gateway"), obj.spec, backends or {"app": [Backend("shop", 8080)]})


def refused(spec, parameters=None):
    said = LoadBalancerParameters.model_validate(parameters or GATEWAY)
    return {u.field for u in LoadBalancerDriver().unsupported(an(spec), said)}


HTTP = {"name": "web", "protocol": "HTTP", "port": 80, "pool": "app"}
PLAIN = {"listeners": [HTTP], "pools": [{"name": "app", "targets": TARGETS}]}


def test_a_plain_one_is_a_gateway_and_a_route():
    obj = an(PLAIN)
    found = gateway(Owner.of(obj, "gateway"), obj.spec, "cilium")["spec"]
    assert found["gatewayClassName"] == "cilium"
    assert found["listeners"][0]["protocol"] == "HTTP"
    [route] = made(PLAIN)
    assert route["kind"] == "HTTPRoute"
    assert route["spec"]["parentRefs"][0]["sectionName"] == "web"
    assert route["spec"]["rules"][0]["backendRefs"][0] | {"weight": 0} == {
        "group": "",
        "kind": "Service",
        "name": "shop",
        "port": 8080,
        "weight": 0,
    }
    assert refused(PLAIN) == set()


def test_each_protocol_has_its_kind_and_tls_ends_where_the_spec_says():
    secure = {"certificateSecrets": [{"name": "shop-tls"}]}
    spec = {
        "listeners": [
            {"name": "secure", "protocol": "HTTPS", "port": 443, "pool": "app", "tls": secure},
            {"name": "through", "protocol": "TLS", "port": 8443, "pool": "app", "hostnames": ["a.example"]},
            {"name": "raw", "protocol": "TCP", "port": 5432, "pool": "app"},
            {"name": "away", "protocol": "HTTP", "port": 80, "redirectToHttps": True},
        ],
        "pools": [{"name": "app", "targets": TARGETS}],
    }
    obj = an(spec)
    listeners = gateway(Owner.of(obj, "gateway"), obj.spec, "c")["spec"]["listeners"]
    assert [x.get("tls", {}).get("mode") for x in listeners] == ["Terminate", "Passthrough", None, None]
    assert listeners[0]["tls"]["certificateRefs"] == [{"group": "", "kind": "Secret", "name": "shop-tls"}]
    assert [r["kind"] for r in made(spec)] == ["HTTPRoute", "TLSRoute", "TCPRoute", "HTTPRoute"]
    assert made(spec)[1]["spec"]["hostnames"] == ["a.example"]
    assert made(spec)[3]["spec"]["rules"][0]["filters"][0]["requestRedirect"] == {"scheme": "https", "statusCode": 301}
    assert [k.kind for k in kinds_for(obj.spec)] == ["Gateway", "HTTPRoute", "TLSRoute", "TCPRoute"]
    assert refused(spec) == set()


def test_a_rule_says_everything_that_a_route_says():
    route = {
        "name": "api",
        "hostnames": ["shop.example"],
        "path": {"type": "Prefix", "value": "/api"},
        "methods": ["GET", "HEAD"],
        "headers": [{"name": "X-Beta", "value": "yes"}],
        "backends": [{"pool": "app", "weight": 3}, {"pool": "new", "weight": 1}],
        "replacePrefix": "/v2",
        "requestHeaders": {"set": [{"name": "X-Via", "value": "ship"}], "remove": ["X-Old"]},
        "timeout": "90m",
    }
    pools = [{"name": "app", "targets": TARGETS}, {"name": "new", "targets": TARGETS}]
    spec = {"listeners": [{"name": "web", "protocol": "HTTP", "port": 80}], "pools": pools, "routes": [route]}
    [found] = made(spec, app=[Backend("a", 1, 100), Backend("b", 2, 50)], new=[Backend("c", 3)])
    assert found["spec"]["hostnames"] == ["shop.example"]
    [rule] = found["spec"]["rules"]
    assert [m["method"] for m in rule["matches"]] == ["GET", "HEAD"]
    assert rule["matches"][0]["path"] == {"type": "PathPrefix", "value": "/api"}
    assert [(b["name"], b["weight"]) for b in rule["backendRefs"]] == [("a", 300), ("b", 150), ("c", 100)]
    assert [f["type"] for f in rule["filters"]] == ["RequestHeaderModifier", "URLRewrite"]
    assert rule["timeouts"] == {"request": "1h1800s"}


def test_names_of_a_listener_and_its_route_don_t_run_into_one_another():
    listeners = [{"name": n, "protocol": "HTTP", "port": p} for n, p in (("a", 80), ("a-b", 81))]
    each = [{"name": n, "redirect": {"scheme": "https"}} for n in ("b-c", "c")]
    spec = {"listeners": listeners, "routes": each}
    assert len({r["metadata"]["name"] for r in made(spec)}) == 4


@pytest.mark.parametrize(
    ("listener", "route", "both"),
    [
        ([], ["a.x"], ["a.x"]),
        (["a.x"], [], ["a.x"]),
        (["*.x"], ["a.x", "b.y"], ["a.x"]),
        (["a.x"], ["*.x"], ["a.x"]),
        (["a.x"], ["b.x"], None),
    ],
)
def test_host_names_that_listener_and_route_have_in_common(listener, route, both):
    assert common(listener, route) == both


def test_what_the_gateway_api_can_t_say_is_refused_by_name():
    spec = {
        "replicas": 3,
        "listeners": [
            {**HTTP, "allowedCidrs": ["10.0.0.0/8"], "rateLimit": {"requests": 5}},
            {"name": "secure", "protocol": "HTTPS", "port": 443, "pool": "app"},
            {"name": "through", "protocol": "TLS", "port": 8443, "pool": "app"},
        ],
        "pools": [
            {
                "name": "app",
                "algorithm": "source",
                "targets": [{"name": "a", "address": "192.0.2.1", "port": 1, "backup": True}],
            }
        ],
        "timeouts": {"connect": "1s"},
    }
    assert refused(spec) == {
        "spec.replicas",
        "spec.timeouts",
        "spec.listeners[web].allowedCidrs",
        "spec.listeners[web].rateLimit",
        "spec.listeners[secure].tls.certificateSecrets",
        "spec.listeners[through].hostnames",
        "spec.pools[app].algorithm",
        "spec.pools[app].targets[a].address",
        "spec.pools[app].targets[a].backup",
    }
    assert "spec.replicas" not in refused(spec, {"images": {}})
