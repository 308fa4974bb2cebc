"""A bucket of an S3-compatible store, as far as backups need it: list, read, write, remove.

boto3 does it; here are the settings that stores other than Amazon's need, and its errors as ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from chandlery.foundation.errors import (
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    ProviderError,
    Unauthenticated,
    Unavailable,
)
from chandlery.providers.local.files import os_error

ACCESS_KEY: Final = "access-key-id"
SECRET_KEY: Final = "secret-access-key"  # noqa: S105
"""Keys of a Secret with credentials."""
DEFAULT_REGION: Final = "us-east-1"
PART: Final = 16 * 2**20
"""Bytes of a part of an upload; longer ones where there would be more than 10,000."""
_SILENCE: Final = 120.0
_TRIES: Final = 4
_PAGE: Final = 1000
_BUSY: Final = ("SlowDown", "RequestTimeout", "ServiceUnavailable", "InternalError")
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


class Bucket:
    """Used as `async with`. Keys of objects are below the prefix.

    Args:
        place: bucket, prefix, endpoint, region; the last three may be missing.
        keys: credentials.
        part: bytes of a part of an upload.
        page: keys that are listed at once.

    Raises:
        FailedPrecondition: boto3 isn't installed.
    """

    def __init__(self, place: Mapping[str, str], keys: Keys, part: int = PART, page: int = _PAGE) -> None:
        self._name = place["bucket"]
        self.prefix = f"{place['prefix']}/" if place.get("prefix") else ""
        self.shown = f"s3://{self._name}/{self.prefix}".rstrip("/")
        self._place = place
        self._keys = keys
        self._part = part
        self._page = page

    async def __aenter__(self) -> Self:
        self._client = await asyncio.to_thread(_client, self._place, self._keys)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    async def names(self) -> list[str]:
        """All keys below the prefix, without it."""

        def listed() -> list[str]:
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._name, Prefix=self.prefix, PaginationConfig={"PageSize": self._page}
            )
            return [one["Key"].removeprefix(self.prefix) for page in pages for one in page.get("Contents", ())]

        return await self._do(listed)

    async def read(self, name: str, target: Path) -> None:
        """Write an object into a file, whose folder is made. It appears whole or not at all."""

        def got() -> None:
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                self._client.download_file(self._name, self.prefix + name, str(target), Config=self._transfer())
            except OSError as error:
                raise os_error(error, "writing", target) from error

        await self._do(got, name)

    async def write(self, name: str, source: Path) -> None:
        """Write a file's bytes as an object, in parts where there are many; no part is left when it fails."""

        def put() -> None:
            with source.open("rb") as file:
                self._client.upload_fileobj(file, self._name, self.prefix + name, Config=self._transfer())

        await self._do(put, name)

    async def remove(self, name: str) -> None:
        """Remove an object; none is fine."""
        await self._do(lambda: self._client.delete_object(Bucket=self._name, Key=self.prefix + name), name)

    def _transfer(self) -> Any:
        from boto3.s3.transfer import TransferConfig

        # One part at a time: the pod has little memory.
        return TransferConfig(multipart_threshold=self._part, multipart_chunksize=self._part, use_threads=False)

    async def _do(self, what: Callable[[], T], name: str = "") -> T:
        def done() -> T:
            with _told(f"{self.shown}/{name}" if name else self.shown):
                return what()

        return await asyncio.to_thread(done)


def _client(place: Mapping[str, str], keys: Keys) -> Any:
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise FailedPrecondition(
            "backups in a bucket need boto3", hint="Install it: pip install 'chandlery[s3]'. Our image has it."
        ) from error
    endpoint = place.get("endpoint")
    config = Config(
        # Stores at addresses of their own often have no names for buckets, and don't know the newer checksums.
        s3={"addressing_style": "path" if endpoint else "auto"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        signature_version="s3v4",
        connect_timeout=30.0,
        read_timeout=_SILENCE,
        retries={"mode": "standard", "total_max_attempts": _TRIES},
    )
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=place.get("region") or DEFAULT_REGION,
        aws_access_key_id=keys.access,
        aws_secret_access_key=keys.secret,
        config=config,
    )


@contextmanager
def _told(where: str) -> Iterator[None]:
    """What boto3 raises, in our words."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        answer = error.response
        found, status = answer.get("Error", {}), answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code, message = str(found.get("Code", "")), str(found.get("Message", ""))
        said = f"{where}: {message or f'status {status}'}"
        if code and not code.isdigit():
            said += f" ({code})"
        if status >= 500 or status == 429 or code in _BUSY:
            raise Unavailable(said) from error
        if status == 404:
            raise NotFound(said) from error
        if status == 403:
            raise PermissionDenied(said) from error
        region = found.get("Region") or answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get(
            "x-amz-bucket-region", ""
        )
        raise ProviderError(f"{said}; its region is {region}" if region else said) from error
    except (BotoCoreError, Boto3Error) as error:
        raise Unavailable(f"{where}: {error}") from error
