"""The drivers in use, each loaded once and wrapped once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chandlery.driver.instrumented import Deadlines, Instrumented, Telemetry
from chandlery.driver.kind import Kind
from chandlery.foundation.errors import ChandleryError
from chandlery.model.base import AnyResource
from chandlery.reconcile.decide import refusal
from chandlery.reconcile.problems import DriverNotFound


class Drivers:
    """Instrumented drivers by kind and name; loading is lazy, so that an SDK is imported when it is first needed."""

    def __init__(self, telemetry: Telemetry, deadlines: Deadlines | None = None) -> None:
        self._telemetry = telemetry
        self._deadlines = deadlines
        self._loaded: dict[tuple[str, str], Instrumented] = {}

    def get(self, kind: Kind, name: str) -> Instrumented:
        """The driver.

        Raises:
            DriverNotFound: unknown, or its package can't be imported.
        """
        found = self._loaded.get((kind.name, name))
        if found is not None:
            return found
        try:
            inner = kind.load_driver(name)()
        except KeyError:
            known = ", ".join(kind.driver_names()) or "none"
            raise DriverNotFound(
                f"{kind.name} has no driver of this name (there are: {known})", field="driver", value=name
            ) from None
        except (ImportError, AttributeError) as error:
            raise DriverNotFound(f"the driver can't be loaded: {error}", field="driver", value=name) from error
        return self._loaded.setdefault(
            (kind.name, name), Instrumented(inner, kind.name, self._telemetry, self._deadlines)
        )

    def refusal(self, kind: Kind, name: str, obj: AnyResource, parameters: Mapping[str, Any]) -> ChandleryError | None:
        """Why the driver can't honour the spec, naming the drivers that can; None when it can."""
        unsupported = self.get(kind, name).unsupported(obj, parameters)
        return refusal(name, unsupported, self._able(kind, obj, but=name)) if unsupported else None

    def _able(self, kind: Kind, obj: AnyResource, *, but: str) -> Sequence[str]:
        able = []
        for name in kind.driver_names():
            if name == but:
                continue
            try:
                if not self.get(kind, name).unsupported(obj, {}):
                    able.append(name)
            except ChandleryError:
                continue  # a driver that can't be loaded can't help either
        return able
