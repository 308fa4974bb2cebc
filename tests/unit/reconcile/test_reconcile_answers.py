"""Echoes of our own writes are told apart from news, whichever comes first: the answer or the event."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from chandlery.reconcile.answers import Answers
from chandlery.reconcile.kopf_binding import _News


class Stream:
    """Chunks as they come; an empty one is the end."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = [*chunks, b""]

    async def readany(self) -> bytes:
        return self.chunks.pop(0)


def line(version: str, kind: str = "MODIFIED", labels: str = "") -> bytes:
    return b'{"type":"%s","object":{"metadata":{%s"resourceVersion":"%s"}}}' % (
        kind.encode(),
        labels.encode(),
        version.encode(),
    )


def answered(*versions: str) -> Answers:
    answers = Answers()
    for version in versions:
        answers.add({"metadata": {"resourceVersion": version}})
    return answers


async def told(answers: Answers, *chunks: bytes) -> list[bytes]:
    news: Any = _News(Stream(*chunks), answers, lambda: None)  # type: ignore[arg-type] - all that is used of a stream
    return b"".join([chunk async for chunk in news.iter_chunked(1024)]).splitlines()


async def test_echoes_are_left_out_and_everything_else_is_as_it_was():
    mine, other = line("5"), line("6")
    assert await told(answered("5"), mine + b"\n" + other + b"\n") == [other]


async def test_lines_that_come_in_pieces_are_put_together():
    whole = line("6") + b"\n" + line("5") + b"\n" + line("7") + b"\n"
    pieces = [whole[at : at + 11] for at in range(0, len(whole), 11)]
    assert await told(answered("5"), *pieces) == [line("6"), line("7")]


async def test_a_last_line_without_an_end_is_passed_on():
    assert await told(answered(), line("6")) == [line("6")]


@pytest.mark.parametrize("kind", ["ADDED", "DELETED", "BOOKMARK", "ERROR"])
async def test_only_changes_can_be_echoes(kind):
    assert await told(answered("5"), line("5", kind) + b"\n") == [line("5", kind)]


async def test_a_label_called_like_the_version_hides_nothing():
    odd = line("6", labels='"labels":{"resourceVersion":"5"},')
    assert await told(answered("5"), odd + b"\n") == [odd]


async def test_an_event_waits_for_the_answers_to_what_is_under_way():
    answers = Answers()
    sent, answer = asyncio.Event(), asyncio.Event()

    async def write() -> None:
        with answers.writing():
            sent.set()
            await answer.wait()
            answers.add({"metadata": {"resourceVersion": "5"}})

    writing = asyncio.create_task(write())
    await sent.wait()
    hearing = asyncio.create_task(told(answers, line("5") + b"\n" + line("6") + b"\n"))
    await asyncio.sleep(0)
    assert not hearing.done()
    answer.set()
    assert await hearing == [line("6")]
    await writing


async def test_an_answer_that_never_comes_holds_nothing_up():
    answers = Answers()
    with answers.writing():
        assert await told(answers, line("5") + b"\n") == [line("5")]


def test_old_answers_are_forgotten():
    answers = answered(*(str(number) for number in range(5000)))
    assert "0" not in answers
    assert "4999" in answers


async def test_answers_to_writes_of_the_loop_are_noted(stage):
    core = await stage.start()
    await stage.apply("Cache")
    await stage.ready("Cache")
    live = await stage.get("Cache")
    assert live["metadata"]["resourceVersion"] in core.answers
    assert core.answers.under_way() == frozenset()
