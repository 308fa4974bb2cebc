"""A kind that is switched off while objects of it are there: they hold no namespace, and are told of."""

from __future__ import annotations

QUICK = "--timeout=90s"


def cache(namespace: str) -> dict:
    return {
        "apiVersion": "data.chandlery.dev/v1alpha1",
        "kind": "Cache",
        "metadata": {"name": "one", "namespace": namespace},
        "spec": {"memory": "64Mi"},
    }


def held(operator) -> float:
    return operator.metrics.registry.get_sample_value("chandlery_switched_off_objects")


async def test_a_namespace_with_objects_of_a_kind_that_is_switched_off_goes(run, kubectl, namespace, eventually):
    async with run() as before:
        await kubectl("apply", "-f", "-", stdin=cache(namespace))
        await kubectl("wait", "--for=condition=Ready", "cache/one", "-n", namespace, QUICK)
    world = before.world
    made = sorted(world.everything())
    assert made
    async with run(world, off=["Cache"]) as after:
        assert held(after.operator) == 1
        for name, memory in (("one", "1Gi"), ("new", "64Mi")):
            other = cache(namespace) | {"metadata": {"name": name, "namespace": namespace}, "spec": {"memory": memory}}
            await kubectl("apply", "-f", "-", stdin=other)
        assert after.operator.core is not None
        await after.operator.core.sweep()
        await eventually(lambda: not after.operator.core.engine.queue.busy())
        assert sorted(world.everything()) == made, "nothing but deletions"
        await kubectl("delete", "namespace", namespace, QUICK)
        await eventually(lambda: world.everything() == [])
        assert held(after.operator) == 0


async def test_where_another_operator_serves_it_nothing_is_touched(run, kubectl, namespace, eventually):
    async with run() as before:
        await kubectl("apply", "-f", "-", stdin=cache(namespace))
        await kubectl("wait", "--for=condition=Ready", "cache/one", "-n", namespace, QUICK)
    made = sorted(before.world.everything())
    async with run(before.world, off=["Cache"], other_kinds="leave") as after:
        assert held(after.operator) == 1
        await kubectl("delete", "cache", "one", "-n", namespace, "--wait=false")
        assert after.operator.core is not None
        await after.operator.core.sweep()
        assert sorted(before.world.everything()) == made
    async with run(before.world) as again:
        await eventually(lambda: again.world.everything() == [])
        await kubectl("wait", "--for=delete", "cache/one", "-n", namespace, QUICK)
