"""Rights of MariaDB's users and roles: those a spec asks for, those that are there, the statements between. Pure.

A right is a word on a place: everything (`*.*`), one database (`db.*`) or one table. Places are compared whole: what
a user of the spec may do is what the spec says, whoever granted something else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from chandlery.driver.protocol import Unsupported
from chandlery_kinds.database.mariadb.sql import ident
from chandlery_kinds.database.model import DatabaseSpec
from chandlery_kinds.database.spec_parts import Grant, GrantTarget, Privilege, Role

OPTION = "GRANT OPTION"
ALL = "ALL PRIVILEGES"
_ON_TABLES = frozenset(
    ("SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "REFERENCES", "INDEX", "ALTER", "CREATE VIEW",
     "SHOW VIEW", "TRIGGER", "DELETE HISTORY")
)  # fmt: skip
_ON_DATABASES = frozenset(
    ("CREATE TEMPORARY TABLES", "LOCK TABLES", "EXECUTE", "CREATE ROUTINE", "ALTER ROUTINE", "EVENT")
)
_WORDS: Mapping[GrantTarget, Mapping[str, Sequence[str]]] = {
    GrantTarget.DATABASE: {
        "ALL": (ALL,),
        "CONNECT": (),  # whoever has any right in a database may use it
        "CREATE": ("CREATE",),
        "TEMPORARY": ("CREATE TEMPORARY TABLES",),
    },
    GrantTarget.FUNCTIONS: {"ALL": ("EXECUTE",), "EXECUTE": ("EXECUTE",)},
    GrantTarget.TABLES: {
        "ALL": tuple(sorted(_ON_TABLES)),
        "TRUNCATE": ("DROP",),
    },
}


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """What a right is on; empty: everything."""

    database: str = ""
    table: str = ""

    def __str__(self) -> str:
        if not self.database:
            return "*.*"
        return f"{ident(self.database)}.{ident(self.table)}" if self.table else f"{_pattern(self.database)}.*"


def _pattern(database: str) -> str:
    # In a right on a whole database `_` and `%` stand for other characters unless they are escaped.
    return ident(database.replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%"))


Rights = Mapping[Place, frozenset[str]]


def wanted_rights(spec: DatabaseSpec, role: Role) -> Rights:
    """Everything that the spec gives to a user or role."""
    found: dict[Place, set[str]] = {}
    for item in spec.databases:
        if spec.owner_of(item) == role.name:
            found.setdefault(Place(item.name), set()).update((ALL, OPTION))
    for grant in role.grants:
        for place in _places(grant):
            words = found.setdefault(place, set())
            words.update(word for privilege in grant.privileges for word in _words(grant, privilege))
            if grant.with_grant_option:
                words.add(OPTION)
    anywhere = found.setdefault(Place(), set())
    if role.create_database:
        anywhere.add("CREATE")
    if role.create_role:
        anywhere.add("CREATE USER")
    if role.replication:
        anywhere.update(("REPLICATION SLAVE", "BINLOG MONITOR"))
    return {place: frozenset(words) for place, words in found.items() if words}


def _places(grant: Grant) -> list[Place]:
    if grant.target is GrantTarget.TABLES and grant.objects:
        return [Place(grant.database, name) for name in grant.objects]
    return [Place(grant.database)]


def _words(grant: Grant, privilege: Privilege) -> Sequence[str]:
    words = _WORDS.get(grant.target, {}).get(privilege.value, (privilege.value,))
    if grant.objects and grant.target is GrantTarget.TABLES and privilege is Privilege.ALL:
        return (ALL,)
    return words


def statements(who: str, wanted: Rights, live: Rights) -> list[str]:
    """What makes `live` into `wanted`.

    Args:
        who: the user or role, quoted.
        wanted: by place, `ALL PRIVILEGES` as such.
        live: by place, single words, as information_schema tells them.
    """
    grants, revokes = [], []
    for place in sorted({*wanted, *live}):
        asked = wanted.get(place, frozenset())
        every = _ON_TABLES if place.table else _ON_TABLES | _ON_DATABASES
        full = (asked - {ALL}) | (every if ALL in asked else frozenset())
        have = live.get(place, frozenset())
        missing, extra = full - have, have - full
        if ALL in asked:
            extra &= {OPTION}  # a newer engine knows more rights than we do, and all of them are meant
        if missing:
            words = ALL if ALL in asked and missing - {OPTION} else ", ".join(sorted(missing - {OPTION})) or "USAGE"
            option = f" WITH {OPTION}" if OPTION in asked else ""
            grants.append(f"GRANT {words} ON {place} TO {who}{option}")
        if extra:
            revokes.append(f"REVOKE {', '.join(sorted(extra))} ON {place} FROM {who}")
    return [*revokes, *grants]


def by_place(rows: Iterable[tuple[str, str, str, bool]]) -> Rights:
    """(database, table, word, whether it may be passed on) as information_schema tells them."""
    found: dict[Place, set[str]] = {}
    for database, table, word, passed_on in rows:
        words = found.setdefault(Place(database.replace("\\_", "_").replace("\\%", "%"), table), set())
        if word != "USAGE":
            words.add(word)
        if passed_on:
            words.add(OPTION)
    return {place: frozenset(words) for place, words in found.items() if words}


def refused_roles(spec: DatabaseSpec) -> list[Unsupported]:
    """What a spec can say of roles and MariaDB can't do."""
    found = []
    groups = {role.name for role in spec.roles if not role.login}
    for role in spec.roles:
        where = f"spec.roles[{role.name}]"
        if len(role.member_of) > 1:
            why = "MariaDB has one role active at a time"
            found.append(Unsupported(f"{where}.memberOf", ", ".join(role.member_of), why))
        found += [
            Unsupported(f"{where}.memberOf", name, "in MariaDB only a role with login: false has members")
            for name in role.member_of
            if name not in groups
        ]
        for grant in role.grants:
            if grant.target is GrantTarget.FUNCTIONS and grant.objects:
                why = "rights on single routines are not managed here: leave objects out"
                found.append(Unsupported(f"{where}.grants.objects", ", ".join(grant.objects), why))
    return found
