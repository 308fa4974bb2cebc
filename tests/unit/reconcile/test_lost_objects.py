"""What runs for objects that are gone without having been deleted in order is ended; nothing else is."""

from chandlery.driver.provider import ProviderSetup
from chandlery_kinds import KINDS


class Engines:
    """A session whose processes outlive their objects."""

    def __init__(self):
        self.running = {}

    def owners(self):
        return dict(self.running)

    async def end(self, uids):
        return [self.running.pop(uid) for uid in sorted(uids)]


class Factory:
    has_leftovers = True

    def __init__(self, session):
        self.session = session
        self.opened = 0

    async def open(self, _setup: ProviderSetup):
        self.opened += 1
        return self.session

    async def close(self, session):
        pass


async def test_only_what_is_lost_is_ended(stage):
    made = await stage.apply("Cache", "one")
    engines = Engines()
    engines.running = {made["metadata"]["uid"]: "Cache", "lost": "Cache", "not-served-here": "Mystery"}
    factory = Factory(engines)
    core = await stage.start()
    core.sessions._factories = {**core.sessions._factories, "local": factory}
    await core.sweep()
    assert engines.running == {made["metadata"]["uid"]: "Cache", "not-served-here": "Mystery"}
    assert factory.opened == 1


async def test_what_is_made_while_the_lists_are_read_is_not_lost(stage):
    engines = Engines()
    core = await stage.start()
    core.sessions._factories = {**core.sessions._factories, "local": Factory(engines)}
    real = stage.api.list

    async def slow(where, *args, **kwargs):
        page = await real(where, *args, **kwargs)
        engines.running["new"] = KINDS[0].name  # begun after the question and after the list
        return page

    stage.api.list = slow
    await core.sweep()
    assert engines.running == {"new": KINDS[0].name}
