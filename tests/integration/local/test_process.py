"""Processes for real: started, found again by another operator, crashed, stopped."""

import asyncio
import os
import shutil
import signal
import sys
import uuid

import psutil
import pytest

from chandlery.foundation.errors import AlreadyExists, EngineFailed
from chandlery.providers.local import LocalProvider, ProcessSpec, StopStep, pids
from chandlery.providers.local.process import MARK

SLEEPER = ProcessSpec([sys.executable, "-c", "import signal, time; print('up', flush=True); time.sleep(600)"])


async def until(check, seconds=60.0):
    """Wait for a condition, fail when it doesn't come true in time."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not (found := check()):
        assert asyncio.get_running_loop().time() < deadline, "the condition did not come true"
        await asyncio.sleep(0.005)
    return found


@pytest.fixture
async def provider(tmp_path):
    made = LocalProvider(tmp_path / "data")
    made.open()
    yield made
    for instance in made.instances():
        await instance.stop_all()
    made.close()


@pytest.fixture
def instance(provider):
    found = provider.instance(f"cache-{uuid.uuid4().hex}")  # processes are known by it all over the machine
    found.create(kind="Cache", namespace="default", name="a", uid="1234")
    return found


async def test_started_seen_and_stopped(instance):
    process = instance.process()
    pid = await process.start(SLEEPER)
    assert await process.start(SLEEPER) == pid, "starting twice is once"
    assert process.state().running
    assert process.state().pid == pid
    await process.stop()
    state = process.state()
    assert not state.running
    assert not state.crashed
    assert pids.start_time(pid) is None


async def test_a_second_operator_takes_the_process_up(provider, instance):
    pid = await instance.process().start(SLEEPER)
    provider.forget(instance.name)
    again = provider.instance(instance.name).process()
    assert again.state().pid == pid
    await again.stop()


async def test_a_process_that_was_never_recorded_is_found(provider, instance):
    """The operator dies after the start and before the record is written."""
    process = instance.process()
    pid = await process.start(SLEEPER)
    instance.record["processes"] = {}
    instance.save()
    provider.forget(instance.name)
    again = provider.instance(instance.name).process()
    assert again.state().pid == pid
    await again.stop()


@pytest.mark.parametrize("before", ["never", "stopped", "crashed"])
@pytest.mark.parametrize("file", ["written", "empty"])
async def test_a_start_that_was_never_recorded_is_found_whatever_came_before(provider, instance, before, file):
    process = instance.process()
    if before != "never":
        first = await process.start(SLEEPER)
    if before == "stopped":
        await process.stop()
    if before == "crashed":
        os.kill(first, signal.SIGKILL)
        await until(lambda: process.state().crashed)
    record = (instance.root / "record.json").read_bytes()
    pid = await process.start(SLEEPER)
    await until(lambda: process.pid_path.read_text().strip() == str(pid))
    # while the shell becomes the program there is a moment without an environment, which a search can't see through
    await until(lambda: psutil.Process(pid).cmdline()[:1] == [sys.executable])
    if file == "empty":
        process.pid_path.write_text("")  # the operator died before the shell had written it
    (instance.root / "record.json").write_bytes(record)
    provider.forget(instance.name)
    again = provider.instance(instance.name).process()
    assert again.state().pid == pid
    await again.stop()
    assert pids.start_time(pid) is None


async def test_an_engine_that_wrote_over_its_environment_is_found_too(provider, instance):
    """As Valkey and Redis do, which show a title instead. The record knows nothing of it."""
    process = instance.process()
    forgetful = (
        "import os, sys, time\nos.environ.pop('CHANDLERY_INSTANCE', None) and os.execv(sys.executable, sys.orig_argv)"
    )
    pid = await process.start(ProcessSpec([sys.executable, "-c", f"{forgetful}\ntime.sleep(300)"]))
    await until(lambda: "HOME" in pids.environ(pid) and MARK not in pids.environ(pid))
    instance.record["processes"] = {}
    instance.save()
    provider.forget(instance.name)
    again = provider.instance(instance.name).process()
    assert again.state().pid == pid
    # and when its directory is gone
    shutil.rmtree(instance.root)
    provider.forget(instance.name)
    assert (pid, instance.name) in provider.strays()
    provider.end_strays()
    await until(lambda: pids.start_time(pid) is None)


async def test_a_copy_of_a_directory_leaves_the_processes_of_the_other_alone(provider, instance, tmp_path):
    process = instance.process()
    pid = await process.start(SLEEPER)
    copied = tmp_path / "copied"
    shutil.copytree(provider.data_dir, copied)
    other = LocalProvider(copied)
    with pytest.raises(AlreadyExists, match=f"is a copy of .*, and engines of that one run .*process {pid}") as caught:
        other.open()
    assert str(provider.data_dir) in caught.value.hint
    # were it opened all the same, it would not take it for its own, whether on record or not
    theirs = other.instance(instance.name).process()
    assert not theirs.state().running
    await theirs.stop()
    (copied / "instances" / instance.name / "run" / "main.pid").write_text(str(pid))
    assert not theirs.state().running
    assert process.state().running
    # when the first one is down, the copy may be used, and the other way round
    await process.stop()
    other = LocalProvider(copied)
    other.open()
    theirs = other.instance(instance.name).process()
    assert await theirs.start(SLEEPER) != pid
    assert not process.state().running
    await theirs.stop()
    other.close()


async def test_a_directory_that_was_moved_keeps_its_processes(provider, instance, tmp_path):
    pid = await instance.process().start(SLEEPER)
    provider.close()
    moved = LocalProvider(provider.data_dir.rename(tmp_path / "moved"))
    moved.open()
    process = moved.instance(instance.name).process()
    assert process.state().pid == pid
    await process.stop()
    moved.close()


async def test_a_pid_of_somebody_elses_process_is_not_ours(provider, instance):
    process = instance.process()
    await process.start(SLEEPER)
    entry = instance.record["processes"]["main"]
    await process.stop()
    other = os.getpid()
    entry.update({"pid": other, "started": "long ago", "wanted": True, "stopped": False})
    process.pid_path.write_text(str(other))
    assert not process.state().running
    await process.stop()
    os.kill(other, 0)


async def test_a_crash_is_noticed_with_its_reason_and_backs_off(provider, instance):
    seen = []
    provider.notify = seen.append
    process = instance.process()
    dies = ProcessSpec(["/bin/sh", "-c", "echo cannot open the file; exit 3"])
    await process.start(dies)
    await until(lambda: seen)
    state = process.state()
    assert state.crashed
    assert (state.exit.code, state.wait, state.restarts) == (3, 0.0, 1)
    assert "cannot open the file" in process.log_tail()
    await process.start(dies)
    await until(lambda: process.state().restarts == 2)
    with pytest.raises(
        EngineFailed, match="exited with code 3, 2 times so far; its last words: cannot open the file"
    ) as caught:
        await process.start(dies)
    assert 0 < caught.value.retry_after <= 0.5
    await until(lambda: seen == [instance.name] * 2)


async def test_killed_by_a_signal_is_said(instance):
    process = instance.process()
    pid = await process.start(SLEEPER)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: process.state().crashed)
    assert str(process.state().exit) == "killed by SIGKILL"


async def test_one_that_ignores_the_gentle_way_is_ended_with_its_children(instance):
    process = instance.process()
    pid = await process.start(
        ProcessSpec(["/bin/sh", "-c", "trap '' TERM; sleep 600 & echo $! ; while :; do sleep 0.1; done"])
    )
    child = int(await until(lambda: process.log_tail().strip()))
    await process.stop((StopStep(signal.SIGTERM, 0.1), StopStep(signal.SIGKILL, 5.0)))
    assert pids.start_time(pid) is None
    await until(lambda: pids.start_time(child) is None)


async def test_a_missing_binary_is_named_with_the_way_out(instance):
    process = instance.process()
    await process.start(ProcessSpec(["/nowhere/valkey-server"], unprivileged=False))
    await until(lambda: process.state().crashed)
    assert process.state().exit.code == 127
    assert "/nowhere/valkey-server" in process.log_tail()


async def test_nothing_is_left_after_removal_and_data_stays_when_asked(provider, instance):
    pid = await instance.process().start(SLEEPER)
    port = instance.port("client")
    await instance.remove(keep_data=True)
    assert instance.root.exists()
    assert pids.start_time(pid) is None
    assert port not in list(provider._claimed_ports())
    await provider.instance(instance.name).remove()
    assert not instance.root.exists()


async def test_orphans_of_lost_objects_are_ended_and_others_left(provider, instance):
    other = provider.instance("cache-5678")
    other.create(kind="Cache", namespace="default", name="b", uid="5678")
    lost = await instance.process().start(SLEEPER)
    kept = await other.process().start(SLEEPER)
    assert provider.owners() == {"1234": "Cache", "5678": "Cache"}
    assert await provider.end({"1234"}) == [instance.name]
    assert pids.start_time(lost) is None
    assert pids.start_time(kept) is not None


async def test_a_process_whose_directory_is_gone_is_ended(provider, instance):
    stray = await instance.process().start(SLEEPER)
    shutil.rmtree(instance.root)
    provider.forget(instance.name)
    assert await provider.end(()) == [instance.name]
    await until(lambda: pids.start_time(stray) is None)


def test_two_operators_on_one_directory_are_refused(provider):
    with pytest.raises(AlreadyExists, match=rf"another operator \(process {os.getpid()}\)"):
        LocalProvider(provider.data_dir).open()


def test_ports_and_secrets_are_the_same_after_a_restart(provider, instance):
    port, secret = instance.port("client"), instance.secret("password")
    provider.forget(instance.name)
    again = provider.instance(instance.name)
    assert (again.port("client"), again.secret("password")) == (port, secret)
    assert len(secret) == 32
    assert (instance.root / "record.json").stat().st_mode & 0o777 == 0o600


def test_a_directory_of_another_object_is_not_taken(instance):
    with pytest.raises(AlreadyExists, match="belongs to Cache default/a"):
        instance.create(kind="Cache", namespace="default", name="b", uid="9")
