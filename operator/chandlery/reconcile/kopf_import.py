"""kopf without the clients that it finds beside itself.

kopf imports every Kubernetes client that is installed, so that its helpers can take their models too. We hand it
plain objects only; what it would load for nothing is 19 MiB and a good part of the operator's start.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_CLIENTS: Final = ("kubernetes", "kubernetes.client", "kubernetes_asyncio", "kubernetes_asyncio.client", "pykube")


@contextmanager
def _hidden() -> Iterator[None]:
    """Make imports of clients that nobody has imported yet fail, as if they weren't installed."""
    names = [name for name in _CLIENTS if name not in sys.modules]
    for name in names:
        sys.modules[name] = None  # type: ignore[assignment] # what the import system takes for "there is none"
    try:
        yield
    finally:
        for name in names:
            if sys.modules.get(name, ...) is None:
                del sys.modules[name]


with _hidden():
    import kopf

__all__ = ["kopf"]
