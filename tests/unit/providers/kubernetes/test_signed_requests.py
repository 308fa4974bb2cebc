"""Requests to a bucket are signed as Amazon S3's own documentation shows.

Source: Amazon S3 API Reference, "Signature Calculations for the Authorization Header", its examples.
"""

from datetime import UTC, datetime
from hashlib import sha256

import pytest

from chandlery.foundation.errors import Unauthenticated
from chandlery.providers.kubernetes.s3 import ACCESS_KEY, SECRET_KEY, Keys, sign

KEYS = Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
MOMENT = datetime(2013, 5, 24, tzinfo=UTC)
HOST = "https://examplebucket.s3.amazonaws.com"


@pytest.mark.parametrize(
    ("url", "signature"),
    [
        (f"{HOST}/?lifecycle=", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        (f"{HOST}/?max-keys=2&prefix=J", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
    ],
)
def test_a_request_has_the_signature_of_the_documentation(url, signature):
    headers = sign("GET", url, sha256(b"").hexdigest(), KEYS, "us-east-1", MOMENT)
    assert headers["x-amz-date"] == "20130524T000000Z"
    assert headers["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
        f"SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature={signature}"
    )


def test_credentials_are_files_and_what_is_missing_is_named(tmp_path):
    (tmp_path / ACCESS_KEY).write_text("A\n")
    with pytest.raises(Unauthenticated, match=SECRET_KEY):
        Keys.read(tmp_path)
    (tmp_path / SECRET_KEY).write_text("B\n")
    keys = Keys.read(tmp_path)
    assert (keys.access, keys.secret) == ("A", "B")
    assert "B" not in repr(keys)
