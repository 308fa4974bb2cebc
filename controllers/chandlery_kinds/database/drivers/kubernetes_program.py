"""What runs in the pods of a database's backups and restores beside the engine's own tools.

`begin` makes room for a backup, the tools write into it, `finish` makes it one: in the form in which the drivers of one
machine keep theirs. `restore` puts the files of a backup beside the data, where the engine's programs take them up.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
import tarfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from chandlery.foundation.errors import DataLoss, EngineFailed, InvalidSpec
from chandlery.providers.kubernetes import backup_program as program
from chandlery.providers.kubernetes.backup_program import Task
from chandlery.providers.local.backup_store import Entry
from chandlery.providers.local.files import make_dir, os_error, remove_tree
from chandlery_kinds.database.kubernetes.restore import DUMP, FILES

_BEGUN: Final = "begun.json"
_VERSION: Final = re.compile(r"\d+(\.\d+)+")


async def begin(task: Task) -> str:
    """Make the folder, and say where it is: in the file `work` for the tools."""
    name, folder, started = await program.begin(task)
    run = Path(task["run"])
    (run / _BEGUN).write_text(json.dumps({"name": name, "folder": str(folder), "started": started.isoformat()}))
    (run / "work").write_text(f"{folder}\n")
    return f"begun {name}"


async def finish(task: Task) -> str:
    """Make what the tools wrote a backup; its name."""
    run = Path(task["run"])
    begun = json.loads((run / _BEGUN).read_text())
    folder, started = Path(begun["folder"]), datetime.fromisoformat(begun["started"])
    facts = {"engine": task["engine"], "version": _version(run / "version"), "method": task["method"]}
    manifest = folder / "backup_manifest"
    if manifest.exists():
        log = json.loads(await asyncio.to_thread(manifest.read_text))["WAL-Ranges"][0]
        facts |= {"timeline": log["Timeline"], "startWal": log["Start-LSN"]}
    return f"backup {await program.finish(task, begun['name'], folder, started, facts)}"


def _version(path: Path) -> str:
    said = path.read_text()
    found = _VERSION.search(said)
    if found is None:
        raise EngineFailed(f"the tool doesn't say its version: {said.strip()[:200]}")
    return found[0]


# -- a restore


async def restore(task: Task) -> str:
    """Put the backup's files into a folder beside the data, unless there are data or files already."""
    data, into = Path(task["data"]), Path(task["into"])
    if any(data.glob(f"{task['made']}-*/chandlery-initialised")):
        await asyncio.to_thread(remove_tree, into)
        return "there is data"
    if into.exists():
        return "the files are there"
    entry = await program.choose(task)
    _check(task, entry)
    work = into.with_name(f"{into.name}.unfinished")
    await asyncio.to_thread(_fill, entry, work, into)
    return f"restored {entry.name}"


def _check(task: Task, entry: Entry) -> None:
    if entry.engine != task["engine"]:
        raise InvalidSpec(f"the backup {entry.name} is of {entry.engine}: restore it into a Database of that engine")
    wanted = str(task.get("version") or "")
    if entry.file(DUMP).exists() or not wanted:
        return  # SQL can be read by newer ones, and an image that somebody chose says itself what it reads
    depth = 1 if entry.engine == "postgres" else 2
    has, asked = (".".join(text.split(".")[:depth]) for text in (entry.version, wanted))
    if has != asked:
        raise InvalidSpec(f"the backup {entry.name} is of {entry.engine} {entry.version}: set spec.version to {has}")


def _fill(entry: Entry, work: Path, into: Path) -> None:
    try:
        remove_tree(work)
        make_dir(work)
        if entry.file(DUMP).exists():
            shutil.copyfile(entry.file(DUMP), work / DUMP)
        elif entry.file("data").is_dir():
            shutil.copytree(entry.file("data"), work / FILES)
        else:
            _unpack(entry, work / FILES)
        work.rename(into)
    except OSError as error:
        raise os_error(error, "writing", work) from error


def _unpack(entry: Entry, data: Path) -> None:
    """What pg_basebackup wrote."""
    for name, target in (("base.tar", data), ("pg_wal.tar", data / "pg_wal")):
        target.mkdir(mode=0o700, exist_ok=True)
        path = next((p for p in (entry.file(f"{name}.gz"), entry.file(name)) if p.exists()), None)
        if path is None:
            raise DataLoss(f"the backup {entry.name} holds no {name}", retry_after=None)
        with tarfile.open(path) as archive:
            archive.extractall(target, filter="data")


_VERBS: Final[Mapping[str, Any]] = {"begin": begin, "finish": finish, "restore": restore}

if __name__ == "__main__":
    sys.exit(program.run(_VERBS))
