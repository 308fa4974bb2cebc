"""Logs, shells, ports and proxies: what a node would answer.

Nothing here runs pods, so these answer as a cluster does whose nodes can't be reached; what is wrong with the request,
and what needs no node, is told as ever.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from chandlery.controlplane import errors
from chandlery.controlplane.builtins import gotime
from chandlery.controlplane.core import Core
from chandlery.controlplane.types import ApiError, FieldError, Obj, RequestContext
from chandlery.controlplane.verbs.options import as_int

ON_NODE = frozenset({"log", "exec", "attach", "portforward", "proxy"})
"""Subresources that a node would answer."""

_ADDRESSES = ("Hostname", "InternalDNS", "InternalIP", "ExternalDNS", "ExternalIP")


def on_node(core: Core, ctx: RequestContext, query: Mapping[str, str]) -> ApiError | None:
    """The answer of an endpoint that needs a node; None when there is nothing to tell (logs of a pod without one).

    Raises ApiError 400 and 422 for what is wrong with the request, 404 when the object isn't there.
    """
    if ctx.subresource == "proxy":
        return _proxy(core, ctx)
    if ctx.subresource == "log":
        _log_options(ctx.name, query)
    spec = core.get(ctx.resource, ctx.namespace, ctx.name).obj.get("spec") or {}
    if ctx.subresource != "portforward":
        _container(ctx.name, spec, query.get("container", ""))
    name = spec.get("nodeName")
    if name:
        return _unreachable(core, name)
    return None if ctx.subresource == "log" else errors.bad_request(f"pod {ctx.name} does not have a host assigned")


def _log_options(name: str, query: Mapping[str, str]) -> None:
    tail, limit, since = (as_int(query.get(field)) for field in ("tailLines", "limitBytes", "sinceSeconds"))
    moment = query.get("sinceTime")
    if moment not in (None, "", "null"):
        try:
            gotime.parse(str(moment))
        except ValueError as error:
            raise errors.bad_request(str(error)) from None
    wrong: list[FieldError] = []
    if tail is not None and tail < 0:
        wrong.append(_invalid("tailLines", tail, "must be greater than or equal to 0"))
    if limit is not None and limit < 1:
        wrong.append(_invalid("limitBytes", limit, "must be greater than 0"))
    if since is not None and moment is not None:
        text = "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified"
        wrong.append(FieldError("", "FieldValueForbidden", text))
    elif since is not None and since < 1:
        wrong.append(_invalid("sinceSeconds", since, "must be greater than 0"))
    if "stream" in query:
        wrong.append(FieldError("stream", "FieldValueForbidden", "Forbidden: may not be specified"))
    if wrong:
        raise errors.invalid("", "PodLogOptions", name, wrong)


def _invalid(path: str, value: int, text: str) -> FieldError:
    return FieldError(path, "FieldValueInvalid", f"Invalid value: {value}: {text}")


def _container(pod: str, spec: Obj, name: str) -> None:
    """One container must be meant: the one that is named, or the only one there is."""
    groups = ("initContainers", "containers", "ephemeralContainers")
    names = [one.get("name", "") for group in groups for one in spec.get(group) or ()]
    if name and name not in names:
        raise errors.bad_request(f"container {name} is not valid for pod {pod}")
    if not name and len(spec.get("containers") or ()) != 1:
        listed = " ".join(names)
        raise errors.bad_request(f"a container name must be specified for pod {pod}, choose one of: [{listed}]")


def _unreachable(core: Core, name: str) -> ApiError:
    nodes = core.registry.stored("", "nodes")
    assert nodes is not None
    status = core.get(nodes, "", name).obj.get("status") or {}
    if not any(one.get("type") in _ADDRESSES for one in status.get("addresses") or ()):
        return errors.plain_internal("no preferred addresses found; known addresses: []")
    return errors.internal(f"node {name} can't be reached: no kubelet runs there")


def _proxy(core: Core, ctx: RequestContext) -> ApiError:
    ctx.name = _proxied(ctx)
    found = core.get(ctx.resource, ctx.namespace, ctx.name).obj
    if ctx.resource.plural == "services":
        text = f'no endpoints available for service "{ctx.name}"'
        return ApiError(503, "ServiceUnavailable", text, {"name": ctx.name})
    if ctx.resource.plural == "nodes":
        return _unreachable(core, ctx.name)
    addresses = (found.get("status") or {}).get("podIPs") or [{}]
    try:
        address = ipaddress.ip_address(addresses[0].get("ip", ""))
    except ValueError:
        return errors.bad_request("address not allowed")
    if address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified:
        return errors.bad_request("address not allowed")
    return errors.internal(f"pod {ctx.name} can't be reached: nothing runs at {address}")


def _proxied(ctx: RequestContext) -> str:
    """The object's name in `name`, `name:port`, `scheme:name` or `scheme:name:port`. Raises ApiError 400."""
    parts = ctx.name.split(":")
    if len(parts) == 3 and parts[0] in ("http", "https", ""):
        return parts[1]
    if len(parts) > 2 or not parts[0]:
        kind = ctx.resource.plural.removesuffix("s")
        raise errors.bad_request(f'invalid {kind} request "{ctx.name}"')
    return parts[0]
