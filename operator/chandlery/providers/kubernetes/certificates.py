"""The certificates of one object: given by a Secret, issued by cert-manager, or made by a CA of the object's own.

Pods mount one Secret of ours, `<base>-tls`, whatever the certificate's origin:

    tls.crt, tls.key         the server's chain and key
    ca.crt                   what clients trust; absent when the given certificate comes from a public CA
    client.crt, client.key   with which servers (and the driver) show themselves to servers
    trust.crt                whose certificates a server believes: ours, the clients' CA
    previous.crt             the server's chain before this one: servers show it until they have read the new one

The kubelet brings a changed Secret to the pods within a minute or so; whether a server has read it is seen by the
certificate that it shows, so nothing here depends on when.
"""

from __future__ import annotations

import hashlib
import ssl
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chandlery.driver.protocol import Difference, Disruption, DriverContext
from chandlery.foundation.errors import DependencyNotReady
from chandlery.model.parts import ClientAuthentication, Tls
from chandlery.providers.kubernetes.children import GENERATED, Children
from chandlery.providers.kubernetes.ownership import annotated
from chandlery.providers.kubernetes.types import CERTIFICATES, SECRETS, Obj

TLS = "-tls"
CA = "-ca"
ISSUED = "-issued"
CRD = "certificates.cert-manager.io"
PAYLOAD = "tls"
"""First word of the payload of our Difference."""
KEYS = ("tls.crt", "tls.key")


@dataclass(frozen=True, slots=True)
class Material:
    """The content of `<base>-tls`."""

    data: Mapping[str, str]

    @property
    def authority(self) -> str:
        """What clients trust; empty for a public CA."""
        return self.data.get("ca.crt", "")

    @property
    def fingerprint(self) -> str:
        """Of the certificate that servers should show."""
        return fingerprint(self.data["tls.crt"])

    def context(self) -> ssl.SSLContext:
        """For our own connections to the pods: by address, so names don't count; what we gave them does."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        anchors = (self.data.get(key, "") for key in ("tls.crt", "ca.crt", "previous.crt"))
        context.load_verify_locations(cadata="\n".join(filter(None, anchors)))
        return context


def fingerprint(pem: str) -> str:
    """SHA-256 of the first certificate of a PEM, as of the DER that a peer shows."""
    first = pem[pem.index("-----BEGIN CERTIFICATE-----") :]
    end = "-----END CERTIFICATE-----"
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(first[: first.index(end) + len(end)])).hexdigest()


def material(there: Children) -> Material | None:
    """What the pods of an object have, or will soon."""
    live = there.get(SECRETS, TLS)
    data = {key: b64decode(value).decode() for key, value in ((live or {}).get("data") or {}).items()}
    return Material(data) if {*KEYS} <= data.keys() else None


class Certificates:
    """The certificates of one object in one pass.

    Args:
        ctx: for Secrets and the time.
        tls: as in the spec.
        there: the object's children; `TLS`, `CA` and `ISSUED` are names of Secrets of it.
        names: host names of the server.
    """

    def __init__(self, ctx: DriverContext, tls: Tls, there: Children, names: Sequence[str]) -> None:
        self.ctx = ctx
        self.tls = tls
        self.there = there
        self.names = list(dict.fromkeys(names))

    @property
    def present(self) -> Material | None:
        """What pods have, or will soon."""
        return material(self.there)

    async def children(self) -> list[Obj]:
        """The Certificate for cert-manager, when the spec names an issuer.

        Raises:
            DependencyNotReady: cert-manager isn't installed.
        """
        issuer = self.tls.issuer_ref
        if issuer is None:
            return []
        owner = self.there.owner
        return [
            owner.child(
                CERTIFICATES,
                spec={
                    "secretName": owner.base + ISSUED,
                    "secretTemplate": {"labels": owner.labels},
                    "dnsNames": self.names,
                    "usages": ["digital signature", "key encipherment", "server auth", "client auth"],
                    "issuerRef": {"group": "cert-manager.io", "kind": issuer.kind.value, "name": issuer.name},
                },
            )
        ]

    async def differences(self) -> list[Difference]:
        """One when the pods' Secret must be written; `ensure` does it.

        Raises:
            DependencyNotReady: a Secret that the spec names isn't there, or lacks a key.
        """
        why = await self._due()
        if not why:
            return []
        return [Difference("spec.tls", "a good certificate", why, Disruption.NONE, payload=(PAYLOAD,))]

    async def ensure(self) -> None:
        """Make what has to be made, and write the pods' Secret.

        Raises:
            DependencyNotReady: as `differences`; or cert-manager hasn't issued the certificate yet.
            InvalidSpec: a Secret holds no certificate, or not with its own key.
        """
        if not await self._due():
            return
        if self._own:
            await self._make_ca()
        wanted = await self._wanted(renew=True)
        assert wanted is not None
        before = self._secret(TLS)
        if before.get("tls.crt") and before["tls.crt"] != wanted["tls.crt"]:
            wanted["previous.crt"] = before["tls.crt"]
        elif before.get("previous.crt"):
            wanted["previous.crt"] = before["previous.crt"]
        await self._write(TLS, wanted)
        await self.there.look()

    # -- what is wanted

    @property
    def _own(self) -> bool:
        return self.tls.certificate_secret is None and self.tls.issuer_ref is None

    async def _due(self) -> str:
        has = self._secret(TLS)
        if self._own:
            why = self._expiry(has)
            if why:
                return why
        wanted = await self._wanted(renew=False)
        if wanted is None:
            return "none"
        return "" if {k: v for k, v in has.items() if k != "previous.crt"} == wanted else "another one than in spec.tls"

    def _expiry(self, has: Mapping[str, str]) -> str:
        if not {*KEYS} <= has.keys() or "ca.key" not in self._secret(CA):
            return "none"
        from chandlery.foundation import x509

        ends = x509.expires(has["tls.crt"])
        if ends - self.ctx.base.now() < x509.RENEW_BEFORE:
            return f"one that ends on {ends:%Y-%m-%d}"
        if x509.names_of(has["tls.crt"]) != set(self.names):
            return "one for other names"
        return ""

    async def _wanted(self, *, renew: bool) -> dict[str, str] | None:
        """Every key but `previous.crt`; None when it has to be made first."""
        if self._own:
            found = self._issue() if renew else {k: v for k, v in self._secret(TLS).items() if k not in _DERIVED}
            if not found:
                return None
        else:
            found = await self._given()
        found.setdefault("client.crt", found["tls.crt"])
        found.setdefault("client.key", found["tls.key"])
        trust = [found.get("ca.crt") or found["tls.crt"]]
        if self.tls.client_authentication is not ClientAuthentication.NONE and self.tls.client_ca_secret is not None:
            name, field = self.tls.client_ca_secret.name, "spec.tls.clientCaSecret"
            data = await self._read(name, ("ca.crt",), field)
            from chandlery.foundation import x509

            trust.append(x509.check_authority(data["ca.crt"].encode(), field, name))
        return {**found, "trust.crt": "\n".join(pem.strip() for pem in trust) + "\n"}

    async def _given(self) -> dict[str, str]:
        from chandlery.foundation import x509

        if self.tls.certificate_secret is not None:
            name, field = self.tls.certificate_secret.name, "spec.tls.certificateSecret"
            data = await self._read(name, KEYS, field)
            x509.check_pair(data["tls.crt"].encode(), data["tls.key"].encode(), field, name)
        else:
            assert self.tls.issuer_ref is not None
            data, field = self._secret(ISSUED), "spec.tls.issuerRef"
            if not all(data.get(key) for key in KEYS):
                live = self.there.get(CERTIFICATES)
                told = [c.get("message", "") for c in ((live or {}).get("status") or {}).get("conditions") or ()]
                raise DependencyNotReady(
                    f"cert-manager has not issued the certificate yet{': ' + told[0] if told else ''}",
                    field=field,
                    value=self.tls.issuer_ref.name,
                    hint=f"See: kubectl describe certificate {self.there.owner.base} -n {self.there.owner.namespace}",
                )
        return {key: data[key] for key in (*KEYS, "ca.crt") if data.get(key)}

    async def _read(self, name: str, keys: Sequence[str], field: str) -> dict[str, str]:
        data = await self.ctx.reader.secret(self.there.owner.namespace, name)
        missing = [key for key in keys if not (data or {}).get(key)]
        if data is None or missing:
            what = f"the Secret {name} isn't there" if data is None else f"the Secret {name} has no {missing[0]}"
            raise DependencyNotReady(what, field=field, hint=f"Create it with {' and '.join(keys)}.")
        return {key: value.decode(errors="replace") for key, value in data.items()}

    # -- our own CA

    async def _make_ca(self) -> None:
        from chandlery.foundation import x509

        has, now, owner = self._secret(CA), self.ctx.base.now(), self.there.owner
        if {"ca.crt", "ca.key"} <= has.keys() and x509.expires(has["ca.crt"]) - now > x509.RENEW_BEFORE:
            return
        made = x509.make_ca(f"{owner.namespace}/{owner.name}", now)
        await self._write(CA, {"ca.crt": made.certificate, "ca.key": made.key})
        await self.there.look()

    def _issue(self) -> dict[str, str]:
        from chandlery.foundation import x509

        authority, now, owner = self._secret(CA), self.ctx.base.now(), self.there.owner
        ca = (authority["ca.crt"], authority["ca.key"])
        server = x509.issue(ca, self.names, now)
        client = x509.issue(ca, (), now, client=True, common_name=f"{owner.name}.{owner.namespace}")
        return {
            "tls.crt": server.certificate + ca[0],
            "tls.key": server.key,
            "ca.crt": ca[0],
            "client.crt": client.certificate + ca[0],
            "client.key": client.key,
        }

    def _secret(self, suffix: str) -> dict[str, str]:
        live = self.there.get(SECRETS, suffix)
        return {key: b64decode(value).decode() for key, value in ((live or {}).get("data") or {}).items()}

    async def _write(self, suffix: str, data: Mapping[str, str]) -> None:
        encoded = {key: b64encode(value.encode()).decode() for key, value in data.items()}
        body = self.there.owner.child(SECRETS, suffix, type="Opaque", data=encoded)
        await self.there.apply(annotated(body, {GENERATED: "true"}))


_DERIVED = frozenset({"previous.crt", "trust.crt"})


def volume(base: str, name: str = "tls") -> dict[str, Any]:
    """The volume of a pod; everything in it belongs to the pod's group."""
    return {"name": name, "secret": {"secretName": base + TLS, "defaultMode": 0o440}}
