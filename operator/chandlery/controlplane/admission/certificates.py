"""Who may approve and sign certificate requests, and who may not ask for what.

Source: Kubernetes docs, admission controllers CertificateApproval, CertificateSigning, CertificateSubjectRestriction.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from chandlery.controlplane.admission.common import forbid
from chandlery.controlplane.types import Obj, RequestContext

if TYPE_CHECKING:
    from chandlery.controlplane.auth.authz import Authorizer

GROUP, PLURAL = "certificates.k8s.io", "certificatesigningrequests"
_CLIENT_SIGNER, _MASTERS = "kubernetes.io/kube-apiserver-client", "system:masters"


def check_certificates(authorizer: Authorizer | None, ctx: RequestContext, obj: Obj, old: Obj | None) -> None:
    """Raises ApiError 403."""
    if ctx.resource.plural != PLURAL or ctx.resource.group != GROUP:
        return
    signer = ((old or obj).get("spec") or {}).get("signerName", "")
    if old is None:
        if signer == _CLIENT_SIGNER and _MASTERS in _organisations(obj):
            why = f"use of {signer} signer with {_MASTERS} group is not allowed"
            raise forbid(ctx, obj, why)
        return
    verb = ""
    if ctx.subresource == "approval":
        verb = "approve"
    elif ctx.subresource == "status" and _issued(obj) != _issued(old):
        verb = "sign"
    if verb and authorizer is not None and not _allowed(authorizer, ctx, verb, signer):
        raise forbid(ctx, obj, f"user not permitted to {verb} requests with signerName {json.dumps(signer)}")


def _issued(obj: Obj) -> tuple[str, bool]:
    """The certificate, and whether the signer gave up."""
    status = obj.get("status") or {}
    failed = any(one.get("type") == "Failed" for one in status.get("conditions") or ())
    return status.get("certificate") or "", failed


def _allowed(authorizer: Authorizer, ctx: RequestContext, verb: str, signer: str) -> bool:
    """A right to the signer, or to all of its domain, is enough."""
    names = (signer, signer.partition("/")[0] + "/*")
    return any(authorizer.authorize(ctx.user, verb, group=GROUP, resource="signers", name=name)[0] for name in names)


def _organisations(obj: Obj) -> list[str]:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        request = x509.load_pem_x509_csr(base64.b64decode((obj.get("spec") or {}).get("request") or ""))
        return [str(one.value) for one in request.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    except ValueError:
        return []  # validation says why
