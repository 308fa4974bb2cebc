"""The rules of `spec.conversion`: how a CRD's versions become one another."""

from __future__ import annotations

import base64

from chandlery.controlplane.crd.openapi_rules import Tightness
from chandlery.controlplane.metadata import subdomain_errors
from chandlery.controlplane.schema import errors
from chandlery.controlplane.schema.gotext import quote
from chandlery.controlplane.schema.gourl import UrlError, parse_request_uri
from chandlery.controlplane.schema.names import dns1035_errors
from chandlery.controlplane.types import FieldError, Obj

STRATEGIES = ("None", "Webhook")
REVIEWS = ("v1", "v1beta1")
"""Versions of ConversionReview that are known."""


def _strategy_errors(strategy: str) -> list[FieldError]:
    path = "spec.conversion.strategy"
    if not strategy:
        return [errors.required(path)]
    return [] if strategy in STRATEGIES else [errors.not_supported(path, strategy, STRATEGIES)]


def conversion_errors(spec: Obj, tightness: Tightness, *, established: bool, old: Obj | None) -> list[FieldError]:
    conversion = spec.get("conversion")
    if not isinstance(conversion, dict):
        return []
    strategy = conversion.get("strategy") or ""
    found = _strategy_errors(strategy)
    webhook = conversion.get("webhook")
    client = (webhook or {}).get("clientConfig")
    reviews = (webhook or {}).get("conversionReviewVersions") or []
    path = "spec.conversion.webhookClientConfig"
    if strategy != "Webhook":
        if client is not None:
            found.append(errors.forbidden(path, "should not be set when strategy is not set to Webhook"))
        if reviews:
            at = "spec.conversion.conversionReviewVersions"
            found.append(errors.forbidden(at, "should not be set when strategy is not set to Webhook"))
        return found
    if spec.get("preserveUnknownFields"):
        detail = "must be None if spec.preserveUnknownFields is true"
        found.append(errors.invalid("spec.conversion.strategy", strategy, detail))
    if client is None:
        found.append(errors.required(path, "required when strategy is set to Webhook"))
    else:
        found += _client(client, path)
        if client.get("caBundle") and established:
            before = ((((old or {}).get("spec") or {}).get("conversion") or {}).get("webhook") or {}).get(
                "clientConfig"
            )
            if _bad_bundle(client["caBundle"]) and not _bad_bundle((before or {}).get("caBundle") or ""):
                detail = f"unable to load root certificates: {_bad_bundle(client['caBundle'])}"
                found.append(errors.invalid_raw(f"{path}.caBundle", quote(client["caBundle"]), detail))
    return found + _review_versions(reviews, tightness)


def bundle_problem(spec: Obj) -> str:
    """Why the CA bundle of a CRD's conversion webhook can't be used; "" when it can, or there is none."""
    client = ((spec.get("conversion") or {}).get("webhook") or {}).get("clientConfig") or {}
    return _bad_bundle(client.get("caBundle") or "")


def _bad_bundle(bundle: str) -> str:
    """Why a CA bundle can't be used; "" when it can or is empty."""
    if not bundle:
        return ""
    try:
        pem = base64.b64decode(bundle).decode("latin-1")
    except ValueError:
        return "unable to parse bytes as PEM block"
    return "" if "-----BEGIN CERTIFICATE-----" in pem else "unable to parse bytes as PEM block"


def _client(client: Obj, path: str) -> list[FieldError]:
    url, service = client.get("url"), client.get("service")
    if (url is None) == (service is None):
        return [errors.required(path, "exactly one of url or service is required")]
    return _webhook_url(url, f"{path}.url") if url is not None else _webhook_service(service or {}, f"{path}.service")


def _webhook_url(text: str, path: str) -> list[FieldError]:
    form = "; desired format: https://host[/path]"
    plain, _, fragment = text.partition("#")
    scheme = host = user = query = ""
    try:
        url = parse_request_uri(plain)
        scheme, host, user, query = url.scheme, url.host, url.user, url.query
    except UrlError as error:
        if ":" in plain.partition("/")[0] or any(ord(char) < 0x20 for char in plain):
            return [errors.required(path, f"url must be a valid URL: parse {quote(text)}: {error}{form}")]
        query = plain.partition("?")[2]  # a relative reference: it has neither scheme nor host
    found = []
    if scheme != "https":
        found.append(errors.invalid(path, scheme, f"'https' is the only allowed URL scheme{form}"))
    if not host:
        found.append(errors.invalid(path, host, f"host must be specified{form}"))
    if user:
        found.append(errors.invalid(path, user, "user information is not permitted in the URL"))
    if fragment:
        found.append(errors.invalid(path, fragment, "fragments are not permitted in the URL"))
    if query:
        found.append(errors.invalid(path, query, "query parameters are not permitted in the URL"))
    return found


def _webhook_service(service: Obj, path: str) -> list[FieldError]:
    # The reference server takes the one for the other here, and clients have seen it so.
    missing = (("name", "namespace"), ("namespace", "name"))
    found = [errors.required(f"{path}.{shown}") for shown, looked_at in missing if not service.get(looked_at)]
    port = service.get("port")
    if port is not None and not 1 <= port <= 65535:
        detail = "port is not valid: must be between 1 and 65535, inclusive"
        found.append(errors.invalid(f"{path}.port", port, detail))
    text = service.get("path")
    if text is None or text in ("/", ""):
        return found
    at = f"{path}.path"
    if text == "//":
        return [*found, errors.invalid(at, text, "segment[0] may not be empty")]
    if not text.startswith("/"):
        found.append(errors.invalid(at, text, "must start with a '/'"))
    for position, step in enumerate(text[1:].removesuffix("/").split("/")):
        if not step:
            found.append(errors.invalid(at, text, f"segment[{position}] may not be empty"))
        else:
            found += [errors.invalid(at, text, f"segment[{position}]: {why}") for why in subdomain_errors(step)]
    return found


def _review_versions(versions: list[str], tightness: Tightness) -> list[FieldError]:
    path = "spec.conversion.conversionReviewVersions"
    if not versions:
        return [errors.required(path)]
    found: list[FieldError] = []
    seen: set[str] = set()
    for position, version in enumerate(versions):
        at = f"{path}[{position}]"
        if version in seen:
            found.append(errors.invalid(at, version, "duplicate version"))
            continue
        seen.add(version)
        found += [errors.invalid(at, version, problem) for problem in dns1035_errors(version)]
    if tightness.recognized_reviews and not seen & set(REVIEWS):
        found.append(errors.invalid(path, versions, f"must include at least one of {', '.join(REVIEWS)}"))
    return found
