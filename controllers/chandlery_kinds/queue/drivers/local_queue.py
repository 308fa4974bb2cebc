"""What a pass over a queue on this machine does whatever the engine: users, their passwords, other Queues."""

from __future__ import annotations

from typing import Any

from chandlery.driver.protocol import DriverContext
from chandlery.providers.local import Instance
from chandlery.providers.local.driver import password_of
from chandlery.providers.local.rotation import Password, Rotation
from chandlery_kinds.queue.model import Queue, QueueSpec

HOST = "127.0.0.1"
ADMIN = "chandlery"
"""The driver's own user."""
APPLICATION = "app"
"""The binding's user, as spec.rotation.users names it."""
DRIFT_POLL = 10.0


def generated(spec: QueueSpec) -> dict[str, str]:
    """Users with a generated password -> its name in the record."""
    own = {user.name: f"user-{user.name}" for user in spec.users if user.password_secret is None}
    return {APPLICATION: "password", **own}


class LocalQueue:
    """One queue in one pass. Made anew each time; keeps nothing."""

    prefix = ""
    """In front of every user's name: a broker that is shared knows a name once only."""

    def __init__(self, ctx: DriverContext, obj: Queue, instance: Instance) -> None:
        self.ctx = ctx
        self.obj = obj
        self.spec = obj.spec
        self.instance = instance
        self.name = obj.metadata.name

    @property
    def rotation(self) -> Rotation:
        return Rotation(self.ctx, self.obj, self.instance, generated(self.spec))

    def login(self, name: str) -> str:
        return self.prefix + name

    async def passwords(self, name: str) -> tuple[Password, ...]:
        """All passwords of a user that should work, the present one first.

        Raises:
            DependencyNotReady: the Secret that holds it isn't there.
        """
        user = next((u for u in self.spec.users if u.name == name), None)
        if user is None or user.password_secret is None:
            return self.rotation.passwords(name)
        field = f"spec.users[{name}].passwordSecret"
        namespace = self.obj.metadata.namespace
        given = await password_of(self.ctx.reader, namespace, user.password_secret.name, field)
        return (Password(name, given),)

    async def bound(self, name: str, number: int) -> Password:
        """The password of a user that its binding holds, where the binding's own user has this one of its own."""
        passwords = await self.passwords(name)
        return passwords[min(number, len(passwords) - 1)]

    def user_facts(self, *, ready: bool) -> list[dict[str, Any]]:
        """What status says of each user."""
        times, own = self.rotation.times(), self.spec.connection_secret
        secrets = {APPLICATION: own.name if own is not None else self.name}
        secrets |= {user.name: f"{self.name}-user-{user.name}" for user in self.spec.users}
        return [
            {
                "name": name,
                "secretName": secret,
                "ready": ready,
                **({"lastRotatedTime": times[name]} if name in times else {}),
            }
            for name, secret in secrets.items()
        ]
