"""Warning headers: quoting, duplicates, what can't be sent, limits."""

from __future__ import annotations

from chandlery.controlplane.server.warnings import warning_headers


def test_texts_are_quoted_and_told_once() -> None:
    assert warning_headers(['unknown field "a"', 'unknown field "a"', "", "b\\c"]) == [
        '299 - "unknown field \\"a\\""',
        '299 - "b\\\\c"',
    ]


def test_control_characters_are_not_sent() -> None:
    assert warning_headers(["a\nb", "a\x7fb", "a\x00", "é \u200b"]) == ['299 - "é \u200b"']


def test_many_warnings_are_cut() -> None:
    long = [f"{number:04}" + "x" * 500 for number in range(40)]
    headers = warning_headers(long)
    assert {len(header) for header in headers} == {len('299 - ""') + 256}
    assert len(headers) == 16
    assert warning_headers(["x" * 4000]) == ['299 - "' + "x" * 4000 + '"']
