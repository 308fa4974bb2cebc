"""Probes and hooks of containers, as the kubelet runs them."""

from __future__ import annotations

import asyncio
import http.client
from typing import Any

from kubelet.runtime import Container

Obj = dict[str, Any]


def port_number(container: Obj, port: int | str) -> int:
    """A port by number or name."""
    if isinstance(port, int):
        return port
    return int(next(p["containerPort"] for p in container.get("ports", ()) if p.get("name") == port))


async def ask(what: Obj, container: Obj, running: Container, ip: str, seconds: float) -> tuple[bool, str]:
    """Whether a probe (or hook) succeeds, and what it said."""
    if "exec" in what:
        code, said = await asyncio.to_thread(running.execute, what["exec"]["command"], seconds)
        return code == 0, said if code == 0 else f"exit code {code}: {said}"
    if "tcpSocket" in what:
        host = what["tcpSocket"].get("host") or ip
        return await _connects(host, port_number(container, what["tcpSocket"]["port"]), seconds)
    if "httpGet" in what:
        return await asyncio.to_thread(_get, what["httpGet"], container, ip, seconds)
    if "sleep" in what:
        await asyncio.sleep(what["sleep"]["seconds"])
        return True, ""
    return False, f"no such probe here: {sorted(what)}"


async def _connects(host: str, port: int, seconds: float) -> tuple[bool, str]:
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError) as error:
        return False, f"dial tcp {host}:{port}: {error or 'i/o timeout'}"
    writer.transport.abort()
    return True, ""


def _get(what: Obj, container: Obj, ip: str, seconds: float) -> tuple[bool, str]:
    import ssl

    host, port = what.get("host") or ip, port_number(container, what["port"])
    secure = what.get("scheme") == "HTTPS"
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection: http.client.HTTPConnection = (
        http.client.HTTPSConnection(host, port, timeout=seconds, context=context)
        if secure
        else http.client.HTTPConnection(host, port, timeout=seconds)
    )
    try:
        headers = {"User-Agent": "kube-probe/1.36", "Accept": "*/*", "Connection": "close"}
        connection.request("GET", what.get("path") or "/", headers=headers)
        answer = connection.getresponse()
        body = answer.read(10240).decode(errors="replace")
        return 200 <= answer.status < 400, f"HTTP probe: {answer.status} {body[:200]}"
    except (OSError, http.client.HTTPException) as error:
        return False, f"HTTP probe: {error}"
    finally:
        connection.close()
