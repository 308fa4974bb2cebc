"""The embedded control plane: a Kubernetes-API-compatible server in one process.

It knows custom resources as data only and never imports a kind.
"""
