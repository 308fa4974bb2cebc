"""Chandlery: backing services for applications, as Kubernetes custom resources."""
