"""Helm for tests: what CHANDLERY_HELM names, else what hack/fetch-helm brings, else the one on PATH."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAJORS = ("3", "4")


def major_of(binary: str) -> str:
    done = subprocess.run([binary, "version", "--short"], capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.strip().lstrip("v").partition(".")[0]


@cache
def binary(major: str) -> str:
    """The path of helm of this major version; skips the test, with the reason, when there is none."""
    said = [path for path in os.environ.get("CHANDLERY_HELM", "").split(":") if path]
    on_path = shutil.which("helm")
    for path in said:
        if major_of(path) == major:
            return path
    if said:
        pytest.skip(f"CHANDLERY_HELM names no helm {major}")
    done = subprocess.run(
        [sys.executable, str(ROOT / "hack" / "fetch-helm"), major],
        capture_output=True, text=True, check=False, timeout=110,
    )  # fmt: skip
    if done.returncode == 0:
        return done.stdout.strip()
    if on_path and major_of(on_path) == major:
        return on_path
    if done.returncode != 3:
        raise AssertionError(done.stderr)
    pytest.skip(f"no helm {major}: {done.stderr.strip()}")


class Helm:
    """One helm with folders of its own, against one cluster or none."""

    def __init__(self, path: str, folder: Path, env: dict[str, str] | None = None) -> None:
        self.path = path
        self.major = major_of(path)
        self._env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("HELM_")},
            **(env or {}),
            **{f"HELM_{name.upper()}_HOME": str(folder / name) for name in ("cache", "config", "data")},
        }

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.path, *args], env=self._env, capture_output=True, text=True, timeout=120, check=False
        )

    def __call__(self, *args: str, check: bool = True) -> str:
        done = self.run(*args)
        if check and done.returncode:
            raise AssertionError(f"helm {' '.join(args)}: {done.stderr or done.stdout}")
        return done.stdout + done.stderr
