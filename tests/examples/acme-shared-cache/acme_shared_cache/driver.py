"""The driver: an account per Cache, made of nothing but the object's uid, so that a crash can't leak one.

What is at the server for a Cache:
    user `cache-<uid>`            the binding's, for keys `cache-<uid>:*`
    user `cache-<uid>:<name>`     one for each of spec.users
    hash `chandlery:cache-<uid>`  per user a digest of what was asked for and the line that the server made of it
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import redis.exceptions as failures
from acme_shared_cache.provider import SharedServer

from chandlery.driver.parameters import Parameters
from chandlery.driver.protocol import Binding, Difference, DriverContext, Observation, Unsupported, external_name
from chandlery.foundation.errors import ProviderUnavailable
from chandlery.model.base import DeletionPolicy, Endpoint
from chandlery_kinds.cache.model import Cache, CacheMode, CacheUser, PersistenceMode


class SharedCacheDriver:
    name: ClassVar[str] = "shared"

    def unsupported(self, obj: Cache, parameters: Parameters) -> Sequence[Unsupported]:
        return list(_refused(obj))

    async def observe(self, ctx: DriverContext, obj: Cache) -> Observation:
        server, account = session(ctx), external_name(obj)
        made = await call(server, "HGETALL", f"chandlery:{account}")
        lines = {line.split(" ")[1]: line for line in await call(server, "ACL", "LIST")}
        there = {user for user in lines if user == account or user.startswith(f"{account}:")}
        if account not in there:
            return Observation(exists=False, external_name=account)
        wanted = accounts(server, obj)
        differences = [
            Difference(
                f"spec.users[{user.partition(':')[2]}]", "as asked", "missing" if user not in there else "changed"
            )
            for user, rules in wanted.items()
            if made.get(user) != digest(rules, lines.get(user, ""))
        ]
        differences += [
            Difference(f"spec.users[{user.partition(':')[2]}]", "gone", "exists", payload=user)
            for user in sorted(there - wanted.keys())
        ]
        entries = {
            "host": server.host,
            "port": str(server.port),
            "username": account,
            "password": password(server, account),
            "prefix": f"{account}:",
        }
        return Observation(
            exists=True,
            ready=True,
            differences=tuple(differences),
            external_name=account,
            endpoint=Endpoint(host=server.host, port=server.port),
            binding=Binding("valkey", "acme", entries),
            facts={"engine": "valkey", "users": [{"name": u.name, "ready": True} for u in obj.spec.users]},
        )

    async def create(self, ctx: DriverContext, obj: Cache) -> None:
        server, account = session(ctx), external_name(obj)
        for user, rules in sorted(accounts(server, obj).items(), reverse=True):  # the account itself comes last
            await self._set(server, account, user, rules)

    async def update(self, ctx: DriverContext, obj: Cache, observed: Observation) -> None:
        server, account = session(ctx), external_name(obj)
        wanted = accounts(server, obj)
        for change in observed.plan.changes:
            if change.payload is not None:
                await call(server, "ACL", "DELUSER", change.payload)
                await call(server, "HDEL", f"chandlery:{account}", change.payload)
                continue
            name = change.field.removeprefix("spec.users[").removesuffix("]")
            user = f"{account}:{name}" if name else account
            await self._set(server, account, user, wanted[user])

    async def delete(self, ctx: DriverContext, obj: Cache) -> bool:
        if obj.spec.deletion_policy is DeletionPolicy.RETAIN:
            return True
        server, account = session(ctx), external_name(obj)
        users = [u for u in await call(server, "ACL", "USERS") if u == account or u.startswith(f"{account}:")]
        for user in sorted(users, reverse=True):
            await call(server, "ACL", "DELUSER", user)
        keys = [key async for key in server.client.scan_iter(match=f"{account}:*", count=1000)]
        await call(server, "DEL", f"chandlery:{account}", *keys)
        return True

    async def _set(self, server: SharedServer, account: str, user: str, rules: Sequence[str]) -> None:
        await call(server, "ACL", "SETUSER", user, "reset", *rules)
        line = next(each for each in await call(server, "ACL", "LIST") if each.split(" ")[1] == user)
        await call(server, "HSET", f"chandlery:{account}", user, digest(rules, line))


def session(ctx: DriverContext) -> SharedServer:
    found: SharedServer = ctx.provider
    return found


async def call(server: SharedServer, *words: str) -> Any:
    """One command. The driver's edge: the library's errors become ours here."""
    try:
        return await server.client.execute_command(*words)
    except (failures.ConnectionError, failures.TimeoutError) as error:
        raise ProviderUnavailable(f"the shared server {server.host}:{server.port} does not answer: {error}") from error


def password(server: SharedServer, user: str) -> str:
    """Made of the server's own password and the user: there is nothing to store, and nothing to lose in a crash."""
    return hmac.new(server.password.encode(), user.encode(), hashlib.sha256).hexdigest()


def hashed(secret: str) -> str:
    """As an ACL rule: the password itself is never sent."""
    return f"#{hashlib.sha256(secret.encode()).hexdigest()}"


def accounts(server: SharedServer, obj: Cache) -> dict[str, list[str]]:
    """Every user that must exist, with its ACL rules."""
    account = external_name(obj)
    found = {account: ["on", hashed(password(server, account)), f"~{account}:*", "+@all", "-@admin", "-@dangerous"]}
    for user in obj.spec.users:
        name = f"{account}:{user.name}"
        found[name] = [*rights(user, account), hashed(password(server, name))]
    return found


def rights(user: CacheUser, account: str) -> Iterator[str]:
    yield "off" if user.disabled else "on"
    signs = {"read": "%R~", "write": "%W~", "readwrite": "~"}
    yield from (f"{signs[key.access.value]}{account}:{key.pattern}" for key in user.keys)
    yield from (f"+{command}" for command in user.commands.allow)
    yield from (f"-{command}" for command in user.commands.deny)


def digest(rules: Sequence[str], line: str) -> str:
    """Changes when the spec does, and when somebody changes the user at the server."""
    return hashlib.sha256("\n".join([*rules, line]).encode()).hexdigest()


def _refused(obj: Cache) -> Iterator[Unsupported]:
    spec, shared = obj.spec, "the server is shared and runs as it is"
    if spec.mode is not CacheMode.STANDALONE:
        yield Unsupported("spec.mode", spec.mode.value, shared)
    if spec.persistence.mode is not PersistenceMode.NONE:
        yield Unsupported("spec.persistence.mode", spec.persistence.mode.value, shared)
    if spec.configuration:
        yield Unsupported("spec.configuration", ", ".join(spec.configuration), shared)
    if any(user.password_secret for user in spec.users):
        yield Unsupported("spec.users[].passwordSecret", "", "passwords are made by the driver")
    if any(user.channels for user in spec.users):
        yield Unsupported("spec.users[].channels", "", "channels can't be kept apart by a prefix")
