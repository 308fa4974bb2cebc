"""Files from elsewhere, fetched once and checked: named by their checksum, gone on with after an interruption."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from chandlery.foundation.errors import InvalidSpec, NotFound, Unavailable
from chandlery.providers.local.engines.tree import holding
from chandlery.providers.local.files import make_dir, os_error

CHUNK = 1 << 18
READABLE = 0o644
SHARED_DIR = 0o755

Tell = Callable[[str], None]


def path_of(directory: Path, checksum: str) -> Path:
    """Where a file with this checksum (`sha256:...`) is kept."""
    return directory / checksum.replace(":", "-")


async def fetch(
    url: str,
    checksum: str,
    directory: Path,
    *,
    field: str,
    tell: Tell = lambda _: None,
    folders: Sequence[Path] = (),
) -> Path:
    """The file, downloaded unless it is here. Only a file whose content was checked ever gets its name.

    Args:
        url: http, https or file.
        checksum: `sha256:` or `sha512:` and hexadecimal digits.
        directory: where files are kept; made when it isn't there.
        field: the spec's field that names the URL, for errors.
        tell: hears how far it is.
        folders: where a file URL may lead. Whoever may make objects must not read what only the operator may.

    Raises:
        InvalidSpec: a file URL leads elsewhere, or what is there has another checksum.
        NotFound: there is no such file.
        Unavailable: the server or the network failed; what came so far is kept.
    """
    path = path_of(directory, checksum)
    source = _allowed(url, folders, field)
    if path.exists():
        return path
    make_dir(directory, SHARED_DIR)
    async with holding(path.with_name(f".{path.name}.lock"), lambda: tell("another process is fetching it")):
        if not path.exists():
            await _fetch(url, source, checksum, path, field, tell)
    return path


def _allowed(url: str, folders: Sequence[Path], field: str) -> Path | None:
    """The file that a file URL names, links followed; None for a URL of another kind."""
    parts = urlsplit(url)
    if parts.scheme != "file":
        return None
    source = Path(unquote(parts.path)).resolve()
    if parts.netloc in ("", "localhost") and any(source.is_relative_to(folder.resolve()) for folder in folders):
        return source
    raise InvalidSpec(
        f"a file URL may name files in {' and '.join(map(str, folders)) or 'no folder'} only",
        field=field,
        value=url,
        hint="Move the file there, or have whoever runs Chandlery add its folder to CHANDLERY_LOCAL_IMAGE_DIRS.",
    )


async def _fetch(url: str, source: Path | None, checksum: str, path: Path, field: str, tell: Tell) -> None:
    part = path.with_name(path.name + ".part")
    try:
        if source is not None:
            await asyncio.to_thread(_copy, source, part, field)
        else:
            await _download(url, part, field, tell)
        tell("checking")
        actual = await asyncio.to_thread(_digest, part, checksum.partition(":")[0])
        wanted = checksum.partition(":")[2]
        if actual != wanted:
            part.unlink(missing_ok=True)
            raise InvalidSpec(
                f"what is at {url} has the checksum {actual}, not {wanted}",
                field=field,
                value=checksum,
                hint="Give the checksum that the image's publisher names; if it is that one, don't use the image.",
            )
        part.chmod(READABLE)
        part.replace(path)
    except OSError as error:
        raise os_error(error, "keeping", path) from error


def _copy(source: Path, target: Path, field: str) -> None:
    import shutil

    if not source.is_file():
        raise NotFound(f"there is no file {source}", field=field, value=str(source), retry_after=10.0)
    shutil.copyfile(source, target)


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


async def _download(url: str, part: Path, field: str, tell: Tell) -> None:
    import aiohttp

    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=20, sock_read=60)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=True) as session,
            session.get(url, headers=headers) as answer,
        ):
            if answer.status == 416:  # nothing follows what we have: complete, or not the same file any more
                return
            if answer.status in (404, 410):
                raise NotFound(f"{url} is not there (HTTP {answer.status})", field=field, value=url, retry_after=60.0)
            if answer.status not in (200, 206):
                raise Unavailable(f"{url} answered HTTP {answer.status}", field=field, value=url)
            if answer.status == 200:
                have = 0
            await _receive(answer, part, have, tell)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Unavailable(
            f"{url} can't be fetched: {error or type(error).__name__}",
            field=field,
            value=url,
            hint="Check the address and the network; it is tried again by itself, from where it stopped.",
        ) from error


async def _receive(answer: Any, part: Path, have: int, tell: Tell) -> None:
    total = have + (answer.content_length or 0)
    of = f" of {total / 1e6:.0f}" if answer.content_length else ""
    with part.open("ab" if have else "wb") as file:
        async for chunk in answer.content.iter_chunked(CHUNK):
            await asyncio.to_thread(file.write, chunk)
            have += len(chunk)
            tell(f"downloading, {have / 1e6:.0f}{of} MB")
