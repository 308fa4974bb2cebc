"""hack/new-kind makes a kind that passes every check at once, in a copy of the repository."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
COPIED = ("operator", "controllers", "crds", "charts", "docs", "hack", "pyproject.toml", "tests/unit", "tests/golden")
COPIED += ("tests/support",)


@pytest.fixture(name="copy")
def fixture_copy(tmp_path: Path) -> Path:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", ".mypy_cache"))
        elif source.exists():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, tmp_path / name)
    return tmp_path


def run(copy: Path, *command: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(str(copy / p) for p in ("operator", "controllers"))
    env = {**os.environ, "PYTHONPATH": paths, "MYPYPATH": paths}
    return subprocess.run(
        [sys.executable, *command], cwd=copy, env=env, capture_output=True, text=True, check=False, timeout=500
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("name", "group"), [("Bus", "messaging"), ("LongNamedManagedObjectStore", "s3.example.com")])
def test_a_new_kind_passes_every_check(copy: Path, name: str, group: str) -> None:
    made = run(copy, "hack/new-kind", name, "--group", group)
    assert made.returncode == 0, made.stderr
    folder = f"controllers/chandlery_kinds/{name.lower()}"
    assert f"{folder}/drivers/memory.py" in made.stdout.splitlines()
    wrong = yaml.safe_load((copy / f"tests/integration/bad_input/{name.lower()}.yaml").read_text())["cases"]
    assert len({case["name"] for case in wrong}) == len(wrong) >= 30, "as many as tests/integration/kinds asks for"
    for check in (
        ("-m", "ruff", "check", "--quiet", folder, "controllers/chandlery_kinds/__init__.py"),
        ("-m", "ruff", "format", "--check", folder, "controllers/chandlery_kinds/__init__.py"),
        ("-m", "chandlery.gen", "--check", "--root", str(copy)),
        ("-m", "mypy", folder),
        (
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "tests/unit/gen/test_structural.py",
            "tests/unit/chandlery_kinds",
            "tests/unit/driver/test_contract_memory.py",
        ),
        (
            "-c",
            f"from chandlery_kinds import KINDS; KINDS[-1].load_driver('memory'); assert KINDS[-1].name == {name!r}",
        ),
    ):
        done = run(copy, *check)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def test_names_that_are_taken_or_impossible_are_refused(copy: Path) -> None:
    taken = run(copy, "hack/new-kind", "Cache")
    assert taken.returncode == 1
    assert "is there already" in taken.stderr
    lower = run(copy, "hack/new-kind", "store")
    assert lower.returncode == 1
    assert "must be one word that begins with a capital letter" in lower.stderr
