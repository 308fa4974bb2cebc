"""How the data of a MariaDB come about: by mariadb-install-db, or from a backup.

Source: MariaDB Server documentation, "mariadb-install-db", "mariadb-backup Overview".
"""

from __future__ import annotations

from chandlery_kinds.database.kubernetes.inputs import MARIADB_RUN
from chandlery_kinds.database.kubernetes.mariadb_config import TEMPORARY
from chandlery_kinds.database.kubernetes.restore import DUMP, FILES, RESTORED

# Nobody but the driver's own users is there at the beginning; they are made afterwards.
INSTALL = """mariadb-install-db --no-defaults --datadir="$made" --tmpdir={tmp} --force --skip-name-resolve \
  --skip-test-db --auth-root-authentication-method=normal
printf '%s\n' "DELETE FROM mysql.global_priv WHERE User <> 'mariadb.sys';" 'DELETE FROM mysql.proxies_priv;' |
  mariadbd --no-defaults --bootstrap --datadir="$made" --tmpdir={tmp}"""
# A dump is loaded by a server that listens on a socket of the init container's own.
_RESTORE = """backup={restored}
if [ -e "$backup/{files}" ]; then
  mariadb-backup --no-defaults --prepare --target-dir="$backup/{files}" --tmpdir={tmp}
  rm -f "$backup/{files}/chandlery-initialised"
  cp -R "$backup/{files}" "$made"
elif [ ! -e "$backup/{dump}" ]; then
  echo "no files of a backup in $backup" >&2
  exit 1
else
{install}
  mariadbd --no-defaults --datadir="$made" --tmpdir={tmp} --skip-networking --skip-grant-tables \
    --socket={socket} --pid-file={run}/restore.pid &
  server=$!
  until mariadb --no-defaults --socket={socket} --execute='SELECT 1' >/dev/null 2>&1; do
    kill -0 $server
    sleep 1
  done
  mariadb --no-defaults --socket={socket} < "$backup/{dump}"
  kill -TERM $server
  wait $server
fi
"""


def restore_script() -> str:
    """Fill `$made` from a backup. The driver's own users are made anew afterwards."""
    socket = f"{MARIADB_RUN}/restore.sock"
    install = INSTALL.format(tmp=TEMPORARY)
    words = {"restored": RESTORED, "files": FILES, "dump": DUMP, "run": MARIADB_RUN}
    return _RESTORE.format(install=install, tmp=TEMPORARY, socket=socket, **words)
