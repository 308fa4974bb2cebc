"""Whether the definitions of our kinds can be deleted without losing anything: `python -m chandlery.app.uninstall`.

Runs before the chart removes CustomResourceDefinitions (`crds.keep: false`): with a definition go all its objects, and
their finalizers would wait for an operator that is gone. Exit code 0 when no object is left, else 1 and what is left.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from chandlery.app.manifests import our_types
from chandlery.foundation.errors import ChandleryError, NotFound
from chandlery.reconcile.client import HttpApi
from chandlery.reconcile.credentials import load

_SHOWN = 10


async def left(kubeconfig: Path | None = None) -> list[str]:
    """Every object of our kinds, as kind namespace/name.

    Raises:
        ChandleryError: the API server can't be asked; then nobody knows.
    """
    found = []
    async with HttpApi(load(kubeconfig)) as api:
        for kind in our_types():
            try:
                page = await api.list(kind)
            except NotFound:
                continue  # not served: there can be none
            found += [
                f"{kind.kind} {obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}" for obj in page.items
            ]
    return found


def main() -> int:
    try:
        found = asyncio.run(left())
    except ChandleryError as error:
        sys.stderr.write(f"error: it can't be seen whether objects are left: {error.condition_message()}\n")
        return 1
    if not found:
        return 0
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    sys.stderr.write(
        f"error: {len(found)} objects are left, and would be deleted with their data: "
        f"{', '.join(found[:_SHOWN])}{more}. "
        "Delete them first, or set crds.keep to true and upgrade the release before uninstalling it.\n"
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
