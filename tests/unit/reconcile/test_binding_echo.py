"""What the watch says of a binding Secret that is just being written is our own doing, unless it is something else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from chandlery.driver.protocol import Binding
from chandlery.reconcile.binding import Binder
from chandlery.reconcile.memory import MemoryApi
from chandlery_kinds.cache.model import Cache

OBJ = Cache.model_validate(
    {
        "apiVersion": "data.chandlery.dev/v1alpha1",
        "kind": "Cache",
        "metadata": {"name": "orders", "namespace": "shop", "uid": "u-1"},
        "spec": {"memory": "64Mi"},
        "status": {},
    }
)


class Hasty(MemoryApi):
    """Its watch is faster than its answers."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[bool] = []
        self.binder = Binder(self)
        self.other: Mapping[str, Any] = {}

    async def apply(self, kind: Any, body: Any, **more: Any) -> Any:
        answer = await super().apply(kind, body, **more)
        self.heard.append(self.binder.seen({**answer, **self.other}))
        return answer


@pytest.fixture
def api() -> Hasty:
    made = Hasty()
    made.binder.watching = True
    return made


def binding(password: str) -> Binding:
    return Binding("valkey", "chandlery", {"password": password})


async def test_an_event_before_the_answer_is_an_echo(api: Hasty) -> None:
    await api.binder.apply(OBJ, binding("a"))
    await api.binder.apply(OBJ, binding("b"))
    assert api.heard == [False, False]


async def test_what_somebody_else_made_of_it_meanwhile_is_news(api: Hasty) -> None:
    await api.binder.apply(OBJ, binding("a"))
    api.other = {"data": {"password": "bWluZQ=="}}
    await api.binder.apply(OBJ, binding("b"))
    assert api.heard == [False, True]


async def test_the_same_content_is_news_once_it_is_not_being_written(api: Hasty) -> None:
    await api.binder.apply(OBJ, binding("a"))
    changed = {**api._objects["Secret", "shop", "orders"], "data": {"password": "bWluZQ=="}}
    assert api.binder.seen(changed)
