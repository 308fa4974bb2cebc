"""The guard must work exactly when Python doesn't; so it is run by sh, on trees that break Python."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "hack" / "check-shadowing"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for path in (
        "operator/chandlery/__init__.py",
        "operator/chandlery/foundation/logging.py",
        "controllers/chandlery_kinds/queue/__init__.py",
        "tests/unit/queue/test_depth.py",
        "tests/integration/test_all.py",
        "docs/email.md",
        "setup_things.py",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    return tmp_path


def check(root: Path) -> subprocess.CompletedProcess[str]:
    # No python on the PATH: nothing but the shell and find may be needed.
    bare = root.parent / "bin"
    bare.mkdir(exist_ok=True)
    for tool in ("find", "sort", "tr", "dirname", "sed"):
        if not (bare / tool).exists():
            found = next(Path(folder) / tool for folder in ("/usr/bin", "/bin") if (Path(folder) / tool).exists())
            (bare / tool).symlink_to(found)
    argv = ["/bin/sh", str(SCRIPT), str(root)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False, env={"PATH": str(bare)})


def test_the_layout_as_designed_passes(tree: Path) -> None:
    done = check(tree)
    assert (done.returncode, done.stderr) == (0, "")


def test_this_checkout_passes() -> None:
    done = subprocess.run([str(SCRIPT)], capture_output=True, text=True, timeout=30, check=False)
    assert done.stderr == ""
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("operator/__init__.py", "makes a package of a source root"),
        ("controllers/__init__.py", "makes a package of a source root"),
        ("operator/helpers.py", "lies beside the packages"),
        ("controllers/helpers.py", "lies beside the packages"),
        ("tests/__init__.py", "makes a package of a test folder"),
        ("tests/unit/queue/__init__.py", "makes a package of a test folder"),
        ("tests/operator/test_x.py", "tests/operator/ shadows"),
        ("tests/queue/test_x.py", "tests/queue/ shadows"),
        ("tests/logging.py", "shadows the standard library's logging"),
        ("tests/unit/queue.py", "shadows the standard library's queue"),
        ("operator/logging/__init__.py", "operator/logging/ shadows"),
        ("types.py", "shadows the standard library's types"),
        ("email/__init__.py", "email/ shadows"),
    ],
)
def test_each_way_to_break_python_is_found_and_the_way_out_said(tree: Path, path: str, said: str) -> None:
    (tree / path).parent.mkdir(parents=True, exist_ok=True)
    (tree / path).touch()
    done = check(tree)
    assert done.returncode == 1
    assert said in done.stderr
    assert re.search(r"\n {7}(Delete|Move|Rename) ", done.stderr)


def test_it_speaks_up_where_python_itself_is_broken(tree: Path) -> None:
    (tree / "operator" / "__init__.py").touch()
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    broken = subprocess.run(
        [sys.executable, "-m", "json.tool", "--help"],
        cwd=tree,
        env=environ,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert broken.returncode != 0, "the guard exists because of this"
    assert check(tree).returncode == 1


def test_it_knows_every_name_of_this_pythons_standard_library() -> None:
    listed = re.search(r"STDLIB='(.*?)'", SCRIPT.read_text(), re.DOTALL)
    assert listed is not None
    assert {name for name in sys.stdlib_module_names if not name.startswith("_")} - set(
        listed.group(1).split()
    ) == set()
