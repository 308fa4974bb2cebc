"""A copy of a cluster gets an identity of its own, or is refused."""

import struct
from datetime import UTC, datetime

import pytest

from chandlery_kinds.database.postgres.control import UnknownLayoutError, crc32c, identifier_of, with_new_identity

NOW = datetime(2026, 3, 1, 12, 30, 15, 123456, UTC)


def control_file(version, checksum):
    """As PostgreSQL writes it: the identifier, the version, whatever else, the checksum, and zeros up to 8192 bytes."""
    content = struct.pack("=QI", 42, version) + bytes(range(12, 256)) + bytes(64)
    content = content[:checksum]
    return (content + struct.pack("=I", crc32c(content))).ljust(8192, b"\0")


# RFC 3720, B.4: CRC examples
@pytest.mark.parametrize(
    ("data", "value"), [(bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E)]
)
def test_the_checksum_is_the_one_of_the_standard(data, value):
    assert crc32c(data) == value


@pytest.mark.parametrize(("version", "nonce", "checksum"), [(1300, 256, 288), (1800, 257, 292)])
def test_identifier_and_nonce_are_new_and_nothing_else(version, nonce, checksum):
    old = control_file(version, checksum)
    new = with_new_identity(old, NOW)
    assert identifier_of(new) >> 32 == int(NOW.timestamp())
    assert identifier_of(new) >> 12 & 0xFFFFF == NOW.microsecond
    assert new[nonce : nonce + 32] != old[nonce : nonce + 32]
    assert (new[8:nonce], new[nonce + 32 : checksum]) == (old[8:nonce], old[nonce + 32 : checksum])
    assert len(new) == len(old)
    assert new[checksum + 4 :] == old[checksum + 4 :]


def test_two_copies_made_in_the_same_moment_differ():
    old = control_file(1800, 292)
    assert with_new_identity(old, NOW)[257:289] != with_new_identity(old, NOW)[257:289]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "too short"),
        (control_file(1800, 292)[:200], "doesn't fit"),
        (control_file(1900, 292), "1900"),
        (control_file(1800, 288), "doesn't fit"),
        (control_file(1800, 292).replace(struct.pack("=Q", 42), struct.pack("=Q", 43), 1), "doesn't fit"),
    ],
)
def test_what_is_not_known_or_damaged_is_refused(content, why):
    with pytest.raises(UnknownLayoutError, match=why):
        with_new_identity(content, NOW)
