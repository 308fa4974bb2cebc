"""Every wrong manifest of bad_input/ against the API server: refused, with the exact words that its table says."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from chandlery.gen.outputs import models
from chandlery.providers.kubernetes import KubernetesProviderFactory
from chandlery.providers.local import LocalProviderFactory
from chandlery.providers.memory import MemoryProvider
from chandlery.reconcile.admission import review
from chandlery_kinds import KINDS

TABLES = Path(__file__).resolve().parent.parent / "bad_input"
NAMES = {model.names.kind.lower(): model.names for model, _ in models()}
UNCHECKED = (
    ", <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation]"
)


@cache
def table(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((TABLES / f"{kind}.yaml").read_text())
    return found


CASES = [
    pytest.param(kind, number, id=f"{kind}-{case['name'].replace(' ', '-')}")
    for kind in NAMES
    for number, case in enumerate(table(kind)["cases"])
]


def manifest(kind: str, name: str, changes: dict[str, Any], whole: dict[str, Any] | None = None) -> dict[str, Any]:
    names = NAMES[kind]
    spec = {**table(kind)["base"], **own_name(changes, name)}
    found = {
        "apiVersion": names.api_version,
        "kind": names.kind,
        "metadata": {"name": name},
        "spec": {key: value for key, value in spec.items() if value is not None},
        **(whole or {}),
    }
    return {key: value for key, value in found.items() if value is not None}


def own_name(value: Any, name: str) -> Any:
    """The object's own name in place of NAME."""
    if isinstance(value, dict):
        return {key: own_name(item, name) for key, item in value.items()}
    if isinstance(value, list):
        return [own_name(item, name) for item in value]
    return name if value == "NAME" else value


def path(kind: str, name: str = "") -> str:
    names = NAMES[kind]
    where = f"/apis/{names.api_version}" + ("/namespaces/default" if names.namespaced else "") + f"/{names.plural}"
    return f"{where}/{name}?fieldValidation=Strict" if name else f"{where}?fieldValidation=Strict"


def words(kind: str, name: str, message: str) -> str:
    """What is wrong, without the object's name, and without the sentence that every structural error brings along."""
    names = NAMES[kind]
    text = message.removeprefix(f'{names.kind}.{names.group} "{name}" is invalid: ')
    text = text.removeprefix(f'{names.kind} in version "{names.version}" cannot be handled as a {names.kind}: ')
    return text[1:].removesuffix(UNCHECKED) if text.endswith(UNCHECKED) else text


@pytest.mark.parametrize("kind", NAMES)
def test_the_base_is_good(plane, kind: str) -> None:
    code, answer = plane.request("POST", path(kind), manifest(kind, "base", {}))
    assert code == 201, answer


@pytest.mark.parametrize(("kind", "number"), CASES)
def test_it_is_refused_in_these_words(plane, kind: str, number: int) -> None:
    case = table(kind)["cases"][number]
    name = f"bad-{number}"
    body = manifest(kind, name, case.get("spec", {}), case.get("whole"))
    if "before" in case:
        code, made = plane.request("POST", path(kind), manifest(kind, name, case["before"]))
        assert code == 201, made
        body["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"]
        code, answer = plane.request("PUT", path(kind, name), body)
    else:
        code, answer = plane.request("POST", path(kind), body)
    if case.get("by") == "operator":
        assert code == 201, "the schema can't say it"
        code, answer = by_the_operator(kind, body, case)
    said = words(kind, body["metadata"]["name"], answer.get("message", "accepted"))
    assert (code, said) == (case.get("code", 422), case["error"])


def by_the_operator(kind: str, body: dict[str, Any], case: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """What its webhook says to the same object."""
    names = NAMES[kind]
    request = {
        "uid": "1",
        "operation": "UPDATE" if "before" in case else "CREATE",
        "kind": {"group": names.group, "version": names.version, "kind": names.kind},
        "name": body["metadata"]["name"],
        "object": body,
        "oldObject": manifest(kind, body["metadata"]["name"], case["before"]) if "before" in case else None,
    }
    kinds = {each.name: each for each in KINDS}
    providers = {"local": LocalProviderFactory, "kubernetes": KubernetesProviderFactory, "memory": MemoryProvider}
    answer = review({"request": request}, kinds, providers)
    status: dict[str, Any] = answer["response"].get("status", {})
    return status.get("code", 200), status


def test_each_table_is_long_enough() -> None:
    for model, _ in models():
        cases = table(model.names.kind.lower())["cases"]
        assert len(cases) >= 30, model.names.kind
        assert len({case["name"] for case in cases}) == len(cases), model.names.kind
