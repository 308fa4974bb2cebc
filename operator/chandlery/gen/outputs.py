"""Everything that is generated: path below the root of the repository to content."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from chandlery.driver.kind import Kind
from chandlery.foundation.config import all_sections, render_markdown
from chandlery.gen.chart import dashboard, kinds_file, kustomization, kustomize_files
from chandlery.gen.crds import HEADER, crd_files
from chandlery.gen.reference import MARK, index, page
from chandlery.model.base import AnyResource
from chandlery.model.platform import PLATFORM
from chandlery_kinds import KINDS

VERSION = version("chandlery")
FOLDERS = ("crds", "charts/chandlery/files/crds", "docs/reference")
"""Where a file that carries our header and is no longer generated is stale."""


def models() -> list[tuple[type[AnyResource], Kind | None]]:
    """All models with their kind; the platform's own have none."""
    return [*((k.model, k) for k in KINDS), *((m, None) for m in PLATFORM)]


def outputs() -> dict[str, str]:
    """Every generated file."""
    out: dict[str, str] = {}
    for name, content in crd_files(m for m, _ in models()).items():
        out[f"crds/{name}"] = content
        out[f"charts/chandlery/files/crds/{name}"] = content
    # without an ending, so that `kubectl apply -f crds` passes it over
    out["crds/Kustomization"] = kustomization(sorted(name.removeprefix("crds/") for name in out if name[:5] == "crds/"))
    out["charts/chandlery/files/kinds.yaml"] = kinds_file(KINDS)
    out["charts/chandlery/files/dashboard.json"] = dashboard()
    out |= {f"deploy/kustomize/{name}": text for name, text in kustomize_files(KINDS, VERSION).items()}
    out["docs/reference/README.md"] = index(models())
    out["docs/reference/configuration.md"] = MARK + "\n" + render_markdown(all_sections())
    for model, kind in models():
        out[f"docs/reference/{model.names.kind.lower()}.md"] = page(model, kind)
    return out


def stale(root: Path, wanted: dict[str, str]) -> list[str]:
    """Generated files of earlier that nothing generates any more."""
    found = []
    for folder in FOLDERS:
        for path in sorted((root / folder).glob("*")):
            name = f"{folder}/{path.name}"
            if name not in wanted and path.is_file() and path.read_text(encoding="utf-8").startswith((HEADER, MARK)):
                found.append(name)
    return found


def differences(root: Path) -> list[str]:
    """What `python -m chandlery.gen` would change, one sentence each."""
    wanted = outputs()
    out = []
    for name, content in wanted.items():
        path = root / name
        if not path.exists():
            out.append(f"{name} is missing")
        elif path.read_text(encoding="utf-8") != content:
            out.append(f"{name} differs from the models")
    return out + [f"{name} is no longer generated" for name in stale(root, wanted)]


def write(root: Path) -> list[str]:
    """Write what differs, remove what is stale; the names of both."""
    wanted = outputs()
    changed = []
    for name, content in wanted.items():
        path = root / name
        if path.exists() and path.read_text(encoding="utf-8") == content:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        changed.append(name)
    for name in stale(root, wanted):
        (root / name).unlink()
        changed.append(name)
    return changed
