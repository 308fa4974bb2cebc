"""`chandlery console`: the serial console of a virtual machine in this terminal. Ctrl-] leaves it."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import termios
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chandlery.app.home import Home
from chandlery.foundation.errors import NotFound, Unavailable

ESCAPE = b"\x1d"
SILENCE = 1.0
_CHUNK = 4096


def socket_of(home: Home, obj: dict[str, Any]) -> Path:
    """The socket of a machine's serial console.

    Raises:
        NotFound: the machine doesn't run on this computer.
    """
    name = (obj.get("status") or {}).get("externalName") or f"{obj['kind'].lower()}-{obj['metadata']['uid']}"
    path = home.root / "instances" / name / "run" / "console.sock"
    if not path.is_socket():
        raise NotFound(
            f"virtualmachine/{obj['metadata']['name']} has no console on this machine",
            hint="It is off, or runs elsewhere; `chandlery status` says more.",
        )
    return path


def attach(path: Path, source: int = 0, target: int = 1) -> None:
    """Connect the terminal to the console until Ctrl-], the end of the input, or of the machine.

    Args:
        path: the socket.
        source: descriptor that keys come from.
        target: descriptor that the guest's words go to.

    Raises:
        Unavailable: nobody answers at the socket, or somebody else is connected.
    """
    with _connected(path) as connection, _raw(source):
        sources: list[Any] = [connection, source]
        while True:
            # After the end of a script's input, what the guest still says is shown until it falls silent.
            ready, _, _ = select.select(sources, [], [], None if source in sources else SILENCE)
            if not ready:
                return
            if connection in ready:
                data = _received(connection)
                if not data:
                    return
                _write(target, data)
            if source in ready:
                typed = os.read(source, _CHUNK)
                before, escape, _ = typed.partition(ESCAPE)
                # A machine that was just switched off hears nothing; its last words are still read above.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    connection.sendall(before)
                if escape:
                    return
                if not typed:
                    sources.remove(source)


def _received(connection: socket.socket) -> bytes:
    """What the guest says next; empty at the end of the machine, however it ended."""
    try:
        return connection.recv(_CHUNK)
    except ConnectionResetError:
        return b""


@contextlib.contextmanager
def _connected(path: Path) -> Iterator[socket.socket]:
    # The address of a unix socket is short: go where it is, and name it from there.
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        back = os.open(".", os.O_RDONLY)
        try:
            os.chdir(path.parent)
            connection.settimeout(2.0)
            connection.connect(path.name)
            connection.settimeout(None)
        except OSError as error:
            raise Unavailable(
                f"the console can't be reached: {error.strerror or error}",
                hint="One terminal at a time can have it: leave it there with Ctrl-].",
            ) from error
        finally:
            os.fchdir(back)
            os.close(back)
        yield connection


@contextlib.contextmanager
def _raw(descriptor: int) -> Iterator[None]:
    """Every key goes to the guest, Ctrl-C too."""
    if not os.isatty(descriptor):
        yield
        return
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def note(text: str) -> None:
    """A line for the person, not for the guest."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
