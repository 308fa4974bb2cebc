"""What admission makes of the objects that configure it: made again when one of them has changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from chandlery.controlplane.types import Obj

if TYPE_CHECKING:
    from chandlery.controlplane.types import LocalApi

T = TypeVar("T")
B = TypeVar("B")


class Compiled(Generic[T]):
    """`make` of all objects of some resources of one group; most often there are none, and asking costs nothing."""

    def __init__(
        self, api: LocalApi, group: str, plurals: Sequence[str], make: Callable[..., tuple[T, ...]], needs: str = ""
    ) -> None:
        """`make` gets one list of objects for each plural. `needs`: without objects of this one there is nothing."""
        self._api, self._group, self._plurals, self._make = api, group, plurals, make
        self._needs = needs or plurals[0]
        self._made: tuple[T, ...] = ()
        self._stale = True
        api.on_change(group, plurals, self._changed)

    def _changed(self) -> None:
        self._stale = True

    def current(self) -> tuple[T, ...]:
        if self._stale:
            self._made = ()
            if self._api.count(self._group, self._needs):
                self._made = self._make(*(self._api.list(self._group, plural) for plural in self._plurals))
            self._stale = False
        return self._made


def with_bindings(
    policies: Sequence[Obj],
    bindings: Sequence[Obj],
    policy_of: Callable[[Obj, tuple[B, ...]], T],
    binding_of: Callable[[Obj], B],
) -> tuple[T, ...]:
    """The policies that have bindings, with them; one without does nothing."""
    by_policy: dict[str, list[B]] = {}
    for binding in bindings:
        by_policy.setdefault(binding["spec"].get("policyName", ""), []).append(binding_of(binding))
    named = [(policy, by_policy.get(policy["metadata"]["name"])) for policy in policies]
    return tuple(policy_of(policy, tuple(bound)) for policy, bound in named if bound)
