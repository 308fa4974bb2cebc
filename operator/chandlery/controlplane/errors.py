"""The answers that are not a success, in the words of the real server.

Source: apimachinery `pkg/api/errors`, whose texts clients match on.
"""

from __future__ import annotations

from collections.abc import Sequence

from chandlery.controlplane.types import ApiError, FieldError, Obj, Resource


def _details(resource: Resource | None, name: str = "", **more: object) -> Obj:
    details: Obj = {}
    if name:
        details["name"] = name
    if resource is not None:
        if resource.group:
            details["group"] = resource.group
        details["kind"] = resource.plural
    details.update(more)
    return details


def not_found(resource: Resource, name: str) -> ApiError:
    return ApiError(404, "NotFound", f'{resource.group_resource} "{name}" not found', _details(resource, name))


def generic_not_found() -> ApiError:
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(resource: Resource, name: str, *, generated: bool = False, ending: bool = False) -> ApiError:
    """`generated`: the object has a generateName too, whoever made its name; `ending`: the one that is there goes."""
    text = f'{resource.group_resource} "{name}" already exists'
    details, headers = _details(resource, name), {}
    if generated:
        text += ", the server was not able to generate a unique name for the object"
        details["retryAfterSeconds"] = 1
        headers["Retry-After"] = "1"
    if ending:
        text = f"object is being deleted: {text}"
    return ApiError(409, "AlreadyExists", text, details, headers=headers)


def conflict(resource: Resource, name: str, why: str) -> ApiError:
    return ApiError(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {resource.group_resource} "{name}": {why}',
        _details(resource, name),
    )


MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def modified(resource: Resource, name: str) -> ApiError:
    return conflict(resource, name, MODIFIED)


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def internal(message: str) -> ApiError:
    return ApiError(
        500,
        "InternalError",
        f"Internal error occurred: {message}",
        {"causes": [{"message": message}]},
    )


def plain_internal(message: str) -> ApiError:
    """A 500 without a reason: an error that the real server passes on as it is."""
    return ApiError(500, "", message)


def method_not_allowed() -> ApiError:
    return ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {})


def method_not_supported(resource: Resource, action: str) -> ApiError:
    return ApiError(
        405,
        "MethodNotAllowed",
        f'{action} is not supported on resources of kind "{resource.group_resource}"',
        _details(resource),
    )


def forbidden(resource: Resource, name: str, why: str) -> ApiError:
    return ApiError(
        403, "Forbidden", f'{resource.group_resource} "{name}" is forbidden: {why}', _details(resource, name)
    )


def timeout(message: str, causes: list[Obj] | None = None, retry_after: int = 0) -> ApiError:
    details: Obj = {}
    if causes:
        details["causes"] = causes
    if retry_after:
        details["retryAfterSeconds"] = retry_after
    return ApiError(504, "Timeout", f"Timeout: {message}", details)


def too_large_revision(wanted: int, current: int) -> ApiError:
    error = timeout(
        f"Too large resource version: {wanted}, current: {current}",
        [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        1,
    )
    error.headers["Retry-After"] = "1"
    return error


def invalid(group: str, kind: str, name: str, errors: Sequence[FieldError]) -> ApiError:
    """422 from field errors; one is told bare, several in brackets, as `ToAggregate` does (duplicates once)."""
    texts: list[str] = []
    for error in errors:
        text = f"{error.path}: {error.detail}"
        if text not in texts:
            texts.append(text)
    body = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
    qualified = f"{kind}.{group}" if group else kind
    details: Obj = {}
    if name:
        details["name"] = name
    if group:
        details["group"] = group
    if kind:
        details["kind"] = kind
    details["causes"] = [{"reason": e.type, "message": e.detail, "field": e.path} for e in errors]
    return ApiError(422, "Invalid", f'{qualified} "{name}" is invalid: {body}', details)


def invalid_object(resource: Resource, name: str, errors: Sequence[FieldError]) -> ApiError:
    return invalid(resource.group, resource.kind, name, errors)


def invalid_options(kind: str, errors: Sequence[FieldError]) -> ApiError:
    return invalid("meta.k8s.io", kind, "", errors)


def expired(message: str, metadata: Obj | None = None) -> ApiError:
    return ApiError(410, "Expired", message, metadata=metadata)
