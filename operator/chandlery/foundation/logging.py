"""Log lines that a machine can search and a person can read; structlog underneath.

Every line carries what is bound: kind, namespace, name, uid, generation, driver, trace_id. Values of type `Secret`
(and pydantic's SecretStr) are redacted wherever they sit, also deep inside containers. Standard-library loggers (kopf,
aiohttp ...) pass through the same renderer.
"""

import logging as stdlib
import sys
from collections.abc import Mapping, MutableMapping
from contextvars import ContextVar, Token
from types import MappingProxyType
from typing import Any, Final, Literal, TextIO

from chandlery.foundation.colour import wants_colour
from chandlery.foundation.errors import ChandleryError, InvalidConfiguration
from chandlery.foundation.secret import REDACTED, Secret

# structlog imports rich, where it is installed, for tracebacks that show local variables. We print none of those, so
# it would cost a start-up 0.25 s and 6 MB for nothing. A None in sys.modules makes the import fail, as if rich were
# not there.
_HIDDEN: Final = "rich" not in sys.modules
if _HIDDEN:
    sys.modules["rich"] = None  # type: ignore[assignment]
try:
    import structlog
finally:
    if _HIDDEN:
        del sys.modules["rich"]

__all__ = ["REDACTED", "Secret", "bound", "configure", "get_logger", "rebind"]

Format = Literal["json", "console"]

# The order in which a reader looks for them; the rest follows as it was bound.
FIRST: Final = ("timestamp", "level", "event", "kind", "namespace", "name", "uid", "generation", "driver", "trace_id")
_DEPTH: Final = 6  # deeper values are shown by repr: a log line is no place for a whole object

_WORDS: Final[ContextVar[Mapping[str, Any]]] = ContextVar("chandlery_words", default=MappingProxyType({}))


class bound:  # noqa: N801 - reads as a block; a class, because each pass is such a block
    """`with bound(kind="Cache", name="a"):` adds words to every line inside, child tasks included.

    One variable for all of them: structlog's own has one for each word, and each is set and reset at every pass.
    """

    __slots__ = ("_token", "_words")

    def __init__(self, **words: Any) -> None:
        self._words = words

    def __enter__(self) -> None:
        self._token: Token[Mapping[str, Any]] = _WORDS.set({**_WORDS.get(), **self._words})

    def __exit__(self, *_: object) -> None:
        _WORDS.reset(self._token)


def rebind(**words: Any) -> None:
    """Other values for these words, until the block that they are in ends."""
    _WORDS.set({**_WORDS.get(), **words})


def _add_words(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in _WORDS.get().items():
        line.setdefault(key, value)
    return line


def get_logger(name: str = "chandlery", **values: Any) -> Any:
    """A logger bound to these values."""
    return structlog.stdlib.get_logger(name).bind(**values)


def redact(value: Any, depth: int = 0) -> Any:
    """A copy of the value without secrets, made of types that every renderer knows."""
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Secret) or hasattr(value, "get_secret_value"):
        return REDACTED
    if isinstance(value, ChandleryError):
        return {"code": value.code, "message": str(value), **redact(value.details, depth + 1)}
    if depth >= _DEPTH:
        return repr(value)
    if isinstance(value, Mapping):
        return {str(redact(key, depth + 1)): redact(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item, depth + 1) for item in value]
    if isinstance(value, bytes):
        return f"[{len(value)} bytes]"  # bytes are keys, certificates and dumps more often than text
    return value


def _redact_line(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {
        key: value if key in {"exc_info", "_record", "_from_structlog"} else redact(value)
        for key, value in line.items()
    }


def _order(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {**{key: line[key] for key in FIRST if key in line}, **line}


def _to_json(_: Any, __: str, line: MutableMapping[str, Any]) -> str:
    import orjson

    return orjson.dumps(line, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()


_SHARED: Final[list[Any]] = [
    _add_words,
    structlog.stdlib.add_log_level,
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    _redact_line,
]


def configure(*, level: str = "info", format: Format = "json", stream: TextIO | None = None) -> None:  # noqa: A002
    """Set up logging for the process: called once by the composition root; may be called again.

    Args:
        level: debug, info, warning or error.
        format: json (one object a line) or console (for people; colours on a terminal, unless NO_COLOR is set).
        stream: standard error by default, so that a command's output stays clean.

    Raises:
        InvalidConfiguration: unknown level or format.
    """
    number = stdlib.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise InvalidConfiguration(
            "no such log level", field="CHANDLERY_LOG_LEVEL", value=level, hint="Use debug, info, warning or error."
        )
    if format not in {"json", "console"}:
        raise InvalidConfiguration(
            "no such log format", field="CHANDLERY_LOG_FORMAT", value=format, hint="Use json or console."
        )
    target = stream or sys.stderr
    last: list[Any] = (
        [structlog.processors.format_exc_info, _order, _to_json]
        if format == "json"
        else [
            _order,
            structlog.dev.ConsoleRenderer(
                colors=wants_colour(target),
                pad_event_to=40,
                sort_keys=False,
                # the pretty kinds print local variables, and passwords with them
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ]
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_SHARED,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )
    handler = stdlib.StreamHandler(target)
    handler.setFormatter(formatter)
    root = stdlib.getLogger()
    for old in [h for h in root.handlers if getattr(h, "chandlery", False)]:
        root.removeHandler(old)
    handler.chandlery = True  # type: ignore[attr-defined] # so that a second call replaces ours and nobody else's
    root.addHandler(handler)
    root.setLevel(number)


# The way into the standard library's handlers is fixed at import: loggers that are bound before `configure` runs, or
# between two runs of it, follow it all the same, because only the handler behind them changes.
structlog.configure(
    processors=[
        structlog.stdlib.filter_by_level,
        *_SHARED,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ],
    wrapper_class=structlog.stdlib.BoundLogger,
    logger_factory=structlog.stdlib.LoggerFactory(),
    cache_logger_on_first_use=True,
)
