"""ComponentStatus: how the parts of a control plane are, asked when somebody wants to know.

They are looked for where kube-apiserver looks: on the loopback ports of kube-scheduler and kube-controller-manager.
Here neither runs, unless somebody points them at this server. Source: Kubernetes API reference, ComponentStatus v1.
"""

from __future__ import annotations

import asyncio
import ssl

import orjson

from chandlery.controlplane import errors
from chandlery.controlplane.cache import Entry
from chandlery.controlplane.core import Core
from chandlery.controlplane.types import Obj, RequestContext
from chandlery.controlplane.verbs.options import ListOptions
from chandlery.controlplane.verbs.read import Listing, matches

KEY = ("", "componentstatuses")
_STORE = "etcd-0"
_PORTS = {"controller-manager": 10257, "scheduler": 10259}
_PATIENCE = 5.0


async def get(ctx: RequestContext) -> Entry:
    """One component. Raises ApiError 500 when there is none of that name."""
    if ctx.name != _STORE and ctx.name not in _PORTS:
        raise errors.plain_internal(f"Component not found: {ctx.name}")
    return await _look(ctx, ctx.name)


async def list_(core: Core, ctx: RequestContext, options: ListOptions) -> Listing:
    """All components that the selectors let pass."""
    entries = await asyncio.gather(*(_look(ctx, name) for name in sorted([_STORE, *_PORTS])))
    return Listing([entry for entry in entries if await matches(core, ctx.resource, options, entry)], 0)


async def _look(ctx: RequestContext, name: str) -> Entry:
    port = _PORTS.get(name)
    healthy, message = (True, "ok") if port is None else await _ask(port)
    condition = {"type": "Healthy", "status": "True" if healthy else "False", "message": message}
    resource = ctx.resource
    obj: Obj = {"apiVersion": resource.api_version, "kind": resource.kind}
    obj |= {"metadata": {"name": name}, "conditions": [condition]}
    return Entry(name, 0, orjson.dumps(obj), obj, resource)


async def _ask(port: int) -> tuple[bool, str]:
    """Whether what listens on a loopback port says that it is healthy, and what it said."""
    url = f"https://127.0.0.1:{port}/healthz"
    # Its certificate is its own; nothing is sent to it that others may not see.
    context = ssl._create_unverified_context()  # noqa: S323, SLF001
    try:
        async with asyncio.timeout(_PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            try:
                writer.write(f"GET /healthz HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
                head, _, body = (await reader.read(10_000)).partition(b"\r\n\r\n")
            finally:
                writer.close()
    except ConnectionRefusedError:
        return False, f'Get "{url}": dial tcp 127.0.0.1:{port}: connect: connection refused'
    except TimeoutError:
        return False, f'Get "{url}": context deadline exceeded'
    except OSError as error:
        return False, f'Get "{url}": {error}'
    healthy = head.split(b" ", 2)[1:2] == [b"200"]
    return healthy, body.decode("utf-8", "replace").strip()
