import copy
import pickle

import pytest

from chandlery.foundation import errors
from chandlery.foundation.errors import (
    AlreadyExists,
    ChandleryError,
    Conflict,
    DependencyNotReady,
    GrpcStatus,
    Internal,
    InvalidSpec,
    NotFound,
    NotSupported,
    PermissionDenied,
    RateLimited,
    Timeout,
    Unavailable,
    as_error,
    from_http_status,
    tree,
)
from chandlery.foundation.secret import Secret

# Rooms above add errors of their own; which of them are loaded depends on what else is tested in this process.
EVERY = sorted(
    (cls for cls in tree().values() if cls.__module__ == "chandlery.foundation.errors"), key=lambda cls: cls.code
)


def test_every_class_has_a_code_of_its_own_which_is_its_name_and_is_exported() -> None:
    classes = [cls for cls in EVERY if cls is not ChandleryError]
    assert len(classes) >= 25
    for cls in classes:
        assert cls.code == cls.__name__
        assert cls.__name__ in errors.__all__


def test_the_drawing_at_the_top_shows_the_tree_as_it_is() -> None:
    assert errors.__doc__ is not None
    drawn: dict[str, int] = {}
    for line in errors.__doc__.splitlines():
        if "── " in line:
            indent, _, rest = line.partition("── ")
            drawn[rest.split()[0]] = (len(indent) - 1) // 4

    def depth(cls: type) -> int:
        return cls.__mro__.index(ChandleryError)

    assert drawn == {cls.__name__: depth(cls) for cls in EVERY if cls is not ChandleryError}


@pytest.mark.parametrize("cls", EVERY, ids=lambda cls: cls.code)
def test_every_class_renders_both_ways_and_says_a_way_out(cls: type[ChandleryError]) -> None:
    error = cls("the disk is full", field="spec.storage.size", value="1Gi", hint=None)
    status = error.status(name="a", kind="caches", group="data.chandlery.dev")
    assert (status["kind"], status["apiVersion"], status["status"]) == ("Status", "v1", "Failure")
    assert status["code"] == cls.http_status
    assert 400 <= cls.http_status < 600
    assert isinstance(cls.grpc_status, GrpcStatus)
    assert cls.grpc_status is not GrpcStatus.OK
    assert status["details"]["causes"][0]["field"] == "spec.storage.size"
    message = error.condition_message()
    assert "spec.storage.size" in message
    assert "1Gi" in message
    assert message.endswith((".", "…"))
    if cls is not ChandleryError and not error.terminal:
        assert error.retry_after is not None
        assert error.retry_after > 0
    if cls is not ChandleryError and not issubclass(cls, errors.FailedPrecondition | errors.InvalidSpec):
        assert cls.default_hint, "a person must be told what to do"


def test_says_what_is_wrong_and_what_to_do() -> None:
    error = InvalidSpec("must be at least 1", field="spec.replicas", value=0, hint="Write 1 or more")
    assert str(error) == "spec.replicas: must be at least 1 (got 0)"
    assert error.condition_message() == "spec.replicas: must be at least 1 (got 0). Write 1 or more."


def test_retry_after_may_be_overridden_both_ways() -> None:
    assert Unavailable("x").retry_after == 10
    assert Unavailable("x", retry_after=None).terminal
    assert InvalidSpec("x").terminal
    assert InvalidSpec("x", retry_after=3).retry_after == 3
    assert RateLimited("x", retry_after=7.4).status()["details"]["retryAfterSeconds"] == 7


def test_not_supported_names_the_driver_and_those_that_can() -> None:
    text = NotSupported(
        "TLS can't be had", field="spec.tls", driver="local", drivers=["aws", "kubernetes"]
    ).condition_message()
    assert text == (
        "spec.tls: TLS can't be had (driver local). "
        "Remove the field, or use a class of one of the drivers that can: aws, kubernetes."
    )
    assert (
        NotSupported(driver="local", drivers=["aws"]).condition_message().endswith("a class of a driver that can: aws.")
    )
    assert "no driver of this kind" in NotSupported(driver="local").condition_message()


def test_many_faults_in_one_error() -> None:
    single = InvalidSpec("bad", field="a")
    assert InvalidSpec.of([single]) is single
    both = InvalidSpec.of([single, InvalidSpec("worse", field="b", value=True)])
    assert [cause["field"] for cause in both.status()["details"]["causes"]] == ["a", "b"]
    assert (
        both.condition_message()
        == "2 fields are wrong. a: bad. b: worse (got true). Correct the fields and apply again."
    )
    with pytest.raises(ValueError, match="at least one"):
        InvalidSpec.of([])


def test_values_stay_short_and_secrets_hidden() -> None:
    assert len(str(InvalidSpec("bad", field="a", value="x" * 5000))) < 200
    assert "hunter2" not in repr(InvalidSpec("bad", field="a", value=Secret("hunter2")))
    assert "hunter2" not in str(InvalidSpec("bad", value=[Secret("hunter2")]).status())
    assert "\n" not in str(InvalidSpec("bad", value="one\ntwo"))
    assert len(InvalidSpec("long " * 5000).condition_message()) == errors.MESSAGE_LIMIT


def test_survives_pickle_and_copy() -> None:
    error = NotFound("gone", field="spec.ref", value="a", hint="Look", retry_after=4, details={"n": 1})
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is NotFound
        assert twin.__dict__ == error.__dict__


def test_any_exception_becomes_one_of_ours() -> None:
    ours = Conflict("x")
    assert as_error(ours) is ours
    assert isinstance(as_error(TimeoutError()), Timeout)
    assert isinstance(as_error(ConnectionRefusedError("no")), Unavailable)
    assert isinstance(as_error(PermissionError(13, "no")), PermissionDenied)
    fault = as_error(ZeroDivisionError("division by zero"))
    assert isinstance(fault, Internal)
    assert "ZeroDivisionError" in str(fault)
    assert isinstance(fault.__cause__, ZeroDivisionError)


def test_a_timeout_is_also_the_languages_own() -> None:
    with pytest.raises(TimeoutError):
        raise Timeout("slow", field="x")


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (404, NotFound),
        (409, Conflict),
        (429, RateLimited),
        (424, DependencyNotReady),
        (504, Timeout),
        (418, errors.ProviderError),
    ],
)
def test_http_answers(status: int, cls: type[ChandleryError]) -> None:
    assert type(from_http_status(status, "x")) is cls


def test_a_name_taken_is_a_conflict_that_waiting_does_not_solve() -> None:
    assert isinstance(AlreadyExists("x"), Conflict)
    assert AlreadyExists("x").terminal
