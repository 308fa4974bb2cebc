"""`kubectl apply` of each kind against the embedded control plane: ready, changed, broken, repaired, deleted."""

from __future__ import annotations

import base64
import copy
import json

import pytest

from chandlery.model.examples import example_spec
from chandlery_kinds import KINDS

SPECS = {
    "Cache": ({"memory": "64Mi"}, {"memory": "128Mi"}),
    "Database": ({"instances": 1}, {"configuration": {"work_mem": "8MB"}}),
    "Queue": ({"storage": {"size": "1Gi"}}, {"maxDeliveries": 3}),
    "LoadBalancer": (
        {
            "listeners": [{"name": "web", "protocol": "TCP", "port": 8080, "pool": "app"}],
            "pools": [{"name": "app", "targets": [{"name": "a", "address": "192.0.2.1", "port": 80}]}],
        },
        {"replicas": 2},
    ),
    "VirtualMachine": ({"image": {"name": "alpine"}, "rootDisk": {"size": "1Gi"}}, {"cpus": 2}),
}
for _kind in KINDS:  # a kind that isn't in the table: what its README shows
    _change = dict([next(iter(example_spec(_kind.package, "Typical").items()))])
    SPECS.setdefault(_kind.name, (example_spec(_kind.package, "Minimal"), _change))


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS])
async def test_life_of_a_kind(kind, run, kubectl, namespace, eventually):
    found = next(k for k in KINDS if k.name == kind)
    resource = found.names.plural
    spec, change = SPECS[kind]
    manifest = {
        "apiVersion": found.names.api_version,
        "kind": kind,
        "metadata": {"name": "one", "namespace": namespace},
        "spec": copy.deepcopy(spec),
    }

    async def status():
        return json.loads(await kubectl("get", resource, "one", "-n", namespace, "-o", "json"))["status"]

    async with run() as running:
        world = running.world
        await kubectl("apply", "-f", "-", stdin=manifest)
        await kubectl("wait", "--for=condition=Ready", f"{resource}/one", "-n", namespace, "--timeout=15s")
        first = await status()
        name = first["externalName"]
        assert first["phase"] == "Ready"
        assert sorted(world.exists(name)) == ["address", "instance", "user", "volume"]
        secret = json.loads(await kubectl("get", "secret", "one", "-n", namespace, "-o", "json"))
        assert base64.b64decode(secret["data"]["provider"]) == b"chandlery"
        assert secret["metadata"]["ownerReferences"][0]["name"] == "one"
        assert "one" in await kubectl("get", "chandlery", "-n", namespace)

        manifest["spec"].update(change)
        await kubectl("apply", "-f", "-", stdin=manifest)
        [(field, value)] = change.items()
        await eventually(lambda: world.part("instance", name).data["settings"].get(field) == value)

        world.break_instance(name)
        await eventually(lambda: world.part("instance", name).data["state"] == "running")
        await kubectl("wait", "--for=condition=Ready", f"{resource}/one", "-n", namespace, "--timeout=15s")
        assert (await status())["observedGeneration"] == 2

        await kubectl("delete", resource, "one", "-n", namespace, "--timeout=20s")
        # the control plane is shared: objects of other tests may have parts in this world too
        assert [part for part in world.everything() if name in part] == []
        await eventually(lambda: _gone(kubectl, namespace))


async def _gone(kubectl, namespace):
    return "one" not in await kubectl("get", "secrets", "-n", namespace, "-o", "name")
