"""Manifests of virtual machines on Kubernetes, one module for each child. Pure."""
