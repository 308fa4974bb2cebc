"""A lean client for the Kubernetes API: a few verbs on plain dicts, over one pool of connections.

The transport retries what was refused for load (429, with Retry-After) and connections that broke before an answer
to a request that is safe to repeat, both within a budget, so that repetitions never add much to an outage; everything
else is the loop's to repeat.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, Self
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import orjson
from yarl import URL

from chandlery.foundation.clock import SYSTEM, Clock
from chandlery.foundation.context import Context
from chandlery.foundation.errors import (
    AlreadyExists,
    ChandleryError,
    Conflict,
    Internal,
    NotFound,
    ProviderUnavailable,
    RateLimited,
    Timeout,
    Unavailable,
    from_http_status,
)
from chandlery.foundation.resilience import Backoff, RetryBudget, retry
from chandlery.reconcile.api import MANAGER, Expired, Obj, Page, ResourceType, WatchEvent
from chandlery.reconcile.credentials import Credentials
from chandlery.reconcile.guard import GuardedRequest

_PATIENCE: Final = 3
_BACKOFF: Final = Backoff(initial=0.05, maximum=1.0)
_LONGEST_WAIT: Final = 10.0
_PAGE: Final = 500
_APPLY: Final = "application/apply-patch+yaml"
_JSON: Final = "application/json"
_REPEATABLE: Final = frozenset({"GET", "PUT", "PATCH", "DELETE"})

OnRequest = Callable[[str, str, str], None]


class HttpApi:
    """`chandlery.reconcile.api.Api` over HTTP.

    Args:
        credentials: where and as whom.
        limit: connections at once, watches included.
        timeout: seconds for one request; watches have their own.
        clock: for waits between repetitions.
        on_request: told (verb, resource, code) of each answer, for metrics.
        agent: the User-Agent header.
        namespace: lists and watches of all namespaces are of this one instead; "" for all.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        limit: int = 96,
        timeout: float = 30.0,
        clock: Clock = SYSTEM,
        on_request: OnRequest = lambda _verb, _resource, _code: None,
        agent: str = "chandlery",
        namespace: str = "",
    ) -> None:
        self.credentials = credentials
        self._limit = limit
        self._timeout = timeout
        self._clock = clock
        self._on_request = on_request
        self._agent = agent
        self._namespace = namespace
        self._context = Context(clock=clock)
        self._budget = RetryBudget(clock=clock)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _within(self, kind: ResourceType) -> str:
        return self._namespace if kind.namespaced else ""

    # Verbs

    async def get(self, kind: ResourceType, namespace: str, name: str) -> Obj | None:
        try:
            return await self._ask("get", "GET", kind, kind.path(namespace, quote(name)))
        except NotFound:
            return None

    async def list(self, kind: ResourceType, namespace: str = "", *, labels: str = "") -> Page:
        items: list[Obj] = []
        namespace = namespace or self._within(kind)
        params = {"limit": str(_PAGE), **({"labelSelector": labels} if labels else {})}
        while True:
            answer = await self._ask("list", "GET", kind, kind.path(namespace), params=params)
            for item in answer.get("items") or ():
                # a list leaves out what its own kind says
                item.setdefault("apiVersion", kind.api_version)
                item.setdefault("kind", kind.kind)
                items.append(item)
            more = answer["metadata"].get("continue")
            if not more:
                return Page(items, answer["metadata"].get("resourceVersion", ""))
            params["continue"] = more

    async def watch(
        self, kind: ResourceType, namespace: str = "", *, version: str, labels: str = "", seconds: float = 290.0
    ) -> AsyncIterator[WatchEvent]:
        namespace = namespace or self._within(kind)
        params = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(max(1, round(seconds))),
            **({"labelSelector": labels} if labels else {}),
        }
        timeout = aiohttp.ClientTimeout(total=None, connect=10.0, sock_read=None)
        try:
            async with (await self._http()).get(
                self.credentials.server + kind.path(namespace),
                params=params,
                timeout=timeout,
                headers=await self._auth(),
            ) as response:
                if response.status != 200:
                    raise _error(response.status, await response.read(), response.headers)
                async for line in _lines(response):
                    yield _event(orjson.loads(line))
        except (aiohttp.ClientError, ConnectionError) as error:
            raise Unavailable(f"the watch of {kind.plural} broke: {error or type(error).__name__}") from error

    async def apply(
        self, kind: ResourceType, body: Obj, *, manager: str = MANAGER, subresource: str = "", force: bool = True
    ) -> Obj:
        meta = body["metadata"]
        path = kind.path(meta.get("namespace", ""), quote(meta["name"]), subresource)
        params = {"fieldManager": manager, "force": "true" if force else "false"}
        return await self._ask("apply", "PATCH", kind, path, _whole(kind, body), params=params, content=_APPLY)

    async def create(self, kind: ResourceType, body: Obj) -> Obj:
        path = kind.path(body["metadata"].get("namespace", ""))
        return await self._ask("create", "POST", kind, path, _whole(kind, body), params={"fieldManager": MANAGER})

    async def replace(self, kind: ResourceType, body: Obj) -> Obj:
        meta = body["metadata"]
        path = kind.path(meta.get("namespace", ""), quote(meta["name"]))
        return await self._ask("update", "PUT", kind, path, _whole(kind, body), params={"fieldManager": MANAGER})

    async def json_patch(
        self, kind: ResourceType, namespace: str, name: str, operations: Sequence[Mapping[str, Any]]
    ) -> Obj | None:
        path = kind.path(namespace, quote(name))
        params, content = {"fieldManager": MANAGER}, "application/json-patch+json"
        try:
            return await self._ask("patch", "PATCH", kind, path, list(operations), params=params, content=content)
        except NotFound:
            return None
        except _Refused as error:
            # a failed `test` comes as 422: somebody was faster
            raise Conflict(f"the patch of {kind.plural} {name} no longer fits: {error.message}") from error

    async def merge_patch(self, kind: ResourceType, namespace: str, name: str, patch: Mapping[str, Any]) -> Obj | None:
        path = kind.path(namespace, quote(name))
        params, content = {"fieldManager": MANAGER}, "application/merge-patch+json"
        try:
            return await self._ask("patch", "PATCH", kind, path, dict(patch), params=params, content=content)
        except NotFound:
            return None

    async def delete(
        self, kind: ResourceType, namespace: str, name: str, *, uid: str = "", propagation: str = ""
    ) -> bool:
        body: Obj = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if propagation:
            body["propagationPolicy"] = propagation
        if uid:
            body["preconditions"] = {"uid": uid}
        try:
            await self._ask("delete", "DELETE", kind, kind.path(namespace, quote(name)), body)
        except NotFound:
            return False
        return True

    # Transport

    async def _ask(
        self,
        verb: str,
        method: str,
        kind: ResourceType,
        path: str,
        body: Any = None,
        *,
        params: Mapping[str, str] | None = None,
        content: str = _JSON,
    ) -> Obj:
        data = orjson.dumps(body) if body is not None else None

        async def once(_: Context) -> Obj:
            return await self._once(verb, method, kind, path, data, params, content)

        return await retry(
            self._context,
            once,
            doing=f"{verb} {kind.plural}",
            attempts=_PATIENCE,
            backoff=_BACKOFF,
            budget=self._budget,
            when=_REPEAT[method in _REPEATABLE],
        )

    async def _once(
        self,
        verb: str,
        method: str,
        kind: ResourceType,
        path: str,
        data: bytes | None,
        params: Mapping[str, str] | None,
        content: str,
    ) -> Obj:
        headers = await self._auth()
        if data is not None:
            headers["Content-Type"] = content
        # names are quoted where the path is made, and so is the query here: aiohttp would take all apart and quote anew
        query = _query(tuple(params.items())) if params else ""
        url = URL(f"{self.credentials.server}{path}{query}", encoded=True)
        try:
            async with (await self._http()).request(
                method, url, data=data, headers=headers, allow_redirects=False
            ) as response:
                raw = await response.read()
                self._on_request(verb, kind.plural, str(response.status))
                if response.status < 300:
                    answer: Obj = orjson.loads(raw)
                    return answer
                raise _error(response.status, raw, response.headers)
        except TimeoutError as error:
            self._on_request(verb, kind.plural, "timeout")
            raise Timeout(f"the API server did not answer {verb} {kind.plural} in {self._timeout:g} s") from error
        except aiohttp.ClientError as error:
            self._on_request(verb, kind.plural, "broken")
            raise ApiUnreachable(f"the API server can't be reached: {error or type(error).__name__}") from error

    async def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = Connector(
                limit=self._limit, ssl=self.credentials.tls if self.credentials.tls is not None else True
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=self._timeout, connect=10.0),
                headers={"User-Agent": self._agent, "Accept": _JSON},
                proxy=proxy_for(self.credentials.server),
                request_class=GuardedRequest,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def _auth(self) -> dict[str, str]:
        token = await self.credentials.token()
        return {"Authorization": f"Bearer {token}"} if token else {}


class Connector(aiohttp.TCPConnector):
    """Closes at once: a polite end of TLS waits for the peer, and watches that are cut off outlive their loop."""

    async def close(self, *, abort_ssl: bool = False) -> None:
        del abort_ssl
        await super().close(abort_ssl=True)


class ApiUnreachable(ProviderUnavailable):
    """The connection failed before an answer."""

    default_hint = "Check that the API server runs and can be reached; it is tried again by itself."


def _busy(error: ChandleryError) -> bool:
    """It asked us to come back, soon enough to wait for here."""
    return isinstance(error, RateLimited) and (error.retry_after or 0.0) <= _LONGEST_WAIT


def _busy_or_broken(error: ChandleryError) -> bool:
    return isinstance(error, ApiUnreachable) or _busy(error)


_REPEAT: Final = {True: _busy_or_broken, False: _busy}


class _Refused(Internal):
    """The server finds fault with what we sent: a mistake of ours, unless the patch was conditional."""


def proxy_for(server: str) -> str | None:
    """What the environment says (HTTPS_PROXY, NO_PROXY), asked once: aiohttp would ask, and read netrc, every time."""
    host = urlsplit(server).hostname or ""
    if host in {"127.0.0.1", "::1", "localhost"} or proxy_bypass(host):
        return None
    return getproxies().get(urlsplit(server).scheme)


@lru_cache(128)
def _query(params: tuple[tuple[str, str], ...]) -> str:
    return f"?{urlencode(params)}"


def _whole(kind: ResourceType, body: Obj) -> Obj:
    return (
        body if "kind" in body and "apiVersion" in body else {"apiVersion": kind.api_version, "kind": kind.kind, **body}
    )


def _error(status: int, raw: bytes, headers: Mapping[str, str]) -> ChandleryError:
    try:
        answer = orjson.loads(raw)
    except orjson.JSONDecodeError:
        answer = {}
    message = str(answer.get("message") or f"the API server answered {status}")
    if status in {400, 422}:
        return _Refused(f"the API server refuses a request of ours: {message}")
    if status == 409 and answer.get("reason") == "AlreadyExists":
        return AlreadyExists(message, retry_after=1.0)
    if status == 410:
        return Expired(message)
    retry = headers.get("Retry-After", "")
    if retry.isdigit() and status in {429, 503}:
        return from_http_status(status, message, retry_after=float(retry))
    return from_http_status(status, message)


def _event(line: dict[str, Any]) -> WatchEvent:
    if line.get("type") == "ERROR":
        status = line.get("object", {})
        message = str(status.get("message", "the watch ended with an error"))
        raise Expired(message) if status.get("code") == 410 else Unavailable(message)
    return WatchEvent(line["type"], line["object"])


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Whole lines of a stream; aiohttp's own reader refuses long ones."""
    rest = b""
    async for chunk in response.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                yield line
