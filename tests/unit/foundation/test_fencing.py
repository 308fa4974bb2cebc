"""A client asks before it writes, for as long as somebody says how to find out."""

import asyncio

import pytest

from chandlery.foundation.errors import Fenced
from chandlery.foundation.fencing import asking, fenced


class Client:
    """As a library has it."""

    def __init__(self) -> None:
        self.said: list[str] = []

    async def execute(self, text: str, *, times: int = 1) -> int:
        self.said += [text] * times
        return len(self.said)

    async def close(self) -> None:
        self.said.append("closed")


def over() -> None:
    raise Fenced("somebody else does it now")


async def test_a_client_that_asks_writes_nothing_once_its_work_is_somebody_elses():
    client = asking(Client, "execute")()
    assert isinstance(client, Client)
    assert await client.execute("a", times=2) == 2
    with fenced(over):
        with pytest.raises(Fenced):
            await client.execute("b")
        with pytest.raises(Fenced):
            await asyncio.create_task(client.execute("c"))
        await client.close()
    await client.execute("d")
    assert client.said == ["a", "a", "closed", "d"]
    assert asking(Client, "execute") is type(client), "one class for all connections"
