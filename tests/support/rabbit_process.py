"""RabbitMQ from Debian's packages as a process of this machine, for pods that are processes."""

from __future__ import annotations

import socket
from pathlib import Path

from local_harness import shared_cache

from chandlery.providers.local.engines import Engines

# What RabbitMQ's own script does, for a tree that doesn't lie where it was built for, on the pod's address alone.
SERVER = """#!/bin/sh
ip=${{RABBITMQ_NODENAME#*@}}
export ROOTDIR={erlang} BINDIR={erts} EMU=beam PROGNAME=erl ERL_LIBS={home}/plugins RABBITMQ_HOME={home} SYS_PREFIX=
export RABBITMQ_PLUGINS_DIR={home}/plugins ERL_MAX_ETS_TABLES=50000 ERL_EPMD_ADDRESS=$ip ERL_EPMD_PORT={epmd}
$BINDIR/epmd -port {epmd} -address $ip & epmd=$!
$BINDIR/erlexec -noinput -s rabbit boot -boot start_sasl -start_epmd false +W w +S 1:1 +sbwt none \
  -kernel inet_dist_use_interface "{{$(echo $ip | tr . ,)}}" -kernel prevent_overlapping_partitions false \
  -syslog logger '[]' -syslog syslog_error_logger false $RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS & server=$!
trap 'kill -9 $server $epmd' TERM
wait $server
kill $epmd
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


async def server(folder: Path) -> tuple[str, dict[str, str]]:
    """A program in the folder that starts it, and the environment that it needs."""
    engine = await Engines(shared_cache()).ensure("rabbitmq")
    assert engine.root is not None
    erlang = engine.root / "usr/lib/erlang"
    [home] = (engine.root / "usr/lib/rabbitmq/lib").glob("rabbitmq_server-*")
    [erts] = erlang.glob("erts-*")
    path = folder / "rabbitmq-server"
    path.write_text(SERVER.format(erlang=erlang, erts=erts / "bin", home=home, epmd=free_port()))
    path.chmod(0o755)
    return str(path), dict(engine.env)
