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
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chandlery.foundation.errors import ChandleryError, Unavailable, as_error
from chandlery.model.backup import BackupRetention
from chandlery.providers.local.backup_store import Entry, Store, folder_name, store_at
from chandlery.providers.local.files import os_error

Task = Mapping[str, Any]
Write = Callable[[Path], Awaitable[Mapping[str, Any]]]
"""Writes one backup into a folder; says at least engine and version."""


async def take(task: Task, write: Write) -> str:
    """Make one backup, and remove those that aren't kept; its name.

    The task has `owner` (kind, namespace, name, uid), `folder`, `retention`, `told`.
    """
    owner: Mapping[str, str] = task["owner"]
    destination = Path(task["folder"])
    try:
        destination.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise os_error(error, "making", destination) from error
    store = Store(destination / folder_name(owner["kind"], owner["namespace"], owner["name"], owner["uid"]))
    store.prepare(owner)
    started = datetime.now(UTC)
    name, folder = store.begin(started)
    facts = await write(folder)
    store.finish(name, folder, started, datetime.now(UTC), {**owner, **facts})
    retention = task.get("retention")
    store.thin_out(BackupRetention.model_validate(retention) if retention else None, datetime.now(UTC))
    Path(task["told"]).write_text(name)
    return name


def choose(task: Task) -> Entry:
    """The whole backup that a task means. It has `kind`, `folder`, and may have `object` with `uid`, and `name`.

    Raises:
        NotFound: there is none.
        DataLoss: it isn't what was written.
    """
    folder = Path(task["folder"])
    if task.get("object"):
        store = Store(folder / folder_name(task["kind"], task["namespace"], task["object"], task["uid"]))
    else:
        store = store_at(folder, task["kind"])
    entry = store.choose(task.get("name"))
    store.verify(entry)
    return entry


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
        sys.stderr.write(f"{known.message}\n")
        return 1
    sys.stdout.write(f"{said}\n")
    return 0
