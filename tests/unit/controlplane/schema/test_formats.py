"""String formats of custom resource schemas."""

import pytest

from chandlery.controlplane.schema.formats import effective_format, string_format
from chandlery.controlplane.schema.goduration import format_duration, parse_duration


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("ipv4", ["10.0.0.1", "010.0.0.1"], ["::1", "10.0.0", "10.0.0.256"]),
        ("ipv6", ["::1", "::ffff:10.0.0.1"], ["10.0.0.1", "fe80::1%eth0"]),
        ("cidr", ["10.0.0.1/8", "::/0"], ["10.0.0.0", "10.0.0.0/33"]),
        ("mac", ["00:1a:2b:3c:4d:5e", "001a.2b3c.4d5e"], ["00:1a:2b", "zz:1a:2b:3c:4d:5e"]),
        ("uuid4", ["9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d"], ["9b1deb4d-3b7d-1bad-9bdd-2b0d7b3dcb6d"]),
        ("hostname", ["example.com", "a"], ["-a", "a_b", "x" * 64, "a.b"]),
        ("uri", ["https://a.b/c", "/path", "mailto:x@y"], ["a b", "relative", "http://a b/"]),
        ("email", ["a@b.io", "A B <a@b.io>", '"q x"@b.io'], ["a", "a@", "@b", "a b@c"]),
        ("date", ["2024-02-29"], ["2023-02-29", "2024-2-9"]),
        ("date-time", ["2020-01-01T10:00:00Z", "2020-01-01T10:00:00.5+02:00"], ["2020-01-01", "2020-01-01T25:00:00Z"]),
        ("duration", ["1h30m", "22 ns", "3 days"], ["5x", ""]),
        ("byte", ["aGk="], ["aGk", "%%%"]),
        ("isbn", ["0321751043", "978-0321751041"], ["0321751044"]),
        ("hexcolor", ["#fff", "a0b1c2"], ["#ffff"]),
        ("k8s-short-name", ["a-b"], ["A", "-a", "a" * 64]),
        ("password", ["", "anything"], []),
    ],
)
def test_formats(name: str, good: list[str], bad: list[str]) -> None:
    check = string_format(name)
    assert check is not None
    assert [text for text in good if not check(text)] == []
    assert [text for text in bad if check(text)] == []


def test_a_format_counts_only_for_its_types() -> None:
    assert effective_format("string", "no-such") == ""
    assert effective_format("string", "int32") == ""
    assert effective_format("integer", "int32") == "int32"
    assert effective_format("boolean", "uuid") == ""


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1h2m3s", 3723 * 10**9),
        ("-1.5s", -1500000000),
        ("100ms", 10**8),
        ("0", 0),
        ("1us", 1000),
        ("1", None),
        ("", None),
    ],
)
def test_durations(text: str, nanoseconds: int | None) -> None:
    assert parse_duration(text) == nanoseconds


def test_durations_are_written_in_their_largest_unit() -> None:
    assert [format_duration(n) for n in (0, 1, 1500, 1500000, 1500000000, 5400 * 10**9)] == [
        "0s", "1ns", "1.5µs", "1.5ms", "1.5s", "1h30m0s",
    ]  # fmt: skip
