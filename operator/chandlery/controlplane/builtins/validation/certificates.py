"""CertificateSigningRequests. Source: the API documentation of certificates.k8s.io/v1, texts of kube-apiserver 1.36."""

from __future__ import annotations

import base64
import re

from chandlery.controlplane.builtins.validation.common import (
    Errors,
    duplicate,
    each,
    forbidden,
    invalid,
    one_of,
    required,
    unsupported,
)
from chandlery.controlplane.metadata import label_errors, subdomain_errors
from chandlery.controlplane.types import FieldError, Obj, RequestContext

USAGES = (
    "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment",
    "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel",
    "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime",
    "server auth", "signing", "timestamping",
)  # fmt: skip
_ONCE_TRUE = ("Approved", "Denied", "Failed")
_DECISIONS = ("Approved", "Denied")
_BLOCK = re.compile(rb"-----BEGIN ([^-\r\n]*)-----\r?\n(.*?)-----END \1-----", re.DOTALL)
_SEGMENT = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"


def _request_problem(text: str) -> str:
    """Why a request can't be read, or wasn't signed by its own key; "" when it is one."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    try:
        pem = base64.b64decode(text)
        if not re.search(rb"-----BEGIN CERTIFICATE REQUEST-----", pem):
            return "PEM block type must be CERTIFICATE REQUEST"
        request = x509.load_pem_x509_csr(pem)
        return "" if request.is_signature_valid else "x509: signature does not match"
    except (ValueError, TypeError, InvalidSignature):
        return "asn1: structure error: the certificate request can't be read"


def _certificate_problem(text: str) -> str:
    from cryptography import x509

    if not text:
        return ""
    blocks = _BLOCK.findall(base64.b64decode(text))
    if not blocks:
        return "must contain at least one CERTIFICATE PEM block"
    for kind, inside in blocks:
        if kind != b"CERTIFICATE":
            return f'only CERTIFICATE PEM blocks are allowed, found "{kind.decode("latin-1")}"'
        if b":" in inside:
            return "no PEM block headers are permitted"
        try:
            x509.load_der_x509_certificate(base64.b64decode(inside))
        except ValueError:
            return "x509: malformed certificate"
    return ""


def _signer_name(name: str) -> Errors:
    path = "spec.signerName"
    if not name:
        return [required(path)]
    segments = name.split("/")
    if len(segments) != 2:
        return [invalid(path, name, "must be a fully qualified domain and path of the form 'example.com/signer-name'")]
    domain, rest = segments
    if "." not in domain:
        return [invalid(path, name, "should be a domain with at least two segments separated by dots")]
    errors = each(path, domain, subdomain_errors(domain))
    for part in rest.split("."):
        if label_errors(part):
            where = f"validating label {part!r}: " if part else 'validating label "": '
            errors += [invalid(path, rest, where + problem) for problem in label_errors(part)]
    return errors


def _conditions(obj: Obj, old: Obj | None) -> Errors:
    errors: Errors = []
    status = obj.get("status") or {}
    before = [one.get("type", "") for one in ((old or {}).get("status") or {}).get("conditions") or ()]
    seen: list[str] = []
    for index, one in enumerate(status.get("conditions") or ()):
        here, kind, value = f"status.conditions[{index}]", one.get("type", ""), one.get("status", "")
        if not kind and "" not in before:
            errors.append(required(f"{here}.type"))
        allowed = ("True",) if kind in _ONCE_TRUE else ("False", "True", "Unknown")
        errors += one_of(f"{here}.status", value, allowed, need=True)
        other = {"Approved": "Denied", "Denied": "Approved"}.get(kind)
        if other in seen and not (kind in before and other in before):
            text = "Approved and Denied conditions are mutually exclusive"
            errors.append(invalid(f"{here}.type", kind, text))
        if kind in seen and len(set(before)) == len(before):
            errors.append(duplicate(f"{here}.type", kind))
        seen.append(kind)
    return errors


def _whole(obj: Obj, old: Obj | None) -> Errors:
    spec = obj.get("spec") or {}
    errors: list[FieldError] = []
    problem = _request_problem(spec.get("request") or "")
    if problem:
        errors.append(invalid("spec.request", spec.get("request") or "", problem))
    usages = spec.get("usages") or []
    if not usages:
        errors.append(required("spec.usages"))
    for index, usage in enumerate(usages):
        if usage not in USAGES:
            errors.append(unsupported(f"spec.usages[{index}]", usage, USAGES))
    for index, usage in enumerate(usages):
        if usage in usages[:index]:
            errors.append(duplicate(f"spec.usages[{index}]", usage))
    name = spec.get("signerName", "")
    if name == "kubernetes.io/legacy-unknown":
        errors.append(invalid("spec.signerName", name, "the legacy signerName is not allowed via this API version"))
    else:
        errors += _signer_name(name)
    seconds = spec.get("expirationSeconds")
    if seconds is not None and seconds < 600:
        text = "may not specify a duration less than 600 seconds (10 minutes)"
        errors.append(invalid("spec.expirationSeconds", seconds, text))
    errors += _conditions(obj, old)
    certificate = (obj.get("status") or {}).get("certificate") or ""
    if certificate != (((old or {}).get("status") or {}).get("certificate") or ""):
        problem = _certificate_problem(certificate)
        if problem:
            errors.append(invalid("status.certificate", "<certificate data>", problem))
    return errors


def signing_request(_: RequestContext, obj: Obj) -> Errors:
    return _whole(obj, None)


def signing_request_update(ctx: RequestContext, obj: Obj, old: Obj) -> Errors:
    errors = _whole(obj, old)
    status, before = obj.get("status") or {}, old.get("status") or {}

    def of(side: Obj, kind: str) -> list[Obj]:
        return [one for one in side.get("conditions") or () if one.get("type") == kind]

    for kind in _ONCE_TRUE:
        new, was = of(status, kind), of(before, kind)
        if len(new) < len(was):
            errors.append(forbidden("status.conditions", f'updates may not remove a condition of type "{kind}"'))
        elif ctx.subresource != "approval" and kind in _DECISIONS:
            if len(new) > len(was):
                errors.append(forbidden("status.conditions", f'updates may not add a condition of type "{kind}"'))
            elif new != was:
                errors.append(forbidden("status.conditions", f'updates may not modify a condition of type "{kind}"'))
    if (status.get("certificate") or "") != (before.get("certificate") or ""):
        if ctx.subresource != "status":
            errors.append(forbidden("status.certificate", "updates may not set certificate content"))
        elif before.get("certificate"):
            errors.append(forbidden("status.certificate", "updates may not modify existing certificate content"))
    return errors
