"""The committed facts about built-in types: OpenAPI schemas, descriptions, Go types.

Written by hack/builtin-schemas/extract.py. Schemas and Go types are small and are needed by every request;
descriptions are large and are read only when an OpenAPI document is asked for.
"""

from __future__ import annotations

import zlib
from functools import cache
from importlib.resources import files
from typing import Any

import orjson

from chandlery.controlplane.types import Obj

REF = "#/components/schemas/"


def _load(name: str) -> Any:
    raw = files("chandlery.controlplane.builtins").joinpath("data", f"{name}.json.z").read_bytes()
    return orjson.loads(zlib.decompress(raw))


@cache
def definitions() -> dict[str, Obj]:
    """Every definition by its OpenAPI name, without descriptions; `$ref`s are `#/components/schemas/NAME`."""
    found: dict[str, Obj] = _load("schemas")
    return found


def descriptions() -> dict[str, dict[str, str]]:
    """{definition: {property or "": text}}; not cached: half a megabyte that few ever need."""
    found: dict[str, dict[str, str]] = _load("descriptions")
    return found


@cache
def _gotypes() -> dict[str, Any]:
    found: dict[str, Any] = _load("gotypes")
    return found


def go_structs() -> dict[str, list[list[Any]]]:
    """{definition: [[json name, Go name, Go type, flags, default?]]}, in the order of the Go struct.

    Flags: `o` omitempty, `z` omitzero. The Go type is written as reflection prints it: `*v1.PodSpec`.
    """
    found: dict[str, list[list[Any]]] = _gotypes()["structs"]
    return found


def go_aliases() -> dict[str, str]:
    """{`v1.PullPolicy`: `string`}: named types that are no structs."""
    found: dict[str, str] = _gotypes()["aliases"]
    return found
