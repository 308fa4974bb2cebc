"""Certificates of our own making: an authority, and what it issues. The one place where `cryptography` signs.

All texts are PEM. Importing this takes a tenth of a second and some megabytes, so import it where something has to be
made or read, not at the top of what every start loads. Source: RFC 5280.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from chandlery.foundation.errors import InvalidSpec

LIFETIME = timedelta(days=90)
CA_LIFETIME = timedelta(days=3650)
RENEW_BEFORE = timedelta(days=30)
_SKEW = timedelta(minutes=5)
"""Clocks of clients may be behind ours."""


class Pair(NamedTuple):
    """A certificate (with those that follow it in its chain) and its private key."""

    certificate: str
    key: str

    def __repr__(self) -> str:
        return "Pair(...)"


def make_ca(name: str, now: datetime, lifetime: timedelta = CA_LIFETIME) -> Pair:
    """A new authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_key_usage(ca=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Pair(_pem(certificate), _key_pem(key))


def issue(
    ca: tuple[str, str],
    names: Sequence[str],
    now: datetime,
    *,
    client: bool = False,
    common_name: str = "",
    organizations: Sequence[str] = (),
    lifetime: timedelta = LIFETIME,
) -> Pair:
    """A certificate of a server for these host names and addresses, or of a client; it never outlives its authority.

    `ca` is the authority's certificate and key. A client may have no names; `common_name` is the first name by default.
    """
    ca_certificate = x509.load_pem_x509_certificate(ca[0].encode())
    ca_key = serialization.load_pem_private_key(ca[1].encode(), None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, name) for name in organizations]
    attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, (common_name or names[0])[:64]))
    usage = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(attributes))
        .issuer_name(ca_certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(min(now + lifetime, ca_certificate.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(_key_usage(ca=False), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
    )
    if names:
        general = [_general_name(name) for name in names]
        builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
    return Pair(_pem(builder.sign(ca_key, hashes.SHA256())), _key_pem(key))


def make_certificate(ca: tuple[str, str], names: Sequence[str], now: datetime, *, client: bool = False) -> str:
    """What `issue` makes as one PEM, as HAProxy wants it: certificate, authority, key."""
    made = issue(ca, names, now, client=client)
    return made.certificate + ca[0] + made.key


def expires(pem: str) -> datetime:
    """When the first certificate of a PEM ends."""
    return x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc


def names_of(pem: str) -> set[str]:
    """The host names and addresses of the first certificate; empty when it has none."""
    certificate = x509.load_pem_x509_certificate(pem.encode())
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {str(name) for name in found.get_values_for_type(x509.DNSName)} | {
        str(address) for address in found.get_values_for_type(x509.IPAddress)
    }


def check_pair(certificate: bytes, key: bytes, field: str, secret: str) -> str:
    """The content of a kubernetes.io/tls Secret as one PEM.

    Raises:
        InvalidSpec: it isn't PEM, or the key isn't the certificate's.
    """
    try:
        loaded = x509.load_pem_x509_certificate(certificate)
        private = serialization.load_pem_private_key(key, None)
        mine = loaded.public_key().public_bytes(*_PUBLIC)
        fits = private.public_key().public_bytes(*_PUBLIC) == mine
    except (ValueError, TypeError) as error:
        raise InvalidSpec(
            f"the Secret {secret} doesn't hold a PEM certificate and key: {error}",
            field=field,
            hint="Put the chain into tls.crt and the unencrypted key into tls.key.",
            retry_after=30.0,
        ) from error
    if not fits:
        raise InvalidSpec(f"tls.key of the Secret {secret} isn't the key of tls.crt", field=field, retry_after=30.0)
    return certificate.decode().rstrip() + "\n" + key.decode().rstrip() + "\n"


def check_authority(certificate: bytes, field: str, secret: str) -> str:
    """The content of a `ca.crt`.

    Raises:
        InvalidSpec: it isn't a PEM certificate.
    """
    try:
        x509.load_pem_x509_certificates(certificate)
    except ValueError as error:
        raise InvalidSpec(
            f"ca.crt of the Secret {secret} isn't a PEM certificate: {error}", field=field, retry_after=30.0
        ) from error
    return certificate.decode().rstrip() + "\n"


_PUBLIC = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
