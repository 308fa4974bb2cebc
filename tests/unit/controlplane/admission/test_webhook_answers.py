"""What a webhook may answer, and the words for what it may not."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from chandlery.controlplane.admission.review import WebhookError, patch_of, read_response
from chandlery.controlplane.patch import PatchFailedError, explained_json_patch

REVIEW = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
INVALID = "received invalid webhook response: "


@pytest.mark.parametrize(
    ("answer", "mutating", "want"),
    [
        ({}, False, "failed to call webhook: Object 'Kind' is missing in '{}'"),
        (REVIEW, False, f"{INVALID}webhook response was absent"),
        ({**REVIEW, "response": {"uid": "other"}}, False, f'{INVALID}expected response.uid="u", got "other"'),
        (
            {**REVIEW, "apiVersion": "admission.k8s.io/v1beta1", "response": {"uid": "u"}},
            False,
            (
                f"{INVALID}expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, "
                "got admission.k8s.io/v1beta1, Kind=AdmissionReview"
            ),
        ),
        (
            {**REVIEW, "response": {"uid": "u", "patch": "W10=", "patchType": "JSONPatch"}},
            False,
            f"{INVALID}validating webhook may not return response.patch",
        ),
        (
            {**REVIEW, "response": {"uid": "u", "patchType": "JSONPatch"}},
            False,
            f"{INVALID}validating webhook may not return response.patchType",
        ),
        (
            {**REVIEW, "response": {"uid": "u", "patch": "W10="}},
            True,
            f"{INVALID}webhook returned response.patch but not response.patchType",
        ),
        (
            {**REVIEW, "response": {"uid": "u", "patchType": "JSONPatch"}},
            True,
            f"{INVALID}webhook returned response.patchType but not response.patch",
        ),
    ],
)
def test_wrong_answers_are_told(answer: Any, mutating: bool, want: str) -> None:
    with pytest.raises(WebhookError) as caught:
        read_response(answer, "u", "v1", mutating=mutating)
    assert str(caught.value) == want


def test_a_right_answer_is_taken() -> None:
    response = {"uid": "u", "allowed": True, "patch": "W10=", "patchType": "JSONPatch"}
    assert read_response({**REVIEW, "response": response}, "u", "v1", mutating=True) == response


@pytest.mark.parametrize(
    ("patch", "want"),
    [
        ("{}", "json: cannot unmarshal object into Go value of type jsonpatch.Patch"),
        ("x", "invalid character 'x' looking for beginning of value"),
    ],
)
def test_what_is_no_patch_is_told(patch: str, want: str) -> None:
    with pytest.raises(WebhookError) as caught:
        patch_of({"patch": base64.b64encode(patch.encode()).decode()})
    assert str(caught.value) == want


@pytest.mark.parametrize(
    ("operation", "want"),
    [
        (
            {"op": "remove", "path": "/spec/x"},
            "error in remove for path: '/spec/x': Unable to remove nonexistent key: x: missing value",
        ),
        (
            {"op": "add", "path": "/a/b", "value": 1},
            'add operation does not apply: doc is missing path: "/a/b": missing value',
        ),
        (
            {"op": "add", "path": "/spec/l/9", "value": 1},
            "error in add for path: '/spec/l/9': Unable to access invalid index: 9: invalid index referenced",
        ),
        ({"op": "test", "path": "/spec/l", "value": 1}, "testing value /spec/l failed: test failed"),
        ({"op": "jump", "path": "/spec"}, "Unexpected kind: jump"),
    ],
)
def test_a_patch_that_fails_says_where(operation: dict[str, Any], want: str) -> None:
    doc = json.loads('{"spec": {"l": [1]}}')
    with pytest.raises(PatchFailedError) as caught:
        explained_json_patch(doc, [operation])
    assert str(caught.value) == want
