"""The serial console in a terminal: keys go in raw, words come out, Ctrl-] leaves."""

import contextlib
import os
import pty
import socket
import termios
import threading

import pytest

from chandlery.app import console
from chandlery.app.home import Home
from chandlery.foundation.errors import NotFound, Unavailable

POWER_OFF = b"\x04"


@pytest.fixture
def guest(tmp_path):
    """A guest that says what it hears, in capitals; far down in the file system."""
    folder = tmp_path / ("deep" * 20) / "run"
    folder.mkdir(parents=True)
    back = os.open(".", os.O_RDONLY)
    server = socket.socket(socket.AF_UNIX)
    try:
        os.chdir(folder)
        server.bind("console.sock")
    finally:
        os.fchdir(back)
        os.close(back)
    server.listen()
    heard = bytearray()

    def serve():
        connection, _ = server.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"login: ")
            while data := connection.recv(4096):
                heard.extend(data)
                connection.sendall(data.upper())
                if POWER_OFF in data:
                    return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield folder / "console.sock", heard, thread
    server.close()
    thread.join(5)


def read_until(fd, words):
    said = b""
    while words not in said:
        said += os.read(fd, 4096)
    return said


def test_keys_reach_the_guest_and_its_words_the_terminal(guest):
    path, heard, serving = guest
    keyboard, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)
    out, into = os.pipe()
    thread = threading.Thread(target=console.attach, args=(path, terminal, into))
    thread.start()
    assert read_until(out, b"login: ")
    os.write(keyboard, b"ls\r\x03")  # Ctrl-C is the guest's
    assert b"LS\r\x03" in read_until(out, b"\x03")
    os.write(keyboard, b"bye\x1dnot this")
    thread.join(30)
    assert not thread.is_alive()
    serving.join(30)  # it hears the rest in its own time
    assert bytes(heard) == b"ls\r\x03bye"
    assert termios.tcgetattr(terminal) == before
    for fd in (keyboard, terminal, out, into):
        os.close(fd)


def test_a_script_gets_the_answers_to_all_it_said(guest, monkeypatch):
    monkeypatch.setattr(console, "SILENCE", 60.0)  # a busy machine is silent for longer than a person would wait
    path, _, _ = guest
    source, typed = os.pipe()
    out, into = os.pipe()
    os.write(typed, b"hostname\n" + POWER_OFF)
    os.close(typed)
    console.attach(path, source, into)
    os.close(into)
    assert os.read(out, 4096) == b"login: HOSTNAME\n" + POWER_OFF
    os.close(source)
    os.close(out)


def test_a_machine_without_a_console_is_told_of(tmp_path):
    obj = {"kind": "VirtualMachine", "metadata": {"name": "demo", "uid": "u"}}
    with pytest.raises(NotFound, match="has no console on this machine"):
        console.socket_of(Home(tmp_path), obj)
    with pytest.raises(Unavailable, match="can't be reached"):
        console.attach(tmp_path / "console.sock")
