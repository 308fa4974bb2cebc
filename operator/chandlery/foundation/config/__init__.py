"""Settings: every room has one plain dataclass of them, read from CHANDLERY_* variables by pydantic-settings.

A room writes, in its `settings.py`,

    @section("loop", title="The reconcile loop")
    @dataclass(frozen=True, slots=True)
    class LoopSettings:
        workers: Annotated[int, Ge(1)] = 32
        "Objects worked on at the same time."

and CHANDLERY_LOOP_WORKERS exists, is checked, and is listed by `chandlery config` and in the reference page. Nested
dataclasses join their names with `_`. The dataclass itself stays free of pydantic: this module imports it only when
settings are read, because that takes longer than starting everything else.
"""

from chandlery.foundation.config.page import current, render_markdown, unknown
from chandlery.foundation.config.reading import load
from chandlery.foundation.config.sections import PREFIX, Row, Seconds, Section, all_sections, section

__all__ = [
    "PREFIX",
    "Row",
    "Seconds",
    "Section",
    "all_sections",
    "current",
    "load",
    "render_markdown",
    "section",
    "unknown",
]
