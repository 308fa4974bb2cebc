"""HAProxy's runtime API over TCP, where both sides show a certificate."""

from __future__ import annotations

import asyncio
import os
import ssl
import tempfile
from pathlib import Path

from chandlery.foundation.clock import ambient
from chandlery.foundation.errors import Timeout, Unavailable
from chandlery.foundation.fencing import ask
from chandlery_kinds.loadbalancer.runtime import SECONDS, Runtime


def client_context(ca: str, certificate: str) -> ssl.SSLContext:
    """TLS as the driver speaks it: the server's certificate comes from our CA, and ours too.

    Args:
        ca: the CA, PEM.
        certificate: our certificate and key, PEM.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # pods have no lasting names; who holds a certificate of this CA is HAProxy
    context.load_verify_locations(cadata=ca)
    handle, path = tempfile.mkstemp()  # the ssl module reads certificates from files only; this one is 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(certificate)
        context.load_cert_chain(path)
    finally:
        Path(path).unlink()
    return context


class TlsRuntime(Runtime):
    """Commands to one HAProxy somewhere else."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext) -> None:
        self._host = host
        self._port = port
        self._context = context

    async def command(self, text: str) -> str:
        """One command's answer.

        Raises:
            Unavailable: nobody answers.
            Timeout: not in time.
        """
        try:
            async with ambient().timeout(SECONDS):
                reader, writer = await asyncio.open_connection(self._host, self._port, ssl=self._context)
                try:
                    ask()
                    writer.write(text.encode() + b"\n")
                    await writer.drain()
                    answer = await reader.read()
                finally:
                    writer.transport.abort()
        except TimeoutError as error:
            raise Timeout(f"HAProxy did not answer `{text.split(maxsplit=1)[0]}` within {SECONDS:g} s") from error
        except OSError as error:
            raise Unavailable(f"HAProxy does not answer: {error.strerror or error}", retry_after=0.2) from error
        return answer.decode(errors="replace").strip()
