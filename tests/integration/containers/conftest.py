"""Fixtures: see tests/support/kubernetes_cluster.py."""

from kubernetes_cluster import cluster, images, kube, network

__all__ = ["cluster", "images", "kube", "network"]
