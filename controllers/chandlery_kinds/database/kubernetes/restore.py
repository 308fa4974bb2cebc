"""How a database begins with a backup: our own program puts the files beside the data, the engine makes them its own.

A PostgreSQL image needs `mv`, `chmod` and `rm` besides its programs, psql among them.
"""

from __future__ import annotations

from typing import Any, Final

from chandlery.providers.kubernetes import backup as common
from chandlery_kinds.database.kubernetes.inputs import DATA, MOUNT, RUN, SECRET, STOP_SECONDS, Inputs
from chandlery_kinds.database.postgres.configuration import ADMIN

MODULE: Final = "chandlery_kinds.database.drivers.kubernetes_program"
RESTORED: Final = f"{DATA}/restored"
"""Where the files of a backup are until the engine has taken them up."""
FILES: Final = "data"
DUMP: Final = "dump.sql"
"""One of these is in there."""

# What is cut short goes on where it was: an engine that has begun to recover can do so again.
_RESTORE = """backup={restored}
if [ -e "$backup/{files}" ]; then
  made=$backup/{files}
  chmod 0700 "$made"
elif [ -e "$backup/{dump}" ]; then
  initdb --pgdata="$made" --no-sync {initdb}
else
  echo "no files of a backup in $backup" >&2
  exit 1
fi
pg_ctl start --pgdata="$made" --wait --timeout=86400 --options="-c config_file={mount}/postgresql.conf \
-c listen_addresses='' -c hba_file={mount}/restore_hba.conf -c log_statement=none"
if [ -e "$backup/{dump}" ]; then
  psql --host={run} --username={admin} --dbname=postgres --quiet --no-psqlrc --file="$backup/{dump}" >/dev/null
fi
read -r word < {secret}/admin || :
printf "ALTER ROLE {admin} SUPERUSER LOGIN PASSWORD '%s';\\n" "$word" |
  psql --host={run} --username={admin} --dbname=postgres --quiet --no-psqlrc --set=ON_ERROR_STOP=1
pg_ctl stop --pgdata="$made" --mode=fast --wait --timeout={stop}
if [ -e "$backup/{files}" ]; then
  : > "$made/chandlery-initialised"
  initdb --pgdata="$made" --sync-only
  made={data}/pgdata-$n
  mv "$backup/{files}" "$made"
fi
"""
DROP: Final = f"rm -rf {RESTORED}\n"
"""When the data are there."""


def restore_script(initdb: str) -> str:
    """Fill `$made` with a backup; in place of initdb. Passwords are those of this object afterwards."""
    return _RESTORE.format(
        restored=RESTORED,
        files=FILES,
        dump=DUMP,
        initdb=initdb,
        mount=MOUNT,
        run=RUN,
        admin=ADMIN,
        secret=SECRET,
        stop=STOP_SECONDS,
        data=DATA,
    )


def restore_container(inputs: Inputs, made: str) -> list[dict[str, Any]]:
    """What runs before the engine's own programs; none without a backup to begin with.

    Args:
        inputs: of all of it.
        made: how folders with data are called, up to their number.
    """
    source = inputs.restore
    if source is None:
        return []
    place = common.known_place(source)
    task = {
        "kind": inputs.owner.kind,
        "namespace": inputs.owner.namespace,
        **common.task_of(place),
        **{key: source[key] for key in ("object", "uid", "name") if key in source},
        "engine": inputs.spec.engine.value,
        "version": str(inputs.spec.version or ""),
        "data": DATA,
        "made": made,
        "into": RESTORED,
    }
    mounts = [{"name": "data", "mountPath": DATA}, *common.mounts(place, read_only=True)]
    image = source.get("image") or inputs.tool
    return [common.container("restore", image, MODULE, ["restore"], task, inputs.parameters, volumeMounts=mounts)]


def restore_volumes(inputs: Inputs) -> list[dict[str, Any]]:
    """With the backup; none without one to begin with."""
    return common.volumes(common.known_place(inputs.restore), read_only=True) if inputs.restore is not None else []
