"""Any sequence of applies, changes, pauses, failures, kills, class changes and deletions ends as the last spec asks.

After every step the conditions are held against the world: what they say must be true then, not only at the end.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from chandlery.driver.plan import APPROVE_ANNOTATION
from chandlery.foundation.errors import PermissionDenied, ProviderUnavailable, Unavailable
from chandlery.providers.memory import World
from chandlery.reconcile.api import FINALIZER, RESOURCE_CLASSES, SECRETS
from chandlery.reconcile.memory import MemoryApi
from chandlery_kinds import KINDS

CACHE = next(kind for kind in KINDS if kind.name == "Cache")
CLASSES = ("cache-default", "near", "far")

OPS = st.one_of(
    st.tuples(st.just("apply"), st.sampled_from(["64Mi", "128Mi", "1Gi"])),
    st.tuples(st.just("version"), st.sampled_from(["8", "9"])),
    st.tuples(st.just("pause"), st.booleans()),
    st.tuples(st.just("class"), st.sampled_from(CLASSES)),
    st.tuples(st.just("approve"), st.none()),
    st.tuples(st.just("secret"), st.sampled_from(["one", "other"])),
    st.tuples(st.just("strip"), st.none()),
    st.tuples(st.just("delete"), st.none()),
    st.tuples(st.just("break"), st.none()),
    st.tuples(st.just("destroy"), st.sampled_from(["volume", "address", "user", "instance"])),
    st.tuples(st.just("tamper"), st.none()),
    st.tuples(st.just("fail"), st.tuples(st.integers(1, 3), st.sampled_from(["before", "after"]))),
    st.tuples(st.just("down"), st.sampled_from([None, "denied", "away"])),
    st.tuples(st.just("crash"), st.tuples(st.integers(1, 8), st.sampled_from(["before", "after"]))),
    st.tuples(st.just("kill"), st.none()),
    st.tuples(st.just("api"), st.tuples(st.integers(1, 4), st.sampled_from(["before", "after"]))),
    st.tuples(st.just("class_gone"), st.booleans()),
    st.tuples(st.just("compact"), st.none()),
    st.tuples(st.just("wait"), st.sampled_from([0.01, 0.3, 1.0, 30.0, 400.0])),
)


@dataclass
class Model:
    """What the user asked for last."""

    wanted: dict[str, Any] | None = None
    memory: str = "64Mi"
    version: str | None = None
    paused: bool = False
    class_name: str = "cache-default"
    secret: str = "one"
    uids: set[str] = field(default_factory=set)

    def spec(self) -> dict[str, Any]:
        made = {"memory": self.memory, "paused": self.paused, "className": self.class_name}
        made |= {"connectionSecret": {"name": self.secret}} if self.secret != "one" else {}
        return made | ({"version": self.version} if self.version else {})


class Scenario:
    def __init__(self, stage: Any, helpers: Any) -> None:
        self.stage = stage
        self.conditions = helpers.conditions
        self.is_ready = helpers.is_ready
        self.model = Model()
        self.down_since: float | None = None
        self.calls: dict[int, int] = {}
        self.was_paused = False

    async def run(self, ops: list[tuple[str, Any]]) -> None:
        stage = self.stage
        await stage.prepare()
        await stage.add_config("elsewhere")
        await stage.add_class("near", "Cache", parameters={"unsupported": ["note"]})
        await stage.add_class("far", "Cache", providerConfigRef={"name": "elsewhere"})
        try:
            await stage.start()
            for name, argument in ops:
                await self.step(name, argument)
                await self.survive(0.02)
                await self.check()
            await self.finish()
        finally:
            await stage.kill()

    async def step(self, name: str, argument: Any) -> None:
        await getattr(self, f"do_{name}")(argument)

    async def survive(self, seconds: float) -> None:
        """Let time pass; an operator that was killed on the way is started again."""
        stage = self.stage
        await stage.clock.advance(seconds)
        if stage.core is not None and stage.core.crashed.is_set():
            await stage.kill()
            self.heal_crash()
            await stage.start()
            await stage.clock.advance(0.02)

    # What happens

    async def do_apply(self, memory: str) -> None:
        self.model.memory = memory
        await self.write()

    async def do_version(self, version: str) -> None:
        self.model.version = version
        await self.write()

    async def do_pause(self, paused: bool) -> None:
        self.model.paused = paused
        await self.write(create=False)

    async def do_secret(self, name: str) -> None:
        self.model.secret = name
        await self.write(create=False)

    async def do_strip(self, _: None) -> None:
        """Somebody takes our finalizer off: that is no deletion, and it is put back."""
        live = await self.stage.get("Cache")
        if live is not None and "deletionTimestamp" not in live["metadata"]:
            await self.stage.api.merge_patch(
                self.stage.types["Cache"], "shop", "one", {"metadata": {"finalizers": None}}
            )

    async def do_class(self, name: str) -> None:
        self.model.class_name = name
        await self.write(create=False)

    async def write(self, *, create: bool = True) -> None:
        live = await self.stage.get("Cache")
        if live is None and not create:
            return
        if live is not None and "deletionTimestamp" in live["metadata"]:
            return
        made = await self.stage.apply("Cache", spec=self.model.spec())
        self.model.wanted = self.model.spec()
        self.model.uids.add(made["metadata"]["uid"])

    async def do_approve(self, _: None) -> None:
        live = await self.stage.get("Cache")
        if live is not None:
            message = next(
                (c["message"] for c in live.get("status", {}).get("conditions", []) if c["type"] == "Stalled"), ""
            )
            token = message.partition(f"{APPROVE_ANNOTATION}=")[2]
            if token:
                await self.stage.annotate("Cache", "one", approve=token)

    async def do_delete(self, _: None) -> None:
        live = await self.stage.get("Cache")
        if live is not None:
            uid = live["metadata"]["uid"]
            if not live["metadata"].get("finalizers") and any(name.endswith(uid) for _, name in self.everything()):
                return  # deleted without our finalizer, before it could be put back: given up on purpose
            await self.stage.delete("Cache")
        self.model.wanted = None

    async def do_break(self, _: None) -> None:
        for world, name in self.instances():
            world.break_instance(name)

    async def do_destroy(self, part: str) -> None:
        for world, name in self.instances():
            world.destroy(part, name)

    async def do_tamper(self, _: None) -> None:
        if await self.stage.secret() is not None:
            await self.stage.api.merge_patch(SECRETS, "shop", "one", {"data": {"port": "MQ=="}})

    async def do_fail(self, how: tuple[int, Any]) -> None:
        for world in self.worlds():
            world.fail(Unavailable("hiccup", retry_after=0.5), times=how[0], when=how[1])

    async def do_down(self, down: str | None) -> None:
        errors = {"denied": PermissionDenied("no longer allowed", retry_after=2.0), "away": ProviderUnavailable("away")}
        for world in self.worlds():
            world.down = errors.get(down or "")
        if not down:
            self.down_since = None
        elif self.down_since is None:
            self.down_since = self.stage.clock.monotonic()

    async def do_crash(self, how: tuple[int, Any]) -> None:
        for world in self.worlds():
            world.crash_at(how[0], how[1])

    async def do_kill(self, _: None) -> None:
        await self.stage.kill()
        await self.stage.start()

    async def do_api(self, how: tuple[int, str]) -> None:
        """The next writes of the operator fail, before or after they took effect."""
        left = how[0]

        async def hook(verb: str, kind: Any, name: str) -> None:
            nonlocal left
            if verb in {"apply", "json_patch"} and left > 0:
                left -= 1
                raise Unavailable("the API server hangs up", retry_after=0.2)

        setattr(self.stage.api, how[1], hook)

    async def do_class_gone(self, gone: bool) -> None:
        name = "near"
        if gone:
            await self.stage.api.delete(RESOURCE_CLASSES, "", name)
        elif await self.stage.api.get(RESOURCE_CLASSES, "", name) is None:
            await self.stage.add_class(name, "Cache", parameters={"unsupported": ["note"]})

    async def do_compact(self, _: None) -> None:
        self.stage.api.compact()

    async def do_wait(self, seconds: float) -> None:
        await self.survive(seconds)

    # The world

    def worlds(self) -> list[World]:
        return [self.stage.world, *(w for n, w in self.stage.provider.worlds.items() if n != "default")]

    def instances(self) -> list[tuple[World, str]]:
        return [(world, name) for world in self.worlds() for part, name in world.everything() if part == "instance"]

    def heal_crash(self) -> None:
        for world in self.worlds():
            world.hook = World().hook

    def healthy(self) -> bool:
        return all(world.down is None and world.hook is World().hook for world in self.worlds())

    # What must hold

    def check_paused(self, live: dict[str, Any] | None) -> None:
        """While an object is paused nothing is done outside but looking; deletion goes on."""
        paused = live is not None and live["spec"].get("paused") and "deletionTimestamp" not in live["metadata"]
        for world in self.worlds():
            new = world.calls[self.calls.get(id(world), 0) :]
            self.calls[id(world)] = len(world.calls)
            if paused and self.was_paused:
                assert {call.verb for call in new} <= {"look"}, f"changed while paused: {new}"
        self.was_paused = bool(paused)

    async def check(self) -> None:
        live = await self.stage.get("Cache")
        self.check_paused(live)
        if live is None or not live.get("status"):
            return
        if self.down_since is not None and self.stage.clock.monotonic() - self.down_since > 200.0:
            # nobody could look for three drift intervals: nobody may say that it serves
            assert self.conditions(live).get("Ready") != "True", live["status"]
        if not self.healthy():
            return
        if self.stage.api.before is not MemoryApi().before or self.stage.api.after is not MemoryApi().after:
            return
        said = self.conditions(live)
        assert {"Ready", "Reconciling", "Stalled"} <= set(said)
        assert not (said["Reconciling"] == "True" and said["Stalled"] == "True")
        if live["status"]["observedGeneration"] != live["metadata"]["generation"]:
            return  # it speaks of an older spec, and says so
        if "deletionTimestamp" in live["metadata"]:
            assert said["Ready"] == "False"
            return
        running = [
            (world, name)
            for world, name in self.instances()
            if name.endswith(live["metadata"]["uid"]) and world.part("instance", name).data["state"] == "running"
        ]
        if said["Ready"] == "True":
            assert running, f"Ready, but nothing runs: {live['status']}"
        if self.is_ready(live) and not live["spec"].get("paused"):
            [(world, name)] = running
            settings = world.part("instance", name).data["settings"]
            assert settings["memory"] == live["spec"]["memory"]
            assert settings.get("version") == live["spec"].get("version")
            await self.check_binding(live, world, name)
        if said["Stalled"] == "True":
            self.check_stalled(live)

    async def check_binding(self, live: dict[str, Any], world: World, name: str) -> None:
        """The Secret that status names lets a client in."""
        secret = await self.stage.secret(live["status"]["binding"]["name"])
        assert secret is not None
        told = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
        assert told["password"] == world.part("user", name).data["password"]
        assert told["port"] == str(world.part("instance", name).data["port"])
        assert secret["metadata"]["ownerReferences"][0]["uid"] == live["metadata"]["uid"]

    def check_stalled(self, live: dict[str, Any]) -> None:
        """Only a person can help, and the reason is so."""
        reason = next(c["reason"] for c in live["status"]["conditions"] if c["type"] == "Stalled")
        classes = self.stage.api._objects
        if reason == "ClassNotFound":
            name = live["spec"].get("className")
            assert ("ResourceClass", "", name) not in classes
        elif reason == "ApprovalRequired":
            assert any(item["disruption"] in {"replace", "data-loss"} for item in live["status"]["drift"])

    async def finish(self) -> None:
        stage = self.stage
        for world in self.worlds():
            world.heal()
        stage.api.before = stage.api.after = MemoryApi().before
        await self.do_class_gone(False)
        for _ in range(12):
            await self.survive(400.0)
            await self.do_approve(None)
            await self.survive(2.0)
        live = await stage.get("Cache")
        if self.model.wanted is None:
            assert live is None, f"not deleted: {live}"
            assert self.everything() == []
            assert await self.secrets() == set()
            return
        assert live is not None
        if self.model.wanted["paused"]:
            # nothing of earlier objects, and at most this one's
            assert all(name.endswith(live["metadata"]["uid"]) for _, name in self.everything())
            assert (live["status"]["phase"]) == "Paused"
            return
        assert self.is_ready(live), live["status"]
        assert FINALIZER in live["metadata"]["finalizers"]
        home = stage.provider.worlds.get("elsewhere") if self.model.wanted["className"] == "far" else stage.world
        assert home is not None
        name = live["status"]["externalName"]
        assert home.exists(name) == ["address", "instance", "user", "volume"]
        assert {n for _, n in self.everything()} == {name}
        assert len(self.everything()) == 4
        settings = home.part("instance", name).data["settings"]
        assert settings["memory"] == self.model.wanted["memory"]
        assert settings.get("version") == self.model.wanted.get("version")
        assert await self.secrets() == {self.model.wanted.get("connectionSecret", {}).get("name", "one")}
        await self.check_binding(live, home, name)

    async def secrets(self) -> set[str]:
        return {secret["metadata"]["name"] for secret in (await self.stage.api.list(SECRETS)).items}

    def everything(self) -> list[tuple[str, str]]:
        return list(itertools.chain.from_iterable(world.everything() for world in self.worlds()))


@settings(
    max_examples=int(os.environ.get("CHANDLERY_TEST_EXAMPLES", "60")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.lists(OPS, min_size=1, max_size=14))
@example(
    [("compact", None), ("apply", "64Mi"), ("wait", 0.3), *[("compact", None)] * 10, ("strip", None), ("tamper", None)]
)
def test_any_sequence_ends_as_the_last_spec_asks(stages, helpers, ops):
    asyncio.run(Scenario(stages([CACHE]), helpers).run([("apply", "64Mi"), *ops]))
