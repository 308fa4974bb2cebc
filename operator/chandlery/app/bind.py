"""`chandlery run`: a program with the bindings that it names, as files.

The layout is servicebinding.io's (specification 1.0, "Workload Projection"): SERVICE_BINDING_ROOT names a directory
that holds one directory for each binding, with one file for each entry. Files are 0600, in a directory 0700.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from chandlery.app import manifests
from chandlery.app.home import Home
from chandlery.app.progress import Progress
from chandlery.app.show import binding
from chandlery.app.up import connect
from chandlery.foundation.errors import ChandleryError, InvalidConfiguration, Timeout
from chandlery.reconcile.api import ResourceType

POLL = 0.1


def parse_target(text: str) -> tuple[ResourceType, str]:
    """`cache/demo`, `caches/demo` or `lb/demo` -> the kind and the name.

    Raises:
        InvalidConfiguration: it isn't KIND/NAME, or there is no such kind.
    """
    word, _, name = text.partition("/")
    for kind in manifests.our_types():
        initials = "".join(letter for letter in kind.kind if letter.isupper()).lower()
        names = {kind.kind.lower(), kind.plural, *manifests.short_names(kind)}
        if name and (word.lower() in names or (len(initials) > 1 and word.lower() == initials)):
            return kind, name
    known = ", ".join(sorted(kind.kind.lower() for kind in manifests.our_types()))
    raise InvalidConfiguration(f"{text!r} is not KIND/NAME", hint=f"Kinds are {known}.")


async def wait_for(kubeconfig: Path, namespace: str, target: str, seconds: float) -> Mapping[str, str]:
    """The entries of a binding, once it is there.

    Raises:
        Timeout: it isn't, after so many seconds.
    """
    kind, name = parse_target(target)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    problem = "there is no such object"
    while loop.time() < deadline:
        try:
            api = connect(kubeconfig)
        except (ChandleryError, OSError) as error:
            problem = str(error)
        else:
            try:
                obj = await api.get(kind, namespace, name)
                if obj is not None:
                    problem = "it has no binding yet"
                    entries = await binding(api, obj)
                    if entries:
                        return entries
            except ChandleryError as error:
                problem = error.message
            finally:
                await api.close()
        await asyncio.sleep(POLL)
    raise Timeout(f"waited {seconds:.0f} s for {target} in namespace {namespace}: {problem}")


def project(root: Path, bindings: Mapping[str, Mapping[str, str]]) -> None:
    """Write the files; what an earlier run left there and isn't wanted any more goes."""
    from chandlery.providers.local.files import make_dir, remove_tree, write_atomic

    make_dir(root)
    for old in root.iterdir():
        if old.name not in bindings:
            remove_tree(old)
    for name, entries in bindings.items():
        make_dir(root / name)
        for key, value in entries.items():
            write_atomic(root / name / key, value)
        for old in (root / name).iterdir():
            if old.name not in entries:
                old.unlink()


async def gather(
    kubeconfig: Path, namespace: str, targets: Sequence[str], seconds: float
) -> dict[str, Mapping[str, str]]:
    found = await asyncio.gather(*(wait_for(kubeconfig, namespace, target, seconds) for target in targets))
    return {target.partition("/")[2]: entries for target, entries in zip(targets, found, strict=True)}


def run(
    home: Home, kubeconfig: Path, namespace: str, targets: Sequence[str], argv: Sequence[str], seconds: float
) -> None:
    """Wait for the bindings, write them, and become the program. Doesn't return."""
    progress = Progress()
    bindings = asyncio.run(gather(kubeconfig, namespace, targets, seconds))
    root = home.run / "bindings" / f"{namespace}-{os.getpid()}"
    project(root, bindings)
    progress.done(f"bindings of {', '.join(bindings)} are in {root}")
    os.environ["SERVICE_BINDING_ROOT"] = str(root)
    sys.stderr.flush()
    try:
        os.execvp(argv[0], list(argv))
    except OSError as error:
        raise InvalidConfiguration(f"{argv[0]} can't be started: {error.strerror}") from error
