from __future__ import annotations

from typing import Any

import orjson
import yaml

from chandlery.controlplane.types import Obj


def decode_body(raw: bytes, content_type: str, *, strict: bool) -> tuple[Obj, list[str]]:
    return orjson.loads(raw), []


def encode_yaml(obj: Obj) -> bytes:
    return yaml.safe_dump(obj).encode()


def decode_patch(raw: bytes, content_type: str) -> Any:
    return orjson.loads(raw)
