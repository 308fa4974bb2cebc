"""What a spec refers to: a change there makes the object be looked at again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Annotated, Any, get_args, get_origin

from chandlery.model.base import AnyResource, LocalRef, Model, Ref, SecretKeyRef

ANY = "*"
"""As the name in a Ref: all objects of the kind in the namespace, for references by label."""


def secrets(spec: Model) -> Iterator[Ref]:
    """Every Secret that a spec names: fields called `...Secret`, `...Secrets`, and keys of Secrets."""
    for name, wanted in _fields(type(spec)):
        value = getattr(spec, name)
        if value is not None and value != ():
            yield from _in(value, wanted=wanted)


@cache
def _fields(model: type[Model]) -> tuple[tuple[str, bool], ...]:
    """The fields that may lead to a Secret, and whether their own name says so: most are plain values."""
    return tuple(
        (name, name.endswith(("_secret", "_secrets")))
        for name, field in model.model_fields.items()
        if _may_hold_models(field.annotation)
    )


def _may_hold_models(kind: Any) -> bool:
    if isinstance(kind, type) and not get_args(kind):
        return not issubclass(kind, str | int | float | bool | bytes)
    if get_origin(kind) is Annotated:
        return _may_hold_models(get_args(kind)[0])
    inner = get_args(kind)
    return any(_may_hold_models(one) for one in inner if one not in {None, type(None), Ellipsis}) if inner else True


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
