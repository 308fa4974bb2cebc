"""Certificates of our own: what others' code says of them."""

import ssl
from datetime import UTC, datetime, timedelta

import pytest

from chandlery.foundation import x509
from chandlery.foundation.errors import InvalidSpec

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_certificate_is_for_its_names_and_never_outlives_its_authority():
    ca = x509.make_ca("test", NOW, timedelta(days=10))
    made = x509.issue(ca, ["127.0.0.1", "db.example.com"], NOW)
    assert x509.names_of(made.certificate) == {"127.0.0.1", "db.example.com"}
    assert x509.expires(made.certificate) == x509.expires(ca.certificate) == NOW + timedelta(days=10)
    assert "PRIVATE" not in repr(made)


def test_python_trusts_it_by_its_authority_alone(tmp_path):
    now = datetime.now(UTC)
    ca = x509.make_ca("test", now)
    made = x509.issue(ca, ["localhost"], now)
    ours, theirs = ssl.create_default_context(cadata=ca.certificate), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (tmp_path / "server.pem").write_text(made.certificate + made.key)
    theirs.load_cert_chain(tmp_path / "server.pem")
    assert handshake(ours, theirs, "localhost")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(ours, theirs, "other.example.com")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(ssl.create_default_context(cadata=x509.make_ca("other", now).certificate), theirs, "localhost")


def handshake(client, server, name):
    """Both ends in memory."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(back, there, server_hostname=name)
    other = server.wrap_bio(there, back, server_side=True)
    done = set()
    for _ in range(10):
        for end in (one, other):
            try:
                end.do_handshake()
                done.add(end)
            except ssl.SSLWantReadError:
                pass
        if len(done) == 2:
            return True
    return False


def test_what_a_secret_holds_is_checked():
    now = datetime.now(UTC)
    ca = x509.make_ca("test", now)
    one, other = x509.issue(ca, ["a"], now), x509.issue(ca, ["a"], now)
    pem = x509.check_pair(one.certificate.encode(), one.key.encode(), "spec.tls", "mine")
    assert pem == one.certificate + one.key
    with pytest.raises(InvalidSpec, match=r"isn't the key of tls\.crt"):
        x509.check_pair(one.certificate.encode(), other.key.encode(), "spec.tls", "mine")
    with pytest.raises(InvalidSpec, match="doesn't hold a PEM"):
        x509.check_pair(b"x", b"y", "spec.tls", "mine")
    with pytest.raises(InvalidSpec, match=r"ca\.crt of the Secret mine isn't"):
        x509.check_authority(b"x", "spec.tls", "mine")
