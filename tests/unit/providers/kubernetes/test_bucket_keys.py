"""Credentials of a bucket."""

import sys

import pytest

from chandlery.foundation.errors import FailedPrecondition, Unauthenticated
from chandlery.providers.kubernetes.s3 import ACCESS_KEY, SECRET_KEY, Bucket, Keys


def test_credentials_are_files_and_what_is_missing_is_named(tmp_path):
    (tmp_path / ACCESS_KEY).write_text("A\n")
    with pytest.raises(Unauthenticated, match=SECRET_KEY):
        Keys.read(tmp_path)
    (tmp_path / SECRET_KEY).write_text("B\n")
    keys = Keys.read(tmp_path)
    assert (keys.access, keys.secret) == ("A", "B")
    assert "B" not in repr(keys)


async def test_without_its_library_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(FailedPrecondition, match="boto3") as told:
        async with Bucket({"bucket": "ships"}, Keys("A", "B")):
            pass
    assert "chandlery[s3]" in told.value.hint
