"""Opens the session of the `kubernetes` drivers for the loop."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from chandlery.driver.provider import ProviderSetup
from chandlery.foundation.config import section
from chandlery.foundation.errors import Internal, InvalidConfiguration
from chandlery.providers.kubernetes.session import KubernetesSession, Resolver, pod_address
from chandlery.providers.kubernetes.types import Api


@section("kubernetes", title="Kubernetes drivers")
@dataclass(frozen=True, slots=True)
class KubernetesSettings:
    images: str = ""
    """Images by engine in place of the built-in ones, as JSON: {"valkey": "registry.example/valkey:9.1.1"}."""
    pull_secrets: str = ""
    """Names of image pull Secrets for all workloads, with commas between; each must be in the object's namespace."""
    cluster_domain: str = "cluster.local"
    """DNS domain of the cluster."""

    def image_map(self) -> dict[str, str]:
        """The catalogue.

        Raises:
            InvalidConfiguration: it isn't a JSON object of texts.
        """
        try:
            found = orjson.loads(self.images) if self.images.strip() else {}
        except orjson.JSONDecodeError as error:
            raise InvalidConfiguration(
                f"is not JSON: {error}", field="CHANDLERY_KUBERNETES_IMAGES", value=self.images
            ) from error
        if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
            raise InvalidConfiguration(
                "must be a JSON object from engine to image", field="CHANDLERY_KUBERNETES_IMAGES", value=self.images
            )
        return found

    def pull_secret_names(self) -> tuple[str, ...]:
        return tuple(name.strip() for name in self.pull_secrets.split(",") if name.strip())


class KubernetesProviderFactory:
    """Sessions on the API server that the operator itself works on.

    Attributes:
        api: set by the composition root before the first session is opened.
        resolve: how a pod is reached.
    """

    def __init__(self, settings: KubernetesSettings | None = None, api: Api | None = None) -> None:
        self.settings = settings or KubernetesSettings()
        self.api = api
        self.resolve: Resolver = pod_address

    async def open(self, setup: ProviderSetup) -> KubernetesSession:
        """A session.

        Raises:
            InvalidConfiguration: the catalogue of images can't be read.
        """
        if self.api is None:
            raise Internal("the kubernetes provider was given no API server")
        images = {**self.settings.image_map(), **(setup.settings.get("images") or {})}
        secrets = setup.settings.get("pullSecrets") or self.settings.pull_secret_names()
        return KubernetesSession(
            self.api,
            notify=setup.notify,
            clock=setup.clock,
            images=images,
            pull_secrets=tuple(secrets),
            resolve=self.resolve,
            cluster_domain=self.settings.cluster_domain,
        )

    async def close(self, session: KubernetesSession) -> None:
        await session.close()
