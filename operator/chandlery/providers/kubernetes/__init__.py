"""Kubernetes workloads: the session that drivers share, the children of an object, their building blocks."""

from chandlery.providers.kubernetes.factory import KubernetesProviderFactory
from chandlery.providers.kubernetes.session import KubernetesSession

__all__ = ["KubernetesProviderFactory", "KubernetesSession"]
