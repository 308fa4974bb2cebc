"""The catalogue as data: `catalogue.toml`, read once."""

from __future__ import annotations

import platform
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, slots=True)
class Source:
    """One place where an engine can come from."""

    type: str
    binary: str
    distribution: str = ""
    release: str = ""
    packages: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    checksums: tuple[str, ...] = ()
    """`sha256:...` of the distribution's files, one a platform."""
    relocate: tuple[str, ...] = ()

    def suits(self, where: str) -> bool:
        return not self.platforms or where in self.platforms

    def __str__(self) -> str:
        match self.type:
            case "wheel":
                return f"package {self.distribution} {self.release}"
            case "debian":
                return f"Debian packages {', '.join(self.packages)}"
            case _:
                return f"{self.binary} on PATH"


@dataclass(frozen=True, slots=True)
class EngineEntry:
    """One engine in one version line."""

    name: str
    version: str
    licence: str
    kinds: tuple[str, ...]
    sources: tuple[Source, ...]
    verify: tuple[str, ...] = ()
    expect: str = ""
    floating: bool = False

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@cache
def catalogue() -> tuple[EngineEntry, ...]:
    """Every engine that we know of, whether it is here or not."""
    loaded = tomllib.loads((files(__package__) / "catalogue.toml").read_text())
    return tuple(_entry(raw) for raw in loaded["engine"])


def _entry(raw: dict[str, Any]) -> EngineEntry:
    sources = tuple(
        Source(
            type=source["type"],
            binary=source["binary"],
            distribution=source.get("distribution", ""),
            release=source.get("release", ""),
            packages=tuple(source.get("packages", ())),
            platforms=tuple(source.get("platforms", ())),
            checksums=tuple(source.get("checksums", ())),
            relocate=tuple(source.get("relocate", ())),
        )
        for source in raw["source"]
    )
    return EngineEntry(
        name=raw["name"],
        version=raw["version"],
        licence=raw["licence"],
        kinds=tuple(raw["kinds"]),
        sources=sources,
        verify=tuple(raw.get("verify", ())),
        expect=raw.get("expect", ""),
        floating=raw.get("floating", False),
    )


def platform_name() -> str:
    """This machine as the catalogue names it: linux-x86_64, linux-aarch64, darwin-arm64."""
    return f"{platform.system().lower()}-{platform.machine()}"
