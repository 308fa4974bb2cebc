"""Manifests of queues on Kubernetes, one module for each child. Pure."""
