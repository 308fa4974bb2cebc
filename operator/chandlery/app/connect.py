"""`chandlery connect`: the client of an engine, with the binding of an object.

The client is the system's own, or one that came with the engine. Passwords go by the environment or by a file that only
its owner reads, not by arguments, which every user of the machine can see. Where there is no client of Valkey's or of
NATS, a small one of ours stands in.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from chandlery.foundation.errors import ChandleryError, NotFound

PROGRAMS: dict[str, tuple[str, ...]] = {
    "redis": ("valkey-cli", "redis-cli"),
    "postgresql": ("psql",),
    "mysql": ("mariadb", "mysql"),
    "nats": ("nats",),
    "rabbitmq": ("amqp-publish",),
    "http": ("curl",),
    "https": ("curl",),
    "tcp": ("curl",),
    "ssh": ("ssh",),
}
"""Clients by the type of the binding, the best one first."""
_ENGINES = {"redis": "valkey", "postgresql": "postgres", "mysql": "mariadb"}
"""Whose folder may hold a client that isn't on PATH."""


@dataclass(slots=True)
class Client:
    """A program to run."""

    argv: list[str]
    env: Mapping[str, str] = field(default_factory=dict)


def find(kind: str, engines: Any) -> tuple[str, Mapping[str, str]] | None:
    """A client's program and what it needs in its environment; None when there is none."""
    for name in PROGRAMS.get(kind, ()):
        if path := shutil.which(name):
            return path, {}
    for entry in engines.entries(_ENGINES[kind]) if kind in _ENGINES else ():
        engine = engines.look(entry)
        for name in PROGRAMS[kind] if engine is not None else ():
            if (tool := engine.tool(name)).exists() or (tool := engine.binary.parents[1] / "bin" / name).exists():
                return str(tool), engine.env
    return None


def command(entries: Mapping[str, str], program: str, folder: Path, words: Sequence[str]) -> Client:
    """How to run a client on a binding. Files that it needs are written to `folder`, which only its owner reads."""
    host, port = entries.get("host", ""), entries.get("port", "")
    password, uri = entries.get("password", ""), entries.get("uri", "")
    authority = ""
    if entries.get("ca.crt"):
        (folder / "ca.crt").write_text(entries["ca.crt"])
        authority = str(folder / "ca.crt")
    match entries.get("type", ""):
        case "redis":
            argv = [program, "-h", host, "-p", port, "--user", entries.get("username") or "default"]
            argv += ["--tls", "--cacert", authority] if uri.startswith("rediss:") else []
            argv += ["-c"] if entries.get("cluster") else []
            return Client([*argv, *words], {"REDISCLI_AUTH": password, "VALKEYCLI_AUTH": password})
        case "postgresql":
            place = urlsplit(uri)
            bare = place._replace(netloc=f"{place.username}@{host}:{port}").geturl()
            trust = {"PGSSLROOTCERT": authority} if authority else {}
            return Client([program, bare, *words], {"PGPASSWORD": password, **trust})
        case "mysql":
            secret = folder / "client.cnf"
            text = f'[client]\nhost={host}\nport={port}\nuser={entries.get("username", "")}\npassword="{password}"\n'
            secret.write_text(text + (f"ssl-ca={authority}\n" if authority else ""))
            return Client([program, f"--defaults-extra-file={secret}", entries.get("database", ""), *words])
        case "nats":
            environment = {"NATS_URL": uri, **({"NATS_CA": authority} if authority else {})}
            return Client([program, *(words or ("account", "info"))], environment)
        case "rabbitmq":
            target = [f"--exchange={entries.get('exchange', '')}", f"--routing-key={entries.get('routing-key', '')}"]
            trusting = [f"--cacert={authority}"] if authority else []
            server = ["--server", host, "--port", port, f"--vhost={entries.get('vhost', '/')}"]
            # Its password can be given by an argument only.
            who = [f"--username={entries.get('username', '')}", f"--password={password}"]
            return Client([program, *server, *who, *trusting, *target, *words])
        case "ssh":
            return Client([program, "-p", port, *words, host])
        case _:
            reached = uri.replace("tcp://", "telnet://", 1)  # curl's word for a bare connection
            return Client(
                [program, "--silent", "--show-error", *(["--cacert", authority] if authority else []), *words, reached]
            )


def run(entries: Mapping[str, str], words: Sequence[str], engines: Any, target: str) -> int:
    """Run the client until it ends; returns its code.

    Raises:
        NotFound: there is none.
    """
    kind = entries.get("type", "")
    found = find(kind, engines)
    if found is None and kind in _OURS and not (kind == "nats" and words):
        return asyncio.run(_OURS[kind](entries, words))
    if found is None:
        names = " or ".join(PROGRAMS.get(kind, ())) or f"client of {kind}"
        raise NotFound(
            f"there is no {names} on this machine",
            hint=f"Install it, or see what a client of your own needs: chandlery binding {target}.",
        )
    program, needed = found
    with tempfile.TemporaryDirectory(prefix="chandlery-connect-") as folder:
        client = command(entries, program, Path(folder), words)
        # Ctrl-C is for the client: psql and valkey-cli end a query by it, not themselves.
        before = signal.signal(signal.SIGINT, lambda _number, _frame: None)
        try:
            with subprocess.Popen(client.argv, env={**os.environ, **needed, **client.env}) as process:
                return process.wait()
        finally:
            signal.signal(signal.SIGINT, before)


def _trust(entries: Mapping[str, str]) -> ssl.SSLContext | None:
    return ssl.create_default_context(cadata=entries["ca.crt"]) if entries.get("ca.crt") else None


async def _valkey(entries: Mapping[str, str], words: Sequence[str]) -> int:
    """A line, a command; as valkey-cli, as far as it goes."""
    from chandlery_kinds.cache.resp import RespClient

    code = 0
    async with await RespClient.connect(
        entries["host"],
        int(entries["port"]),
        user=entries.get("username", ""),
        password=entries["password"],
        tls=_trust(entries),
        seconds=60.0,
    ) as client:
        lines = [shlex.join(words)] if words else _lines(f"{entries['host']}:{entries['port']}> ")
        for line in lines:
            try:
                parts = shlex.split(line)
                if parts:
                    print(shown(await client.command(*parts)))
                code = 0
            except (ChandleryError, ValueError) as error:
                print(f"(error) {getattr(error, 'message', error)}")
                code = 1
    return code


def _lines(prompt: str) -> Any:
    while True:
        if sys.stdin.isatty():
            print(prompt, end="", flush=True)
        line = sys.stdin.readline()
        if not line or line.strip().lower() in ("quit", "exit"):
            return
        yield line


def shown(reply: Any, indent: str = "") -> str:
    """A reply as valkey-cli shows it to people."""
    if reply is None:
        return "(nil)"
    if isinstance(reply, int):
        return f"(integer) {reply}"
    if isinstance(reply, list):
        inner = [f"{indent}{number}) {shown(each, indent + '   ')}" for number, each in enumerate(reply, 1)]
        return "\n".join(inner).lstrip() or "(empty)"
    return reply if isinstance(reply, str) else repr(reply)


async def _nats(entries: Mapping[str, str], _words: Sequence[str]) -> int:
    """What `nats account info` and `nats stream ls` would tell first."""
    import nats

    connection = await nats.connect(entries["uri"], tls=_trust(entries))
    try:
        print(f"connected to {connection.connected_url.netloc.rpartition('@')[2] if connection.connected_url else ''}")
        stream = entries.get("stream")
        if stream:
            state = (await connection.jetstream().stream_info(stream)).state
            print(f"stream {stream}: {state.messages} messages, {state.bytes} bytes, {state.consumer_count} consumers")
        for name in ("subject", "consumer"):
            if entries.get(name):
                print(f"{name} {entries[name]}")
    finally:
        await connection.close()
    return 0


_OURS = {"redis": _valkey, "nats": _nats}
