"""ServiceAccount tokens: JWTs signed with ES256 by a key in the data directory.

Source: RFC 7515, RFC 7519; Kubernetes docs, "Managing Service Accounts" (claims, bound objects).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from chandlery.controlplane.types import Obj, UserInfo

if TYPE_CHECKING:
    from chandlery.controlplane.types import LocalApi

ISSUER = "https://kubernetes.default.svc"
_KNOWN_LIMIT = 10_000
_CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"
_BOUND = {"pod": "pods", "secret": "secrets", "node": "nodes"}


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _load_or_create_key(key_file: Path) -> ec.EllipticCurvePrivateKey:
    if key_file.exists():
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ValueError(f"{key_file}: must hold an EC private key on the curve P-256; delete it to have one made")
        return key
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(pem)
    return key


class ServiceAccountTokens:
    """Signs and verifies. The key is made at the first start: `key_file`, mode 0600."""

    def __init__(
        self, api: LocalApi, key_file: Path, *, issuer: str = ISSUER, now: Callable[[], float] = time.time
    ) -> None:
        self._api = api
        self._key = _load_or_create_key(key_file)
        self._public = self._key.public_key()
        self._now = now
        self.issuer = issuer
        self.audiences: tuple[str, ...] = (issuer,)
        der = self._public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        self._key_id = _encode(hashlib.sha256(der).digest())
        self._known: dict[bytes, Obj] = {}
        """Claims of tokens whose signature was good, by the token's digest."""

    def issue(
        self, account: Obj, audiences: Sequence[str], seconds: int, bound: tuple[str, Obj] | None = None
    ) -> tuple[str, int]:
        """A token for a ServiceAccount, and when it expires (Unix time).

        `bound` ties it to an object, ("pod" | "secret" | "node", the object): when that goes, so does the token.
        """
        meta = account["metadata"]
        now = int(self._now())
        subject: Obj = {
            "namespace": meta["namespace"],
            "serviceaccount": {"name": meta["name"], "uid": meta["uid"]},
        }
        if bound is not None:
            kind, obj = bound
            subject[kind] = {"name": obj["metadata"]["name"], "uid": obj["metadata"]["uid"]}
        claims = {
            "aud": list(audiences),
            "exp": now + seconds,
            "iat": now,
            "iss": self.issuer,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": subject,
            "nbf": now,
            "sub": f"system:serviceaccount:{meta['namespace']}:{meta['name']}",
        }
        head = _encode(json.dumps({"alg": "ES256", "kid": self._key_id}, separators=(",", ":")).encode())
        body = f"{head}.{_encode(json.dumps(claims, separators=(',', ':')).encode())}"
        r, s = decode_dss_signature(self._key.sign(body.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{body}.{_encode(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}", now + seconds

    def verify(self, token: str, audiences: Sequence[str] = ()) -> UserInfo | None:
        """The user that a token of ours stands for; None when it isn't ours, expired, or its objects are gone."""
        found = self._check(token, audiences)
        return found if isinstance(found, UserInfo) else None

    def problem(self, token: str, audiences: Sequence[str] = ()) -> str:
        """Why a token with our signature is not taken; "" when it is, or isn't ours."""
        found = self._check(token, audiences)
        return found if isinstance(found, str) else ""

    def _check(self, token: str, audiences: Sequence[str]) -> UserInfo | str | None:
        """The user, or what is wrong with the token; None when it isn't ours."""
        claims = self.claims(token)
        if claims is None:
            return None
        now = self._now()
        if claims["exp"] <= now:
            return "service account token has expired"
        if claims["nbf"] > now + 60:
            return "service account token is not valid yet"
        wanted = audiences or self.audiences
        if not set(claims["aud"]) & set(wanted):
            own, asked = (" ".join(json.dumps(one) for one in names) for names in (claims["aud"], wanted))
            return f"token audiences [{own}] is invalid for the target audiences [{asked}]"
        subject = claims["kubernetes.io"]
        namespace = subject["namespace"]
        reference = subject["serviceaccount"]
        account = self._api.get("", "serviceaccounts", namespace, reference["name"])
        if account is None:
            return f"serviceaccounts {json.dumps(reference['name'])} not found"
        if account["metadata"]["uid"] != reference["uid"]:
            return f"service account UID ({account['metadata']['uid']}) does not match claim ({reference['uid']})"
        extra: dict[str, tuple[str, ...]] = {_CREDENTIAL_ID: (f"JTI={claims['jti']}",)}
        for kind, plural in _BOUND.items():
            ref = subject.get(kind)
            if ref is None:
                continue
            found = self._api.get("", plural, "" if kind == "node" else namespace, ref["name"])
            if found is None or found["metadata"]["uid"] != ref["uid"]:
                return "service account token has been invalidated"
            if kind != "secret":
                extra[f"authentication.kubernetes.io/{kind}-name"] = (ref["name"],)
                extra[f"authentication.kubernetes.io/{kind}-uid"] = (ref["uid"],)
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
        return UserInfo(claims["sub"], account["metadata"]["uid"], groups, extra)

    def claims(self, token: str) -> Obj | None:
        """The claims of a token with a good signature and our issuer, else None."""
        digest = hashlib.sha256(token.encode()).digest()
        known = self._known.get(digest)
        if known is not None:
            return known
        head, _, rest = token.partition(".")
        body, _, signature = rest.partition(".")
        try:
            header: Any = json.loads(_decode(head))
            raw = _decode(signature)
            if header.get("alg") != "ES256" or len(raw) != 64:
                return None
            der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
            self._public.verify(der, f"{head}.{body}".encode(), ec.ECDSA(hashes.SHA256()))
            claims: Any = json.loads(_decode(body))
        except (ValueError, AttributeError, RecursionError, InvalidSignature):
            return None
        if not isinstance(claims, dict) or claims.get("iss") != self.issuer:
            return None
        if len(self._known) >= _KNOWN_LIMIT:
            self._known.clear()
        self._known[digest] = claims
        return claims

    def jwks(self) -> Obj:
        """The public key as a JWK set (`/openid/v1/jwks`). Source: RFC 7517."""
        numbers = self._public.public_numbers()
        key = {
            "use": "sig",
            "kty": "EC",
            "kid": self._key_id,
            "crv": "P-256",
            "alg": "ES256",
            "x": _encode(numbers.x.to_bytes(32, "big")),
            "y": _encode(numbers.y.to_bytes(32, "big")),
        }
        return {"keys": [key]}

    def discovery(self) -> Obj:
        """The OpenID provider document (`/.well-known/openid-configuration`)."""
        return {
            "issuer": self.issuer,
            "jwks_uri": f"{self.issuer}/openid/v1/jwks",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        }
