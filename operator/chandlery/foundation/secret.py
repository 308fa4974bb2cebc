"""A value that hides itself: redaction by type, not by searching texts for words like "password"."""

import hmac
from collections.abc import Callable
from typing import Any, Final, NoReturn

__all__ = ["REDACTED", "Secret", "reveal"]

REDACTED: Final = "[redacted]"


class Secret:
    """Holds a string that no log, message, status, format or serializer shows; `reveal()` is the only way to it.

    Comparison takes constant time. Pickle and JSON refuse it rather than leak it; `copy` works.
    """

    __slots__ = ("_value",)

    def __init__(self, value: "str | bytes | Secret") -> None:
        if isinstance(value, Secret):
            value = value.reveal()
        self._value = value.decode() if isinstance(value, bytes) else value

    def reveal(self) -> str:
        """The value itself: hand it straight to whoever needs it, and keep it out of any other variable's repr."""
        return self._value

    def __repr__(self) -> str:
        return REDACTED

    def __str__(self) -> str:
        return REDACTED

    def __format__(self, spec: str) -> str:
        return format(REDACTED, spec)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Secret":
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret can't be pickled: pass the value with reveal() where it is needed")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Callable[[Any], Any]) -> Any:
        """Lets models and settings have fields of this type; dumped as the redacted text."""
        from pydantic_core import core_schema

        text = core_schema.no_info_after_validator_function(cls, core_schema.str_schema())
        return core_schema.json_or_python_schema(
            json_schema=text,
            python_schema=core_schema.union_schema([core_schema.is_instance_schema(cls), text]),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda _: REDACTED, when_used="json"),
        )


def reveal(value: "Secret | str") -> str:
    """The text of a value that may or may not be wrapped."""
    return value.reveal() if isinstance(value, Secret) else value
