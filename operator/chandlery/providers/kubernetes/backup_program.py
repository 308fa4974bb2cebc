"""The program that runs in pods of backups and restores: the part of it that no kind does in its own way.

    python -m <module of a kind> <verb> <task as JSON>

It keeps backups as the drivers of one machine keep them in a folder, so that either reads what the other wrote.
What it says last is what status tells: the backup's name in the file that the task names, or why it failed.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chandlery.foundation.errors import ChandleryError, DataLoss, NotFound, Unavailable, as_error
from chandlery.model.backup import BackupRetention
from chandlery.providers.kubernetes.s3 import Bucket, Keys
from chandlery.providers.local.backup_store import MANIFEST, OBJECT, Entry, Store, folder_name, store_at
from chandlery.providers.local.files import os_error, read_json

Task = Mapping[str, Any]
Write = Callable[[Path], Awaitable[Mapping[str, Any]]]
"""Writes one backup into a folder; says at least engine and version."""


def _store(task: Task) -> Store:
    owner: Mapping[str, str] = task["owner"]
    return Store(Path(task["folder"]) / folder_name(owner["kind"], owner["namespace"], owner["name"], owner["uid"]))


async def begin(task: Task) -> tuple[str, Path, datetime]:
    """Make room for a new backup: its name, the folder that it is written into, and when it began.

    The task has `owner` (kind, namespace, name, uid), `folder`, and may have `s3` with `keys`.
    """
    destination = Path(task["folder"])
    try:
        destination.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise os_error(error, "making", destination) from error
    store = _store(task)
    store.prepare(task["owner"])
    async with _bucket(task) as bucket:
        if bucket is not None:
            await _learn(bucket, destination, f"{store.folder.name}/")
    started = datetime.now(UTC)
    return *store.begin(started), started


async def finish(task: Task, name: str, folder: Path, started: datetime, facts: Mapping[str, Any]) -> str:
    """Make what was written a backup, and remove those that aren't kept; its name.

    The task also has `retention` and `told`; `facts` has at least engine and version.
    """
    store, destination = _store(task), Path(task["folder"])
    await asyncio.to_thread(store.finish, name, folder, started, datetime.now(UTC), {**task["owner"], **facts})
    async with _bucket(task) as bucket:
        if bucket is not None:
            made = store.folder / name
            await _send(bucket, destination, [store.folder / OBJECT, *_files_of(made), made / MANIFEST])
        retention = task.get("retention")
        rules = BackupRetention.model_validate(retention) if retention else None
        gone = await asyncio.to_thread(store.thin_out, rules, datetime.now(UTC))
        if bucket is not None:
            await _forget(bucket, store.folder.name, gone)
    Path(task["told"]).write_text(name)
    return name


async def take(task: Task, write: Write) -> str:
    """Make one backup in one go; its name. The task is that of `begin` and `finish`."""
    name, folder, started = await begin(task)
    return await finish(task, name, folder, started, await write(folder))


async def choose(task: Task) -> Entry:
    """The whole backup that a task means, where its files can be read.

    It has `kind`, `folder`, and may have `object` with `uid`, `name`, and `s3` with `keys`.

    Raises:
        NotFound: there is none.
        DataLoss: it isn't what was written.
    """
    folder = Path(task["folder"])
    own = folder_name(task["kind"], task["namespace"], task["object"], task["uid"]) if task.get("object") else ""
    async with _bucket(task) as bucket:
        if bucket is not None:
            await _learn(bucket, folder, f"{own}/" if own else "")
        try:
            store = Store(folder / own) if own else store_at(folder, task["kind"])
            entry = store.choose(task.get("name"))
        except NotFound as error:
            if bucket is not None:
                error.message = error.message.replace(str(folder), bucket.shown)
                if bucket.shown not in error.message:
                    error.message += f" ({bucket.shown})"
                error.hint = error.hint.replace(str(folder), bucket.shown)
            raise
        if bucket is not None:
            for name in (read_json(entry.folder / MANIFEST) or {}).get("files", {}):
                path = _below(entry.folder, name)
                await bucket.read(path.relative_to(folder).as_posix(), path)
    await asyncio.to_thread(store.verify, entry)
    return entry


# -- a bucket, of which the folder holds what is needed


@asynccontextmanager
async def _bucket(task: Task) -> AsyncIterator[Bucket | None]:
    if not task.get("s3"):
        yield None
        return
    async with Bucket(task["s3"], Keys.read(Path(task["keys"]))) as made:
        yield made


async def _learn(bucket: Bucket, folder: Path, below: str) -> None:
    """Bring whose backups there are, and the manifests of all of them: what is listed is whole."""
    for key in await bucket.names():
        if key.startswith(below) and key.rpartition("/")[2] in (MANIFEST, OBJECT):
            await bucket.read(key, _below(folder, key))


def _below(folder: Path, name: str) -> Path:
    """A file in a folder: whoever may write into the bucket may not write elsewhere in a pod.

    Raises:
        DataLoss: the name leads out of it.
    """
    if name.startswith("/") or ".." in Path(name).parts:
        raise DataLoss(f"the name {name!r} in the bucket leads out of its folder", retry_after=None)
    return folder / name


async def _send(bucket: Bucket, folder: Path, paths: Sequence[Path]) -> None:
    """In this order: a manifest comes last."""
    for path in paths:
        await bucket.write(path.relative_to(folder).as_posix(), path)


async def _forget(bucket: Bucket, owner: str, names: Sequence[str]) -> None:
    """Manifests first: half of a backup must not be listed."""
    if not names:
        return
    keys = [key for key in await bucket.names() if key.startswith(tuple(f"{owner}/{name}/" for name in names))]
    for key in sorted(keys, key=lambda key: not key.endswith(f"/{MANIFEST}")):
        await bucket.remove(key)


def _files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)


def password(task: Task) -> str:
    """Of the driver's own user in the engine."""
    try:
        return Path(task["password"]).read_text().strip()
    except OSError as error:
        raise os_error(error, "reading", Path(task["password"])) from error


def context(task: Task) -> ssl.SSLContext | None:
    """With which the engine is asked, by address: names don't count, what the driver gave it does. None without TLS."""
    if not task.get("tls"):
        return None
    folder = Path(task["tls"])
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    anchors = [path.read_text() for name in ("tls.crt", "ca.crt", "previous.crt") if (path := folder / name).exists()]
    if not anchors:
        raise Unavailable("the certificates are not there")
    made.load_verify_locations(cadata="\n".join(anchors))
    if (folder / "client.crt").exists():
        made.load_cert_chain(folder / "client.crt", folder / "client.key")
    return made


def run(verbs: Mapping[str, Callable[[Task], Coroutine[Any, Any, str]]], words: list[str] | None = None) -> int:
    """Do what the command line says; the exit code."""
    verb, text = (words if words is not None else sys.argv[1:])[:2]
    try:
        said = asyncio.run(verbs[verb](json.loads(text)))
    except Exception as error:  # noqa: BLE001 - told in a sentence, as nobody reads a traceback in a status
        known = error if isinstance(error, ChandleryError) else as_error(error)
        hint = known.hint if known.hint != known.default_hint else ""
        sys.stderr.write(f"{known.message}{f': {hint}' if hint else ''}\n")
        return 1
    sys.stdout.write(f"{said}\n")
    return 0
