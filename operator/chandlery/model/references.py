"""What a spec refers to: a change there makes the object be looked at again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from chandlery.model.base import AnyResource, LocalRef, Model, Ref, SecretKeyRef

ANY = "*"
"""As the name in a Ref: all objects of the kind in the namespace, for references by label."""


def secrets(spec: Model) -> Iterator[Ref]:
    """Every Secret that a spec names: fields called `...Secret`, `...Secrets`, and keys of Secrets."""
    for name in type(spec).model_fields:
        yield from _in(getattr(spec, name), wanted=name.endswith(("_secret", "_secrets")))


def _in(value: Any, *, wanted: bool) -> Iterator[Ref]:
    if isinstance(value, SecretKeyRef) or (wanted and isinstance(value, LocalRef)):
        yield Ref(kind="Secret", name=value.name)
    elif isinstance(value, Model):
        yield from secrets(value)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _in(item, wanted=wanted)


def distinct(refs: Iterable[Ref]) -> tuple[Ref, ...]:
    """Each once, in the order of the spec."""
    return tuple({(r.group, r.kind, r.namespace, r.name): r for r in refs}.values())


def secret_references(obj: AnyResource) -> tuple[Ref, ...]:
    """For a Kind whose objects refer to Secrets only."""
    return distinct(secrets(obj.spec))
