"""Rights of roles on databases, schemas and what is in them: wanted, there, and the statements between."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from chandlery_kinds.database.model import DatabaseSpec
from chandlery_kinds.database.postgres.catalog import Connection
from chandlery_kinds.database.postgres.sql import ident
from chandlery_kinds.database.spec_parts import Grant, GrantTarget

# The object class in pg_class.relkind or pg_proc, and the function that tells whether a role has a right.
_KINDS = {GrantTarget.TABLES: "'r', 'p', 'v', 'm', 'f'", GrantTarget.SEQUENCES: "'S'"}
_ALL = {
    GrantTarget.DATABASE: ("CONNECT", "CREATE", "TEMPORARY"),
    GrantTarget.SCHEMA: ("USAGE", "CREATE"),
    GrantTarget.TABLES: ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"),
    GrantTarget.SEQUENCES: ("USAGE", "SELECT", "UPDATE"),
    GrantTarget.FUNCTIONS: ("EXECUTE",),
}


@dataclass(frozen=True, slots=True)
class RoleGrant:
    """One grant of one role; what it is compared by when the spec changes is its text."""

    role: str
    grant: Grant

    @property
    def schema(self) -> str:
        return self.grant.schema_name or "public"

    @property
    def text(self) -> str:
        return f"{self.role} {self.grant.model_dump_json(by_alias=True)}"

    def statements(self, owner: str, *, revoke: bool = False) -> tuple[str, ...]:
        """GRANT, or REVOKE; for all objects of a schema also for those that the owner makes later."""
        grant, role = self.grant, ident(self.role)
        rights = ", ".join(privilege.value for privilege in grant.privileges)
        verb, preposition = ("REVOKE", "FROM") if revoke else ("GRANT", "TO")
        option = " WITH GRANT OPTION" if grant.with_grant_option and not revoke else ""
        on = grant.target.value.upper()
        if grant.target is GrantTarget.DATABASE:
            return (f"{verb} {rights} ON DATABASE {ident(grant.database)} {preposition} {role}{option}",)
        if grant.target is GrantTarget.SCHEMA:
            return (f"{verb} {rights} ON SCHEMA {ident(self.schema)} {preposition} {role}{option}",)
        schema = ident(self.schema)
        usage = () if revoke else (f"GRANT USAGE ON SCHEMA {schema} TO {role}",)
        if grant.objects:
            names = ", ".join(f"{schema}.{ident(name)}" for name in grant.objects)
            return (*usage, f"{verb} {rights} ON {on.removesuffix('S')} {names} {preposition} {role}{option}")
        defaults = f"ALTER DEFAULT PRIVILEGES FOR ROLE {ident(owner)} IN SCHEMA {schema}"
        return (
            *usage,
            f"{verb} {rights} ON ALL {on} IN SCHEMA {schema} {preposition} {role}{option}",
            f"{defaults} {verb} {rights} ON {on} {preposition} {role}{option}",
        )

    async def holds(self, connection: Connection) -> bool:
        """Whether the role has these rights now (not whether it got them by this very grant)."""
        grant = self.grant
        rights = [p.value for p in grant.privileges]
        wanted = _ALL[grant.target] if rights == ["ALL"] else tuple(rights)
        option = " WITH GRANT OPTION" if grant.with_grant_option else ""
        privileges = [right + option for right in wanted]
        if grant.target is GrantTarget.DATABASE:
            sql = "SELECT bool_and(has_database_privilege($1, $2, p)) FROM unnest($3::text[]) p"
            return bool(await connection.fetchval(sql, self.role, grant.database, privileges))
        if grant.target is GrantTarget.SCHEMA:
            sql = (
                "SELECT bool_and(has_schema_privilege($1, n.oid, p)) FROM pg_namespace n, unnest($3::text[]) p "
                "WHERE n.nspname = $2"
            )
            return bool(await connection.fetchval(sql, self.role, self.schema, privileges))
        sql = _objects_query(grant.target)
        found = await connection.fetchval(sql, self.role, self.schema, privileges, list(grant.objects))
        return found is not False  # no object yet: nothing is missing


def _objects_query(on: GrantTarget) -> str:
    # Only words of this module are put together here; names come as parameters.
    if on is GrantTarget.FUNCTIONS:
        return (
            "SELECT bool_and(has_function_privilege($1, f.oid, p)) FROM pg_proc f "
            "JOIN pg_namespace n ON n.oid = f.pronamespace, unnest($3::text[]) p "
            "WHERE n.nspname = $2 AND (cardinality($4::text[]) = 0 OR f.proname = ANY($4))"
        )
    test = "has_sequence_privilege" if on is GrantTarget.SEQUENCES else "has_table_privilege"
    return (
        f"SELECT bool_and({test}($1, c.oid, p)) FROM pg_class c "  # noqa: S608
        "JOIN pg_namespace n ON n.oid = c.relnamespace, unnest($3::text[]) p "
        f"WHERE n.nspname = $2 AND c.relkind IN ({_KINDS[on]}) AND (cardinality($4::text[]) = 0 OR c.relname = ANY($4))"
    )


def wanted_grants(spec: DatabaseSpec) -> list[RoleGrant]:
    """Every grant of every role, and the right to connect for members of a database's rights."""
    return [RoleGrant(role.name, grant) for role in spec.roles for grant in role.grants]


def connect_statements(spec: DatabaseSpec) -> Sequence[tuple[str, str]]:
    """(database, statement): a role with rights inside of a database may connect to it."""
    pairs = {(g.grant.database, g.role) for g in wanted_grants(spec)}
    return [
        (database, f"GRANT CONNECT ON DATABASE {ident(database)} TO {ident(role)}") for database, role in sorted(pairs)
    ]


def database_names(grants: Iterable[RoleGrant]) -> list[str]:
    return sorted({grant.grant.database for grant in grants})


__all__ = ["RoleGrant", "connect_statements", "database_names", "wanted_grants"]
