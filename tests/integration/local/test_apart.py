"""Work in a process of its own: its progress and its errors come back, and it ends with whoever waits for it."""

import asyncio

import psutil
import pytest

from chandlery.foundation.errors import EngineFailed, FailedPrecondition
from chandlery.providers.local import apart
from chandlery.providers.local.engines.tree import holding

INSTALL = "chandlery.providers.local.engines.installer:install_entry"
BUILD = "chandlery_kinds.virtualmachine.guest.building:build"


async def test_an_error_comes_back_as_it_was_raised(tmp_path):
    (tmp_path / "engines").write_text("")
    with pytest.raises(FailedPrecondition, match="a file is where a directory must be") as caught:
        await apart.run(INSTALL, str(tmp_path / "engines"), "linux-x86_64", "memcached", "1.6")
    assert caught.value.retry_after == 10.0
    assert "Move the file away" in caught.value.hint


async def test_an_end_without_a_word_is_told():
    with pytest.raises(EngineFailed, match="No module named 'nowhere'"):
        await apart.run("nowhere:at_all")


async def test_progress_comes_back_and_who_gives_up_ends_it(tmp_path):
    heard = asyncio.Event()
    said = []

    def tell(text):
        said.append(text)
        heard.set()

    def working():
        return [child for child in psutil.Process().children() if str(tmp_path / "tiny") in child.cmdline()]

    async with holding(tmp_path / ".tiny.lock"):
        work = asyncio.ensure_future(apart.run(BUILD, str(tmp_path / "tiny"), str(tmp_path / "engines"), tell=tell))
        async with asyncio.timeout(120):
            await heard.wait()
        assert said[0] == "another process is building it"
        assert len(working()) == 1
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        assert working() == []
