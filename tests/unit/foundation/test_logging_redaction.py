import copy
import io
import json
import logging as stdlib
import pickle
from collections.abc import Iterator
from dataclasses import dataclass

import pydantic
import pytest

from chandlery.foundation import logging
from chandlery.foundation.errors import InvalidConfiguration, NotFound
from chandlery.foundation.secret import REDACTED, Secret, reveal

PASSWORD = "hunter2-correct-horse"


@pytest.fixture(params=["json", "console"])
def stream(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    target = io.StringIO()
    level = stdlib.getLogger().level
    logging.configure(format=request.param, level="debug", stream=target)
    yield target
    root = stdlib.getLogger()
    root.handlers = [handler for handler in root.handlers if not getattr(handler, "chandlery", False)]
    root.setLevel(level)


class Model(pydantic.BaseModel):
    password: Secret
    other: pydantic.SecretStr = pydantic.SecretStr(PASSWORD)


@dataclass
class Plain:
    password: Secret


LEAKS = {
    "itself": Secret(PASSWORD),
    "pydantic's own": pydantic.SecretStr(PASSWORD),
    "in a dict": {"a": {"b": Secret(PASSWORD)}},
    "as a key": {Secret(PASSWORD): 1},
    "in lists": [[(Secret(PASSWORD),)], {1, 2}],
    "in a set": {Secret(PASSWORD)},
    "in a dataclass": Plain(Secret(PASSWORD)),
    "in a model": Model(password=Secret(PASSWORD)),
    "in an error": NotFound("no", value=Secret(PASSWORD), details={"p": Secret(PASSWORD)}),
    "very deep": [[[[[[[[[Secret(PASSWORD)]]]]]]]]],
    "bytes": PASSWORD.encode(),
}


@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS.keys())
def test_no_line_shows_a_secret_wherever_it_sits(leak: object, stream: io.StringIO) -> None:
    log = logging.get_logger()
    log.info("event", value=leak)
    log.bind(bound=leak).warning("event %s", leak if not isinstance(leak, bytes) else "x")
    stdlib.getLogger("library").warning("event %s", leak if not isinstance(leak, bytes) else "x", extra={"more": leak})
    try:
        raise RuntimeError("broken")
    except RuntimeError:
        log.exception("failed", leak=leak)
    assert "event" in stream.getvalue()
    assert PASSWORD not in stream.getvalue()


def test_a_traceback_shows_no_local_variables(stream: io.StringIO) -> None:
    password = PASSWORD  # noqa: F841 - it is there to be leaked
    try:
        raise RuntimeError("broken")
    except RuntimeError:
        logging.get_logger().exception("failed")
    assert "RuntimeError: broken" in stream.getvalue()
    assert PASSWORD not in stream.getvalue().replace("password = PASSWORD", "")


def test_every_way_of_showing_a_secret_is_redacted() -> None:
    secret = Secret(PASSWORD)
    shown = [
        str(secret),
        repr(secret),
        f"{secret}",
        f"{secret!r:>30}",
        f"{secret:>30}",
        "%s" % secret,  # noqa: UP031 - old libraries format so
        str([secret]),
        str({"a": secret}),
    ]
    assert all(PASSWORD not in text and REDACTED in text for text in shown)
    with pytest.raises(TypeError):
        json.dumps({"a": secret})
    assert json.dumps({"a": secret}, default=str) == '{"a": "[redacted]"}'
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(secret)
    model = Model(password=secret)
    assert PASSWORD not in model.model_dump_json()
    assert PASSWORD not in repr(model)
    assert not hasattr(secret, "__dict__")


def test_a_secret_is_a_value() -> None:
    assert Secret("a") == Secret(b"a") == Secret(Secret("a"))
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a")}) == 1
    assert not Secret("")
    assert copy.deepcopy(Secret("a")).reveal() == reveal("a") == "a"
    assert Model.model_validate_json('{"password": "x"}').password.reveal() == "x"
    assert Model.model_json_schema()["properties"]["password"]["type"] == "string"


def test_loggers_made_before_the_set_up_follow_it() -> None:
    early = logging.get_logger(kind="Cache")
    for number in range(2):
        target = io.StringIO()
        logging.configure(format="json", stream=target)
        early.info("hello", number=number)
        line = json.loads(target.getvalue())
        assert (line["event"], line["number"], line["kind"], line["level"]) == ("hello", number, "Cache", "info")
        assert list(line)[:4] == ["timestamp", "level", "event", "kind"]


def test_words_bound_around_a_block_reach_library_lines_too(stream: io.StringIO) -> None:
    with logging.bound(trace_id="t-1"):
        stdlib.getLogger("library").warning("inside")
    stdlib.getLogger("library").warning("outside")
    inside, outside = stream.getvalue().splitlines()
    assert "t-1" in inside
    assert "t-1" not in outside


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("target", "environment", "coloured"),
    [
        (Terminal, {}, True),
        (Terminal, {"NO_COLOR": "1"}, False),
        (Terminal, {"TERM": "dumb"}, False),
        (io.StringIO, {}, False),
        (io.StringIO, {"CLICOLOR_FORCE": "1"}, True),
    ],
)
def test_colours_are_for_who_can_see_them(
    target: type[io.StringIO], environment: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "CLICOLOR_FORCE", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    stream = target()
    logging.configure(format="console", stream=stream)
    logging.get_logger().info("made", kind="Cache")
    assert ("\x1b[" in stream.getvalue()) is coloured
    assert "Cache" in stream.getvalue()


def test_level_and_format_are_checked() -> None:
    with pytest.raises(InvalidConfiguration, match="CHANDLERY_LOG_LEVEL"):
        logging.configure(level="loud")
    with pytest.raises(InvalidConfiguration, match="CHANDLERY_LOG_FORMAT"):
        logging.configure(format="xml")  # type: ignore[arg-type]
