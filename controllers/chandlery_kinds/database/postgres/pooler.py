"""PgBouncer's settings: which belong to the driver, which people may choose. Pure.

Source: the PgBouncer manual, "Configuration settings".
"""

from __future__ import annotations

import difflib

from chandlery.driver.protocol import Unsupported
from chandlery_kinds.database.spec_parts import Pooler as PoolerSpec

OWNED = {
    "pool_mode": "spec.pooler.mode",
    "max_client_conn": "spec.pooler.maxClientConnections",
    "default_pool_size": "spec.pooler.poolSize",
    "listen_port": "spec.exposure.port",
    "so_reuseport": "spec.pooler.instances",
    **{f"client_tls_{name}": "spec.tls" for name in ("sslmode", "key_file", "cert_file", "ca_file", "protocols")},
}
TUNABLE = frozenset(
    """
    application_name_add_host autodb_idle_timeout client_idle_timeout client_login_timeout client_tls_ciphers
    client_tls_dheparams client_tls_ecdhcurve disable_pqexec dns_max_ttl dns_nxdomain_ttl dns_zone_check_period
    idle_transaction_timeout ignore_startup_parameters listen_backlog log_connections log_disconnections
    log_pooler_errors log_stats max_db_connections max_packet_size max_user_connections min_pool_size pkt_buf
    query_timeout query_wait_timeout reserve_pool_size reserve_pool_timeout sbuf_loopcnt server_check_delay
    server_check_query server_connect_timeout server_fast_close server_idle_timeout server_lifetime
    server_login_retry server_reset_query server_reset_query_always server_round_robin stats_period
    suspend_timeout tcp_defer_accept tcp_keepalive tcp_keepcnt tcp_keepidle tcp_keepintvl tcp_socket_buffer
    tcp_user_timeout track_extra_parameters verbose
    """.split()
)
QUERY = "SELECT usename, passwd FROM pg_shadow WHERE usename = $1 AND left(usename, 9) <> 'chandlery'"
"""Who may log in, asked of the engine at each login."""


def refused(spec: PoolerSpec | None) -> list[Unsupported]:
    """Settings of the pooler that belong to the driver, or that PgBouncer doesn't have."""
    found = []
    for name, value in (spec.configuration if spec is not None and spec.enabled else {}).items():
        field = f"spec.pooler.configuration[{name}]"
        if name in OWNED:
            found.append(Unsupported(field, value, f"it belongs to the driver: use {OWNED[name]}"))
        elif name not in TUNABLE:
            near = difflib.get_close_matches(name, TUNABLE, n=1, cutoff=0.7)
            hint = f": did you mean {near[0]}?" if near else ", or it belongs to the driver"
            found.append(Unsupported(field, value, f"PgBouncer has no such setting{hint}"))
        elif not value or any(c in value for c in "\r\n\x00"):
            found.append(Unsupported(field, value, "it must be one line, and not empty"))
    return found
