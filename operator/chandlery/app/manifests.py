"""Manifests from files: read, checked for their shape, in the order in which they can be applied."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from chandlery.foundation.errors import InvalidConfiguration
from chandlery.reconcile.api import CONFIG_MAPS, NAMESPACES, SECRETS, SERVICES, Obj, ResourceType

CRDS = ResourceType("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False)
_BUILT_IN = (NAMESPACES, SECRETS, CONFIG_MAPS, SERVICES)
_FIRST = ("CustomResourceDefinition", "Namespace", "ProviderConfig", "ResourceClass", "Secret", "ConfigMap")


def data_dir(name: str) -> Path:
    """A folder that ships with the package: in the wheel beside this module, in a checkout at its root.

    Raises:
        InvalidConfiguration: it is in neither place.
    """
    packaged = Path(str(files("chandlery.app"))) / "data" / name
    checkout = Path(__file__).parents[3] / name
    for path in (packaged, checkout):
        if path.is_dir():
            return path
    raise InvalidConfiguration(f"the folder {name} is missing from this installation", hint="Install chandlery anew.")


def read(path: Path) -> list[Obj]:
    """Every object in a YAML file, or in the .yaml files of a folder.

    Raises:
        InvalidConfiguration: it can't be read, or isn't a Kubernetes manifest.
    """
    import yaml

    paths = sorted(p for p in path.iterdir() if p.suffix in (".yaml", ".yml")) if path.is_dir() else [path]
    found: list[Obj] = []
    for file in paths:
        try:
            documents = list(yaml.load_all(file.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
        except OSError as error:
            raise InvalidConfiguration(f"can't read {file}: {error.strerror}") from error
        except yaml.YAMLError as error:
            raise InvalidConfiguration(f"{file} isn't valid YAML: {error}") from error
        for document in documents:
            if document is None:
                continue
            if not isinstance(document, dict) or not document.get("kind") or not document.get("apiVersion"):
                raise InvalidConfiguration(f"{file} holds something without apiVersion and kind")
            found.append(document)
    return sorted(found, key=_rank)


def _rank(obj: Obj) -> int:
    return _FIRST.index(obj["kind"]) if obj["kind"] in _FIRST else len(_FIRST)


@cache
def crds() -> tuple[Obj, ...]:
    """The CustomResourceDefinitions of our kinds, as generated."""
    return tuple(obj for obj in read(data_dir("crds")) if obj["kind"] == CRDS.kind)


@cache
def _types() -> dict[tuple[str, str], ResourceType]:
    found = {(t.group, t.kind): t for t in (*_BUILT_IN, CRDS)}
    for crd in crds():
        spec: dict[str, Any] = crd["spec"]
        names = spec["names"]
        found[spec["group"], names["kind"]] = ResourceType(
            spec["group"], spec["versions"][0]["name"], names["plural"], names["kind"], spec["scope"] == "Namespaced"
        )
    return found


def type_of_object(obj: Obj) -> ResourceType:
    """Where an object is served.

    Raises:
        InvalidConfiguration: it is of a kind that `--apply` doesn't know.
    """
    group, _, _ = obj["apiVersion"].rpartition("/")
    found = _types().get((group, obj["kind"]))
    if found is None:
        raise InvalidConfiguration(
            f"{obj['kind']} ({obj['apiVersion']}) can't be applied by chandlery", hint="Use kubectl apply for it."
        )
    return found


def custom_types() -> Iterable[ResourceType]:
    """Everything that our CustomResourceDefinitions define."""
    return [t for t in _types().values() if t.group.endswith("chandlery.dev")]


def our_types() -> Iterable[ResourceType]:
    """The kinds that people ask for: those with a namespace."""
    return [t for t in custom_types() if t.namespaced]


def short_names(kind: ResourceType) -> tuple[str, ...]:
    """The names that kubectl takes as well."""
    for crd in crds():
        if (crd["spec"]["group"], crd["spec"]["names"]["kind"]) == (kind.group, kind.kind):
            return tuple(crd["spec"]["names"].get("shortNames", ()))
    return ()
