"""What a pass does with any Valkey or Redis in a pod: ask it, configure it, tell it who its users are."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import orjson

from chandlery.driver.protocol import Binding, Difference, Disruption, DriverContext, Observation, Plan
from chandlery.foundation.errors import ChandleryError, EngineFailed, Unauthenticated, Unavailable
from chandlery.foundation.validation.quantity import Quantity
from chandlery.model.base import Endpoint
from chandlery.providers.kubernetes import certificates
from chandlery.providers.kubernetes.backing import PAYLOADS, BackedEngine
from chandlery.providers.kubernetes.children import Children
from chandlery.providers.kubernetes.types import (
    SECRETS,
    STATEFUL_SETS,
    Obj,
)
from chandlery_kinds.cache import acl
from chandlery_kinds.cache.binding import Address, entries
from chandlery_kinds.cache.kubernetes import backup, exporter
from chandlery_kinds.cache.kubernetes.config import TLS_FILES, probe, tls_settings
from chandlery_kinds.cache.kubernetes.inputs import PORT, TLS_PORT, Inputs
from chandlery_kinds.cache.kubernetes.nodes import Node
from chandlery_kinds.cache.kubernetes.statefulset import CONFIG, ONLY_TLS
from chandlery_kinds.cache.model import Cache
from chandlery_kinds.cache.resp import RespClient, info, pairs
from chandlery_kinds.cache.valkey import RESTART_SETTINGS, desired_settings, field_of, setting_differences

DEFAULTS = "chandlery.dev/defaults"
ACL_SEEN = "chandlery.dev/acl-seen"
ANSWER_SECONDS = 2.0
_QUESTIONS: Sequence[tuple[str, ...]] = (("INFO",), ("CONFIG", "GET", "*"), ("ACL", "LIST"))


class ValkeyWorkload(BackedEngine[Cache, Inputs]):
    """The part of a pass that doesn't ask who is primary."""

    application: ClassVar[str] = acl.DEFAULT
    questions: ClassVar[Sequence[tuple[str, ...]]] = ()
    """Further commands that every node is asked."""
    shut: Sequence[str] = ()
    """Names of pods that are not opened to clients yet."""

    @abstractmethod
    def _nodes(self) -> list[Node]:
        """Every pod that there is or should be."""

    @abstractmethod
    def _endpoint(self) -> Endpoint:
        """Where clients connect."""

    @abstractmethod
    async def _desired(self) -> tuple[list[Obj], Any]:
        """Every child but what holds generated values."""

    def _cost(self, kind: str, _path: str) -> Disruption:
        """Encryption comes and goes with new pods: file and template go out together, when pods may be replaced."""
        template = ((self.stateful or {}).get("spec") or {}).get("template")
        if template is None or kind not in (SECRETS.kind, STATEFUL_SETS.kind):
            return Disruption.NONE
        has = any(volume["name"] == "tls" for volume in template["spec"].get("volumes", ()))
        only = ONLY_TLS in (template["metadata"].get("annotations") or {})
        same = (has, only) == (self.inputs.tls is not None, self.inputs.only_tls)
        return Disruption.NONE if same else Disruption.RESTART

    def _hosts(self) -> Sequence[str]:
        """`host:port` of every node, where clients must know them."""
        return ()

    def __init__(self, ctx: DriverContext, obj: Cache, there: Children, inputs: Inputs) -> None:
        super().__init__(ctx, obj, there, inputs)
        self.settings = self._settings()

    @classmethod
    def inputs_of(cls, ctx: DriverContext, obj: Cache) -> Inputs:
        return Inputs.of(obj, ctx.parameters, ctx.provider.images, ctx.provider.pull_secrets)

    def _settings(self) -> dict[str, str]:
        found = desired_settings(self.spec)
        if self.spec.min_replicas_to_write is None and self.spec.replicas_per_primary >= 2:
            found["min-replicas-to-write"] = "1"  # a primary that is cut off from all copies takes no writes
        return found | tls_settings(self.inputs)

    def _settings_of(self, node: Node) -> dict[str, str]:
        """What one node should have now; `settings` is what stands in the file."""
        del node
        return self.settings

    async def _take_note(self, key: str, text: str | None, **more: str | None) -> None:
        """On record, unless somebody else wrote in between. `more`: further notes, in the same write."""
        live = self.stateful
        if live is None:
            raise Unavailable("the StatefulSet is not there yet", retry_after=0.5)
        version = live["metadata"]["resourceVersion"]
        await self.session.merge(live, {"metadata": {"resourceVersion": version, "annotations": {key: text, **more}}})
        await self.there.look()

    @property
    def defaults(self) -> dict[str, str]:
        """What settings of spec.configuration were before they were set; they go back to it when taken out."""
        found: dict[str, str] = orjson.loads(self.note_of(DEFAULTS) or "{}")
        return found

    def auth_keys(self) -> list[str]:
        return [*super().auth_keys(), *(["metrics"] if self.inputs.metrics else [])]

    async def users(self) -> list[acl.AclUser]:
        """All users as they should be."""
        auth = self.auth()
        found = [acl.admin(auth["admin"]), acl.application(self.passwords(acl.DEFAULT)), probe()]
        if self.inputs.metrics:
            found.append(exporter.user(auth["metrics"]))
        for user in self.spec.users:
            given = user.password_secret is not None
            words = [await self.user_password(user.name)] if given else self.passwords(user.name)
            found.append(acl.from_spec(user, words))
        return found

    def _known_settings(self) -> dict[str, str]:
        """What may stand in the file: a setting that can be changed live is set live first, to learn its default."""
        known = self.defaults
        return {
            name: value
            for name, value in self.settings.items()
            if name not in self.spec.configuration or name in RESTART_SETTINGS or name in known
        }

    # -- backups, and the one that it begins with

    def backup_template(self) -> Obj:
        return backup.template(self.inputs)

    def _restore_differences(self, nodes: Sequence[Node]) -> list[Difference]:
        """These have loaded what the backup holds: it is not to be loaded again."""
        if self.inputs.restore is None or self.restored:
            return []
        if not nodes or not all(node.answers and node.info.get("loading") == "0" for node in nodes):
            return []
        return [Difference("spec.restoreFrom", "restored", "loaded", payload=("restored",))]

    async def _act_beside(self, payload: Sequence[Any]) -> None:
        """What is the same for all: backups, children."""
        if payload[0] in PAYLOADS:
            await self.act_on_backup(payload)
        else:
            await self.there.act(*payload)

    async def first(self) -> list[Obj]:
        desired, _ = await self._desired()
        return desired

    def _seen(self, **what: Any) -> Observation:
        return Observation(exists=True, external_name=self.owner.identity, **what)

    async def _ask(self, node: Node) -> Node:
        """Log in as the driver's own user and read everything in one round trip."""
        if node.pod is None or not node.ip:
            return node
        uid = node.pod["metadata"]["uid"]
        try:
            async with await self._connect(node) as client:
                text, settings, users, *more = await client.pipeline([*_QUESTIONS, *self.questions])
                node.shown = client.shown
        except Unauthenticated as error:
            node.error, node.locked_out = error.message, True
        except ChandleryError as error:
            node.error = error.message
            self.session.silent.setdefault(uid, self.ctx.base.clock.monotonic())
        else:
            node.info, node.config, node.acl = info(text), pairs(settings), acl.parse_list(users)
            node.more = more
            self.session.silent.pop(uid, None)
        return node

    async def _serves(self, node: Node) -> int | None:
        """What an application would do, with the binding's own credentials.

        Which of its passwords, newest first, is the first that works; None when none does. A new one is told in the
        binding when the engine has it.
        """
        for number, password in enumerate(self.passwords(acl.DEFAULT)):
            try:
                async with await self._connect(node, acl.DEFAULT, password=password) as client:
                    return number if await client.command("PING") == "PONG" else None
            except Unauthenticated:
                continue
            except ChandleryError:
                return None
        return None

    async def _bound(self, user: str, number: int | None) -> Binding:
        """The binding of a user, where this one of the passwords works (None: who knows; then the oldest may)."""
        if user not in self.generated():
            return self._binding(user, await self.user_password(user))
        passwords = self.passwords(user)
        return self._binding(user, passwords[-1 if number is None else min(number, len(passwords) - 1)])

    async def _connect(
        self, node: Node, user: str = acl.ADMIN, seconds: float = ANSWER_SECONDS, password: str = ""
    ) -> RespClient:
        assert node.pod is not None
        host, port = self.session.resolve(node.pod, PORT)
        password = password or self.auth()["admin"]
        context = None
        if node.only_tls:
            material = self.certificates.present if self.certificates is not None else self._last_material()
            if material is None:
                raise Unavailable("its certificates are not there", retry_after=0.5)
            context = material.context()
        return await RespClient.connect(host, port, user=user, password=password, seconds=seconds, tls=context)

    def _last_material(self) -> certificates.Material | None:
        """TLS was taken out of the spec; pods that still speak it go on until they are replaced."""
        return certificates.material(self.there)

    def _binding(self, user: str, password: str) -> Binding:
        where, tls = self._endpoint(), self.inputs.tls
        told: dict[str, str] = {}
        if tls is not None:
            material = self.certificates.present if self.certificates is not None else None
            authority = material.authority if material is not None else ""
            told = {"tls": "true", **({"ca.crt": authority} if authority else {})}
        beside = tls is not None and not tls.required
        address = Address(
            where.host,
            TLS_PORT if beside else self.inputs.service_port,
            told,
            plain_port=self.inputs.service_port if beside else None,
            nodes=self._hosts(),
        )
        found = entries(address, user, password)
        if where.read_host:
            found |= {"read-host": where.read_host, "read-port": found["port"]}
        return Binding("redis", "chandlery", found)

    async def _tls_differences(self, nodes: list[Node]) -> list[Difference]:
        """Certificates that must be made or copied, and servers that show another one than they should."""
        if self.certificates is None:
            return []
        found = await self.certificates.differences()
        present = self.certificates.present
        if found or present is None:
            return found
        for node in nodes:
            if node.shown and node.shown != present.fingerprint:
                what = f"certificate of {node.name}"
                found.append(Difference(what, "the present one", "an earlier one", payload=("tls-reload", node.name)))
        return found

    async def _reload_tls(self, name: str) -> None:
        """The files are read again; they may be the old ones still, then this comes again."""
        async with await self._connect(self._node(name)) as client:
            words = [word for pair in TLS_FILES.items() for word in pair]
            await client.command("CONFIG", "SET", *words)

    def _live_differences(self, nodes: list[Node], users: list[acl.AclUser]) -> list[Difference]:
        """Settings and users, as the servers themselves tell them."""
        found: list[Difference] = []
        back = {name: value for name, value in self.defaults.items() if name not in self.settings}
        for node in nodes:
            if node.answers:
                found += setting_differences({**back, **self._settings_of(node)}, node.config, node.name)
        seen = ((self.there.get(SECRETS, CONFIG) or {}).get("metadata", {}).get("annotations") or {}).get(ACL_SEEN, "")
        wanted = acl.digest(acl.render_file(users))
        answering = [node for node in nodes if node.answers and node.name not in self.shut]
        others = [node for node in answering if not acl.as_written(users, node.acl)]
        if any(seen != f"{wanted}:{acl.fingerprint(node.acl)}" for node in others):
            found.append(Difference("spec.users", "as in spec", "other rules", Disruption.NONE, True, ("acl",)))
        return found

    async def _set(self, name: str, setting: str, change: Difference) -> None:
        known = self.defaults
        if setting in self.spec.configuration and setting not in known:
            await self._take_note(DEFAULTS, orjson.dumps({**known, setting: change.actual}).decode())
        async with await self._connect(self._node(name)) as client:
            try:
                await client.command("CONFIG", "SET", setting, change.desired)
            except ChandleryError as error:
                raise EngineFailed(
                    f"{self.spec.engine.value} refused the value: {error.message}",
                    field=field_of(setting),
                    value=change.desired,
                    hint="Correct the value; the engine goes on with its old one.",
                    retry_after=None,
                ) from error

    async def _forget_defaults(self, plan: Plan) -> None:
        """A setting that is back at its default everywhere is no longer ours."""
        held = {change.payload[2] for change in plan.held if change.payload[0] == "set"}
        known = self.defaults
        kept = {name: value for name, value in known.items() if name in self.settings or name in held}
        if kept != known:
            await self._take_note(DEFAULTS, orjson.dumps(kept).decode())

    async def _load_acl(self) -> None:
        """Set each user in every server, remove the others; an engine that words rules in its own way is noted."""
        users = await self.users()
        names = {user.name for user in users}
        seen = ""
        for node in self._nodes():
            if node.pod is None or not node.ip or node.name in self.shut:
                continue
            async with await self._connect(node) as client:
                known = acl.parse_list(await client.command("ACL", "LIST"))
                commands: list[tuple[str, ...]] = [("ACL", "SETUSER", u.name, "reset", *u.rules) for u in users]
                commands += [("ACL", "DELUSER", name) for name in known if name not in names]
                await client.pipeline(commands)
                has = acl.parse_list(await client.command("ACL", "LIST"))
                seen = seen if acl.as_written(users, has) else acl.fingerprint(has)
        live = self.there.get(SECRETS, CONFIG)
        if live is not None and seen:
            note = f"{acl.digest(acl.render_file(users))}:{seen}"
            await self.session.merge(live, {"metadata": {"annotations": {ACL_SEEN: note}}})

    def _node(self, name: str) -> Node:
        return next(node for node in self._nodes() if node.name == name)

    def _storage_differences(self) -> list[Difference]:
        storage = self.spec.persistence.storage
        found = self.there.growth(str(Quantity(str(storage.size)))) if storage is not None else []
        live = self.stateful
        if live is not None and bool(live["spec"].get("volumeClaimTemplates")) != self.inputs.persistent:
            # A StatefulSet can't get or lose volumes: it is made again, and what was in memory only is gone.
            has = "volumes" if not self.inputs.persistent else "no volumes"
            wants = "volumes" if self.inputs.persistent else "no volumes"
            found.append(
                Difference("spec.persistence.mode", wants, has, Disruption.DATA_LOSS, payload=("delete", live))
            )
        return found
