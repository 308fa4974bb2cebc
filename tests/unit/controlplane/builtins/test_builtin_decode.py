"""Decoding as the Go decoder does: what is kept, what is dropped, what is refused and in which words."""

from __future__ import annotations

from typing import Any

import pytest

from chandlery.controlplane.builtins import builtin_resources, gotime, quantity
from chandlery.controlplane.builtins.decode import DecodeError, Where, check_base64, struct
from chandlery.controlplane.types import ApiError, Resource

DEPLOYMENT = "io.k8s.api.apps.v1.Deployment"
POD = "io.k8s.api.core.v1.Pod"


def resource(plural: str, group: str = "") -> Resource:
    return next(r for r in builtin_resources() if r.plural == plural and r.group == group)


def decode(definition: str, obj: Any) -> tuple[Any, list[str]]:
    where = Where()
    return struct(definition).decode(obj, where), where.unknown


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("1.5G", "1500M"),
        ("0.5", "500m"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("0.5Ki", "512"),
        ("1000m", "1"),
        ("100000", "100k"),
        ("1e3", "1e3"),
        ("0", "0"),
        ("0Gi", "0"),
        ("-1Gi", "-1Gi"),
        ("1E", "1E"),
        ("0.0000000001", "1n"),
        ("12345678901234567890", "12345678901234567890"),
        ("+5", "5"),
        ("16Ei", "9223372036854775807"),
        ("1e-999999999", "1e-9"),
    ],
)
def test_quantities_are_written_in_one_way(text: str, want: str) -> None:
    assert quantity.canonical(text) == want
    assert quantity.canonical(want) == want


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", quantity.FORMAT_WRONG),
        ("", quantity.FORMAT_WRONG),
        ("1e3m", quantity.FORMAT_WRONG),
        ("1 Gi", quantity.FORMAT_WRONG),
        ("1ki", quantity.SUFFIX_WRONG),
        ("1KiB", quantity.FORMAT_WRONG),
    ],
)
def test_what_is_no_quantity(text: str, message: str) -> None:
    with pytest.raises(quantity.QuantityError) as caught:
        quantity.canonical(text)
    assert str(caught.value) == message


def test_times_go_to_utc_and_lose_fractions() -> None:
    assert gotime.normal_time("2020-01-01T01:00:00.5+01:00") == "2020-01-01T00:00:00Z"
    assert gotime.normal_micro_time("2020-01-01T00:00:00.000001Z") == "2020-01-01T00:00:00.000001Z"


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("notatime", 'parsing time "notatime" as "2006-01-02T15:04:05Z07:00": cannot parse "notatime" as "2006"'),
        ("2020-01-01", 'parsing time "2020-01-01" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "T"'),
        ("2020-13-01T00:00:00Z", 'parsing time "2020-13-01T00:00:00Z": month out of range'),
        ("2020-02-30T00:00:00Z", 'parsing time "2020-02-30T00:00:00Z": day out of range'),
        ("2020-01-01T00:00:00Zx", 'parsing time "2020-01-01T00:00:00Zx": extra text: "x"'),
    ],
)
def test_what_is_no_time(text: str, want: str) -> None:
    with pytest.raises(gotime.TimeError) as caught:
        gotime.normal_time(text)
    assert str(caught.value) == want


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        (
            {"spec": {"replicas": "1"}},
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            {"spec": {"replicas": 1.5}},
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            {"spec": {"replicas": 1 << 31}},
            "json: cannot unmarshal number 2147483648 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        ({"spec": 5}, "json: cannot unmarshal number into Go struct field Deployment.spec of type v1.DeploymentSpec"),
        (
            {"spec": {"template": {"spec": {"containers": {}}}}},
            (
                "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers"
                " of type []v1.Container"
            ),
        ),
        (
            {"spec": {"template": {"spec": {"containers": [{"image": 5}]}}}},
            (
                "json: cannot unmarshal number into Go struct field Container.spec.template.spec.containers.image"
                " of type string"
            ),
        ),
        (
            {"spec": {"template": {"spec": {"containers": [{"imagePullPolicy": True}]}}}},
            (
                "json: cannot unmarshal bool into Go struct field "
                "Container.spec.template.spec.containers.imagePullPolicy"
                " of type v1.PullPolicy"
            ),
        ),
        (
            {"metadata": {"labels": {"a": 1}}},
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            {"metadata": {"labels": "x"}},
            "json: cannot unmarshal string into Go struct field ObjectMeta.metadata.labels of type map[string]string",
        ),
    ],
)
def test_values_that_a_type_cannot_hold(obj: Any, message: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(DEPLOYMENT, obj)
    assert str(caught.value) == message


def test_unknown_fields_are_dropped_and_told_with_their_paths() -> None:
    pod = {
        "metadata": {"name": "p", "who": 1},
        "spec": {"containers": [{"name": "a"}, {"name": "b", "imagee": "x"}], "foo": {"a": 1}},
        "extra": {},
    }
    done, unknown = decode(POD, pod)
    assert unknown == [
        'unknown field "metadata.who"',
        'unknown field "spec.containers[1].imagee"',
        'unknown field "spec.foo"',
        'unknown field "extra"',
    ]
    assert done["spec"]["containers"] == [{"name": "a", "resources": {}}, {"name": "b", "resources": {}}]


def test_zero_values_vanish_where_go_omits_them_and_appear_where_it_does_not() -> None:
    done, _ = decode(
        "io.k8s.api.core.v1.PodSpec",
        {"hostNetwork": False, "nodeName": "", "containers": [], "volumes": None, "nodeSelector": {}, "priority": 0},
    )
    assert done == {"containers": None, "priority": 0}
    role, _ = decode("io.k8s.api.rbac.v1.Role", {"rules": []})
    assert role == {"metadata": {}, "rules": None}
    event, _ = decode("io.k8s.api.core.v1.Event", {})
    assert event["firstTimestamp"] is None
    assert event["source"] == {}
    assert event["reportingComponent"] == ""


def test_null_is_absent() -> None:
    done, unknown = decode(DEPLOYMENT, {"metadata": None, "spec": {"replicas": None, "paused": None}})
    assert unknown == []
    assert "replicas" not in done["spec"]
    assert "paused" not in done["spec"]


@pytest.mark.parametrize(
    ("text", "offset"), [("%%%", 0), ("YQ", 0), ("YWJj=", 4), ("YQ=", 3), ("YW%j", 2), ("YWJjZA", 4)]
)
def test_bad_base64_tells_where(text: str, offset: int) -> None:
    with pytest.raises(DecodeError) as caught:
        check_base64(text)
    assert str(caught.value) == f"illegal base64 data at input byte {offset}"


def test_good_base64_loses_its_line_breaks() -> None:
    assert check_base64("YW\nJj") == "YWJj"
    assert check_base64("") == ""


def test_string_data_becomes_data() -> None:
    obj = {"kind": "Secret", "apiVersion": "v1", "data": {"a": "YQ=="}, "stringData": {"a": "b", "c": "d"}}
    assert resource("secrets").strategy.decode(obj) == []
    assert obj["data"] == {"a": "Yg==", "c": "ZA=="}
    assert "stringData" not in obj


def test_the_answer_to_a_wrong_type_names_kind_and_version() -> None:
    with pytest.raises(ApiError) as caught:
        resource("leases", "coordination.k8s.io").strategy.decode({"spec": {"renewTime": "notatime"}})
    assert caught.value.code == 400
    assert caught.value.message.startswith(
        'Lease in version "v1" cannot be handled as a Lease: parsing time "notatime"'
    )


def test_decoding_twice_changes_nothing() -> None:
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": 0.5}}}]}}
    once, _ = decode(POD, pod)
    twice, unknown = decode(POD, once)
    assert once == twice
    assert unknown == []
