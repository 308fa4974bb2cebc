"""The operator is killed at every call in turn, of the world or of the API server, before or after it took effect."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from chandlery.model.examples import example_spec
from chandlery.providers.memory import Crash
from chandlery_kinds import KINDS

CHANGES = {
    "Cache": {"memory": "1Gi", "version": "9"},
    "Database": {"configuration": {"work_mem": "8MB"}},
    "Queue": {"maxDeliveries": 3},
    "LoadBalancer": {"replicas": 2},
    "VirtualMachine": {"cpus": 2},
}
for _kind in KINDS:  # a kind that isn't in the table: the first field that its README shows
    CHANGES.setdefault(_kind.name, dict([next(iter(example_spec(_kind.package, "Typical").items()))]))


class Killer:
    """Counts calls of world and API together, and kills at one of them."""

    def __init__(self, stage: Any) -> None:
        self.count = 0
        self.target = 0
        self.when = ""
        self.killed = False
        stage.api.before = self.api("before")
        stage.api.after = self.api("after")
        stage.world.hook = self.world

    def arm(self, target: int, when: str) -> None:
        self.count, self.target, self.when, self.killed = 0, target, when, False

    def api(self, when: str) -> Any:
        async def hook(verb: str, kind: Any, name: str) -> None:
            if verb in {"watch", "list"} or kind.kind == "Event":
                return  # those are followed by others that matter
            self.hit(when)

        return hook

    async def world(self, _call: Any, when: str) -> None:
        self.hit(when)

    def hit(self, when: str) -> None:
        if self.target and when == "before":
            self.count += 1
        if self.target and not self.killed and self.count == self.target and when == self.when:
            self.killed = True
            raise Crash(f"call {self.target}")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind", [kind.name for kind in KINDS])
def test_a_kill_at_any_call_loses_and_leaks_nothing(stages, specs, kind, when):
    asyncio.run(scenario(stages, specs[kind], kind, when))


async def scenario(stages: Any, spec: dict[str, Any], kind: str, when: str) -> None:
    kills = 0
    for step in ("create", "update", "delete"):
        for target in range(1, 40):
            stage = stages([k for k in KINDS if k.name == kind])
            await stage.prepare()
            killer = Killer(stage)
            if not await life(stage, killer, spec, kind, step, target, when):
                break
            kills += 1
        else:
            pytest.fail(f"{step} never ends")
    assert kills > 12, "the kills did not hit"


async def credentials(stage: Any, name: str) -> str:
    """The password that the binding tells, which is the one that the world knows; "" for a kind without."""
    secret = await stage.secret()
    if "password" not in secret["data"]:
        return ""
    told = base64.b64decode(secret["data"]["password"]).decode()
    assert told == stage.world.part("user", name).data["password"]
    return told


async def life(stage: Any, killer: Killer, spec: dict[str, Any], kind: str, step: str, target: int, when: str) -> bool:
    async def revive() -> None:
        if stage.core.crashed.is_set():
            await stage.kill()
            await stage.start()

    async def go() -> None:
        for _ in range(12):
            await stage.clock.advance(0.1)
            await revive()
        killer.target = 0

    try:
        await stage.start()
        if step == "create":
            await stage.apply(kind, spec=spec)
            killer.arm(target, when)
            await go()
        else:
            await stage.apply(kind, spec=spec)
        ready = await stage.ready(kind)
        name = ready["externalName"]
        assert stage.world.everything() == [(part, name) for part in ("address", "instance", "user", "volume")]
        kept = await credentials(stage, name)
        if step == "update":
            await stage.apply(kind, spec={**spec, **CHANGES[kind]})
            killer.arm(target, when)
            await go()
            await stage.ready(kind)
            assert await credentials(stage, name) == kept, "a change lost what clients connect with"
        if step == "delete":
            await stage.delete(kind)
            killer.arm(target, when)
            await go()
        else:
            await stage.delete(kind)
        await stage.until(lambda obj: obj is None, kind)
        assert stage.world.everything() == []
        assert await stage.secret() is None
        return killer.killed
    finally:
        killer.target = 0
        await stage.kill()
