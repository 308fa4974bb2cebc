"""What can be set about the providers."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from chandlery.foundation.config import section
from chandlery.foundation.errors import InvalidConfiguration


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
