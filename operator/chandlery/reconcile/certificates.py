"""The certificate of the admission webhook: made by ourselves, shared by all replicas through one Secret.

A CA of its own signs it, whose key is thrown away; the API server is told to trust that CA for our webhook alone.
Renewed a month before it ends, by whichever replica notices first.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from chandlery.foundation.errors import AlreadyExists, Conflict, Unavailable
from chandlery.reconcile.api import MANAGED_LABEL, MANAGER, SECRETS, Api, Obj

_LIFE: Final = timedelta(days=365)
_RENEW: Final = timedelta(days=30)


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
    from chandlery.foundation import x509

    authority = x509.make_ca("chandlery webhook CA", now, _LIFE)
    made = x509.issue(authority, hosts, now, lifetime=_LIFE)
    return Certificate(made.certificate.encode(), made.key.encode(), authority.certificate.encode())


def _good(found: Certificate, hosts: Sequence[str], now: datetime) -> bool:
    """Not about to end, and for these names."""
    from chandlery.foundation import x509

    try:
        chain = found.chain.decode()
        return x509.expires(chain) - now > _RENEW and x509.names_of(chain) >= set(hosts)
    except ValueError:
        return False


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
