"""The Secrets with what a guest is told at its first boot, as KubeVirt wants them: it makes the CD."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping

from chandlery.providers.kubernetes.types import SECRETS, Obj
from chandlery_kinds.virtualmachine.guest.seed import Seed, contents
from chandlery_kinds.virtualmachine.kubernetes.inputs import Inputs

SEED = "-seed"
KEYS = "-ssh-keys"


def seed_secrets(inputs: Inputs, user_data: str) -> list[Obj]:
    """User data and network configuration; public keys in a Secret of their own, where there are any."""
    spec = inputs.spec
    files = contents(
        Seed(
            instance_id=inputs.owner.uid,
            hostname=inputs.hostname,
            user_data=user_data,
            mac=inputs.mac,
            address=str(spec.network.address or ""),
            gateway=str(spec.network.gateway or ""),
            nameservers=[str(server) for server in spec.network.nameservers],
            network_data=spec.cloud_init.network_data or "",
        )
    )
    told = {"userdata": files["user-data"], "networkdata": files["network-config"]}
    found = [inputs.owner.child(SECRETS, SEED, type="Opaque", data=_encoded(told))]
    keys = {f"key-{number}": str(key) for number, key in enumerate(spec.cloud_init.ssh_authorized_keys)}
    if keys:
        found.append(inputs.owner.child(SECRETS, KEYS, type="Opaque", data=_encoded(keys)))
    return found


def _encoded(data: Mapping[str, str]) -> dict[str, str]:
    return {key: b64encode(value.encode()).decode() for key, value in data.items()}
