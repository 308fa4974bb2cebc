"""One tree of errors for the whole project.

Each class knows the reason that a condition shows (`code`), how HTTP and gRPC say it, and when it is worth trying
again (`retry_after`, seconds; None means: not before the spec changes). Providers translate their SDK's errors into
these at their own edge; everything above the edge sees only this tree.

    ChandleryError
    ├── InvalidSpec                  a field of the object is wrong: terminal until the spec changes
    │   ├── ImmutableField           a field that can't change once the resource exists
    │   └── NotSupported             right in itself, but this driver can't do it
    ├── InvalidConfiguration         the operator's own settings are wrong
    ├── NotFound                     something that must be there is not
    ├── Conflict                     somebody else changed it first: read again and repeat
    │   ├── AlreadyExists            the name is taken by something that isn't ours
    │   └── Fenced                   our lock was lost: a newer holder is at work
    ├── FailedPrecondition           the state forbids it
    │   ├── DeletionProtected        spec.deletionProtection is on
    │   ├── Paused                   spec.paused is on
    │   └── DependencyNotReady       something this one needs isn't ready yet
    ├── PermissionDenied             known, but not allowed
    ├── Unauthenticated              credentials are missing or wrong
    ├── QuotaExceeded                a limit of the provider or the namespace is used up
    ├── RateLimited                  asked too often
    │   └── Overloaded               our own queue for this is full
    ├── Unavailable                  can't be reached right now
    │   ├── ProviderUnavailable      the provider itself can't be reached: so it is for everything that it makes
    │   └── CircuitOpen              failed so often that we stopped asking for a while
    ├── Timeout                      took longer than it may (also a builtin TimeoutError)
    ├── Cancelled                    given up on purpose, as at shutdown
    ├── ProviderError                the provider answered with an error of its own
    │   └── EngineFailed             the engine (Valkey, PostgreSQL ...) would not start or stopped
    ├── DataLoss                     data is gone or damaged: stop, a person must look
    └── Internal                     a fault of ours
"""
# ruff: noqa: N818 - the names are the reasons that a condition shows, and they don't end in Error

from collections.abc import Iterable, Sequence
from enum import IntEnum
from types import EllipsisType
from typing import Any, ClassVar, Final

__all__ = [
    "AlreadyExists",
    "Cancelled",
    "ChandleryError",
    "CircuitOpen",
    "Conflict",
    "DataLoss",
    "DeletionProtected",
    "DependencyNotReady",
    "EngineFailed",
    "FailedPrecondition",
    "Fenced",
    "GrpcStatus",
    "ImmutableField",
    "Internal",
    "InvalidConfiguration",
    "InvalidSpec",
    "NotFound",
    "NotSupported",
    "Overloaded",
    "Paused",
    "PermissionDenied",
    "ProviderError",
    "ProviderUnavailable",
    "QuotaExceeded",
    "RateLimited",
    "Timeout",
    "Unauthenticated",
    "Unavailable",
    "as_error",
    "from_http_status",
    "tree",
]

# A condition's message may hold 32 768 characters; a person reads far fewer, and etcd stores every one of them.
MESSAGE_LIMIT: Final = 1024
VALUE_LIMIT: Final = 80


class GrpcStatus(IntEnum):
    """The canonical gRPC status codes (grpc/grpc doc/statuscodes.md)."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class ChandleryError(Exception):
    """The root of every error that we raise on purpose.

    Args:
        message: what is wrong, in plain words, without the field's path in front.
        field: path of the field at fault, as users write it (`spec.users[0].name`).
        value: what the field holds; shown by `repr`, so a `Secret` stays hidden.
        hint: the way out, as a whole sentence; the class has a general one.
        retry_after: seconds until it is worth trying again, None for "not before the spec changes"; `...` keeps the
            class's own answer.
        causes: the single errors, where several are reported at once.
        details: further facts for logs and traces; never secrets.
    """

    code: ClassVar[str] = "Error"
    http_status: ClassVar[int] = 500
    grpc_status: ClassVar[GrpcStatus] = GrpcStatus.UNKNOWN
    status_reason: ClassVar[str] = "InternalError"  # metav1.StatusReason, which client-go's helpers compare
    cause_reason: ClassVar[str] = "FieldValueInvalid"  # metav1.CauseType of a field's error
    default_retry_after: ClassVar[float | None] = 30.0
    default_hint: ClassVar[str] = ""

    message: str
    field: str | None
    value: Any
    hint: str
    retry_after: float | None
    retry_after_given: bool  # said by whoever raised it (a server's Retry-After), not by the class
    causes: tuple["ChandleryError", ...]
    details: dict[str, Any]

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        value: Any = None,
        hint: str | None = None,
        retry_after: float | EllipsisType | None = ...,
        causes: Iterable["ChandleryError"] = (),
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.value = value
        self.hint = self.default_hint if hint is None else hint
        self.retry_after = self.default_retry_after if isinstance(retry_after, EllipsisType) else retry_after
        self.retry_after_given = not isinstance(retry_after, EllipsisType)
        self.causes = tuple(causes)
        self.details = dict(details or {})

    @property
    def terminal(self) -> bool:
        """True when trying again is useless until the spec changes."""
        return self.retry_after is None

    def __str__(self) -> str:
        text = f"{self.field}: {self.message}" if self.field else self.message
        return f"{text} (got {show(self.value)})" if self.value is not None else text

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def condition_message(self) -> str:
        """One or two sentences for `status.conditions[].message`: what is wrong, and what to do about it.

        The text depends on the error alone (no times, no counters), so repeating it never causes a status write.
        """
        text = sentence(str(self))
        if len(self.causes) > 1:
            text += " " + " ".join(sentence(str(cause)) for cause in self.causes)
        if self.hint:
            text += " " + sentence(self.hint)
        return text if len(text) <= MESSAGE_LIMIT else text[: MESSAGE_LIMIT - 1] + "…"

    def status(self, *, name: str = "", kind: str = "", group: str = "") -> dict[str, Any]:
        """The error as a metav1.Status, as an API server would answer it."""
        details: dict[str, Any] = {key: v for key, v in (("name", name), ("group", group), ("kind", kind)) if v}
        causes = [
            {"reason": cause.cause_reason, "message": cause.cause_message(), "field": cause.field}
            for cause in (self.causes or (self,))
            if cause.field
        ]
        if causes:
            details["causes"] = causes
        if self.retry_after is not None and self.http_status in {429, 500, 503, 504}:
            details["retryAfterSeconds"] = max(1, round(self.retry_after))
        answer: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.condition_message(),
            "reason": self.status_reason,
            "code": self.http_status,
        }
        if details:
            answer["details"] = details
        return answer

    def cause_message(self) -> str:
        """The message for a place where the field is named beside it."""
        return f"{self.message} (got {show(self.value)})" if self.value is not None else self.message


class InvalidSpec(ChandleryError):
    code = "InvalidSpec"
    http_status = 422
    grpc_status = GrpcStatus.INVALID_ARGUMENT
    status_reason = "Invalid"
    default_retry_after = None
    default_hint = "Correct the field and apply the object again."

    @classmethod
    def of(cls, causes: Sequence[ChandleryError]) -> ChandleryError:
        """One error out of many; a single one stays as it is."""
        if not causes:
            raise ValueError("InvalidSpec.of needs at least one cause")
        if len(causes) == 1:
            return causes[0]
        return cls(f"{len(causes)} fields are wrong", causes=causes, hint="Correct the fields and apply again.")


class ImmutableField(InvalidSpec):
    code = "ImmutableField"
    cause_reason = "FieldValueForbidden"
    default_hint = "Put the old value back, or make a new object and move the data over."


class NotSupported(InvalidSpec):
    """What the chosen driver can't honour; refused before anything is made.

    Args:
        message: see `ChandleryError`; when empty it is made from the rest.
        driver: the driver that refuses.
        drivers: the drivers of this kind that could do it.
        field: see `ChandleryError`.
        value: see `ChandleryError`.
        hint: see `ChandleryError`.
        details: see `ChandleryError`.
    """

    code = "NotSupported"
    grpc_status = GrpcStatus.UNIMPLEMENTED
    cause_reason = "FieldValueNotSupported"

    def __init__(
        self,
        message: str = "",
        *,
        driver: str | None = None,
        drivers: Iterable[str] = (),
        field: str | None = None,
        value: Any = None,
        hint: str | None = None,
        retry_after: float | EllipsisType | None = ...,
        causes: Iterable[ChandleryError] = (),
        details: dict[str, Any] | None = None,
    ) -> None:
        self.driver = driver
        self.drivers = tuple(drivers)
        if not message:
            message = f"the driver {driver} can't do this" if driver else "this is not supported"
        elif driver and driver not in message:
            message = f"{message} (driver {driver})"
        if hint is None:
            if self.drivers:
                plural = "drivers that can" if len(self.drivers) > 1 else "driver that can"
                hint = (
                    f"Remove the field, or use a class of a {plural}: {', '.join(self.drivers)}."
                    if len(self.drivers) == 1
                    else f"Remove the field, or use a class of one of the {plural}: {', '.join(self.drivers)}."
                )
            else:
                hint = "Remove the field or change its value; no driver of this kind can do it."
        super().__init__(
            message,
            field=field,
            value=value,
            hint=hint,
            retry_after=retry_after,
            causes=causes,
            details=details,
        )


class InvalidConfiguration(ChandleryError):
    code = "InvalidConfiguration"
    grpc_status = GrpcStatus.FAILED_PRECONDITION
    default_retry_after = None
    default_hint = "`chandlery config` lists every setting with its default and its CHANDLERY_* name."


class NotFound(ChandleryError):
    code = "NotFound"
    http_status = 404
    grpc_status = GrpcStatus.NOT_FOUND
    status_reason = "NotFound"
    cause_reason = "FieldValueNotFound"
    default_hint = "Create what is missing, or correct the name; it is looked for again by itself."


class Conflict(ChandleryError):
    code = "Conflict"
    http_status = 409
    grpc_status = GrpcStatus.ABORTED
    status_reason = "Conflict"
    default_retry_after: ClassVar[float | None] = 1.0
    default_hint = "Nothing to do: it is read again and repeated."


class AlreadyExists(Conflict):
    code = "AlreadyExists"
    grpc_status = GrpcStatus.ALREADY_EXISTS
    status_reason = "AlreadyExists"
    cause_reason = "FieldValueDuplicate"
    default_retry_after = None
    default_hint = "Choose another name, or take the existing one over with spec.adopt.externalName."


class Fenced(Conflict):
    code = "Fenced"
    default_hint = "Nothing to do: the newer holder of the lock carries on."


class FailedPrecondition(ChandleryError):
    code = "FailedPrecondition"
    http_status = 409
    grpc_status = GrpcStatus.FAILED_PRECONDITION
    status_reason = "Conflict"


class DeletionProtected(FailedPrecondition):
    code = "DeletionProtected"
    http_status = 403
    status_reason = "Forbidden"
    cause_reason = "FieldValueForbidden"
    default_retry_after = None
    default_hint = "Set spec.deletionProtection to false first, then delete again."


class Paused(FailedPrecondition):
    code = "Paused"
    default_retry_after = None
    default_hint = "Set spec.paused to false to let changes through again."


class DependencyNotReady(FailedPrecondition):
    code = "DependencyNotReady"
    http_status = 424
    default_retry_after = 10.0
    default_hint = "Nothing to do here: it carries on by itself as soon as the other one is ready."


class PermissionDenied(ChandleryError):
    code = "PermissionDenied"
    http_status = 403
    grpc_status = GrpcStatus.PERMISSION_DENIED
    status_reason = "Forbidden"
    default_retry_after = 300.0
    default_hint = "Grant the missing right to the identity that the operator uses there; it is tried again by itself."


class Unauthenticated(ChandleryError):
    code = "Unauthenticated"
    http_status = 401
    grpc_status = GrpcStatus.UNAUTHENTICATED
    status_reason = "Unauthorized"
    default_retry_after = 60.0
    default_hint = "Check the credentials that the ProviderConfig points at; they are read again by themselves."


class QuotaExceeded(ChandleryError):
    code = "QuotaExceeded"
    http_status = 403
    grpc_status = GrpcStatus.RESOURCE_EXHAUSTED
    status_reason = "Forbidden"
    default_retry_after = 300.0
    default_hint = "Raise the quota or free some of it; it is tried again by itself."


class RateLimited(ChandleryError):
    code = "RateLimited"
    http_status = 429
    grpc_status = GrpcStatus.RESOURCE_EXHAUSTED
    status_reason = "TooManyRequests"
    default_retry_after = 5.0
    default_hint = "Nothing to do: it is tried again more slowly."


class Overloaded(RateLimited):
    code = "Overloaded"
    default_hint = "Nothing to do: it is tried again when there is room."


class Unavailable(ChandleryError):
    code = "Unavailable"
    http_status = 503
    grpc_status = GrpcStatus.UNAVAILABLE
    status_reason = "ServiceUnavailable"
    default_retry_after = 10.0
    default_hint = "Check that it runs and can be reached; it is tried again by itself."


class ProviderUnavailable(Unavailable):
    code = "ProviderUnavailable"
    default_hint = "Check that the provider runs and can be reached; it is tried again by itself."


class CircuitOpen(Unavailable):
    code = "CircuitOpen"
    default_hint = "It failed many times in a row and is left alone for a while; it is tried again by itself."


class Timeout(ChandleryError, TimeoutError):
    code = "Timeout"
    http_status = 504
    grpc_status = GrpcStatus.DEADLINE_EXCEEDED
    status_reason = "Timeout"
    default_retry_after = 5.0
    default_hint = "Nothing to do at first: it is tried again; if it stays so, look at what it was waiting for."


class Cancelled(ChandleryError):
    code = "Cancelled"
    http_status = 499
    grpc_status = GrpcStatus.CANCELLED
    default_retry_after = 1.0
    default_hint = "Nothing to do: it is taken up again."


class ProviderError(ChandleryError):
    code = "ProviderError"
    http_status = 502
    grpc_status = GrpcStatus.UNKNOWN
    default_hint = "Look at what the provider says; it is tried again by itself."


class EngineFailed(ProviderError):
    code = "EngineFailed"
    grpc_status = GrpcStatus.INTERNAL
    default_hint = "Look at the engine's log; it is started again by itself."


class DataLoss(ChandleryError):
    code = "DataLoss"
    http_status = 500
    grpc_status = GrpcStatus.DATA_LOSS
    default_retry_after = None
    default_hint = "Nothing is touched any more; look at the data, then restore from a backup or set spec.adopt."


class Internal(ChandleryError):
    code = "Internal"
    grpc_status = GrpcStatus.INTERNAL
    default_retry_after = 60.0
    default_hint = "This is a fault of the operator: its log has the trace. It is tried again by itself."


def as_error(error: BaseException) -> ChandleryError:
    """Any exception as one of ours; the original stays as `__cause__`.

    Only what the language itself tells apart is translated here (timeouts, refused connections, file permissions);
    SDK errors are their provider's work.
    """
    if isinstance(error, ChandleryError):
        return error
    text = str(error) or type(error).__name__
    ours: ChandleryError
    if isinstance(error, TimeoutError):
        ours = Timeout(f"it took too long: {text}" if str(error) else "it took too long")
    elif isinstance(error, ConnectionError):
        ours = Unavailable(f"the connection failed: {text}")
    elif isinstance(error, PermissionError):
        ours = PermissionDenied(text)
    else:
        ours = Internal(f"{type(error).__name__}: {text}")
    ours.__cause__ = error
    return ours


_BY_HTTP: Final[dict[int, type[ChandleryError]]] = {
    400: InvalidSpec,
    401: Unauthenticated,
    403: PermissionDenied,
    404: NotFound,
    408: Timeout,
    409: Conflict,
    410: NotFound,
    422: InvalidSpec,
    424: DependencyNotReady,
    429: RateLimited,
    499: Cancelled,
    500: ProviderError,
    501: NotSupported,
    502: Unavailable,
    503: Unavailable,
    504: Timeout,
}


def from_http_status(status: int, message: str, **kwargs: Any) -> ChandleryError:
    """The error that an HTTP answer means; for providers that speak HTTP."""
    return _BY_HTTP.get(status, ProviderError)(message, **kwargs)


def tree(root: type[ChandleryError] = ChandleryError) -> dict[str, type[ChandleryError]]:
    """Every class of the tree by its code; the reference page and the tests walk it."""
    found = {root.code: root}
    for child in root.__subclasses__():
        for code, cls in tree(child).items():
            found.setdefault(code, cls)  # a subclass without a code of its own is its parent's case
    return found


def show(value: Any) -> str:
    """A value as a message shows it: short, on one line, secrets hidden by their own `repr`."""
    text = f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= VALUE_LIMIT else text[: VALUE_LIMIT - 1] + "…"


def sentence(text: str) -> str:
    """With a full stop at the end."""
    text = text.strip()
    return text if not text or text[-1] in ".!?…" else f"{text}."
