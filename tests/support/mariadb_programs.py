"""MariaDB's programs from Debian packages, as an image would have them: in a folder that anybody may read."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from local_harness import shared_cache

from chandlery.providers.local.engines import Engines
from chandlery.providers.local.engines.apt import available

needed = [
    pytest.mark.engine,
    pytest.mark.skipif(
        not (os.environ.get("CHANDLERY_DEBIAN_ENGINES") or os.environ.get("CHANDLERY_CONTAINERS")),
        reason="needs MariaDB's packages: CHANDLERY_DEBIAN_ENGINES=1",
    ),
    pytest.mark.skipif(bool(available()), reason=f"MariaDB comes from Debian packages: {available()}"),
]
_SERVER = """#!/bin/sh
export LD_LIBRARY_PATH={libraries}
first=$1
shift
exec {root}/usr/sbin/mariadbd "$first" --basedir={root}/usr --lc-messages-dir={share} \\
  --character-sets-dir={share}/charsets --plugin-dir={root}/usr/lib/mysql/plugin "$@"
"""
_INSTALL = """#!/bin/sh
export LD_LIBRARY_PATH={libraries}
exec {root}/usr/bin/mariadb-install-db "$@" --basedir={root}/usr
"""
_OTHER = """#!/bin/sh
export LD_LIBRARY_PATH={libraries}
exec {root}/usr/bin/{name} "$@"
"""


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


async def programs(folder: Path) -> Path:
    """A folder with mariadbd, mariadb, mariadb-install-db and mariadb-backup.

    Raises:
        EngineFailed: the packages can't be fetched.
    """
    engines = Engines(shared_cache() / "engines")
    made = folder / "bin"
    made.mkdir(parents=True)
    folder.chmod(0o755)
    for name in ("mariadb", "mariadb-backup"):
        engine = await engines.ensure(name)
        assert engine.root is not None, "this test needs the packages, and the machine has a MariaDB of its own"
        root = folder / name
        shutil.copytree(engine.root, root, symlinks=True, copy_function=_linked)
        libraries = dict(engine.env)["LD_LIBRARY_PATH"].replace(str(engine.root), str(root))
        words = {"root": root, "libraries": libraries, "share": root / "usr/share/mysql"}
        if name == "mariadb":
            (made / "mariadbd").write_text(_SERVER.format(**words))
            (made / "mariadb-install-db").write_text(_INSTALL.format(**words))
            (made / "mariadb").write_text(_OTHER.format(name="mariadb", **words))
        else:
            (made / name).write_text(_OTHER.format(name=name, **words))
    for path in made.iterdir():
        path.chmod(0o755)
    return made
