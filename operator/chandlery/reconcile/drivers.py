"""The drivers in use, each loaded once and wrapped once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from chandlery.driver.instrumented import Deadlines, Instrumented, Telemetry
from chandlery.driver.kind import Kind
from chandlery.driver.parameters import Reading, parameters_of, read
from chandlery.foundation.errors import ChandleryError
from chandlery.model.base import AnyResource
from chandlery.reconcile.classes import Place
from chandlery.reconcile.decide import refusal
from chandlery.reconcile.problems import DriverNotFound

_KEPT: Final = 256


class Drivers:
    """Instrumented drivers by kind and name; loading is lazy, so that an SDK is imported when it is first needed."""

    def __init__(self, telemetry: Telemetry, deadlines: Deadlines | None = None) -> None:
        self._telemetry = telemetry
        self._deadlines = deadlines
        self._loaded: dict[tuple[str, str], Instrumented] = {}
        self._readings: OrderedDict[tuple[str, str, int], tuple[Mapping[str, Any], Reading]] = OrderedDict()

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

    def read(self, kind: Kind, place: Place) -> Reading:
        """What the class's parameters say to the driver."""
        # a class's parameters are one object for as long as the class stays as it is; held, so that no id is used again
        key = (kind.name, place.driver, id(place.parameters))
        known = self._readings.get(key)
        if known is not None:
            return known[1]
        model = parameters_of(self.get(kind, place.driver).inner)
        reader, where = f"the driver {place.driver} of {kind.name}", f"ResourceClass {place.class_name}"
        found = read(model, place.parameters, reader=reader, where=where)
        self._readings[key] = (place.parameters, found)
        if len(self._readings) > _KEPT:
            self._readings.popitem(last=False)
        return found

    def refusal(self, kind: Kind, place: Place, obj: AnyResource) -> ChandleryError | None:
        """Why the driver can't honour the spec, naming the drivers that can; None when it can.

        Raises:
            InvalidParameters: the class's parameters can't be read.
        """
        name = place.driver
        unsupported = self.get(kind, name).unsupported(obj, self.read(kind, place).usable())
        return refusal(name, unsupported, self._able(kind, obj, but=name)) if unsupported else None

    def _able(self, kind: Kind, obj: AnyResource, *, but: str) -> Sequence[str]:
        able = []
        for name in kind.driver_names():
            if name == but:
                continue
            try:
                driver = self.get(kind, name)
                nothing = read(parameters_of(driver.inner), None, reader=name).usable()
                if not driver.unsupported(obj, nothing):
                    able.append(name)
            except ChandleryError:
                continue  # a driver that can't be loaded, or not be used as it is, can't help either
        return able
