"""Ports that stay the same over restarts and recreation.

A claim is written in the object's own record, so that it lives and dies with the object. Ports come from outside
of the range from which the kernel picks local ports: inside it, a readiness loop that connects to a port nobody
listens on yet can end up connected to itself and keep the engine from binding.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable, Iterable
from pathlib import Path

from chandlery.foundation.errors import QuotaExceeded, Unavailable

DEFAULT_RANGE = (20000, 31999)
_KERNEL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def usable_range(wanted: tuple[int, int] = DEFAULT_RANGE, kernel_file: Path = _KERNEL_RANGE) -> tuple[int, int]:
    """The part of `wanted` that lies outside of the kernel's ephemeral range (the larger part, if it is cut in two)."""
    try:
        low, high = (int(part) for part in kernel_file.read_text().split())
    except (OSError, ValueError):
        low, high = 49152, 65535  # IANA's dynamic range, which macOS uses
    first, last = wanted
    if high < first or low > last:
        return wanted
    below, above = (first, low - 1), (high + 1, last)
    best = max(below, above, key=lambda part: part[1] - part[0])
    # With no room outside, inside is better than nothing: the kernel avoids ports that are in use.
    return best if best[1] - best[0] >= 100 else wanted


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """True when an engine could listen on the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As engines do: a port in TIME_WAIT is free, one that somebody listens on is not.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


class PortTaken(Unavailable):
    """Another program has the port that an engine should listen on."""

    code = "PortTaken"

    def __init__(self, port: int, retry_after: float = 2.0) -> None:
        super().__init__(
            f"port {port} is taken by another program",
            hint=f"End that program (`ss -ltnp 'sport = :{port}'` names it); it goes on by itself then.",
            retry_after=retry_after,
        )
        self.port = port


class Ports:
    """Chooses ports that no object has claimed and nobody listens on."""

    def __init__(
        self,
        claimed: Callable[[], Iterable[int]],
        port_range: tuple[int, int] = DEFAULT_RANGE,
        probe: Callable[[int], bool] = is_free,
        begin: str = "",
    ) -> None:
        self._claimed = claimed
        self._first, self._last = usable_range(port_range)
        # Two data directories on one machine know nothing of each other's claims: each begins somewhere else.
        self._next = self.steady(begin) if begin else self._first
        self._probe = probe

    def steady(self, text: str) -> int:
        """A port of the range that is the same for the same text: to be preferred, so that recreation keeps it."""
        number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        return self._first + number % (self._last - self._first + 1)

    def begin(self, text: str) -> None:
        """Begin to look at a place of its own, in the lower half: two data directories seldom want the same port."""
        number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        self._next = self._first + number % max(1, (self._last - self._first) // 2)

    def choose(self, preferred: int | None = None, *, block: int = 1) -> int:
        """The first port of `block` neighbours, all free and unclaimed.

        `preferred` is taken when it can be had. Looking goes on from where it stopped, so that the port of an
        object that was just deleted isn't handed out again at once to a client's surprise.

        Raises:
            QuotaExceeded: every port of the range is taken.
        """
        taken = set(self._claimed())
        if preferred is not None and preferred not in taken and self._probe(preferred):
            return preferred
        span = self._last - self._first + 2 - block
        for offset in range(span):
            start = self._first + (self._next - self._first + offset) % span
            ports = range(start, start + block)
            if taken.isdisjoint(ports) and all(self._probe(port) for port in ports):
                self._next = start + block
                return start
        raise QuotaExceeded(
            f"all ports from {self._first} to {self._last} are taken",
            hint="Delete objects that are no longer needed, or widen CHANDLERY_LOCAL_PORT_RANGE.",
            retry_after=10.0,
        )
