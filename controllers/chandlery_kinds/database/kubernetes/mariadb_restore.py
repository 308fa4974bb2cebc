"""How the data of a MariaDB come about: by mariadb-install-db, or from a backup.

Source: MariaDB Server documentation, "mariadb-install-db", "mariadb-backup Overview".
"""

from __future__ import annotations

from collections.abc import Mapping

from chandlery_kinds.database.kubernetes.inputs import BACKUPS, MARIADB_RUN, MARK
from chandlery_kinds.database.kubernetes.mariadb_config import TEMPORARY
from chandlery_kinds.database.kubernetes.restore import FIND_BACKUP

# Nobody but the driver's own users is there at the beginning; they are made afterwards.
INSTALL = """mariadb-install-db --no-defaults --datadir="$made" --tmpdir={tmp} --force --skip-name-resolve \
  --skip-test-db --auth-root-authentication-method=normal
printf '%s\n' "DELETE FROM mysql.global_priv WHERE User <> 'mariadb.sys';" 'DELETE FROM mysql.proxies_priv;' |
  mariadbd --no-defaults --bootstrap --datadir="$made" --tmpdir={tmp}"""
# A dump is loaded by a server that listens on a socket of the init container's own.
_RESTORE = """
if [ -e "$backup/data" ]; then
  cp -R "$backup/data" "$made"
  rm -f "$made/chandlery-initialised"
  mariadb-backup --no-defaults --prepare --target-dir="$made" --tmpdir={tmp}
else
{install}
  mariadbd --no-defaults --datadir="$made" --tmpdir={tmp} --skip-networking --skip-grant-tables \
    --socket={socket} --pid-file={run}/restore.pid &
  server=$!
  until mariadb --no-defaults --socket={socket} --execute='SELECT 1' >/dev/null 2>&1; do
    kill -0 $server
    sleep 1
  done
  mariadb --no-defaults --socket={socket} < "$backup/dump.sql"
  kill -TERM $server
  wait $server
fi
"""


def restore_script(source: Mapping[str, str]) -> str:
    """Fill `$made` from a backup. The driver's own users are made anew afterwards."""
    folder = f"{BACKUPS}/{source['path']}".rstrip("/")
    find = FIND_BACKUP.format(folder=folder, name=source.get("name") or "[0-9]*", mark=MARK)
    socket = f"{MARIADB_RUN}/restore.sock"
    install = INSTALL.format(tmp=TEMPORARY)
    return find + _RESTORE.format(install=install, tmp=TEMPORARY, socket=socket, run=MARIADB_RUN)
