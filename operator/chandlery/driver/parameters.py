"""Parameters of a ResourceClass or a ProviderConfig: declared by the driver or the provider that reads them.

A driver's class has `parameters: ClassVar[type[Parameters]]`, as a provider's factory may. What is declared is all that
there is: admission refuses other names and bad values, drivers get the typed model and nothing else, and the reference
pages list its fields. A driver that declares none takes none.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Final

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from chandlery.foundation.errors import InvalidConfiguration
from chandlery.model.base import Model
from chandlery.model.schema import part_schema

FIELD: Final = "spec.parameters"
_NO_SUCH: Final = "no_such_name"
_KEY: Final = "[key]"  # pydantic's mark for an error in a map's key


class Parameters(Model):
    """What one driver or provider wants to know; this one takes nothing."""


class OneOf:
    """Metadata of an annotated `str`, for keys of maps: one of these names.

    Args:
        names: all that there are.
    """

    def __init__(self, *names: str) -> None:
        self.names = names

    def check(self, value: str) -> str:
        """The value.

        Raises:
            PydanticCustomError: it is none of the names; carries them.
        """
        if value not in self.names:
            raise PydanticCustomError(_NO_SUCH, "must be one of {names}", {"names": ", ".join(self.names)})
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, core_schema.str_schema())

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "enum": list(self.names)}


NONE: Final = Parameters()


class InvalidParameters(InvalidConfiguration):
    """A ResourceClass or a ProviderConfig says what its driver or provider doesn't know, or not so.

    Attributes:
        harmless: only names that nobody reads are at fault. What is there already goes on by the others.
    """

    code: ClassVar[str] = "InvalidParameters"
    http_status: ClassVar[int] = 422
    status_reason: ClassVar[str] = "Invalid"
    default_hint: ClassVar[str] = (
        "Correct spec.parameters, the reference page lists what there is; what waits for it goes on by itself."
    )
    harmless: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """What was made of given parameters."""

    values: Parameters | None
    """None when a known one has a value that can't be: nothing is guessed then."""
    found: InvalidParameters | None = None

    @property
    def error(self) -> InvalidParameters | None:
        """What is wrong, anew each time: one that is raised again and again would gather its tracebacks."""
        return copy.copy(self.found)

    def usable(self) -> Parameters:
        """The values, names that nobody knows left out.

        Raises:
            InvalidParameters: a known one is wrong.
        """
        error = self.error
        if self.values is None and error is not None:
            raise error
        return self.values or NONE


NOTHING: Final = Reading(NONE)


def parameters_of(owner: Any) -> type[Parameters]:
    """What a driver, its class or a provider's factory declares."""
    found: type[Parameters] = getattr(owner, "parameters", Parameters)
    return found


def read(model: type[Parameters], given: Mapping[str, Any] | None, *, reader: str, where: str = "") -> Reading:
    """Given parameters by the model.

    Args:
        model: what is declared.
        given: as in the object.
        reader: who declares it, for the sentence: `the driver kubernetes of Cache`.
        where: the object that they are in, when the sentence is read elsewhere: `ResourceClass fast`.
    """
    if not given:
        return _nothing(model, reader, where)
    try:
        return Reading(model.model_validate(dict(given), by_alias=True, by_name=False))
    except ValidationError as error:
        problems = error.errors(include_url=False)
    unknown = {p["loc"][0] for p in problems if len(p["loc"]) == 1 and p["type"] == "extra_forbidden"}
    causes = [_cause(model, problem, reader, where) for problem in problems]
    found = _joined(causes)
    known = {name: value for name, value in given.items() if name not in unknown}
    rest = read(model, known, reader=reader, where=where) if len(known) < len(given) else Reading(None, found)
    found.harmless = rest.values is not None
    return Reading(rest.values, found)


def _nothing(model: type[Parameters], reader: str, where: str) -> Reading:
    try:
        return Reading(model())
    except ValidationError as error:  # some are required
        causes = [_cause(model, problem, reader, where) for problem in error.errors(include_url=False)]
        return Reading(None, _joined(causes))


def _joined(causes: Sequence[InvalidParameters]) -> InvalidParameters:
    if len(causes) == 1:
        return causes[0]
    return InvalidParameters(f"{len(causes)} parameters are wrong", causes=causes)


@lru_cache
def _schema(model: type[Parameters]) -> Mapping[str, Any]:
    return part_schema(model)


def names_of(model: type[Parameters]) -> Sequence[str]:
    """The parameters by their names in the object."""
    return tuple(_schema(model).get("properties", {}))


def _cause(model: type[Parameters], problem: Mapping[str, Any], reader: str, where: str) -> InvalidParameters:
    loc = tuple(part for part in problem["loc"] if part != _KEY)
    field = FIELD + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    kind, value = problem["type"], problem.get("input")
    if kind == "extra_forbidden":
        known = list(_names_at(_schema(model), loc[:-1]))
        # the value of what nobody knows may be a secret in the wrong place: it is not shown
        message, value = _unknown(reader, str(loc[-1]), known, nested=len(loc) > 1), None
    elif kind == _NO_SUCH:
        known = str(problem["ctx"]["names"]).split(", ")
        message, value = _unknown(reader, str(loc[-1]), known, nested=True), None
    elif kind == "missing":
        message, value = f"{reader} needs it", None
    else:
        message = _in_words(problem)
    if not isinstance(value, str | int | float | bool):
        value = None
    return InvalidParameters(message, field=f"{where}, {field}" if where else field, value=value)


def _unknown(reader: str, name: str, known: Sequence[str], *, nested: bool) -> str:
    near = difflib.get_close_matches(name.lower(), {k.lower(): k for k in known}, n=1, cutoff=0.6)
    meant = next((k for k in known if near and k.lower() == near[0]), "")
    said = f"{reader} has no such {'name here' if nested else 'parameter'}"
    if meant:
        return f"{said}: did you mean {meant}?"
    # kubectl shows nothing but this sentence: the way out is part of it
    return f"{said}: it takes {', '.join(known)}" if known else f"{reader} takes no parameters: leave it out"


def _names_at(node: Mapping[str, Any], loc: Sequence[Any]) -> Iterator[str]:
    for part in loc:
        inner = node.get("items") if isinstance(part, int) else None
        node = inner or node.get("properties", {}).get(part) or node.get("additionalProperties") or {}
    yield from node.get("properties", {})


_WORDS: Final[Mapping[str, str]] = {
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "dict_type": "must be a map",
    "model_type": "must be a map",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
}


def _in_words(problem: Mapping[str, Any]) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    if kind in ("literal_error", "enum"):
        return f"must be {context.get('expected', '').replace(chr(39), '')}"
    if kind in ("too_short", "string_too_short"):
        return f"must have at least {context['min_length']} {_unit(kind)}"
    if kind in ("too_long", "string_too_long"):
        return f"must have at most {context['max_length']} {_unit(kind)}"
    if kind in ("greater_than_equal", "less_than_equal"):
        low = kind == "greater_than_equal"
        return f"must be {context['ge' if low else 'le']} or {'more' if low else 'less'}"
    return _WORDS.get(kind) or str(problem["msg"]).removeprefix("Value error, ")


def _unit(kind: str) -> str:
    return "characters" if kind.startswith("string") else "entries"


def check(model: type[Parameters], given: Mapping[str, Any] | None, *, reader: str, where: str = "") -> None:
    """For admission: nothing when all is well.

    Raises:
        InvalidParameters: naming each of them.
    """
    error = read(model, given, reader=reader, where=where).error
    if error is not None:
        raise error
