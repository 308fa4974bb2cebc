"""Which passwords work when, over schedules, requests, grace periods and crashes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from chandlery.driver.protocol import DriverContext
from chandlery.foundation.clock import FakeClock
from chandlery.foundation.context import Context
from chandlery.model.base import Meta
from chandlery.model.parts import Rotation as RotationSpec
from chandlery.providers.local import LocalProvider
from chandlery.providers.local.rotation import ROTATE_ANNOTATION, Rotation, refused

SECRETS = {"app": "password", "reader": "user-reader"}
DAILY = {"schedule": "0 3 * * *", "gracePeriod": "1h"}


class World:
    """One object's instance, and a clock that only the test moves."""

    def __init__(self, root, spec=None):
        self.clock = FakeClock(datetime(2026, 5, 1, 12, tzinfo=UTC))
        self.provider = LocalProvider(root, clock=self.clock)
        self.provider.open()
        self.instance = self.provider.instance("cache-1")
        self.instance.create(kind="Cache", namespace="default", name="demo", uid="1")
        self.spec = spec
        self.annotations = {}
        self.events = []

    def rotation(self, **options):
        """As a new pass sees it, with what is on disk only."""
        self.instance.reload()
        rotation = RotationSpec.model_validate(self.spec) if self.spec else None
        obj = SimpleNamespace(spec=SimpleNamespace(rotation=rotation), metadata=Meta(annotations=self.annotations))
        ctx = DriverContext(
            Context(clock=self.clock), None, self.provider, event=lambda *event: self.events.append(event)
        )
        return Rotation(ctx, obj, self.instance, SECRETS, **options)

    def values(self, user, **options):
        return [password.value for password in self.rotation(**options).passwords(user)]

    async def later(self, **much):
        await self.clock.advance(timedelta(**much).total_seconds())

    def settle(self, **options):
        """What a driver's observe and update do; how many differences there were."""
        found = self.rotation(**options).differences()
        for difference in found:
            self.rotation(**options).apply(difference.payload)
        return len(found)


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path / "data", DAILY)
    yield made
    made.provider.close()


async def test_a_new_schedule_counts_from_now_and_comes_once_a_day(world):
    assert world.settle() == 0
    before = world.values("app")
    await world.later(hours=14, minutes=59)
    assert world.settle() == 0
    await world.later(minutes=1)
    assert world.settle() == 1
    assert world.settle() == 0
    now = world.values("app")
    assert len(set(now)) == 2
    assert now[1:] == before
    assert world.rotation().times() == {"app": "2026-05-02T03:00:00Z", "reader": "2026-05-02T03:00:00Z"}
    assert world.events[0][1] == "Rotated"


async def test_the_old_password_ends_after_the_grace_period(world):
    world.settle()
    await world.later(hours=15)
    world.settle()
    await world.later(minutes=59)
    assert world.settle() == 0
    assert len(world.values("reader")) == 2
    assert world.rotation().poll(100_000) == 60
    await world.later(minutes=1)
    assert world.rotation().next_due() == 0
    assert world.settle() == 1
    assert len(world.values("reader")) == 1
    assert world.settle() == 0


async def test_days_that_nobody_was_there_for_are_one_rotation(world):
    world.settle()
    await world.later(days=9)
    assert world.settle() == 1
    assert world.settle() == 0
    assert len(world.values("app")) == 2


async def test_a_changed_schedule_counts_from_the_change(world):
    world.settle()
    await world.later(days=20)
    world.spec = {"schedule": "@monthly"}
    assert world.settle() == 0
    world.spec = {"schedule": "@hourly"}
    assert world.settle() == 0
    await world.later(hours=1)
    assert world.settle() == 1


async def test_on_request_without_a_schedule_once_for_each_value(world):
    world.spec = None
    assert world.settle() == 0
    world.annotations = {ROTATE_ANNOTATION: "2026-05-01T12:00:00Z"}
    assert world.settle() == 1
    assert world.settle() == 0
    assert len(world.values("app")) == 2
    world.annotations = {ROTATE_ANNOTATION: "again"}
    assert world.settle() == 1
    assert len(set(world.values("app"))) == 3


async def test_twins_have_names_of_their_own_and_come_back_to_the_first(world):
    def names():
        return [password.name for password in world.rotation().passwords("app")]

    world.annotations = {ROTATE_ANNOTATION: "1"}
    world.settle()
    assert names() == ["app~2", "app"]
    world.annotations = {ROTATE_ANNOTATION: "2"}
    world.settle()
    assert names() == ["app~3", "app~2", "app"]
    await world.later(hours=1)
    world.settle()
    assert names() == ["app~3"]
    world.annotations = {ROTATE_ANNOTATION: "3"}
    world.settle()
    assert names() == ["app", "app~3"]


async def test_an_engine_that_holds_one_password_loses_the_old_one_at_once(world):
    before = world.values("app", grace=False)
    world.annotations = {ROTATE_ANNOTATION: "1"}
    world.settle(grace=False)
    after = world.values("app", grace=False)
    assert len(after) == 1
    assert after != before


async def test_only_the_chosen_users(world):
    world.spec = {**DAILY, "users": ["reader"]}
    world.settle()
    app = world.values("app")
    await world.later(days=1)
    world.settle()
    assert world.values("app") == app
    assert len(world.values("reader")) == 2
    obj = SimpleNamespace(rotation=RotationSpec.model_validate({**DAILY, "users": ["reader", "nobody"]}))
    assert [(item.field, item.value) for item in refused(obj, SECRETS)] == [("spec.rotation.users", "nobody")]


async def test_a_crash_before_the_record_is_written_changes_nothing(world, monkeypatch):
    world.annotations = {ROTATE_ANNOTATION: "1"}
    before = world.values("app")
    (difference,) = world.rotation().differences()
    rotation = world.rotation()
    monkeypatch.setattr(world.instance, "save", lambda: (_ for _ in ()).throw(OSError("power cut")))
    with pytest.raises(OSError, match="power cut"):
        rotation.apply(difference.payload)
    monkeypatch.undo()
    assert world.values("app") == before
    assert world.settle() == 1
    assert world.values("app")[1:] == before


def test_passwords_are_not_shown(world):
    (password,) = world.rotation().passwords("app")
    assert password.value not in repr(password)
    assert replace(password, user="other").name == "other"
