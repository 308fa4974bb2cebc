"""Manifests of caches on Kubernetes, one module for each child. Pure."""
