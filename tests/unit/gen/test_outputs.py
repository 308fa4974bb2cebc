import subprocess
import sys
from pathlib import Path

import yaml

from chandlery.gen.__main__ import main
from chandlery.gen.outputs import differences, outputs, write

ROOT = Path(__file__).resolve().parents[3]


def test_the_repository_holds_what_the_models_say() -> None:
    # In a process of its own: tests of settings register sections that don't belong into the reference.
    done = subprocess.run(
        [sys.executable, "-m", "chandlery.gen", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"run `python -m chandlery.gen` and commit the result\n{done.stdout}{done.stderr}"


def test_chart_and_crds_are_the_same() -> None:
    found = outputs()
    crds = {Path(p).name: c for p, c in found.items() if p.startswith("crds/") and p.endswith(".yaml")}
    chart = {Path(p).name: c for p, c in found.items() if p.startswith("charts/chandlery/files/crds/")}
    assert crds == chart
    assert len(crds) >= 7


def test_check_tells_what_is_missing_stale_and_different(tmp_path: Path, capsys) -> None:
    assert main(["--root", str(tmp_path)]) == 0
    assert main(["--root", str(tmp_path), "--check"]) == 0
    capsys.readouterr()

    changed = next(iter(sorted((tmp_path / "crds").glob("*.yaml"))))
    old = tmp_path / "crds" / "old.example.com_olds.yaml"
    old.write_text(changed.read_text())
    mine = tmp_path / "docs" / "reference" / "notes.md"
    mine.write_text("# Notes by hand\n")
    changed.write_text(changed.read_text() + "# touched\n")
    (tmp_path / "docs" / "reference" / "cache.md").unlink()
    assert main(["--root", str(tmp_path), "--check"]) == 1
    told = capsys.readouterr().err.splitlines()
    assert told == [
        f"crds/{changed.name} differs from the models",
        "docs/reference/cache.md is missing",
        "crds/old.example.com_olds.yaml is no longer generated",
        "Run `python -m chandlery.gen` and commit the result.",
    ]

    assert sorted(write(tmp_path)) == sorted([f"crds/{changed.name}", "docs/reference/cache.md", f"crds/{old.name}"])
    assert differences(tmp_path) == []
    assert mine.exists()


def test_crds_have_no_aliases_and_read_back(tmp_path: Path) -> None:
    for path, text in outputs().items():
        if path.startswith("crds/") and path.endswith(".yaml"):
            crd = yaml.safe_load(text)
            assert "&id" not in text
            assert path == f"crds/{crd['spec']['group']}_{crd['spec']['names']['plural']}.yaml"
