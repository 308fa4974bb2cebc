"""Users of Valkey and Redis as ACL rules. Pure.

Rules are compared in the form in which the engine itself prints them (`ACL LIST`), which is why they are built in
just that order: flags, passwords as SHA-256, keys, channels, commands. Source: Valkey's ACL documentation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chandlery_kinds.cache.model import CacheUser, KeyAccess

ADMIN = "chandlery"
"""The driver's own user."""
DEFAULT = "default"
"""The user of the binding: what a client gets that knows a password only."""

# Everything with the application's own data; nothing that reconfigures, stops or reads the machine.
APPLICATION_COMMANDS = [
    "+@all",
    "-@admin",
    "-@dangerous",
    "+flushall",
    "+flushdb",
    "+info",
    "+keys",
    "+role",
    "+sort",
    "+restore",
    "+swapdb",
    "+client|list",
    "+client|info",
]
_KEY_PREFIX = {KeyAccess.READ: "%R~", KeyAccess.WRITE: "%W~", KeyAccess.READWRITE: "~"}


@dataclass(frozen=True, slots=True)
class AclUser:
    """One user as the engine should have it."""

    name: str
    password_hashes: tuple[str, ...]
    keys: tuple[str, ...]
    channels: tuple[str, ...]
    commands: tuple[str, ...]
    enabled: bool = True

    @property
    def rules(self) -> list[str]:
        """The words after the user's name, for ACL SETUSER (after `reset`) and for the ACL file."""
        return [
            "on" if self.enabled else "off",
            "sanitize-payload",
            *(f"#{digest}" for digest in self.password_hashes),
            *(self.keys or ("resetkeys",)),
            "resetchannels",
            *self.channels,
            "-@all",
            *self.commands,
        ]

    @property
    def line(self) -> str:
        return " ".join(["user", self.name, *self.rules])


def digest(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


def admin(password: str) -> AclUser:
    return AclUser(ADMIN, (digest(password),), ("~*",), ("&*",), ("+@all",))


def application(passwords: Sequence[str]) -> AclUser:
    """The binding's user; two passwords during a rotation's grace period."""
    return AclUser(DEFAULT, tuple(map(digest, passwords)), ("~*",), ("&*",), tuple(APPLICATION_COMMANDS))


def from_spec(user: CacheUser, passwords: Sequence[str]) -> AclUser:
    """A user of spec.users."""
    return AclUser(
        name=user.name,
        password_hashes=tuple(map(digest, passwords)),
        keys=tuple(_KEY_PREFIX[right.access] + right.pattern for right in user.keys),
        channels=tuple(f"&{pattern}" for pattern in user.channels),
        commands=(*(f"+{item}" for item in user.commands.allow), *(f"-{item}" for item in user.commands.deny)),
        enabled=not user.disabled,
    )


def render_file(users: Sequence[AclUser]) -> str:
    return "".join(f"{user.line}\n" for user in users)


def parse_list(lines: Sequence[str]) -> Mapping[str, str]:
    """The reply of ACL LIST: name -> line."""
    return {line.split(" ", 2)[1]: line for line in lines}


def fingerprint(lines: Mapping[str, str]) -> str:
    """A short text that changes when any user's rules do. Redis lists a user's commands in another order each start."""
    joined = "\n".join(" ".join(sorted(lines[name].split())) for name in sorted(lines))
    return hashlib.sha256(joined.encode()).hexdigest()[:16]


_SILENT = frozenset({"sanitize-payload", "resetkeys", "resetchannels", "-@all"})
"""Where a user begins: engines print some of it, or none."""


def as_written(users: Sequence[AclUser], lines: Mapping[str, str]) -> bool:
    """Whether the engine prints these users, and no others, in the words in which they are written here.

    False doesn't mean that they are others: an engine may word a rule in its own way.
    """
    if any("-@all" in user.commands for user in users):
        return False  # what stands before it no longer counts
    return {user.name: _words(user.line) for user in users} == {name: _words(line) for name, line in lines.items()}


def _words(line: str) -> list[str]:
    return sorted(word.lower() if word[0] in "+-" else word for word in line.split() if word not in _SILENT)
