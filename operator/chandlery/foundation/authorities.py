"""aiohttp without the system's certificate authorities, until a connection needs them.

Its import reads them all, 2 MB of parsed certificates that stay, for connections that don't say whom they trust. Ours
to the API server and to engines say it; what is left is a download now and then.
"""

from __future__ import annotations

import os
import ssl
from typing import Any

_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


class TrustingWhenUsed(ssl.SSLContext):
    """A context that reads the system's authorities before its first connection."""

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        if not self.cert_store_stats()["x509"]:
            self.load_default_certs()
        return super().wrap_bio(*args, **kwargs)


def import_http() -> None:
    """Import aiohttp. To be called before anything else does; later it changes nothing."""
    import sys

    if "aiohttp" in sys.modules:
        return
    before = {name: os.environ.get(name) for name in _VARIABLES}
    os.environ.update(dict.fromkeys(_VARIABLES, os.devnull))
    try:
        from aiohttp import connector
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
    made = getattr(connector, "_SSL_CONTEXT_VERIFIED", None)
    if type(made) is ssl.SSLContext:
        made.__class__ = TrustingWhenUsed
    elif made is not None:  # another aiohttp than we know: it gets what it would have read
        made.load_default_certs()
