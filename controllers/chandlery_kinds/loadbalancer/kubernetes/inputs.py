"""What the manifests of a load balancer are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from chandlery.providers.kubernetes.ownership import Owner
from chandlery.providers.kubernetes.pods import image
from chandlery_kinds.loadbalancer.kubernetes.parameters import LoadBalancerParameters
from chandlery_kinds.loadbalancer.model import LoadBalancer, LoadBalancerSpec

MOUNT: Final = "/etc/chandlery"
RUN: Final = "/run/chandlery"
ADMIN_PORT: Final = 9901
HEALTH_PORT: Final = 9902
_IMAGE: Final = "docker.io/library/haproxy:3.2.22"


@dataclass(frozen=True, slots=True)
class Inputs:
    """The spec, whose children they are, and what class and chart say."""

    owner: Owner
    spec: LoadBalancerSpec
    image: str
    image_said: str
    pull_secrets: tuple[str, ...] = ()
    parameters: LoadBalancerParameters = field(default_factory=LoadBalancerParameters)

    @classmethod
    def of(
        cls,
        obj: LoadBalancer,
        parameters: LoadBalancerParameters,
        catalogue: Mapping[str, str],
        pull_secrets: Sequence[str] = (),
    ) -> Inputs:
        chosen, said = image("haproxy", _IMAGE, parameters, catalogue)
        secrets = parameters.pull_secrets or tuple(pull_secrets)
        return cls(Owner.of(obj, "haproxy"), obj.spec, chosen, said, secrets, parameters)

    @property
    def asked(self) -> dict[str, Any]:
        """Everything about the pod template that people decide. Targets come and go while it runs."""
        spec = self.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
        names = (
            "listeners",
            "routes",
            "timeouts",
            "rateLimit",
            "accessLog",
            "configuration",
            "placement",
            "resources",
        )
        pools = [{k: v for k, v in pool.items() if k != "targets"} for pool in spec.get("pools", ())]
        return {
            **{name: spec[name] for name in names if name in spec},
            "pools": pools,
            **({"commands": self.parameters.commands_said()} if self.parameters.commands else {}),
            "image": self.image_said,
            "pullSecrets": list(self.pull_secrets),
        }
