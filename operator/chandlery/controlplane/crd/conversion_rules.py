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
    try:
        url = parse_request_uri(text) if text else None
    except UrlError as error:
        detail = f"url must be a valid URL: parse {quote(text)}: {error}; desired format: https://host[/path]"
        return [errors.required(path, detail)]
    form = "; desired format: https://host[/path]"
    found = []
    if url is None or url.scheme != "https":
        found.append(errors.invalid(path, url.scheme if url else "", f"'https' is the only allowed URL scheme{form}"))
    if url is None or not url.host:
        found.append(errors.invalid(path, url.host if url else "", f"host must be specified{form}"))
    if url is not None:
        if url.user:
            found.append(errors.invalid(path, url.user, "user information is not permitted in the URL"))
        if "#" in text:
            fragment = text.partition("#")[2]
            found.append(errors.invalid(path, fragment, "fragments are not permitted in the URL"))
        if url.query:
            found.append(errors.invalid(path, url.query, "query parameters are not permitted in the URL"))
    return found


def _webhook_service(service: Obj, path: str) -> list[FieldError]:
    found = [errors.required(f"{path}.{name}") for name in ("name", "namespace") if not service.get(name)]
    port = service.get("port")
    if port is not None and not 1 <= port <= 65535:
        detail = "port is not valid: must be between 1 and 65535, inclusive"
        found.append(errors.invalid(f"{path}.port", port, detail))
    text = service.get("path")
    if text is None or text in ("/", ""):
        return found
    at = f"{path}.path"
    if not text.startswith("/"):
        found.append(errors.invalid(at, text, "must start with a '/'"))
    steps = text[1:].split("/")
    if steps and not steps[-1]:
        steps.pop()
    for position, step in enumerate(steps):
        if not step:
            found.append(errors.invalid(at, text, f"segment[{position}] may not be empty"))
        elif problems := subdomain_errors(step):
            found.extend(errors.invalid(at, text, f"segment[{position}]: {problem}") for problem in problems)
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
