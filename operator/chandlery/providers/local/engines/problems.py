"""The one error that means: come again, it is being fetched."""

from __future__ import annotations

from typing import ClassVar

from chandlery.foundation.errors import Unavailable


class InstallingEngine(Unavailable):
    """An engine is being installed in the background."""

    code: ClassVar[str] = "InstallingEngine"
    default_retry_after: ClassVar[float] = 1.0
    default_hint: ClassVar[str] = "It goes on by itself."
