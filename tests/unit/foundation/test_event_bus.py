import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from chandlery.foundation.clock import FakeClock
from chandlery.foundation.errors import Cancelled
from chandlery.foundation.events import Bus


@dataclass(frozen=True)
class Happened:
    number: int


@dataclass(frozen=True)
class Worse(Happened):
    pass


@dataclass(frozen=True)
class Other:
    pass


class Lines:
    """Collects log lines."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def bind(self, **values: Any) -> "Lines":
        return self

    def __getattr__(self, level: str) -> Any:
        return lambda event, **values: self.lines.append((event, values))


async def test_subscribers_hear_their_type_and_its_subclasses_in_order() -> None:
    bus, heard, slow = Bus(), list[object](), list[int]()

    async def later(event: Happened) -> None:
        await asyncio.sleep(0)
        slow.append(event.number)

    bus.subscribe(Happened, heard.append)
    bus.subscribe(Happened, later)
    for event in (Happened(1), Other(), Worse(2), Happened(3)):
        bus.publish(event)
    assert heard == [Happened(1), Worse(2), Happened(3)], "functions hear it before publish returns"
    assert slow == []
    await bus.drain()
    assert slow == [1, 2, 3]
    await bus.close()
    with pytest.raises(Cancelled):
        bus.publish(Other())


async def test_one_that_fails_disturbs_neither_publisher_nor_others() -> None:
    lines = Lines()
    bus, heard = Bus(logger=lines), list[object]()

    def broken(event: Happened) -> None:
        raise KeyError("mine")

    async def broken_later(event: Happened) -> None:
        raise KeyError("mine too")

    first, second = bus.subscribe(Happened, broken, name="broken"), bus.subscribe(Happened, broken_later)
    bus.subscribe(Happened, heard.append)
    bus.publish(Happened(1))
    bus.publish(Happened(2))
    await bus.drain()
    assert heard == [Happened(1), Happened(2)]
    assert (first.failed, second.failed) == (2, 2)
    assert [values["subscriber"] for _, values in lines.lines].count("broken") == 2
    await bus.close()


async def test_a_slow_one_delays_nobody_and_loses_the_oldest() -> None:
    clock, lines = FakeClock(), Lines()
    bus, heard, seen = Bus(logger=lines), list[object](), list[int]()

    async def slow(event: Happened) -> None:
        await clock.sleep(10)
        seen.append(event.number)

    subscription = bus.subscribe(Happened, slow, queue=2)
    bus.subscribe(Happened, heard.append)
    bus.publish(Happened(0))
    await clock.settle()
    for number in range(1, 6):
        bus.publish(Happened(number))
    assert len(heard) == 6
    await clock.advance(100)
    assert seen == [0, 4, 5]
    assert subscription.dropped == 3
    assert [event for event, _ in lines.lines] == ["a slow subscriber lost events"] * 2, "said at 1 and 2, not at 3"
    await bus.close()


async def test_cancelling_ends_a_subscription_even_while_an_event_is_delivered() -> None:
    bus, heard = Bus(), list[int]()

    def once(event: Happened) -> None:
        heard.append(event.number)
        subscription.cancel()

    async def later(event: Happened) -> None:
        heard.append(-event.number)

    subscription = bus.subscribe(Happened, once)
    waiting = bus.subscribe(Happened, later)
    bus.publish(Happened(1))
    waiting.cancel()
    bus.publish(Happened(2))
    await bus.drain()
    assert heard == [1]
    await bus.close()


async def test_an_object_that_is_called_may_be_asynchronous_too() -> None:
    heard: list[int] = []

    class Recorder:
        async def __call__(self, event: Happened) -> None:
            heard.append(event.number)

    bus = Bus()
    bus.subscribe(Happened, Recorder())
    bus.publish(Happened(7))
    await bus.close()
    assert heard == [7]
