"""Manifests of load balancers on Kubernetes, one module for each child. Pure."""
