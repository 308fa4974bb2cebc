"""What becomes of the names that CRDs ask for, and of requests that no resource has a verb for.

The expectations are kube-apiserver's own (its source, release 1.36).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

Ask = Callable[..., tuple[int, Any]]
MERGE = "application/merge-patch+json"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
GROUP = "names.example"
_PATIENCE = 60.0


@pytest.fixture
def ask(api: Ask) -> Ask:
    return api


def definition(plural: str, kind: str, **names: Any) -> Any:
    schema = {"openAPIV3Schema": {"type": "object"}}
    return {
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind, **names},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }


def told(ask: Ask, plural: str, kind: str) -> tuple[str, str, str]:
    """Status, reason and message of a condition."""
    status = ask("GET", f"{CRDS}/{plural}.{GROUP}")[1].get("status") or {}
    for one in status.get("conditions") or ():
        if one["type"] == kind:
            return one["status"], one["reason"], one["message"]
    return "", "", ""


def until(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not check():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def test_names_that_are_taken_are_told_and_taken_when_they_are_free(ask):
    assert ask("POST", CRDS, definition("firsts", "First", shortNames=["f"]))[0] == 201
    until(lambda: told(ask, "firsts", "Established")[0] == "True")
    assert ask("POST", CRDS, definition("seconds", "Second", shortNames=["f", "firsts", "s"]))[0] == 201
    clash = ("False", "ShortNamesConflict", '["f" is already in use, "firsts" is already in use]')
    until(lambda: told(ask, "seconds", "NamesAccepted") == clash)
    assert told(ask, "seconds", "Established") == ("False", "NotAccepted", "not all names are accepted")
    where = f"{CRDS}/seconds.{GROUP}"
    assert ask("PATCH", where, {"spec": {"names": {"shortNames": ["f"]}}}, MERGE)[0] == 200
    until(lambda: told(ask, "seconds", "NamesAccepted")[2] == '"f" is already in use')
    # Another gives the name up without going away.
    assert ask("PATCH", f"{CRDS}/firsts.{GROUP}", {"spec": {"names": {"shortNames": ["g"]}}}, MERGE)[0] == 200
    until(lambda: told(ask, "seconds", "Established")[0] == "True")
    # A CRD's own plural is taken, too.
    assert ask("PATCH", where, {"spec": {"names": {"shortNames": ["seconds"]}}}, MERGE)[0] == 200
    until(lambda: told(ask, "seconds", "NamesAccepted")[0] == "False")
    # Names that are accepted already are not looked at again.
    assert ask("PATCH", where, {"spec": {"names": {"shortNames": ["f"]}}}, MERGE)[0] == 200
    assert told(ask, "seconds", "NamesAccepted")[0] == "False"


def test_a_crd_that_was_never_served_says_so_at_its_end(ask):
    assert ask("POST", CRDS, definition("thirds", "Third"))[0] == 201
    until(lambda: told(ask, "thirds", "Established")[0] == "True")
    held = definition("fourths", "Third")
    held["metadata"]["finalizers"] = ["a.b/c"]
    assert ask("POST", CRDS, held)[0] == 201
    until(lambda: told(ask, "fourths", "NamesAccepted")[0] == "False")
    assert ask("DELETE", f"{CRDS}/fourths.{GROUP}")[0] == 200
    end = ("False", "NeverEstablished", "resource was never established")
    until(lambda: told(ask, "fourths", "Terminating") == end)
    assert ask("PATCH", f"{CRDS}/fourths.{GROUP}", {"metadata": {"finalizers": None}}, MERGE)[0] == 200


def test_any_word_may_be_a_method(ask):
    assert ask("POST", CRDS, definition("fifths", "Fifth"))[0] == 201
    until(lambda: ask("GET", f"/apis/{GROUP}/v1/namespaces/default/fifths")[0] == 200)
    for method in ("OPTIONS", "BREW"):
        status, answer = ask(method, f"/apis/{GROUP}/v1/namespaces/default/fifths")
        assert (status, answer["message"]) == (405, f' is not supported on resources of kind "fifths.{GROUP}"')
        status, answer = ask(method, "/api/v1/namespaces/default/configmaps")
        assert (status, answer["message"]) == (405, "the server does not allow this method on the requested resource")
    stranger = {"Impersonate-User": "eve"}
    status, answer = ask("BREW", "/api/v1/namespaces/default/configmaps", headers=stranger)
    assert status == 403
    assert 'User "eve" cannot  resource "configmaps" in API group ""' in answer["message"]
    assert ask("BREW", "/livez", b"some body")[0] == 200
