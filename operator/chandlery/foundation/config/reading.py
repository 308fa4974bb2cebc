"""Reading settings out of the environment; pydantic-settings does the work, and is imported here only."""

import dataclasses
import os
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from chandlery.foundation.config.sections import Row, SecondsMark, Section, flat, members, section_of
from chandlery.foundation.errors import ChandleryError, InvalidConfiguration

T = TypeVar("T")


def load(cls: type[T], **flags: Any) -> T:
    """The settings from the environment.

    Args:
        cls: a dataclass with a section.
        **flags: values that go before the environment, by the name of the field (nested: `outer_inner`), None for
            "not given".

    Raises:
        InvalidConfiguration: naming every variable that is wrong, and what it should be.
    """
    own = section_of(cls)
    given = {name: value for name, value in flags.items() if value is not None}
    rows = own.rows()
    strange = given.keys() - {flat(row) for row in rows}
    if strange:
        raise TypeError(f"{cls.__name__} has no settings {', '.join(sorted(strange))}")
    values = read(own, rows, given)
    try:
        return _build(cls, values, ())
    except ValueError as error:  # what the dataclass itself objects to
        raise InvalidConfiguration(f"{own.title}: {error}") from error


def read(own: Section, rows: list[Row], given: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    """Checked values by path, out of flags, environment and defaults."""
    if not given and not any(row.env in os.environ or f"{row.env}_FILE" in os.environ for row in rows):
        defaults = {row.path: row.default for row in rows}
        if dataclasses.MISSING not in defaults.values():
            return defaults  # nothing to check; the library that checks takes 2 MB, for as long as a process lives
    return _checked(own, rows, given)


def _checked(own: Section, rows: list[Row], given: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    import pydantic
    from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

    class Base(BaseSettings):
        model_config = SettingsConfigDict(extra="ignore", arbitrary_types_allowed=True, case_sensitive=True)

    def split(value: Any) -> Any:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    def seconds(value: Any) -> Any:
        from chandlery.foundation.validation import Duration

        if not isinstance(value, str):
            return value
        try:
            return float(value)
        except ValueError:
            try:
                return Duration(value).seconds
            except ChandleryError as error:
                raise ValueError(str(error)) from None

    def expand(value: Any) -> Any:
        return os.path.expanduser(value) if isinstance(value, str) else value  # noqa: PTH111 - not a path for sure yet

    def empty(value: Any) -> Any:
        return None if value == "" else value

    fields: dict[str, Any] = {}
    for row in rows:
        hint = row.type
        parts = members(hint)
        if typing.get_origin(hint) in {tuple, list, set, frozenset}:
            hint = Annotated[hint, NoDecode, pydantic.BeforeValidator(split)]
        if typing.get_origin(hint) is Annotated and any(
            isinstance(mark, SecondsMark) for mark in typing.get_args(hint)
        ):
            hint = Annotated[hint, pydantic.BeforeValidator(seconds)]
        if Path in parts:
            hint = Annotated[hint, pydantic.BeforeValidator(expand)]
        if types.NoneType in parts:
            hint = Annotated[hint, pydantic.BeforeValidator(empty)]
        default = ... if row.default is dataclasses.MISSING else row.default
        fields[flat(row)] = (hint, pydantic.Field(default, validation_alias=row.env))
    model = pydantic.create_model(f"{own.cls.__name__}Environment", __base__=Base, **fields)
    from_files = {row.env: _from_file(row) for row in rows if row.secret and f"{row.env}_FILE" in os.environ}
    by_name = {flat(row): row for row in rows}
    try:
        read = model(**{**from_files, **{by_name[name].env: value for name, value in given.items()}})
    except pydantic.ValidationError as error:
        raise _wrong(error, rows) from None
    return {row.path: getattr(read, flat(row)) for row in rows}


def _from_file(row: Row) -> str:
    path = Path(os.environ[f"{row.env}_FILE"])
    try:
        return path.read_text().removesuffix("\n")
    except OSError as error:
        raise InvalidConfiguration(
            f"can't read the file: {error.strerror}",
            field=f"{row.env}_FILE",
            value=str(path),
            hint="Name a readable file.",
        ) from error


def _wrong(error: Any, rows: list[Row]) -> ChandleryError:
    by_env = {row.env: row for row in rows} | {flat(row): row for row in rows}
    causes = []
    for each in error.errors(include_url=False, include_context=False):
        row = by_env[str(each["loc"][0])]
        if each["type"] == "missing":
            cause = InvalidConfiguration("must be set", field=row.env, hint=f"Set it to: {row.kind}. {row.doc}".strip())
        else:
            text = each["msg"].removeprefix("Value error, ")
            shown = None if row.secret else each["input"]
            cause = InvalidConfiguration(
                f"{text[0].lower()}{text[1:]}", field=row.env, value=shown, hint=f"Set it to: {row.kind}."
            )
        causes.append(cause)
    if len(causes) == 1:
        return causes[0]
    return InvalidConfiguration(f"{len(causes)} settings are wrong", causes=causes)


def _build(cls: type[T], values: Mapping[tuple[str, ...], Any], path: tuple[str, ...]) -> T:
    hints = typing.get_type_hints(cls)
    arguments = {}
    for each in dataclasses.fields(cls):  # type: ignore[arg-type]
        here, hint = (*path, each.name), hints[each.name]
        nested = isinstance(hint, type) and dataclasses.is_dataclass(hint)
        arguments[each.name] = _build(hint, values, here) if nested else values[here]
    return cls(**arguments)
