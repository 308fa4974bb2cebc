"""Settings of which a PostgreSQL copy needs no less than its primary (the manual says so in "Hot Standby")."""

from __future__ import annotations

import re
from collections.abc import Mapping

_IN_CONTROL_FILE = {
    "max_connections": "max_connections",
    "max_worker_processes": "max_worker_processes",
    "max_wal_senders": "max_wal_senders",
    "max_prepared_xacts": "max_prepared_transactions",
    "max_locks_per_xact": "max_locks_per_transaction",
}
"""As pg_controldata names them, and as the configuration does."""


def parse_control(text: str) -> dict[str, int]:
    """The values that the control file holds, from the output of pg_controldata (messages in English)."""
    found = re.findall(r"^(\w+) setting:\s+(\d+)$", text, re.MULTILINE)
    return {_IN_CONTROL_FILE[name]: int(value) for name, value in found if name in _IN_CONTROL_FILE}


def at_least(control: Mapping[str, int], configuration: str) -> list[str]:
    """Options for the command line that raise what a configuration file sets too low; none where it is enough."""
    argv = []
    for name, needed in sorted(control.items()):
        found = re.search(rf"^{name} = '(\d+)'$", configuration, re.MULTILINE)
        if found is not None and int(found[1]) < needed:
            argv += ["-c", f"{name}={needed}"]
    return argv
