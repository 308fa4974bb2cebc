"""Resources that are answered and never stored: the reviews, and ServiceAccount tokens.

Source: the groups authentication.k8s.io/v1 and authorization.k8s.io/v1 of the Kubernetes API reference.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from chandlery.controlplane.errors import invalid
from chandlery.controlplane.metadata import label_value_errors, qualified_name_errors
from chandlery.controlplane.types import ApiError, FieldError, Obj, RequestContext, UserInfo

if TYPE_CHECKING:
    from chandlery.controlplane.auth.authn import Authenticator
    from chandlery.controlplane.auth.authz import Authorizer
    from chandlery.controlplane.auth.tokens import ServiceAccountTokens
    from chandlery.controlplane.types import LocalApi

VirtualHandler = Callable[[RequestContext, Obj], Awaitable[Obj]]
"""Takes the decoded and defaulted body (with its managedFields already set), answers the body of the 201."""

_AUTHENTICATION = "authentication.k8s.io"
_AUTHORIZATION = "authorization.k8s.io"
_BOUND_PLURALS = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}


def virtual_resources(
    api: LocalApi, authenticator: Authenticator, authorizer: Authorizer, tokens: ServiceAccountTokens
) -> dict[tuple[str, str, str], VirtualHandler]:
    """(group, plural, subresource) -> the function that answers a create."""
    access = _AccessReviews(authorizer)
    identity = _IdentityReviews(api, authenticator, tokens)
    return {
        (_AUTHORIZATION, "subjectaccessreviews", ""): access.subject,
        (_AUTHORIZATION, "localsubjectaccessreviews", ""): access.local,
        (_AUTHORIZATION, "selfsubjectaccessreviews", ""): access.self_access,
        (_AUTHORIZATION, "selfsubjectrulesreviews", ""): access.self_rules,
        (_AUTHENTICATION, "selfsubjectreviews", ""): identity.self_subject,
        (_AUTHENTICATION, "tokenreviews", ""): identity.token_review,
        ("", "serviceaccounts", "token"): identity.service_account_token,
    }


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _now() -> str:
    return _timestamp(datetime.now(UTC).timestamp())


def user_obj(user: UserInfo) -> Obj:
    """UserInfo as `authentication.k8s.io/v1` JSON, without empty fields."""
    obj: Obj = {}
    if user.name:
        obj["username"] = user.name
    if user.uid:
        obj["uid"] = user.uid
    if user.groups:
        obj["groups"] = list(user.groups)
    if user.extra:
        obj["extra"] = {key: list(values) for key, values in user.extra.items()}
    return obj


class _AccessReviews:
    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    async def subject(self, ctx: RequestContext, obj: Obj) -> Obj:
        spec = obj.get("spec") or {}
        errors = _attribute_errors(spec) + _subject_errors(spec)
        if _named(obj):
            errors.append(FieldError("metadata", "FieldValueInvalid", _not_empty(obj)))
        if errors:
            raise invalid(_AUTHORIZATION, "", "", errors)
        return self._answer(obj, _user_of(spec))

    async def local(self, ctx: RequestContext, obj: Obj) -> Obj:
        spec = obj.get("spec") or {}
        errors = _attribute_errors(spec) + _subject_errors(spec)
        namespace = obj.get("metadata", {}).get("namespace", "") or ctx.namespace
        resource = spec.get("resourceAttributes")
        if resource is not None and resource.get("namespace", "") != namespace:
            detail = f"Invalid value: {json.dumps(resource.get('namespace', ''))}: must match metadata.namespace"
            errors.append(FieldError("spec.resourceAttributes.namespace", "FieldValueInvalid", detail))
        other = spec.get("nonResourceAttributes")
        if other is not None:
            detail = f"Invalid value: {_non_resource(other)}: disallowed on this kind of request"
            errors.append(FieldError("spec.nonResourceAttributes", "FieldValueInvalid", detail))
        if errors:
            raise invalid(_AUTHORIZATION, "", "", errors)
        return self._answer(obj, _user_of(spec))

    async def self_access(self, ctx: RequestContext, obj: Obj) -> Obj:
        errors = _attribute_errors(obj.get("spec") or {})
        if _named(obj):
            errors.append(FieldError("metadata", "FieldValueInvalid", _not_empty(obj)))
        if errors:
            raise invalid(_AUTHORIZATION, "", "", errors)
        return self._answer(obj, ctx.user)

    async def self_rules(self, ctx: RequestContext, obj: Obj) -> Obj:
        namespace = (obj.get("spec") or {}).get("namespace", "")
        if not namespace:
            raise ApiError(400, "BadRequest", "no namespace on request")
        rules, errors = self._authorizer.rules_of(ctx.user, namespace)
        status: Obj = {
            "resourceRules": [rule.to_obj() for rule in rules if rule.resources],
            "nonResourceRules": [rule.to_obj() for rule in rules if rule.urls],
            "incomplete": bool(errors),
        }
        if errors:
            status["evaluationError"] = errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]"
        return {
            "kind": "SelfSubjectRulesReview",
            "apiVersion": f"{_AUTHORIZATION}/v1",
            "metadata": {},
            "spec": {},
            "status": status,
        }

    def _answer(self, obj: Obj, user: UserInfo) -> Obj:
        spec = obj["spec"]
        asked = spec.get("resourceAttributes")
        if asked is not None:
            allowed, reason = self._authorizer.authorize(
                user,
                asked.get("verb", ""),
                group=asked.get("group", ""),
                resource=asked.get("resource", ""),
                subresource=asked.get("subresource", ""),
                namespace=asked.get("namespace", ""),
                name=asked.get("name", ""),
            )
        else:
            asked = spec["nonResourceAttributes"]
            allowed, reason = self._authorizer.authorize(user, asked.get("verb", ""), path=asked.get("path", ""))
        status: Obj = {"allowed": allowed}
        if reason:
            status["reason"] = reason
        return {**obj, "metadata": obj.get("metadata") or {}, "status": status}


def _user_of(spec: Obj) -> UserInfo:
    extra = {key.lower(): tuple(values) for key, values in (spec.get("extra") or {}).items()}
    return UserInfo(spec.get("user", ""), spec.get("uid", ""), tuple(spec.get("groups") or ()), extra)


def _named(obj: Obj) -> bool:
    return any(key != "managedFields" for key, value in (obj.get("metadata") or {}).items() if value)


def _not_empty(obj: Obj) -> str:
    meta = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    return f"Invalid value: {json.dumps(meta, separators=(',', ':'))}: must be empty"


def _non_resource(attributes: Obj) -> str:
    shown = {"Path": attributes.get("path", ""), "Verb": attributes.get("verb", "")}
    return json.dumps(shown, separators=(",", ":"))


def _attribute_errors(spec: Obj) -> list[FieldError]:
    resource = spec.get("resourceAttributes")
    other = spec.get("nonResourceAttributes")
    if resource is not None and other is not None:
        detail = f"Invalid value: {_non_resource(other)}: cannot be specified in combination with resourceAttributes"
        return [FieldError("spec.nonResourceAttributes", "FieldValueInvalid", detail)]
    if resource is None and other is None:
        detail = "Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified"
        return [FieldError("spec.resourceAttributes", "FieldValueInvalid", detail)]
    errors: list[FieldError] = []
    for field in ("fieldSelector", "labelSelector"):
        selector = (resource or {}).get(field)
        if selector is not None:
            errors += _selector_errors(selector, f"spec.resourceAttributes.{field}")
    return errors


def _selector_errors(selector: Obj, path: str) -> list[FieldError]:
    """A selector that a request is limited to: either text or requirements. Unknown operators are let through."""
    raw, requirements = selector.get("rawSelector", ""), selector.get("requirements") or []
    errors: list[FieldError] = []
    if raw and requirements:
        detail = f"Invalid value: {json.dumps(raw)}: may not specified at the same time as requirements"
        errors.append(FieldError(f"{path}.rawSelector", "FieldValueInvalid", detail))
    if not raw and not requirements:
        detail = f"Required value: when {path} is specified, requirements or rawSelector is required"
        errors.append(FieldError(f"{path}.requirements", "FieldValueRequired", detail))
    for index, requirement in enumerate(requirements):
        here = f"{path}.requirements[{index}]"
        operator, values = requirement.get("operator", ""), requirement.get("values") or []
        if operator in ("In", "NotIn") and not values:
            detail = "Required value: must be specified when `operator` is 'In' or 'NotIn'"
            errors.append(FieldError(f"{here}.values", "FieldValueRequired", detail))
        elif operator in ("Exists", "DoesNotExist") and values:
            detail = "Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            errors.append(FieldError(f"{here}.values", "FieldValueForbidden", detail))
        if path.endswith("fieldSelector"):
            if not requirement.get("key"):
                errors.append(FieldError(f"{here}.key", "FieldValueRequired", "Required value: must be specified"))
        else:
            errors += _each(f"{here}.key", requirement.get("key", ""), qualified_name_errors)
            for number, value in enumerate(values):
                errors += _each(f"{here}.values[{number}]", value, label_value_errors)
    return errors


def _each(path: str, value: str, problems: Callable[[str], Sequence[str]]) -> list[FieldError]:
    return [
        FieldError(path, "FieldValueInvalid", f"Invalid value: {json.dumps(value)}: {problem}")
        for problem in problems(value)
    ]


def _subject_errors(spec: Obj) -> list[FieldError]:
    if spec.get("user") or spec.get("groups"):
        return []
    detail = 'Invalid value: "": at least one of user or group must be specified'
    return [FieldError("spec.user", "FieldValueInvalid", detail)]


class _IdentityReviews:
    def __init__(self, api: LocalApi, authenticator: Authenticator, tokens: ServiceAccountTokens) -> None:
        self._api = api
        self._authenticator = authenticator
        self._tokens = tokens

    async def self_subject(self, ctx: RequestContext, obj: Obj) -> Obj:
        return {
            "kind": "SelfSubjectReview",
            "apiVersion": f"{_AUTHENTICATION}/v1",
            "metadata": {"creationTimestamp": _now()},
            "status": {"userInfo": user_obj(ctx.user)},
        }

    async def token_review(self, ctx: RequestContext, obj: Obj) -> Obj:
        spec = obj.get("spec") or {}
        token = spec.get("token", "")
        if not token:
            raise ApiError(400, "BadRequest", "token is required for TokenReview in authentication")
        wanted = tuple(spec.get("audiences") or self._tokens.audiences)
        user = self._authenticator.authenticate_token(token, wanted)
        status: Obj = {"user": {}}
        if user is None:
            reason = self._tokens.problem(token, wanted)
            status["error"] = f"[invalid bearer token, {reason}]" if reason else "invalid bearer token"
        else:
            claims = self._tokens.claims(token)
            # A token without audiences of its own (from the token file) is for this server.
            own = claims["aud"] if claims is not None else self._tokens.audiences
            shared = [audience for audience in wanted if audience in own]
            if shared:
                status = {"authenticated": True, "user": user_obj(user), "audiences": shared}
            else:
                listed = " ".join(json.dumps(audience) for audience in own)
                asked = " ".join(json.dumps(audience) for audience in wanted)
                status["error"] = f"token audiences [{listed}] is invalid for the target audiences [{asked}]"
        return {**obj, "metadata": obj.get("metadata") or {}, "status": status}

    async def service_account_token(self, ctx: RequestContext, obj: Obj) -> Obj:
        account = self._api.get("", "serviceaccounts", ctx.namespace, ctx.name)
        if account is None:
            raise _not_found("serviceaccounts", ctx.name)
        given = (obj.get("metadata") or {}).get("name", "")
        if given and given != ctx.name:
            detail = f"Invalid value: {json.dumps(given)}: must match the service account name if specified"
            error = FieldError("metadata.name", "FieldValueInvalid", detail)
            raise invalid(_AUTHENTICATION, "TokenRequest", ctx.name, [error])
        spec = obj.get("spec") or {}
        audiences = list(spec.get("audiences") or self._tokens.audiences)
        seconds = spec.get("expirationSeconds")
        seconds = 3600 if seconds is None else int(seconds)
        problem = ""
        if seconds < 600:
            problem = "may not specify a duration less than 10 minutes"
        elif seconds > 1 << 32:
            problem = "may not specify a duration larger than 2^32 seconds"
        if problem:
            detail = f"Invalid value: {seconds}: {problem}"
            error = FieldError("spec.expirationSeconds", "FieldValueInvalid", detail)
            raise invalid(_AUTHENTICATION, "TokenRequest", "", [error])
        bound = self._bound(ctx, spec.get("boundObjectRef"))
        token, expires = self._tokens.issue(account, audiences, seconds, bound)
        meta: Obj = {
            "name": account["metadata"]["name"],
            "namespace": ctx.namespace,
            "uid": account["metadata"]["uid"],
            "creationTimestamp": _timestamp(expires - seconds),
        }
        managed = (obj.get("metadata") or {}).get("managedFields")
        if managed:
            meta["managedFields"] = managed
        return {
            "kind": "TokenRequest",
            "apiVersion": f"{_AUTHENTICATION}/v1",
            "metadata": meta,
            "spec": {
                "audiences": audiences,
                "expirationSeconds": seconds,
                "boundObjectRef": spec.get("boundObjectRef"),
            },
            "status": {"token": token, "expirationTimestamp": _timestamp(expires)},
        }

    def _bound(self, ctx: RequestContext, ref: Obj | None) -> tuple[str, Obj] | None:
        if not ref:
            return None
        kind = ref.get("kind", "")
        plural = _BOUND_PLURALS.get(kind)
        name = ref.get("name", "")
        if plural is None:
            group, slash, version = ref.get("apiVersion", "").partition("/")
            shown = f"{group}/{version}" if slash else f"/{group}"
            raise ApiError(400, "BadRequest", f"cannot bind token to object of type {shown}, Kind={kind}")
        found = self._api.get("", plural, "" if kind == "Node" else ctx.namespace, name)
        if found is None:
            raise _not_found(plural, name)
        if kind == "Pod" and (found.get("spec") or {}).get("serviceAccountName", "") != ctx.name:
            message = (
                f"cannot bind token for serviceaccount {json.dumps(ctx.name)} to pod running with different "
                "serviceaccount name."
            )
            raise ApiError(400, "BadRequest", message)
        uid = found["metadata"]["uid"]
        if ref.get("uid") and ref["uid"] != uid:
            message = (
                f"Operation cannot be fulfilled on {kind} {json.dumps(name)}: the UID in the bound object reference"
                f" ({ref['uid']}) does not match the UID in record."
                " The object might have been deleted and then recreated"
            )
            raise ApiError(409, "Conflict", message, {"name": name, "kind": kind})
        return kind.lower(), found


def _not_found(plural: str, name: str) -> ApiError:
    message = f"{plural} {json.dumps(name)} not found"
    return ApiError(404, "NotFound", message, {"name": name, "kind": plural})
