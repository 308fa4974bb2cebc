"""The controllers that belong to the API itself: garbage collection, namespaces, service accounts, quota ..."""

from chandlery.controlplane.controllers.manager import Controllers

__all__ = ["Controllers"]
