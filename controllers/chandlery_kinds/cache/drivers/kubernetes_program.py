"""What runs in the pods of a cache's backups and restores: `take` and `restore`."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from chandlery.foundation.errors import InvalidSpec, Unavailable
from chandlery.providers.kubernetes import backup_program as program
from chandlery.providers.kubernetes.backup_program import Task
from chandlery.providers.local.backup_store import Entry
from chandlery.providers.local.files import os_error
from chandlery_kinds.cache import acl, cluster
from chandlery_kinds.cache.resp import RespClient, info

READ_SECONDS: Final = 60.0
"""Between two pieces of a backup; the fork before the first takes a while with much memory."""
_LEFT: Final = ("nodes.conf", "appendonlydir", "appendonly.aof", "dump.rdb", "restored.rdb")
"""What tells that a server has begun here."""
_SHARD: Final = re.compile(r"-s(\d+)-\d+(?:\.|$)")


# -- a backup


async def take(task: Task) -> str:
    """Make one; its name."""

    async def write(folder: Path) -> Mapping[str, Any]:
        places = await (_shards(task) if task["mode"] == "sharded" else _single(task))
        version, slots = "", {}
        for name, (host, port, owned) in sorted(places.items()):
            async with await _connect(task, host, port) as client:
                told = info(await client.command("INFO"))
                if told.get("role") != "master":
                    raise Unavailable(f"{host} is not primary any more")
                version = version or told.get("valkey_version") or told.get("redis_version", "")
                await client.save_rdb(folder / f"{name}.rdb")
            if task["mode"] == "sharded":
                slots[name.split("-")[1]] = owned
        facts = {"engine": task["engine"], "version": version, "method": "rdb", "mode": task["mode"]}
        return {**facts, **({"slots": slots} if slots else {})}

    return f"backup {await program.take(task, write)}"


async def _connect(task: Task, host: str, port: int) -> RespClient:
    words, tls = program.password(task), program.context(task)
    return await RespClient.connect(host, port, user=acl.ADMIN, password=words, seconds=READ_SECONDS, tls=tls)


Places = Mapping[str, tuple[str, int, list[int]]]
"""From a file's name to host, port and slots of the server whose data are in it."""


async def _single(task: Task) -> Places:
    return {"node-0": (task["host"], int(task["port"]), [])}


async def _shards(task: Task) -> Places:
    """The primary of each shard, as one of the servers tells."""
    async with await _connect(task, task["host"], int(task["port"])) as client:
        text = str(await client.command("CLUSTER", "NODES"))
    view = cluster.parse(text)
    peers = view.peers if view is not None else {}
    places = {words[0]: words[1] for line in text.splitlines() if len(words := line.split()) > 1}
    found: dict[str, tuple[str, int, list[int]]] = {}
    covered: set[int] = set()
    for number, (identity, peer) in enumerate(sorted(peers.items(), key=lambda pair: min(pair[1].slots, default=-1))):
        if not peer.is_primary or not peer.slots or "fail" in peer.flags:
            continue
        address, _, name = places[identity].partition(",")
        shard = _SHARD.search(name)
        host = address.rpartition("@")[0].rpartition(":")[0]
        at = (host, int(task["nodes"]), cluster.range_words(peer.slots))
        found[f"shard-{shard[1] if shard else number}-node-0"] = at
        covered |= peer.slots
    if len(covered) != cluster.SLOTS:
        raise Unavailable(f"{cluster.SLOTS - len(covered)} slots have no primary that answers")
    return found


# -- a restore


async def restore(task: Task) -> str:
    """Put the file of this pod where its server loads it, unless a server has begun here."""
    name = _file(task, os.environ["POD_NAME"])
    data, into = Path(task["data"]), str(task["into"])
    if name is None or Path(task["done"]).exists():
        return "nothing to restore"
    if any((data / one).exists() for one in (*_LEFT, into)):
        return "there is data"
    entry = await program.choose(task)
    _check(task, entry)
    source = entry.file(name)
    if not source.exists():
        return f"the backup {entry.name} has nothing for this shard"
    await asyncio.to_thread(_copy, source, data / into)
    return f"restored {entry.name}"


def _file(task: Task, pod: str) -> str | None:
    """Of the backup, for this pod; None for copies, which take what their primary has."""
    if pod.rpartition("-")[2] != "0":
        return None
    if not task["sharded"]:
        return "node-0.rdb"
    shard = _SHARD.search(pod)
    return f"shard-{shard[1]}-node-0.rdb" if shard else None


def _check(task: Task, entry: Entry) -> None:
    if (entry.engine, task["engine"]) not in {("redis", "valkey"), (task["engine"], task["engine"])}:
        raise InvalidSpec(f"the backup {entry.name} is of {entry.engine}, which {task['engine']} can't read")
    sharded = entry.facts.get("mode") == "sharded"
    if sharded != bool(task["sharded"]):
        what = "whose keys were spread over shards" if sharded else "that was not sharded"
        raise InvalidSpec(f"the backup {entry.name} is of a cache {what}: restore it into one of that mode")
    shards = len(entry.facts.get("slots", {}))
    if shards > int(task["shards"]):
        raise InvalidSpec(
            f"the backup {entry.name} is of {shards} shards: begin with as many in spec.shards, fewer come later"
        )


def _copy(source: Path, target: Path) -> None:
    """Whole or not at all."""
    work = target.with_name(f".{target.name}.unfinished")
    try:
        shutil.copyfile(source, work)
        work.chmod(0o660)
        with work.open("rb") as file:
            os.fsync(file.fileno())
        work.rename(target)
    except OSError as error:
        raise os_error(error, "writing", target) from error


if __name__ == "__main__":
    sys.exit(program.run({"take": take, "restore": restore}))
