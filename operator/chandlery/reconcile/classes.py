"""ResourceClasses and ProviderConfigs as last seen, and the choice among them.

An object stays with the class that was chosen for it first: a new default class never moves what exists.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from chandlery.foundation.errors import ChandleryError
from chandlery.reconcile.api import FINALIZER, Obj
from chandlery.reconcile.problems import ClassMismatch, ClassNotFound

MADE_BY: Final = "chandlery.dev/made-by"
"""Annotation, set in the same write as the finalizer and before anything is made: the class, driver and provider that
the resource comes from, so that it is found again whatever happens to class names and defaults afterwards."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a resource is made: class, driver, provider configuration."""

    class_name: str
    driver: str
    config: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict, compare=False)
    interval: float | None = field(default=None, compare=False)
    policies: tuple[str, ...] = field(default=(), compare=False)
    """Deletion policies that the class allows; empty: all."""

    def same(self, other: Place) -> bool:
        """A resource made at one is found at the other."""
        return (self.driver, self.config) == (other.driver, other.config)

    def note(self, uid: str) -> str:
        """The annotation's text for the object with this uid."""
        note = {"class": self.class_name, "driver": self.driver, "providerConfig": self.config, "uid": uid}
        return json.dumps(note, separators=(",", ":"))


def made_by(obj: Mapping[str, Any]) -> Place | None:
    """What the annotation says; None when nothing was made yet, or it is damaged, or copied from another object."""
    text = (obj["metadata"].get("annotations") or {}).get(MADE_BY)
    return _noted(text, obj["metadata"].get("uid")) if text else None


@lru_cache(4096)
def _noted(text: str, uid: str | None) -> Place | None:
    try:
        note = json.loads(text)
        if note["uid"] != uid:
            return None
        return Place(str(note["class"]), str(note["driver"]), str(note.get("providerConfig", "")))
    except (ValueError, KeyError, TypeError):
        return None


def recorded_class(obj: Mapping[str, Any]) -> str | None:
    """The class that something was made by for this object.

    The note says it; where somebody took it off, status does, if there is a sign that anything was made at all.
    Before that, nothing binds an object to the class that happened to be the default.
    """
    made = made_by(obj)
    if made is not None:
        return made.class_name
    status = obj.get("status") or {}
    signs = FINALIZER in (obj["metadata"].get("finalizers") or ()) or status.get("binding") or status.get("endpoint")
    return status.get("className") if signs else None


class Catalogue:
    """All classes and provider configurations; fed by informers."""

    def __init__(self, parse_interval: Callable[[Any], float | None]) -> None:
        self.classes: dict[str, Obj] = {}
        self.configs: dict[str, Obj] = {}
        self._interval = parse_interval
        self._places: dict[str, tuple[Obj, str, Place]] = {}

    def choose(self, kind: str, asked: str | None, recorded: str | None) -> Place:
        """The class for an object of a kind.

        Args:
            kind: the object's kind.
            asked: spec.className.
            recorded: the class chosen earlier.

        Raises:
            ClassNotFound: there is none.
            ClassMismatch: it is for another kind.
        """
        name = asked or recorded or self.default(kind)
        if name is None:
            raise ClassNotFound(
                f"no ResourceClass is the default for {kind}",
                field="spec.className",
                hint="Name a class in spec.className, or make one the default.",
            )
        found = self.classes.get(name)
        if found is None:
            raise ClassNotFound("there is no ResourceClass of this name", field="spec.className", value=name)
        return self._place(kind, name, found)

    def default(self, kind: str) -> str | None:
        """The default class of a kind; of several the newest, as for StorageClasses."""
        found = [
            (obj["metadata"].get("creationTimestamp", ""), name)
            for name, obj in self.classes.items()
            if _for_kind(obj) == kind and obj.get("spec", {}).get("default")
        ]
        return max(found)[1] if found else None

    def users_of(self, class_name: str, obj: Mapping[str, Any]) -> bool:
        """Whether an object uses the class, or might once it is there."""
        known = {obj.get("spec", {}).get("className"), recorded_class(obj)}
        return class_name in known or not any(known)

    def _place(self, kind: str, name: str, obj: Obj) -> Place:
        known = self._places.get(name)
        if known is not None and known[0] is obj and known[1] == kind:
            return known[2]
        place = self._read(kind, name, obj)
        self._places[name] = (obj, kind, place)
        return place

    def _read(self, kind: str, name: str, obj: Obj) -> Place:
        spec = obj.get("spec", {})
        if _for_kind(obj) != kind:
            raise ClassMismatch(
                f"the ResourceClass is for {_for_kind(obj)}, not {kind}", field="spec.className", value=name
            )
        driver = spec.get("driver")
        if not driver:
            raise ClassMismatch("the ResourceClass names no driver", field="spec.className", value=name)
        try:
            interval = self._interval(spec.get("driftInterval"))
        except (ChandleryError, ValueError) as error:
            raise ClassMismatch(
                f"the ResourceClass {name} has a driftInterval that can't be read: {error}", field="spec.className"
            ) from error
        config = (spec.get("providerConfigRef") or {}).get("name", "")
        policies = tuple(spec.get("deletionPolicies") or ())
        return Place(name, driver, config, spec.get("parameters") or {}, interval, policies)


def _for_kind(obj: Mapping[str, Any]) -> str:
    return str(obj.get("spec", {}).get("kind", ""))
