"""Example manifests out of a README: every fenced block of YAML that is a whole object."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml

_HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
_BLOCK = re.compile(r"^```ya?ml\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Example:
    """One manifest with the heading that it stands under."""

    title: str
    text: str
    manifest: dict[str, Any]


def examples(text: str) -> tuple[Example, ...]:
    """All whole manifests in a Markdown text, in order.

    Raises:
        yaml.YAMLError: a block isn't YAML.
    """
    found = []
    headings = [(m.start(), m.group(1).strip()) for m in _HEADING.finditer(text)]
    for block in _BLOCK.finditer(text):
        title = next((t for at, t in reversed(headings) if at < block.start()), "")
        for document in yaml.safe_load_all(block.group(1)):
            if isinstance(document, dict) and {"apiVersion", "kind", "metadata"} <= document.keys():
                found.append(Example(title, block.group(1), document))
    return tuple(found)


def example_spec(package: str, title: str) -> dict[str, Any]:
    """The spec of the example under a heading.

    Raises:
        KeyError: the README has no such example.
    """
    spec: dict[str, Any] = {e.title: e.manifest["spec"] for e in readme_examples(package)}[title]
    return spec


def readme_examples(package: str) -> tuple[Example, ...]:
    """The examples in the README of a kind's folder, by the package's import path."""
    return examples((files(package) / "README.md").read_text(encoding="utf-8"))
