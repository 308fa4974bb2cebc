"""Where a webhook's Service is."""

from typing import Any

import pytest

from chandlery.controlplane.admission.webhooks.client import resolve_by_endpoints

PORTS = [{"name": "https", "port": 443, "targetPort": 8443}]


class Api:
    def __init__(self, service: dict[str, Any] | None, *slices: dict[str, Any]) -> None:
        self.service, self.slices = service, slices

    def get(self, group: str, plural: str, namespace: str, name: str) -> dict[str, Any] | None:
        assert (plural, namespace, name) == ("services", "n", "hook")
        return None if self.service is None else {"spec": self.service}

    def list(self, group: str, plural: str, namespace: str | None = None) -> tuple[dict[str, Any], ...]:
        assert (group, plural, namespace) == ("discovery.k8s.io", "endpointslices", "n")
        return self.slices


def slice_of(service: str, *endpoints: dict[str, Any], name: str = "https") -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": service}
    return {"metadata": {"labels": labels}, "ports": [{"name": name, "port": 8443}], "endpoints": list(endpoints)}


READY = {"addresses": ["10.1.0.2"], "conditions": {"ready": True}}
NOT_READY = {"addresses": ["10.1.0.1"], "conditions": {"ready": False}}


def resolve(api: Api, port: int = 443) -> str:
    return resolve_by_endpoints(api)("n", "hook", port)


def test_the_first_ready_endpoint_of_the_right_service_and_port() -> None:
    slices = (slice_of("other", READY), slice_of("hook", READY, name="metrics"), slice_of("hook", NOT_READY, READY))
    assert resolve(Api({"ports": PORTS, "clusterIP": "10.96.0.9"}, *slices)) == "10.1.0.2:8443"


def test_without_endpoints_the_cluster_address() -> None:
    assert resolve(Api({"ports": PORTS, "clusterIP": "10.96.0.9"})) == "10.96.0.9:443"


def test_an_external_name_needs_no_ports() -> None:
    assert resolve(Api({"type": "ExternalName", "externalName": "hooks.example"}), 8443) == "hooks.example:8443"


@pytest.mark.parametrize(
    ("service", "port", "said"),
    [
        (None, 443, 'service "hook" not found'),
        ({"ports": PORTS}, 444, 'no service port 444 found for service "hook"'),
        ({"ports": PORTS, "clusterIP": "None"}, 443, 'no endpoints available for service "hook"'),
    ],
)
def test_what_is_missing_is_said(service: dict[str, Any] | None, port: int, said: str) -> None:
    with pytest.raises(LookupError, match=said):
        resolve(Api(service), port)
