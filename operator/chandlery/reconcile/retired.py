"""Kinds that are switched off while something of theirs is still there.

What was made for an object carries our finalizer, and only we take it off: a kind that nobody serves any more would
hold each namespace that is deleted, for ever. So deletions of such objects are carried out all the same, and nothing
else is done to them, unless it was said that another operator works on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from chandlery.driver.kind import Kind
from chandlery.foundation.context import Logger
from chandlery.foundation.errors import ChandleryError, NotFound, PermissionDenied
from chandlery.reconcile.api import FINALIZER, Api, type_of


class Left(NamedTuple):
    """What is left of one kind."""

    kind: Kind
    objects: int
    """That our finalizer holds."""
    deleting: int
    """Of these, how many wait for it to go."""


async def look(api: Api, kinds: Sequence[Kind], logger: Logger) -> list[Left]:
    """The kinds of which something is left; those that aren't installed, or that we may not list, are left out.

    New objects of such a kind never get the finalizer, so it is enough to look once.
    """
    found = []
    for kind in kinds:
        try:
            page = await api.list(type_of(kind.names))
        except NotFound:
            continue  # its definition isn't installed
        except PermissionDenied:
            logger.info(
                "whether a kind that is switched off has objects left isn't known: it may not be listed", kind=kind.name
            )
            continue
        except ChandleryError as error:
            logger.info("whether a kind that is switched off has objects left isn't known", kind=kind.name, error=error)
            continue
        held = [obj["metadata"] for obj in page.items if FINALIZER in (obj["metadata"].get("finalizers") or ())]
        if held:
            found.append(Left(kind, len(held), sum("deletionTimestamp" in meta for meta in held)))
    return found


def tell(left: Sequence[Left], logger: Logger, *, served: bool) -> None:
    """A line in the log for each."""
    then = (
        "deletions are carried out, nothing else is done"
        if served
        else "nothing is done: another operator must serve the kind, or their deletion waits for ever. Switch it on in"
        " CHANDLERY_OPERATOR_KINDS, or set CHANDLERY_OPERATOR_OTHER_KINDS to delete"
    )
    for each in left:
        logger.warning(
            "a kind that is switched off has objects left",
            kind=each.kind.name,
            objects=each.objects,
            deleting=each.deleting,
            then=then,
        )
