"""Tables for people: what there is, whether it is Ready, and the command to connect."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from chandlery.app import manifests
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


def connect_command(obj: Obj, entries: Mapping[str, str]) -> str:
    """How to connect, without showing a password: the command reads it from the Secret's file or asks kubectl."""
    namespace, name = obj["metadata"]["namespace"], obj["metadata"]["name"]
    read = f"chandlery binding {obj['kind'].lower()}/{name} -n {namespace}"
    uri = f"$({read} uri)"
    match entries.get("type", ""):
        case "redis":
            return f'valkey-cli -u "{uri}"'
        case "postgresql":
            return f'psql "{uri}"'
        case "mysql" | "mariadb":
            return f'mariadb "{uri}"'
        case "nats":
            trust = f" --tlsca <({read} ca.crt)" if entries.get("ca.crt") else ""
            return f'nats --server "{uri}"{trust} account info'
        case "rabbitmq":
            trust = f" --cacert=<({read} ca.crt)" if entries.get("ca.crt") else ""
            target = f"--exchange={entries.get('exchange')} --routing-key={entries.get('routing-key')}"
            return f'amqp-publish --url="{uri}"{trust} {target} --body=hello'
        case "http" | "https" | "tcp":
            return f"curl {entries.get('uri', '')}"
        case "ssh":
            return f"ssh -p {entries.get('port', '22')} {entries.get('host', '')}"
        case _:
            return entries.get("uri", "") if "@" not in entries.get("uri", "@") else ""


async def rows(api: Api, objects: Sequence[Obj]) -> list[dict[str, str]]:
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
                "connect": connect_command(obj, await binding(api, obj)),
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
