"""Opens the session of the `kubernetes` drivers for the loop."""

from __future__ import annotations

from typing import ClassVar

from chandlery.driver.provider import ProviderSetup
from chandlery.foundation.errors import Internal
from chandlery.providers.kubernetes.parameters import KubernetesParameters
from chandlery.providers.kubernetes.session import KubernetesSession, Resolver, pod_address
from chandlery.providers.kubernetes.types import Api
from chandlery.providers.settings import KubernetesSettings


class KubernetesProviderFactory:
    """Sessions on the API server that the operator itself works on.

    Attributes:
        api: set by the composition root before the first session is opened.
        resolve: how a pod is reached.
    """

    parameters: ClassVar[type[KubernetesParameters]] = KubernetesParameters

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
        said = setup.settings if isinstance(setup.settings, KubernetesParameters) else KubernetesParameters()
        images = self.settings.image_map() | dict(said.images)
        secrets = said.pull_secrets or self.settings.pull_secret_names()
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
