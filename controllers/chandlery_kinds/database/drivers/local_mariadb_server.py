"""One MariaDB server on this machine: its files, its process, connections to it.

The data directory is made by the engine's own bootstrap mode from the SQL that comes with it, aside, and renamed when
it is whole. In that mode each statement ends with its line. The driver's own user can come by the socket only.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chandlery.foundation.errors import EngineFailed, Unauthenticated, Unavailable
from chandlery.providers.local import Instance, ProcessSpec, StopStep
from chandlery.providers.local.asking import reachable
from chandlery.providers.local.driver import require_port
from chandlery.providers.local.engines import Engine
from chandlery.providers.local.files import make_dir, os_error, remove_tree
from chandlery.providers.local.ports import is_free
from chandlery.providers.local.tools import run_tool
from chandlery_kinds.database.mariadb.configuration import ADMIN, render
from chandlery_kinds.database.mariadb.sql import account, literal, stored
from chandlery_kinds.database.model import DatabaseSpec

HOST = "127.0.0.1"
PROCESS = "mariadb"
SOCKET = "chandlery.sock"
"""Relative to the data directory, in which the server works: so its path is never too long."""
ANSWER_SECONDS = 2.0
STOP = (StopStep(signal.SIGTERM, 30.0), StopStep(signal.SIGKILL, 5.0))
_SCRIPTS = (
    "mysql_system_tables.sql",
    "mysql_performance_tables.sql",
    "mysql_system_tables_data.sql",
    "maria_add_gis_sp_bootstrap.sql",
)


class MariaServer:
    """Makes and starts the server of one instance."""

    def __init__(self, instance: Instance, spec: DatabaseSpec, seconds: float) -> None:
        self.instance = instance
        self.spec = spec
        self._seconds = seconds
        self.process = instance.process(PROCESS)

    @property
    def engine(self) -> Engine:
        return self.instance.engine("mariadb", self.spec.version)

    @property
    def port(self) -> int:
        return self.instance.port("client", self.spec.exposure.port)

    @property
    def data(self) -> Path:
        return self.instance.data_dir / PROCESS

    @property
    def made(self) -> bool:
        return (self.data / "ibdata1").exists()

    @property
    def config_file(self) -> Path:
        return self.instance.config_dir / "my.cnf"

    @property
    def _share(self) -> Path:
        """Messages and scripts: beside the program in an unpacked package, else where the system has them."""
        here = [self.engine.root / "usr/share/mysql"] if self.engine.root is not None else []
        for path in (*here, Path("/usr/share/mysql"), Path("/usr/share/mariadb")):
            if (path / _SCRIPTS[0]).exists():
                return path
        raise EngineFailed(
            f"the scripts that make a new MariaDB ({_SCRIPTS[0]}, ...) are not here",
            hint="Remove the system's mariadbd from PATH or install its server package whole.",
        )

    def _places(self) -> dict[str, str]:
        found = {"lc_messages_dir": str(self._share)}
        root = self.engine.root
        if root is not None:
            found |= {
                "basedir": str(root / "usr"),
                "plugin_dir": str(root / "usr/lib/mysql/plugin"),
                "character_sets_dir": str(self._share / "charsets"),
            }
        drop = self.instance.provider.privileges.drop(self.instance.root, self.engine.binary)
        if os.geteuid() == 0 and drop.uid is None and not drop.prefix:
            found["user"] = "root"  # it refuses to run as root unless it is told to
        return found

    # -- making

    async def initialise(self) -> None:
        """The system tables and the driver's own user.

        Raises:
            EngineFailed: the engine's own words say why.
        """
        if self.made:
            return
        unfinished = self.instance.data_dir / f"{PROCESS}.unfinished"
        remove_tree(unfinished)
        make_dir(unfinished)
        admin = account(ADMIN, "localhost")
        secret = literal(stored(self.instance.secret("admin")))
        script = [
            "SET @auth_root_socket=NULL;",
            "SET @skip_auth_anonymous=1;",
            "CREATE DATABASE mysql;",
            "USE mysql;",
            *((self._share / name).read_text() for name in _SCRIPTS),
            "DELETE FROM global_priv WHERE User <> 'mariadb.sys';",
            "DELETE FROM proxies_priv;",
            "FLUSH PRIVILEGES;",
            f"CREATE USER {admin} IDENTIFIED BY PASSWORD {secret};",
            f"GRANT ALL PRIVILEGES ON *.* TO {admin} WITH GRANT OPTION;",
        ]
        await self.bootstrap(unfinished, "\n".join(script) + "\n")
        unfinished.rename(self.data)

    async def bootstrap(self, directory: Path, script: str) -> None:
        """Run statements, one a line, on data that no server has open.

        Raises:
            EngineFailed: the engine's own words say why.
        """
        options = {**self._places(), "datadir": str(directory), "skip_networking": "ON"}
        self.instance.write_config("bootstrap.cnf", render(options))
        argv = [str(self.engine.binary), f"--defaults-file={self.instance.config_dir / 'bootstrap.cnf'}", "--bootstrap"]
        try:
            done = await run_tool(
                self.instance,
                argv,
                env=self.engine.env,
                stdin=script.encode(),
                seconds=max(self._seconds, 600.0),
                check=False,
            )
        finally:
            (self.instance.config_dir / "bootstrap.cnf").unlink(missing_ok=True)
        # without the time: what is said is the same at each attempt; the first problem is the cause of the others
        problems = [line.partition("ERROR] ")[2] or line for line in done.output.splitlines() if "ERROR" in line]
        if any(f"error {errno.ENOSPC}" in line for line in problems):
            raise os_error(OSError(errno.ENOSPC, ""), "making MariaDB's data in", self.instance.data_dir)
        if done.code != 0 or problems:
            raise EngineFailed(f"MariaDB's data could not be made: {' | '.join(problems[:3]) or done.tail()}")

    # -- configuration and process

    def configuration(self, settings: Mapping[str, str], own: Mapping[str, str]) -> str:
        """The whole option file: the spec's settings, then what is the instance's own."""
        return render(
            {
                **settings,
                **self._places(),
                "datadir": str(self.data),
                "socket": SOCKET,
                "bind_address": HOST,
                "port": str(self.port),
                "pid_file": str(self.instance.run_dir / "mariadbd.pid"),
                "performance_schema": settings.get("performance_schema", "OFF"),
                "log_warnings": settings.get("log_warnings", "1"),
                **own,
            }
        )

    def is_current(self, text: str) -> bool:
        try:
            return self.config_file.read_text() == text
        except OSError:
            return False

    async def start(self) -> None:
        """Start the server on its data.

        Raises:
            Unavailable: its port is taken.
            EngineFailed: it can't be started, or crashed a moment ago.
        """
        if self.process.state().running:
            return
        if not is_free(self.port) and not self.instance.record.get("served") and self.spec.exposure.port is None:
            self.instance.move_port("client")  # nobody has been told of it yet; the configuration follows
            raise Unavailable("its port was taken before its first start; another one is used", retry_after=0.05)
        require_port(self.port)
        engine = self.engine
        argv = [str(engine.binary), f"--defaults-file={self.config_file}"]
        await self.process.start(ProcessSpec(argv, env=engine.env, cwd=self.instance.data_dir, stop=STOP))

    async def check(self, text: str) -> None:
        """Raise when the server would not start with this option file.

        Raises:
            EngineFailed: it names the option.
        """
        self.instance.write_config("next.cnf", text)
        path = self.instance.config_dir / "next.cnf"
        argv = [str(self.engine.binary), f"--defaults-file={path}", "--help", "--verbose"]
        done = await run_tool(self.instance, argv, env=self.engine.env, check=False)
        path.unlink(missing_ok=True)
        if done.code != 0:
            problems = [line for line in done.output.splitlines() if "[ERROR]" in line or "unknown" in line]
            raise EngineFailed(
                f"MariaDB would not start with it: {' | '.join(problems[:2]) or done.tail()}",
                field="spec.configuration",
                hint="Correct it; the server goes on with the old values.",
                retry_after=None,
            )

    # -- connections

    async def connect(self) -> Any:
        """As the driver's own user, by the socket.

        Raises:
            Unavailable: the server doesn't take connections now.
        """
        with reachable(self.data / SOCKET) as path:
            return await _connect(f"the socket of {PROCESS}", unix_socket=path, user=ADMIN,
                                  password=self.instance.secret("admin"))  # fmt: skip

    async def connect_as(self, user: str, password: str, database: str, tls: Any = None) -> Any:
        """As a client does, by TCP.

        Raises:
            Unavailable: the server doesn't take connections now.
            Unauthenticated: the password is wrong.
        """
        return await _connect(
            f"{HOST}:{self.port}", host=HOST, port=self.port, user=user, password=password, db=database, ssl=tls
        )


async def _connect(where: str, **options: Any) -> Any:
    import aiomysql
    import pymysql

    try:
        return await aiomysql.connect(connect_timeout=ANSWER_SECONDS, autocommit=True, charset="utf8mb4", **options)
    except pymysql.err.OperationalError as error:
        if error.args and error.args[0] == 1045:
            raise Unauthenticated(f"{where} refused {options['user']}'s password") from error
        raise Unavailable(f"{where} doesn't take connections: {error.args[-1]}", retry_after=0.05) from error
    except (OSError, TimeoutError, pymysql.err.MySQLError) as error:
        raise Unavailable(f"{where} doesn't take connections: {error or 'no answer'}", retry_after=0.05) from error
