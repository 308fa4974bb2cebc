"""What a PostgreSQL that begins with a backup does in place of initdb.

The image needs `cp`, `chmod` and `rm` besides PostgreSQL's programs, psql among them.
"""

from __future__ import annotations

from collections.abc import Mapping

from chandlery_kinds.database.kubernetes.inputs import BACKUPS, MARK, MOUNT, RUN, SECRET, STOP_SECONDS
from chandlery_kinds.database.postgres.configuration import ADMIN

_RESTORE = """
if [ -e "$backup/data/PG_VERSION" ]; then
  cp -R "$backup/data" "$made"
  chmod 0700 "$made"
  rm -f "$made/chandlery-initialised"
else
  initdb --pgdata="$made" --no-sync {initdb}
fi
pg_ctl start --pgdata="$made" --wait --timeout=86400 --options="-c config_file={mount}/postgresql.conf \
-c listen_addresses='' -c hba_file={mount}/restore_hba.conf -c log_statement=none"
if [ -e "$backup/dump.sql" ]; then
  psql --host={run} --username={admin} --dbname=postgres --quiet --no-psqlrc --file="$backup/dump.sql" >/dev/null
fi
read -r word < {secret}/admin || :
printf "ALTER ROLE {admin} SUPERUSER LOGIN PASSWORD '%s';\\n" "$word" |
  psql --host={run} --username={admin} --dbname=postgres --quiet --no-psqlrc --set=ON_ERROR_STOP=1
pg_ctl stop --pgdata="$made" --mode=fast --wait --timeout={stop}
"""
FIND_BACKUP = """backup=
for one in {folder}/{name}; do if [ -e "$one/{mark}" ]; then backup=$one; fi; done
if [ -z "$backup" ]; then echo "no backup {name} in {folder}" >&2; exit 1; fi
"""


def restore_script(source: Mapping[str, str], initdb: str) -> str:
    """Fill `$made` from a backup; in place of initdb. Passwords are those of this object afterwards."""
    folder = f"{BACKUPS}/{source['path']}".rstrip("/")
    find = FIND_BACKUP.format(folder=folder, name=source.get("name") or "[0-9]*", mark=MARK)
    return find + _RESTORE.format(initdb=initdb, mount=MOUNT, run=RUN, admin=ADMIN, secret=SECRET, stop=STOP_SECONDS)
