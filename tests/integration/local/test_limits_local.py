"""Limits of memory and CPU for real: held by the kernel, changed while the engine runs, told when they were reached."""

import os
import signal
import sys
from pathlib import Path

import pytest
import redis.asyncio as redis
from local_harness import Harness, kill, until

from chandlery.driver.protocol import Disruption
from chandlery.foundation.errors import Unavailable
from chandlery.providers.local import LocalProvider, ProcessSpec, cgroups
from chandlery.providers.local.cgroups import Allowance, Cgroups
from chandlery.providers.local.limits import ENFORCED, SUFFICIENT
from chandlery_kinds.cache.drivers.local import CacheDriver
from chandlery_kinds.cache.model import Cache
from chandlery_kinds.database.drivers.local import DatabaseDriver
from chandlery_kinds.database.model import Database
from chandlery_kinds.loadbalancer.drivers.local import LoadBalancerDriver
from chandlery_kinds.loadbalancer.model import LoadBalancer
from chandlery_kinds.queue.drivers.local import QueueDriver
from chandlery_kinds.queue.model import Queue

pytestmark = pytest.mark.engine
MIB = 1 << 20
# Uses some memory, starts a child that waits for a word, then uses much.
EATER = """
import os, sys, time
some = b"x" * (20 << 20)
child = os.fork()
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
if child == 0 or sys.argv[2] == "all":
    kept = b"x" * (200 << 20)
time.sleep(600)
"""


@pytest.fixture
async def provider(tmp_path):
    made = LocalProvider(tmp_path / "data")
    if set(made.cgroups.controllers) != {"memory", "cpu"}:
        pytest.skip(f"limits can't be set here: {made.cgroups}")
    made.open()
    yield made
    for instance in made.instances():
        await instance.stop_all()
    left = [path for each in made.cgroups.controllers.values() for path in each.parent.glob("*")]
    made.close()
    assert left == [], "a control group was left behind"


@pytest.fixture
def eater(provider, tmp_path):
    instance = provider.instance("cache-1234")
    instance.create(kind="Cache", namespace="default", name="a", uid="1234")
    instance.allowance = lambda _: Allowance(64 * MIB, 0.5)
    go = tmp_path / "go"

    def spec(who):
        return ProcessSpec([sys.executable, "-c", EATER, str(go), who])

    return instance.process("node-0"), spec, go


async def test_a_process_and_its_children_are_held_from_the_beginning_and_the_limits_change_live(eater):
    process, spec, _ = eater
    pid = await process.start(spec("child"))
    groups = process.limits.groups
    await until(lambda: list(cgroups.descendants(pid)))
    for member in (pid, *cgroups.descendants(pid)):
        assert cgroups.joined(groups, member)
    assert process.limits.actual() == Allowance(64 * MIB, 0.5)
    process.limits.change(Allowance(96 * MIB, None))
    assert process.limits.actual() == Allowance(96 * MIB, None)
    process.limits.change(Allowance(48 * MIB, 1.0))
    assert process.limits.actual() == Allowance(48 * MIB, 1.0)
    assert process.state().pid == pid
    await process.stop()
    assert not any(path.exists() for path in groups)


async def test_limits_are_put_on_what_runs_without(eater):
    process, spec, _ = eater
    process.instance.allowance = lambda _: Allowance()
    pid = await process.start(spec("child"))
    assert process.limits.actual() is None
    await until(lambda: list(cgroups.descendants(pid)))
    process.limits.change(Allowance(64 * MIB, 0.5))
    for member in (pid, *cgroups.descendants(pid)):
        assert cgroups.joined(process.limits.groups, member)


async def test_who_uses_more_is_killed_and_the_reason_is_told(eater):
    process, spec, go = eater
    await process.start(spec("all"))
    go.touch()
    state = await until(lambda: (found := process.state()).crashed and found, 60.0)
    assert state.exit.signal == signal.SIGKILL
    assert str(state.exit) == "was killed for using more memory than its limit of 64 MiB (spec.resources.limits.memory)"
    assert state.short_of_memory


async def test_a_child_that_was_killed_is_told_too(eater):
    process, spec, go = eater
    pid = await process.start(spec("child"))
    await until(lambda: list(cgroups.descendants(pid)))
    go.touch()
    state = await until(lambda: (found := process.state()).short_of_memory and found, 60.0)
    assert state.running
    assert state.short_at


async def test_a_kill_by_somebody_else_is_not_taken_for_a_limit(eater):
    process, spec, _ = eater
    pid = await process.start(spec("child"))
    await kill(pid)
    assert str((await until(lambda: (found := process.state()).exit and found)).exit) == "killed by SIGKILL"


async def test_less_than_is_in_use_is_refused_and_the_old_limit_stays(eater):
    process, spec, _ = eater
    pid = await process.start(spec("child"))
    await until(lambda: list(cgroups.descendants(pid)))
    with pytest.raises(Unavailable, match=r"node-0 uses more memory now than its new limit of 8 MiB"):
        process.limits.change(Allowance(8 * MIB, 0.5))
    assert process.limits.actual().memory == 64 * MIB


async def test_a_next_operator_knows_the_group_and_one_whose_instance_is_gone_is_removed(provider, eater):
    process, spec, _ = eater
    pid = await process.start(spec("child"))
    provider.forget(process.instance.name)
    again = provider.instance(process.instance.name).process("node-0")
    assert again.state().pid == pid
    assert again.limits.actual() == Allowance(64 * MIB, 0.5)
    await again.stop()
    left = provider.cgroups.prepare("cache-gone", "node-0", Allowance(64 * MIB))
    provider.end_strays()
    assert not any(path.exists() for path in left)


# -- the drivers


@pytest.fixture
async def start(tmp_path):
    made = []

    def harness(driver, model):
        made.append(Harness(tmp_path / "data", driver, model))
        if set(made[-1].provider.cgroups.controllers) != {"memory", "cpu"}:
            pytest.skip(f"limits can't be set here: {made[-1].provider.cgroups}")
        return made[-1]

    yield harness
    for one in made:
        await one.close()


SNAPSHOTS = {"mode": "snapshot", "storage": {"size": "1Gi"}, "snapshots": [{"seconds": 1, "changes": 1}]}


def limits_of(memory, cpu):
    return {"limits": {"memory": memory, "cpu": cpu}}


def condition(seen, name):
    return next(each for each in seen.conditions if each.type == name)


@pytest.mark.parametrize(
    ("driver", "model", "process", "spec"),
    [
        (CacheDriver, Cache, "node-0", {"memory": "32Mi"}),
        (QueueDriver, Queue, "node-0", {}),
        (DatabaseDriver, Database, "node-0", {"configuration": {"shared_buffers": "32MB"}}),
        (
            LoadBalancerDriver,
            LoadBalancer,
            "haproxy",
            {"listeners": [{"name": "http", "port": 0, "protocol": "TCP", "pool": "p"}], "pools": [{"name": "p"}]},
        ),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) and value.__name__.endswith("Driver") else "",
)
async def test_every_kind_is_limited_and_changed_live(start, driver, model, process, spec):
    local = start(driver(), model)
    if model is LoadBalancer:
        spec["listeners"][0]["port"] = local.provider.ports.choose()
    obj = local.object(**spec, resources=limits_of("256Mi", "500m"))
    seen = await local.converge(obj)
    limits = local.instance(obj).process(process).limits
    assert limits.actual() == Allowance(256 * MIB, 0.5)
    assert condition(seen, ENFORCED).message == "Each process may use at most 256 MiB of memory, 0.5 cores."
    assert condition(seen, SUFFICIENT).status == "True"
    pid = local.instance(obj).process(process).state().pid
    await local.restart_operator()
    await local.converge(local.changed(obj, resources=limits_of("300Mi", "1")))
    again = local.instance(obj).process(process)
    assert again.limits.actual() == Allowance(300 * MIB, 1.0)
    if model is not Database:  # its effective_cache_size follows; PostgreSQL says what that costs
        assert again.state().pid == pid
        assert {label for field, label in local.plans if "limits" in field} == {Disruption.NONE.label}
    seen = await local.converge(local.changed(obj, resources={}))
    assert again.limits.actual() == Allowance()
    assert not {ENFORCED, SUFFICIENT} & {each.type for each in seen.conditions}
    groups = again.limits.groups
    await local.delete(obj)
    assert not any(path.exists() for path in groups)


async def test_a_cache_that_keeps_within_its_memory_is_not_killed(start):
    """Full to the brim, saved by a fork meanwhile, with a limit below what it needs: the driver knows better."""
    local = start(CacheDriver(), Cache)
    obj = local.object(
        memory="32Mi", evictionPolicy="allkeys-lru", persistence=SNAPSHOTS, resources=limits_of("32Mi", "2")
    )
    seen = await local.converge(obj)
    async with redis.from_url(seen.binding.entries["uri"]) as client:
        pid = local.instance(obj).process("node-0").state().pid
        for batch in range(40):
            await client.mset({f"{batch}-{n}": os.urandom(4096) for n in range(500)})
        assert await client.dbsize() < 20_000
    state = local.instance(obj).process("node-0").state()
    assert (state.pid, state.short_of_memory) == (pid, 0)


async def test_where_limits_are_not_allowed_status_says_so_and_the_engine_keeps_to_its_own(start):
    local = start(QueueDriver(), Queue)
    local.provider._cgroups = Cgroups({}, dict.fromkeys(("memory", "cpu"), "not allowed to write /sys/fs/cgroup"))
    obj = local.object(resources=limits_of("256Mi", "500m"))
    seen = await local.converge(obj)
    told = condition(seen, ENFORCED)
    assert told.status == "False"
    assert told.message.startswith(
        "The kernel doesn't limit cpu and memory here (not allowed to write /sys/fs/cgroup)."
    )
    pid = local.instance(obj).process("node-0").state().pid
    environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    assert {b"GOMEMLIMIT=%d" % (256 * MIB * 8 // 10), b"GOMAXPROCS=1"} <= set(environment)
