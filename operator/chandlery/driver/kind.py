"""A kind: the model with everything that belongs to it, and a lazy table of its drivers."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from chandlery.driver.protocol import Driver
from chandlery.model.base import AnyResource, Names, Ref

ENTRY_POINT_GROUP = "chandlery.drivers"
"""Third parties add drivers by an entry point `<kind>.<driver>`, lower case: `cache.acme = "acme.cache:Driver"`."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One custom resource type of ours with its drivers.

    `drivers` maps a driver's name to "module:Class"; the module is imported when the driver is first used, so
    that a laptop never imports an SDK of a cloud provider.
    """

    model: type[AnyResource]
    drivers: Mapping[str, str] = field(default_factory=dict)
    references: Callable[[Any], Sequence[Ref]] = lambda _obj: ()
    """The objects that this one's spec refers to; a change in one of them enqueues this one. Pure."""
    operations: tuple[str, ...] = ()
    """Optional day-2 protocols that the kind knows: backup, restore, rotate, snapshot, power."""
    package: str = ""
    """Import path of the kind's folder, for its README and examples."""

    @property
    def names(self) -> Names:
        return self.model.names

    @property
    def name(self) -> str:
        return self.names.kind

    def driver_names(self) -> tuple[str, ...]:
        """All drivers by name, third parties' included."""
        prefix = f"{self.name.lower()}."
        extra = [e.name.removeprefix(prefix) for e in _third_party() if e.name.startswith(prefix)]
        return (*self.drivers, *(name for name in extra if name not in self.drivers))

    def load_driver(self, name: str) -> type[Driver[Any]]:
        """Import the driver's class.

        Raises:
            KeyError: no driver of this name is known for the kind.
        """
        target = self.drivers.get(name)
        if target is None:
            for entry in _third_party():
                if entry.name == f"{self.name.lower()}.{name}":
                    loaded: type[Driver[Any]] = entry.load()
                    return loaded
            raise KeyError(name)
        module, _, attribute = target.partition(":")
        found: type[Driver[Any]] = getattr(importlib.import_module(module), attribute)
        return found


@cache
def _third_party() -> tuple[Any, ...]:
    return tuple(entry_points(group=ENTRY_POINT_GROUP))
