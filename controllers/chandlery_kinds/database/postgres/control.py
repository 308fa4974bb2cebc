"""The control file of a cluster of databases: a new identity for a copy that is to be a cluster of its own. Pure.

Two clusters with one system identifier take each other's write-ahead log, base backups and archives for their own.
PostgreSQL has no program that gives an identifier to a copy as it is; `pg_createsubscriber` writes it into the control
file and has `pg_resetwal` begin a new write-ahead log with it, and so do we. `pg_resetwal` checks the checksum, so what
was written wrongly is noticed before any server is started on it.

Source: PostgreSQL's src/include/catalog/pg_control.h, with the versions of the file that it names.
"""

from __future__ import annotations

import secrets
import struct
from datetime import datetime
from functools import cache

IDENTIFIER = struct.Struct("=Q")
VERSION = struct.Struct("=I")
CHECKSUM = struct.Struct("=I")
NONCE_BYTES = 32
_LAYOUTS = {1300: (256, 288), 1800: (257, 292)}
"""Version of the file (PostgreSQL 13 to 17, and 18) -> where the nonce and where the checksum is."""


class UnknownLayoutError(ValueError):
    """Not a control file whose places we know."""


def with_new_identity(content: bytes, now: datetime) -> bytes:
    """The same control file with a system identifier of its own, and a nonce of its own.

    The nonce is what PostgreSQL answers logins of roles with that don't exist; it must not be known to others.

    Args:
        content: the whole file.
        now: the identifier begins with it, as those that initdb makes do.

    Raises:
        UnknownLayoutError: the file is of another version of PostgreSQL, or damaged.
    """
    nonce, checksum = _layout(content)
    changed = bytearray(content)
    IDENTIFIER.pack_into(changed, 0, _identifier(now))
    changed[nonce : nonce + NONCE_BYTES] = secrets.token_bytes(NONCE_BYTES)
    CHECKSUM.pack_into(changed, checksum, crc32c(bytes(changed[:checksum])))
    return bytes(changed)


def identifier_of(content: bytes) -> int:
    """The system identifier.

    Raises:
        UnknownLayoutError: the file is of another version of PostgreSQL, or damaged.
    """
    _layout(content)
    return int(IDENTIFIER.unpack_from(content)[0])


def _layout(content: bytes) -> tuple[int, int]:
    if len(content) < IDENTIFIER.size + VERSION.size:
        raise UnknownLayoutError("the control file is too short")
    version = VERSION.unpack_from(content, IDENTIFIER.size)[0]
    if version not in _LAYOUTS:
        raise UnknownLayoutError(f"control files of version {version} are not known here")
    nonce, checksum = _LAYOUTS[version]
    if len(content) < checksum + CHECKSUM.size or CHECKSUM.unpack_from(content, checksum)[0] != crc32c(
        content[:checksum]
    ):
        raise UnknownLayoutError("the control file's checksum doesn't fit")
    return nonce, checksum


def _identifier(now: datetime) -> int:
    """Seconds since the epoch in the upper half, then microseconds, then twelve bits by chance."""
    return int(now.timestamp()) << 32 | now.microsecond << 12 | secrets.randbits(12)


def crc32c(data: bytes) -> int:
    """The Castagnoli CRC (RFC 3720, appendix B.4)."""
    table, value = _table(), 0xFFFFFFFF
    for byte in data:
        value = table[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF


@cache
def _table() -> tuple[int, ...]:
    found = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)  # noqa: PLW2901 - the polynomial, bit by bit
        found.append(value)
    return tuple(found)
