"""Fixtures: see tests/support/kubernetes_cluster.py."""

from kubernetes_cluster import cluster, kube

__all__ = ["cluster", "kube"]
