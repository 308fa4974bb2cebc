"""Tables for people: what there is, whether it is Ready, and the command to connect."""

from __future__ import annotations

import base64
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chandlery.app import manifests
from chandlery.app.connect import PROGRAMS
from chandlery.app.home import Home, default_data_dir
from chandlery.app.up import condition, is_ready
from chandlery.reconcile.api import SECRETS, Api, Obj


async def everything(api: Api, namespace: str = "") -> list[Obj]:
    """Every object of our kinds."""
    found: list[Obj] = []
    for kind in manifests.our_types():
        for obj in (await api.list(kind, namespace)).items:
            obj.setdefault("kind", kind.kind)
            obj.setdefault("apiVersion", kind.api_version)
            found.append(obj)
    return found


async def binding(api: Api, obj: Obj) -> Mapping[str, str]:
    """The decoded binding Secret of an object; empty when there is none yet."""
    name = ((obj.get("status") or {}).get("binding") or {}).get("name")
    if not name:
        return {}
    secret = await api.get(SECRETS, obj["metadata"]["namespace"], name)
    return {
        key: base64.b64decode(value).decode(errors="replace")
        for key, value in ((secret or {}).get("data") or {}).items()
    }


def program(home: Home) -> tuple[str, str]:
    """How this command is written in a shell here: its name, or its path where PATH doesn't lead to it; and where it
    finds the data directory, empty where it does by itself.
    """
    own = Path(sys.executable).parent / "chandlery"
    found = shutil.which(own.name)
    name = own.name if found and own.exists() and Path(found).samefile(own) else shlex.quote(str(own))
    where = "" if home.root == default_data_dir() else f" --data-dir {shlex.quote(str(home.root))}"
    return name, where


def connect_command(obj: Obj, entries: Mapping[str, str], words: tuple[str, str] = ("chandlery", "")) -> str:
    """How to connect, as it is written in a shell; no password is in it."""
    name, where = words
    namespace = obj["metadata"]["namespace"]
    where += "" if namespace == "default" else f" -n {shlex.quote(namespace)}"
    target = f"{obj['kind'].lower()}/{obj['metadata']['name']}"
    kind = entries.get("type", "")
    if kind == "http":
        return f"curl {entries.get('uri', '')}"
    if kind == "ssh":
        return f"ssh -p {entries.get('port', '22')} {entries.get('host', '')}"
    if kind in PROGRAMS:
        return f"{name} connect{where} {target}"
    if obj["kind"] == "VirtualMachine":
        return f"{name} console{where} vm/{obj['metadata']['name']}"
    return f"{name} binding{where} {target}" if entries else ""


async def rows(api: Api, objects: Sequence[Obj], words: tuple[str, str] = ("chandlery", "")) -> list[dict[str, str]]:
    """One row an object: kind, namespace, name, ready, phase, endpoint, message, connect."""
    found = []
    for obj in objects:
        status = obj.get("status") or {}
        endpoint = status.get("endpoint") or {}
        ready = condition(obj, "Ready")
        found.append(
            {
                "kind": obj["kind"],
                "namespace": obj["metadata"]["namespace"],
                "name": obj["metadata"]["name"],
                "ready": "True" if is_ready(obj) else ready.get("status", "Unknown"),
                "phase": status.get("phase", ""),
                "endpoint": f"{endpoint['host']}:{endpoint['port']}" if endpoint else "",
                "message": "" if is_ready(obj) else ready.get("message", "no word from the operator yet"),
                "connect": connect_command(obj, await binding(api, obj), words),
            }
        )
    return found


def print_table(found: Sequence[Mapping[str, str]], *, columns: Sequence[str]) -> None:
    """As kubectl prints: aligned, no frames, empty columns left out."""
    used = [c for c in columns if any(row.get(c) for row in found)]
    widths = {c: max(len(c), *(len(row.get(c, "")) for row in found)) for c in used}
    header = "   ".join(c.upper().ljust(widths[c]) for c in used)
    print(header.rstrip())
    for row in found:
        print("   ".join(row.get(c, "").ljust(widths[c]) for c in used).rstrip())


def as_json(found: Any) -> str:
    import json

    return json.dumps(found, indent=2)
