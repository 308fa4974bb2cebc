from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chandlery.foundation import validation as v
from chandlery.foundation.errors import InvalidSpec

GOOD: dict[Callable[..., Any], list[Any]] = {
    v.check_dns1123_label: ["a", "0", "a-b", "a" * 63, "1a", "a--b"],
    v.check_dns1035_label: ["a", "a-b", "a1"],
    v.check_dns1123_subdomain: ["a", "a.b", "a-b.c-d.0", "a" * 253],
    v.check_wildcard_subdomain: ["*.example.com", "example.com"],
    v.check_qualified_name: ["a", "A_b.C", "example.com/Name", "a" * 63, "x/" + "a" * 63],
    v.check_annotation_key: ["Example.COM/name"],
    v.check_label_value: ["", "a", "A.b_c-d", "1" * 63],
    v.check_env_name: ["A", "_a1"],
    v.check_ip: ["10.0.0.1", "::1", "2001:db8::5"],
    v.check_cidr: ["10.0.0.0/8", "0.0.0.0/0", "::/0", "2001:db8::/32", "10.1.2.3/32"],
    v.check_port: [1, 65535],
    v.check_port_name: ["http", "tcp-5432", "a" * 15],
    v.check_host: ["a.example.com", "10.0.0.1", "::1"],
    v.check_mac: ["52:54:00:12:34:56", "52-54-00-12-34-56", "52:54:00:AB:CD:EF"],
    v.check_url: ["https://example.com", "http://10.0.0.1:8080/x?y=z", "https://[::1]/"],
    v.parse_endpoint: ["a.example.com:5432", "[::1]:5432", "10.0.0.1:1"],
    v.parse_reference: ["a", "ns/a", "Cache/a", "Cache.data.chandlery.dev/a", "Cache/ns/a"],
}
BAD: dict[Callable[..., Any], list[Any]] = {
    v.check_dns1123_label: ["", "A", "-a", "a-", "a.b", "a_b", "a" * 64, "ä", "a\n", 5],
    v.check_dns1035_label: ["", "1a", "A", "a-"],
    v.check_dns1123_subdomain: ["", "a..b", ".a", "a.", "A.b", "a" * 254, "a/b", "a_b"],
    v.check_wildcard_subdomain: ["*", "*.", "a.*.b", "**.a"],
    v.check_qualified_name: ["", "/", "/a", "a/", "a/b/c", "A.com/x", "-a", "a" * 64, "a b"],
    v.check_annotation_key: ["", "a/", "a/b/c"],
    v.check_label_value: ["-a", "a-", "a b", "a" * 64, "a/b"],
    v.check_env_name: ["", "1A", "A-B"],
    v.check_ip: ["", "10.0.0", "10.0.0.256", "010.0.0.1", "fe80::1%eth0", "example.com", None],
    v.check_cidr: [
        "10.0.0.0", "10.0.0.5/8", "10.0.0.0/33", "a/8", "10.0.0.0/", "10.0.0.0/255.0.0.0", "", None, "::1%lo/128",
    ],
    v.check_port: [0, -1, 65536, "80", True, 1.5],
    v.check_port_name: ["", "HTTP", "a" * 16, "12", "a--b", "-a", None],
    v.check_host: ["", "a_b", "10.0.0.300", "::g", "-a.example.com"],
    v.check_mac: ["", "52:54:00:12:34", "52:54:00:12:34:5g", "53:54:00:12:34:56", "52:54-00:12:34:56", None],
    v.check_url: [
        "", "example.com", "ftp://example.com", "https://", "https://a b.com",
        "https://u:p@example.com", "https://a:99999", "https://a_b/",
    ],
    v.parse_endpoint: ["a", "a:0", "a:99999", "::1:5432", "[::1]", "a:b", ":5", "[a]:5"],
    v.parse_reference: ["", "/", "a/b/c", "A/b/c/d", "Cache/", "a_b", "Ca-che/a", "Cache.Bad_Group/a"],
}  # fmt: skip


@pytest.mark.parametrize(("check", "value"), [(check, value) for check, values in GOOD.items() for value in values])
def test_good(check: Callable[..., Any], value: Any) -> None:
    assert check(value) is not None


@pytest.mark.parametrize(("check", "value"), [(check, value) for check, values in BAD.items() for value in values])
def test_bad_names_field_value_rule_and_way_out(check: Callable[..., Any], value: Any) -> None:
    with pytest.raises(InvalidSpec) as caught:
        check(value, field="spec.it")
    error = caught.value
    assert error.field is not None
    assert error.field.startswith("spec.it")
    assert error.message.startswith(("must", "the part", "there may", "the name"))
    assert error.hint.endswith(".")
    assert error.hint[0].isupper()
    assert error.terminal


def test_near_names_are_suggested() -> None:
    with pytest.raises(InvalidSpec, match="lower-case") as caught:
        v.check_dns1123_label("My_Cache", field="metadata.name")
    assert caught.value.condition_message() == (
        "metadata.name: must consist of lower-case letters, digits and '-', "
        "beginning and ending with a letter or digit "
        '(got "My_Cache"). For example "my-cache".'
    )


def test_a_networks_right_form_is_suggested() -> None:
    with pytest.raises(InvalidSpec, match="address bits") as caught:
        v.check_cidr("10.1.2.3/8")
    assert "10.0.0.0/8" in caught.value.hint
    assert "10.1.2.3/32" in caught.value.hint
    assert str(v.check_cidr("10.1.2.3/8", host_bits=True)) == "10.0.0.0/8"


def test_passwords_in_urls_are_refused_without_showing_them() -> None:
    with pytest.raises(InvalidSpec) as caught:
        v.check_url("https://user:hunter2@example.com/")
    assert "hunter2" not in caught.value.condition_message()
    assert "Secret" in caught.value.condition_message()


def test_all_faults_of_labels_are_reported() -> None:
    assert v.check_labels({"a": "b"}) == {"a": "b"}
    with pytest.raises(InvalidSpec) as caught:
        v.check_labels({"a b": "ok", "fine": "not fine", "x/": "-"})
    assert len(caught.value.causes) == 4


@given(
    st.text(st.sampled_from("abcdefghij-."), min_size=1, max_size=300),
    st.sampled_from(["", "-conn", "-0"]),
    st.integers(20, 63),
)
def test_shortened_names_fit_and_stay_apart(name: str, suffix: str, limit: int) -> None:
    short = v.shorten(name, limit, suffix=suffix)
    assert len(short) <= limit
    assert short.endswith(suffix)
    assert short == v.shorten(name, limit, suffix=suffix)
    if len(name) + len(suffix) <= limit:
        assert short == name + suffix
    else:
        assert v.shorten(f"{name}x", limit, suffix=suffix) != short


def test_a_reference_across_namespaces_can_be_refused() -> None:
    assert (
        str(v.check_reference("a", namespace="n", kind="Cache", group="data.chandlery.dev"))
        == "Cache.data.chandlery.dev/n/a"
    )
    assert v.check_reference("a", namespace="n", own_namespace="n").namespace == "n"
    with pytest.raises(InvalidSpec, match="same namespace, n") as caught:
        v.check_reference("a", namespace="other", own_namespace="n", field="spec.brokerRef")
    assert caught.value.field == "spec.brokerRef.namespace"
    assert v.parse_reference("Cache.data.chandlery.dev/a") == ("Cache", "data.chandlery.dev", "", "a")


def test_endpoints() -> None:
    assert v.parse_endpoint("[2001:DB8::1]:5432") == ("2001:db8::1", 5432)
    assert v.parse_endpoint("db.example.com", default_port=5432) == ("db.example.com", 5432)
    assert v.check_port(1024, privileged=False) == 1024
    with pytest.raises(InvalidSpec, match="from 1024"):
        v.check_port(80, privileged=False)
    assert v.check_mac("52-54-00-AB-CD-EF") == "52:54:00:ab:cd:ef"
