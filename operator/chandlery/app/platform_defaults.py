"""What a laptop has from the beginning: one default ResourceClass for each kind, made by the local driver."""

from __future__ import annotations

from typing import Any

LOCAL_KINDS = ("Cache", "Database", "Queue", "LoadBalancer", "VirtualMachine")


def local_classes() -> list[dict[str, Any]]:
    """ResourceClasses `local-cache`, `local-database` ..., each the default of its kind."""
    return [
        {
            "apiVersion": "platform.chandlery.dev/v1alpha1",
            "kind": "ResourceClass",
            "metadata": {"name": f"local-{kind.lower()}"},
            "spec": {"kind": kind, "driver": "local", "default": True},
        }
        for kind in LOCAL_KINDS
    ]
