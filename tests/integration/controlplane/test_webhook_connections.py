"""The connections to webhooks: kept, given up in time, and plain about what goes wrong; against real TLS servers."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import waiting

from chandlery.controlplane.admission.webhooks.https import BrokenAnswerError, Https, Target
from chandlery.controlplane.pki import Authority

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Hook:
    """A server that answers as a test says, once for each request on a connection."""

    def __init__(self) -> None:
        self.connections = 0
        self.bodies: list[bytes] = []
        self.heads: list[bytes] = []
        self.answers: list[bytes] = []
        self.closes = False
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
                self.heads.append(head)
                self.bodies.append(await reader.readexactly(length))
                writer.write(self.answers.pop(0) if self.answers else OK)
                await writer.drain()
                if self.closes:
                    break
        writer.close()

    def target(self, path: str = "/hook?timeout=1s") -> Target:
        return Target.of(f"https://127.0.0.1:{self.port}{path}")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=authority.pem.decode())


@pytest.fixture
async def hook(authority: Authority) -> AsyncIterator[Hook]:
    hook = Hook()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("hook", "hook", hosts=("127.0.0.1", "hook.ns.svc")))
    server = await asyncio.start_server(hook.serve, "127.0.0.1", 0, ssl=context)
    hook.port = server.sockets[0].getsockname()[1]
    yield hook
    server.close()


@pytest.fixture
async def https() -> AsyncIterator[Https]:
    client = Https()
    yield client
    client.close()


async def post(
    https: Https, hook: Hook, context: ssl.SSLContext, body: bytes = b"{}", limit: int = 100
) -> tuple[int, bytes]:
    async with asyncio.timeout(60):
        return await https.post(hook.target(), body, context=context, limit=limit)


async def test_one_connection_serves_one_call_after_another(https: Https, hook: Hook, trusting: ssl.SSLContext) -> None:
    large = b"x" * 3_000_000
    assert await post(https, hook, trusting) == (200, b"ok")
    assert await post(https, hook, trusting, large) == (200, b"ok")
    assert hook.bodies == [b"{}", large]
    assert hook.connections == 1
    assert f"Host: 127.0.0.1:{hook.port}".encode() in hook.heads[0]
    assert hook.heads[0].startswith(b"POST /hook?timeout=1s HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n1\r\nd\r\n0\r\nTrailer: x\r\n\r\n",
            b"abcd",
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 No\r\ncontent-length: 3\r\n\r\nbad", b"bad"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    ],
)
async def test_answers_come_in_several_forms(
    https: Https, hook: Hook, trusting: ssl.SSLContext, answer: bytes, body: bytes
) -> None:
    hook.answers = [answer]
    assert (await post(https, hook, trusting))[1] == body
    assert await post(https, hook, trusting) == (200, b"ok")
    assert hook.connections == 1


async def test_what_nobody_uses_for_a_while_is_closed(
    https: Https, hook: Hook, trusting: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chandlery.controlplane.admission.webhooks.https._IDLE_SECONDS", 0.01)
    await post(https, hook, trusting)
    await waiting.eventually(lambda: https.idle == 0)
    assert await post(https, hook, trusting) == (200, b"ok")


async def test_what_the_other_end_closed_meanwhile_is_opened_anew(
    https: Https, hook: Hook, trusting: ssl.SSLContext
) -> None:
    hook.closes = True
    for _ in range(3):
        assert await post(https, hook, trusting) == (200, b"ok")
    assert len(hook.bodies) == hook.connections == 3


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "EOF"),
        (b"HTTP/1.1 200", "unexpected EOF"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", "unexpected EOF"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nok", "bad Content-Length 'five'"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "invalid byte in chunk length"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "malformed HTTP response 'SSH-2.0-OpenSSH'"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000 + b"\r\n\r\n", "header is longer than 64 KiB"),
    ],
)
async def test_no_answer_of_sense_is_said(
    https: Https, hook: Hook, trusting: ssl.SSLContext, answer: bytes, said: str
) -> None:
    hook.answers, hook.closes = [answer], True
    with pytest.raises(BrokenAnswerError, match=said):
        await post(https, hook, trusting)


async def test_an_endless_answer_is_read_up_to_the_limit(https: Https, hook: Hook, trusting: ssl.SSLContext) -> None:
    hook.answers = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"y" * 1000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n" + b"y" * 1000,
        b"HTTP/1.0 200 OK\r\n\r\n" + b"y" * 1000,
    ]
    for _ in range(3):
        assert await post(https, hook, trusting, limit=11) == (200, b"y" * 11)
    assert hook.connections == 3, "what is only half read is not used again"


async def test_who_is_not_trusted_or_not_meant_gets_nothing(https: Https, hook: Hook, trusting: ssl.SSLContext) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await post(https, hook, ssl.create_default_context(cadata=None))
    other = Target.of("https://other.ns.svc:443/", address=f"127.0.0.1:{hook.port}")
    with pytest.raises(ssl.SSLCertVerificationError):
        await https.post(other, b"{}", context=trusting, limit=10)
    meant = Target.of("https://hook.ns.svc:443/", address=f"127.0.0.1:{hook.port}")
    assert await https.post(meant, b"{}", context=trusting, limit=10) == (200, b"ok")
    assert hook.bodies == [b"{}"]
    assert b"Host: hook.ns.svc:443" in hook.heads[0]
