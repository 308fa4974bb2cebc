"""The contract suite: what every driver must do, whatever it drives.

A harness knows the substrate: how to make an object, how to kill the driver at the n-th call of the outside, what is
there afterwards. The suite knows the contract. Each check is a plain async function, so that any test runner can hold
it against any driver:

    for check in CHECKS:
        await check(harness)

`converge` is what the loop does, without the API server: observe, create or update, observe, until all is as asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from chandlery.driver.facts import misfit, unknown_facts
from chandlery.driver.protocol import Driver, DriverContext, Observation, Plan, Unsupported, external_name
from chandlery.foundation.errors import ChandleryError
from chandlery.model.base import AnyResource, DeletionPolicy

_ROUNDS = 400


class ContractBroken(AssertionError):  # noqa: N818 - says what happened, as the tree of errors does
    """A driver does not keep the contract."""


class Harness(Protocol):
    """One driver on one substrate, for tests."""

    def driver(self) -> Driver[Any]:
        """A driver that remembers nothing: as after a restart of the operator."""
        ...

    def context(self, obj: AnyResource) -> DriverContext:
        """A context with the session, the clock and a deadline."""
        ...

    def make(self, **spec: Any) -> AnyResource:
        """A valid object of the kind with a uid that was never used; `spec` is merged into it, by JSON name."""
        ...

    def change(self) -> Mapping[str, Any]:
        """A change of spec, by JSON name, that the driver can do."""
        ...

    def crash_at(self, call: int, when: str) -> None:
        """Kill the driver at this call of the outside, counted from 1 and from now; `when` is before or after."""
        ...

    def heal(self) -> None:
        """No more crashes."""
        ...

    @property
    def crash(self) -> type[BaseException]:
        """What the kill raises."""
        ...

    def calls(self) -> int:
        """Calls of the outside so far."""
        ...

    def inventory(self) -> Mapping[str, str]:
        """All that exists outside, by an identifier, with a fingerprint of its data."""
        ...

    async def wait(self, seconds: float) -> None:
        """Let time pass."""
        ...


async def converge(harness: Harness, obj: AnyResource, rounds: int = _ROUNDS) -> Observation:
    """Do what the loop does until the resource is ready and as its spec asks.

    Raises:
        ContractBroken: it never is.
    """
    driver, ctx = harness.driver(), harness.context(obj)
    seen = Observation(exists=False)
    for _ in range(rounds):
        seen = await driver.observe(ctx, obj)
        _facts_fit(obj, seen)
        if seen.exists and seen.ready and seen.up_to_date:
            return seen
        try:
            if not seen.exists:
                await driver.create(ctx, obj)
            elif seen.differences:
                await driver.update(ctx, obj, replace(seen, plan=Plan(seen.differences)))
        except ChandleryError as error:
            if error.terminal:
                raise
            await harness.wait(error.retry_after or 0.1)
        await harness.wait(seen.poll_after or 0.05)
    raise ContractBroken(f"never ready: {seen}")


async def remove(harness: Harness, obj: AnyResource, rounds: int = _ROUNDS) -> None:
    """Delete until nothing is left to do."""
    driver, ctx = harness.driver(), harness.context(obj)
    for _ in range(rounds):
        if await driver.delete(ctx, obj):
            return
        await harness.wait(0.05)
    raise ContractBroken("delete never says that it is done")


# The checks


async def becomes_ready(harness: Harness) -> None:
    """From nothing to ready, with a name made of the uid, an endpoint and a binding."""
    obj = harness.make()
    before = await harness.driver().observe(harness.context(obj), obj)
    _must(not before.exists, "it exists before it was made")
    seen = await converge(harness, obj)
    _must(seen.external_name == external_name(obj), f"external name {seen.external_name!r} is not made of the uid")
    _must(seen.binding is None or bool(seen.binding.entries), "the binding is empty")
    _must(bool(harness.inventory()), "it says ready, yet nothing is there")
    await remove(harness, obj)


async def observe_changes_nothing(harness: Harness) -> None:
    obj = harness.make()
    await harness.driver().observe(harness.context(obj), obj)
    _must(not harness.inventory(), "observe made something")
    await converge(harness, obj)
    before = dict(harness.inventory())
    for _ in range(3):
        await harness.driver().observe(harness.context(obj), obj)
    _must(dict(harness.inventory()) == before, "observe changed something")
    await remove(harness, obj)


async def create_is_idempotent(harness: Harness) -> None:
    obj = harness.make()
    await converge(harness, obj)
    before = dict(harness.inventory())
    await harness.driver().create(harness.context(obj), obj)
    await converge(harness, obj)
    _must(dict(harness.inventory()) == before, "a repeated create changed what was there")
    await remove(harness, obj)


async def update_does_what_the_plan_says(harness: Harness) -> None:
    """Nothing without a plan, everything with it, and then there is no difference left."""
    obj = harness.make()
    await converge(harness, obj)
    changed = harness.make(**harness.change())
    changed = _same_identity(changed, obj)
    driver, ctx = harness.driver(), harness.context(changed)
    seen = await driver.observe(ctx, changed)
    _must(bool(seen.differences), "a changed spec makes no difference")
    before = dict(harness.inventory())
    await driver.update(ctx, changed, replace(seen, plan=Plan((), seen.differences)))
    _must(dict(harness.inventory()) == before, "update did more than the plan, which was empty")
    again = await converge(harness, changed)
    _must(not again.differences, f"differences remain: {again.differences}")
    await remove(harness, changed)


async def delete_leaves_nothing(harness: Harness) -> None:
    before = dict(harness.inventory())
    obj = harness.make()
    await converge(harness, obj)
    await remove(harness, obj)
    _must(dict(harness.inventory()) == before, f"left behind: {set(harness.inventory()) - set(before)}")
    _must(await harness.driver().delete(harness.context(obj), obj), "a repeated delete is not done at once")
    await remove(harness, harness.make())  # what never was is deleted at once, too


async def retain_leaves_everything(harness: Harness) -> None:
    obj = harness.make(deletionPolicy=DeletionPolicy.RETAIN.value)
    await converge(harness, obj)
    before = set(harness.inventory())
    await remove(harness, obj)
    _must(set(harness.inventory()) >= before, "Retain took something away")
    await remove(harness, _with_policy(harness, obj))


async def two_objects_do_not_meet(harness: Harness) -> None:
    one, two = harness.make(), harness.make()
    await converge(harness, one)
    only_one = set(harness.inventory())
    await converge(harness, two)
    await remove(harness, two)
    _must(set(harness.inventory()) == only_one, "deleting one object touched the other")
    seen = await converge(harness, one, rounds=50)
    _must(seen.ready, "deleting one object broke the other")
    await remove(harness, one)


async def survives_a_crash_at_any_call_of_create(harness: Harness) -> None:
    """Killed before and after each call: nothing leaked, nothing lost, ready in the end."""
    await _crash_everywhere(harness, _create_once)


async def survives_a_crash_at_any_call_of_update(harness: Harness) -> None:
    await _crash_everywhere(harness, _update_once)


async def survives_a_crash_at_any_call_of_delete(harness: Harness) -> None:
    await _crash_everywhere(harness, _delete_once)


async def refuses_before_anything_is_made(harness: Harness) -> None:
    """`unsupported` is pure: it asks nobody and changes nothing."""
    obj = harness.make()
    calls, before = harness.calls(), dict(harness.inventory())
    found: Sequence[Unsupported] = harness.driver().unsupported(obj, harness.context(obj).parameters)
    _must(not found, f"the harness's own object is refused: {found}")
    _must((harness.calls(), dict(harness.inventory())) == (calls, before), "unsupported called the outside")


CHECKS: tuple[Callable[[Harness], Awaitable[None]], ...] = (
    becomes_ready,
    observe_changes_nothing,
    create_is_idempotent,
    update_does_what_the_plan_says,
    delete_leaves_nothing,
    retain_leaves_everything,
    two_objects_do_not_meet,
    refuses_before_anything_is_made,
    survives_a_crash_at_any_call_of_create,
    survives_a_crash_at_any_call_of_update,
    survives_a_crash_at_any_call_of_delete,
)

# Crashes

Verb = Callable[[Harness, AnyResource], Awaitable[None]]


async def _create_once(harness: Harness, obj: AnyResource) -> None:
    await harness.driver().create(harness.context(obj), obj)


async def _update_once(harness: Harness, obj: AnyResource) -> None:
    changed = _same_identity(harness.make(**harness.change()), obj)
    driver, ctx = harness.driver(), harness.context(changed)
    seen = await driver.observe(ctx, changed)
    await driver.update(ctx, changed, replace(seen, plan=Plan(seen.differences)))


async def _delete_once(harness: Harness, obj: AnyResource) -> None:
    await remove(harness, obj)


async def _crash_everywhere(harness: Harness, verb: Verb) -> None:
    empty = set(harness.inventory())
    for when in ("before", "after"):
        call = 0
        while True:
            call += 1
            obj = harness.make()
            before = None if verb is _create_once else await converge(harness, obj)
            if not await _crashes(harness, verb, obj, call, when):
                await _clean_up(harness, verb, obj, empty)
                break  # the verb has fewer calls than that
            if verb is _delete_once:
                await remove(harness, obj)
            else:
                wanted = obj if verb is _create_once else _same_identity(harness.make(**harness.change()), obj)
                seen = await converge(harness, wanted)
                _must(seen.up_to_date, f"after a crash {when} call {call}: {seen.differences}")
                if before is not None:
                    lost = _password(seen) != _password(before)
                    _must(not lost, f"after a crash {when} call {call} of an update clients' password is another one")
            await _clean_up(harness, verb, obj, empty, f"a crash {when} call {call}")


async def _crashes(harness: Harness, verb: Verb, obj: AnyResource, call: int, when: str) -> bool:
    harness.crash_at(call, when)
    try:
        await verb(harness, obj)
    except harness.crash:
        return True
    finally:
        harness.heal()
    return False


async def _clean_up(harness: Harness, verb: Verb, obj: AnyResource, empty: set[str], after: str = "") -> None:
    if verb is not _delete_once:
        await remove(harness, obj)
    left = set(harness.inventory()) - empty
    _must(not left, f"leaked after {after or 'an undisturbed run'}: {sorted(left)}")


# Helpers


def _password(seen: Observation) -> str:
    return seen.binding.entries.get("password", "") if seen.binding is not None else ""


def _facts_fit(obj: AnyResource, seen: Observation) -> None:
    """What a driver says about a resource, at any time, is what status can hold."""
    lost = unknown_facts(type(obj), seen.facts)
    _must(not lost, f"facts that status has no field for: {', '.join(lost)}")
    wrong = misfit(type(obj), seen.facts)
    _must(not wrong, f"a fact that the API server refuses: {wrong}")


def _same_identity(new: AnyResource, old: AnyResource) -> AnyResource:
    return new.model_copy(update={"metadata": old.metadata})


def _with_policy(harness: Harness, obj: AnyResource) -> AnyResource:
    return _same_identity(harness.make(deletionPolicy=DeletionPolicy.DELETE.value), obj)


def _must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ContractBroken(otherwise)
