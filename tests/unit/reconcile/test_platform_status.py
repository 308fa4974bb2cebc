"""ResourceClasses and ProviderConfigs say whether objects can be made by them, and how many are."""

from __future__ import annotations

from chandlery.reconcile.api import PROVIDER_CONFIGS, RESOURCE_CLASSES


async def said(stage, kind, name):
    status = (await stage.api.get(kind, "", name)).get("status") or {}
    ready = next(iter(status.get("conditions", ())), {})
    return ready.get("status"), ready.get("reason"), status.get("users")


async def test_a_class_says_whether_it_works_and_who_uses_it(stage):
    await stage.start()
    await stage.clock.advance(2)
    assert await said(stage, RESOURCE_CLASSES, "cache-default") == ("True", "Available", 0)
    for name in ("one", "two"):
        await stage.apply("Cache", name)
        await stage.ready("Cache", name)
    await stage.clock.advance(400)
    assert await said(stage, RESOURCE_CLASSES, "cache-default") == ("True", "Available", 2)
    assert await said(stage, RESOURCE_CLASSES, "queue-default") == ("True", "Available", 0)


async def test_a_class_that_cannot_work_says_why(stage):
    await stage.start()
    await stage.add_class("odd", "Cache", driver="steam")
    await stage.add_class("far", "Cache", providerConfigRef={"name": "elsewhere"})
    await stage.add_class("later", "Spaceship")
    await stage.clock.advance(3)
    assert await said(stage, RESOURCE_CLASSES, "odd") == ("False", "DriverNotFound", 0)
    assert await said(stage, RESOURCE_CLASSES, "far") == ("False", "ProviderConfigNotFound", 0)
    assert await said(stage, RESOURCE_CLASSES, "later") == ("False", "KindNotServed", 0)
    await stage.add_config("elsewhere")
    await stage.add_config("nowhere", provider="moon")
    await stage.clock.advance(3)
    assert await said(stage, RESOURCE_CLASSES, "far") == ("True", "Available", 0)
    assert await said(stage, PROVIDER_CONFIGS, "elsewhere") == ("True", "Available", 0)
    assert await said(stage, PROVIDER_CONFIGS, "nowhere") == ("False", "ProviderNotFound", 0)


async def test_a_status_opens_no_session_anew_and_wakes_nobody(stage):
    core = await stage.start()
    await stage.add_config("elsewhere")
    await stage.add_class("far", "Cache", providerConfigRef={"name": "elsewhere"})
    await stage.apply("Cache", spec={"memory": "64Mi", "className": "far"})
    await stage.ready("Cache")
    session = await core.sessions.get("memory", "elsewhere")
    passes = core.engine.passes
    patch = {"status": {"users": 77}}
    await stage.api.merge_patch(PROVIDER_CONFIGS, "", "elsewhere", patch)
    await stage.api.merge_patch(RESOURCE_CLASSES, "", "far", patch)
    await stage.clock.settle()
    assert core.engine.passes == passes
    assert await core.sessions.get("memory", "elsewhere") is session
    await stage.clock.advance(400)
    assert await said(stage, PROVIDER_CONFIGS, "elsewhere") == ("True", "Available", 1), "what is so is told again"


async def test_nothing_is_written_when_nothing_changed(stage):
    await stage.start()
    await stage.clock.advance(5)
    before = len(stage.writes())
    await stage.clock.advance(600)
    assert len(stage.writes()) == before
