"""What a copy needs no less of than its primary."""

from chandlery_kinds.database.standby import at_least, parse_control

CONTROL = """\
pg_control version number:            1800
wal_level setting:                    replica
max_connections setting:              120
max_worker_processes setting:         8
max_wal_senders setting:              10
max_prepared_xacts setting:           0
max_locks_per_xact setting:           64
track_commit_timestamp setting:       off
"""


def test_only_what_is_too_low_is_raised():
    control = parse_control(CONTROL)
    assert control["max_connections"] == 120
    assert control["max_prepared_transactions"] == 0
    assert at_least(control, "max_connections = '100'\nmax_wal_senders = '10'\n") == ["-c", "max_connections=120"]
    assert at_least(control, "max_connections = '200'\n") == []
    assert at_least(control, "# max_connections = '100'\n") == []
    assert at_least(parse_control("gibberish"), "max_connections = '1'\n") == []
