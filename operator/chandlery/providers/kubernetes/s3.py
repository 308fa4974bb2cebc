"""A bucket of an S3-compatible store, as far as backups need it: list, read, write in parts, remove.

Requests are signed by Signature Version 4, with what is sent in the signature. Source: AWS General Reference,
"Signature Version 4 signing process"; Amazon S3 API Reference (ListObjectsV2, CreateMultipartUpload, UploadPart).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self, TypeVar
from urllib.parse import quote, urlencode, urlsplit
from xml.etree import ElementTree as ET

import aiohttp
from yarl import URL

from chandlery.foundation.clock import ambient
from chandlery.foundation.errors import NotFound, PermissionDenied, ProviderError, Unauthenticated, Unavailable
from chandlery.providers.local.files import os_error

ACCESS_KEY: Final = "access-key-id"
SECRET_KEY: Final = "secret-access-key"  # noqa: S105
"""Keys of a Secret with credentials."""
DEFAULT_REGION: Final = "us-east-1"
PART: Final = 16 * 2**20
"""Bytes of a part of an upload, at least; there may be 10,000 of them."""
_PIECE: Final = 2**20
_SILENCE: Final = 120.0
_EMPTY: Final = hashlib.sha256().hexdigest()
_TRIES: Final = 4
T = TypeVar("T")


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """Credentials."""

    access: str
    secret: str

    @classmethod
    def read(cls, folder: Path) -> Keys:
        """From files with the names of the Secret's keys.

        Raises:
            Unauthenticated: they aren't there.
        """
        found = []
        for name in (ACCESS_KEY, SECRET_KEY):
            path = folder / name
            if not path.exists():
                raise Unauthenticated(f"the Secret with the bucket's credentials isn't there, or has no key {name}")
            try:
                found.append(path.read_text().strip())
            except OSError as error:
                raise os_error(error, "reading", path) from error
        return cls(*found)


def sign(
    method: str, url: str, body_hash: str, keys: Keys, region: str, now: datetime, service: str = "s3"
) -> dict[str, str]:
    """The headers that make a request ours. The URL's query has its names in order, and is quoted as S3 wants it."""
    parts = urlsplit(url)
    moment = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": parts.netloc, "x-amz-content-sha256": body_hash, "x-amz-date": moment}
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    canonical = "\n".join((method, parts.path or "/", parts.query, lines, names, body_hash))
    scope = f"{moment[:8]}/{region}/{service}/aws4_request"
    text = "\n".join(("AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = f"AWS4{keys.secret}".encode()
    for word in (*scope.split("/"), text):
        key = hmac.digest(key, word.encode(), "sha256")
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={keys.access}/{scope}, SignedHeaders={names}, Signature={key.hex()}"
    )
    return headers


class Bucket:
    """Used as `async with`. Keys of objects are below the prefix.

    Args:
        place: bucket, prefix, endpoint, region; the last three may be missing.
        keys: credentials.
        part: bytes of a part of an upload.
        page: keys that are listed at once.
    """

    def __init__(self, place: Mapping[str, str], keys: Keys, part: int = PART, page: int = 1000) -> None:
        name = place["bucket"]
        self.region = place.get("region") or DEFAULT_REGION
        self.prefix = f"{place['prefix']}/" if place.get("prefix") else ""
        self.shown = f"s3://{name}/{self.prefix}".rstrip("/")
        endpoint = place.get("endpoint")
        self._base = f"{endpoint.rstrip('/')}/{name}" if endpoint else f"https://s3.{self.region}.amazonaws.com/{name}"
        self._keys = keys
        self._part = part
        self._page = page

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=30.0, sock_read=_SILENCE)
        self._http = aiohttp.ClientSession(timeout=timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()

    # -- what backups do

    async def names(self) -> list[str]:
        """All keys below the prefix, without it."""
        found: list[str] = []
        token = ""
        while True:
            query = {"list-type": "2", "max-keys": str(self._page), "prefix": self.prefix}
            query |= {"continuation-token": token} if token else {}
            _, body = await self._ask("GET", "", query)
            tree = _parsed(body)
            found += [_text(one, "Key").removeprefix(self.prefix) for one in tree if _bare(one.tag) == "Contents"]
            token = _text(tree, "NextContinuationToken")
            if not token:
                return found

    async def read(self, name: str, target: Path) -> None:
        """Write an object into a file, whose folder is made."""

        async def once() -> None:
            async with self._request("GET", self.prefix + name, {}, b"") as answer:
                await _check(answer, self.shown)
                with _opened(target) as file:
                    async for piece in answer.content.iter_chunked(_PIECE):
                        await asyncio.to_thread(file.write, piece)

        await _patiently(once, self.shown)

    async def write(self, name: str, source: Path) -> None:
        """Write a file's bytes as an object, in parts where there are many."""
        key, size = self.prefix + name, source.stat().st_size
        part = max(self._part, -(-size // 10_000))
        with source.open("rb") as file:
            if size <= part:
                await self._ask("PUT", key, {}, await asyncio.to_thread(file.read))
                return
            _, body = await self._ask("POST", key, {"uploads": ""})
            upload = _text(_parsed(body), "UploadId")
            try:
                tags = []
                for number in range(1, -(-size // part) + 1):
                    piece = await asyncio.to_thread(file.read, part)
                    words = {"partNumber": str(number), "uploadId": upload}
                    headers, _ = await self._ask("PUT", key, words, piece)
                    tags.append(f"<Part><PartNumber>{number}</PartNumber><ETag>{headers['ETag']}</ETag></Part>")
                whole = f"<CompleteMultipartUpload>{''.join(tags)}</CompleteMultipartUpload>".encode()
                _, body = await self._ask("POST", key, {"uploadId": upload}, whole)
                if _bare(_parsed(body).tag) == "Error":  # by this request it can fail with status 200
                    raise Unavailable(f"{self.shown}: {_text(_parsed(body), 'Message')}")
            except BaseException:
                await self._ask("DELETE", key, {"uploadId": upload})  # parts that nobody sees cost money
                raise

    async def remove(self, name: str) -> None:
        """Remove an object; none is fine."""
        await self._ask("DELETE", self.prefix + name, {})

    # -- requests

    async def _ask(
        self, method: str, key: str, query: Mapping[str, str], body: bytes = b""
    ) -> tuple[Mapping[str, str], bytes]:
        async def once() -> tuple[Mapping[str, str], bytes]:
            async with self._request(method, key, query, body) as answer:
                await _check(answer, self.shown)
                return answer.headers.copy(), await answer.read()

        return await _patiently(once, self.shown)

    def _request(
        self, method: str, key: str, query: Mapping[str, str], body: bytes
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        words = urlencode(sorted(query.items()), quote_via=quote, safe="")
        url = f"{self._base}/{quote(key, safe='/-_.~')}" if key else self._base
        url = f"{url}?{words}" if words else url
        digest = hashlib.sha256(body).hexdigest() if body else _EMPTY
        headers = sign(method, url, digest, self._keys, self.region, datetime.now(UTC))
        return self._http.request(
            method, URL(url, encoded=True), data=BytesIO(body) if body else None, headers=headers, allow_redirects=False
        )


async def _patiently(once: Callable[[], Awaitable[T]], where: str) -> T:
    """A store that is busy or away for a moment is asked again."""
    for number in range(1, _TRIES + 1):
        try:
            return await once()
        except (aiohttp.ClientError, TimeoutError) as error:
            if number == _TRIES:
                raise Unavailable(f"{where}: no answer: {error or 'it took too long'}") from error
        except Unavailable:
            if number == _TRIES:
                raise
        await ambient().sleep(2.0**number / 4)
    raise AssertionError("unreachable")


async def _check(answer: aiohttp.ClientResponse, where: str) -> None:
    if answer.status < 300:
        return
    body = await answer.read()
    tree = _parsed(body)
    code, message = _text(tree, "Code"), _text(tree, "Message")
    said = f"{where}: {message or code or f'status {answer.status}'}"
    if code:
        said += f" ({code})"
    if answer.status >= 500 or answer.status == 429:
        raise Unavailable(said)
    if answer.status == 404:
        raise NotFound(said)
    if answer.status == 403:
        raise PermissionDenied(said)
    region = _text(tree, "Region") or answer.headers.get("x-amz-bucket-region", "")
    raise ProviderError(f"{said}; its region is {region}" if region else said)


def _parsed(body: bytes) -> ET.Element:
    try:
        return ET.fromstring(body)  # noqa: S314 - expat expands no entities without bounds
    except ET.ParseError:
        return ET.Element("none")


def _bare(tag: str) -> str:
    """Without the namespace, which stores write or not."""
    return tag.rpartition("}")[2]


def _text(tree: ET.Element, name: str) -> str:
    return next((one.text or "" for one in tree if _bare(one.tag) == name), "")


def _opened(target: Path) -> BinaryIO:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return target.open("wb")
    except OSError as error:
        raise os_error(error, "writing", target) from error
