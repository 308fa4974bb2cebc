"""The certificate of the admission webhook: made by ourselves, shared by all replicas through one Secret.

A CA of its own signs it, whose key is thrown away; the API server is told to trust that CA for our webhook alone.
Renewed a month before it ends, by whichever replica notices first.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from chandlery.foundation.errors import AlreadyExists, Conflict, Unavailable
from chandlery.reconcile.api import MANAGED_LABEL, MANAGER, SECRETS, Api, Obj

_LIFE: Final = timedelta(days=365)
_RENEW: Final = timedelta(days=30)
_SKEW: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM texts."""

    chain: bytes
    key: bytes
    authority: bytes

    def __repr__(self) -> str:
        return "Certificate(...)"


async def shared_certificate(
    api: Api, namespace: str, name: str, hosts: Sequence[str], now: datetime, attempts: int = 5
) -> Certificate:
    """The certificate in the Secret, made or renewed if need be; all replicas get the same one.

    Raises:
        Unavailable: others kept changing the Secret at the same moment.
    """
    for _ in range(attempts):
        live = await api.get(SECRETS, namespace, name)
        if live is not None:
            found = _read(live)
            if found is not None and _good(found, hosts, now):
                return found
        made = self_signed(hosts, now)
        body = _secret(namespace, name, made)
        try:
            if live is None:
                await api.create(SECRETS, body)
            else:
                # labels and type are whoever made it, as a chart that brings an empty one to remove it in the end
                await api.replace(SECRETS, {**live, "data": body["data"]})
        except (AlreadyExists, Conflict):
            continue  # another replica was faster: take its certificate
        return made
    raise Unavailable(f"the Secret {namespace}/{name} keeps changing")


def self_signed(hosts: Sequence[str], now: datetime) -> Certificate:
    """A new CA and a server certificate for these names and addresses."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def build(subject: str, issuer: str, public: Any) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(named(subject))
            .issuer_name(named(issuer))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _SKEW)
            .not_valid_after(now + _LIFE)
        )

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = (
        build("chandlery webhook CA", "chandlery webhook CA", ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    certificate = (
        build(hosts[0][:64], "chandlery webhook CA", key.public_key())
        .add_extension(x509.SubjectAlternativeName([_general(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Certificate(certificate.public_bytes(pem), private, authority.public_bytes(pem))


def _general(host: str) -> Any:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _good(found: Certificate, hosts: Sequence[str], now: datetime) -> bool:
    """Not about to end, and for these names."""
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(found.chain)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return False
    have = {str(name.value) for name in names}
    return certificate.not_valid_after_utc - now > _RENEW and have >= set(hosts)


def _read(secret: Mapping[str, Any]) -> Certificate | None:
    data = secret.get("data") or {}
    try:
        chain, key, authority = (base64.b64decode(data[name]) for name in ("tls.crt", "tls.key", "ca.crt"))
    except (KeyError, ValueError):
        return None
    return Certificate(chain, key, authority)


def _secret(namespace: str, name: str, made: Certificate) -> Obj:
    data = {"tls.crt": made.chain, "tls.key": made.key, "ca.crt": made.authority}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        # not the label's value of bindings: this one has no owner to be repaired for
        "metadata": {"name": name, "namespace": namespace, "labels": {MANAGED_LABEL: f"{MANAGER}-operator"}},
        "type": "kubernetes.io/tls",
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }
