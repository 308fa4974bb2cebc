"""Manifests of databases on Kubernetes, one module for each child. Pure."""
