"""What was charged for objects that are on their way to the store: whoever counts objects counts these too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chandlery.controlplane.builtins.podusage import Usage
from chandlery.controlplane.types import LocalApi, Obj, RequestContext

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(slots=True, eq=False)
class Charge:
    """What one request adds to the use of its namespace; `obj` is what it brings."""

    namespace: str
    group: str
    plural: str
    obj: Obj
    growth: Usage


class Charges:
    """All charges of a control plane that are not settled yet."""

    def __init__(self) -> None:
        self._open: dict[str, dict[Charge, None]] = {}

    def begin(self, ctx: RequestContext, charge: Charge) -> None:
        """From now on it counts, until `settle`."""
        ctx.charges.append(charge)
        self._open.setdefault(charge.namespace, {})[charge] = None

    def settle(self, ctx: RequestContext) -> None:
        """The request's object is stored, and counted itself, or won't be."""
        for charge in ctx.charges:
            charges = self._open.get(charge.namespace, {})
            charges.pop(charge, None)
            if not charges:
                self._open.pop(charge.namespace, None)
        ctx.charges.clear()

    def of(self, namespace: str) -> Iterator[Charge]:
        return iter(self._open.get(namespace, ()))


def charges_of(api: LocalApi) -> Charges:
    """The charges that all who use this API share."""
    found = getattr(api, "charges", None)
    if not isinstance(found, Charges):
        found = Charges()
        api.charges = found  # type: ignore[attr-defined] # the API doesn't know what is kept with it
    return found
