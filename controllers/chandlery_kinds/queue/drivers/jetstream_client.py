"""The JetStream API as requests with plain JSON, over a real connection."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import ssl
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

from chandlery.foundation.clock import ambient
from chandlery.foundation.errors import EngineFailed, NotFound, Unauthenticated, Unavailable
from chandlery.foundation.fencing import ask

SECONDS = 2
PIECE = 64 << 10
"""Bytes of a snapshot in one message, where messages may be as large."""
PIECE_SECONDS = 60.0
_NOT_FOUND = frozenset({10059, 10014, 10037})
"""Error codes of JetStream: stream, consumer, message not found."""
_NOT_YET = frozenset({10008, 10009, 10074, 10023, 10047})
"""No leader yet, cluster not ready, insufficient resources while peers are still joining."""


class JetStream:
    """One connection with the API's prefix."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    @classmethod
    async def connect(
        cls, host: str, port: int, user: str, password: str, *, tls: ssl.SSLContext | None = None
    ) -> Self:
        """Connect, by TLS with a context, or say why not.

        Raises:
            Unavailable: nobody answers.
            Unauthenticated: user or password is wrong.
        """
        import nats.errors
        from nats.aio.client import Client

        async def quiet(_error: Exception) -> None:
            """nats-py would print it; what matters is raised below."""

        connection = Client()
        try:
            await connection.connect(
                f"nats://{host}:{port}",
                user=user,
                password=password,
                connect_timeout=SECONDS,
                allow_reconnect=False,
                # or it tries a server that doesn't listen yet again by itself, two seconds later
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                error_cb=quiet,
                name="chandlery",
                tls=tls,
            )
        except (OSError, TimeoutError, nats.errors.Error) as error:
            _abandon(connection)
            if "uthorization" in str(error) or "uthentication" in str(error):
                raise Unauthenticated(f"{host}:{port} refused the credentials of {user}") from error
            raise Unavailable(f"{host}:{port} doesn't answer: {error or 'no answer'}", retry_after=0.05) from error
        return cls(connection)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.connection.close()

    @property
    def shown(self) -> str:
        """SHA-256 of the certificate that the server shows; empty without TLS."""
        writer = getattr(getattr(self.connection, "_transport", None), "_io_writer", None)
        tls = writer.get_extra_info("ssl_object") if writer is not None else None
        der = tls.getpeercert(binary_form=True) if tls is not None else None
        return hashlib.sha256(der).hexdigest() if der else ""

    async def system(self, what: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A request to the connected server itself, by a user of the system account: VARZ, RELOAD, ...

        Raises:
            Unavailable: no answer.
            EngineFailed: it refuses; the message is its own.
        """
        import nats.errors

        server = self.connection._server_info["server_id"]  # noqa: SLF001 - nats-py tells it nowhere else
        subject = f"$SYS.REQ.SERVER.{server}.{what}"
        payload = json.dumps(body).encode() if body is not None else b""
        ask()
        try:
            answer = await self.connection.request(subject, payload, timeout=SECONDS * 2)
        except (TimeoutError, nats.errors.Error) as error:
            raise Unavailable(f"the server doesn't answer: {error or 'no answer'}", retry_after=0.1) from error
        found: dict[str, Any] = json.loads(answer.data)
        refusal = found.get("error")
        if refusal is not None:
            raise EngineFailed(f"NATS refused: {refusal.get('description', refusal)}")
        data: dict[str, Any] = found.get("data") or {}
        return data

    @property
    def server_version(self) -> str:
        version = self.connection.connected_server_version
        return f"{version.major}.{version.minor}.{version.patch}"

    async def ask(self, subject: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One request.

        Raises:
            NotFound: no such stream, consumer or message.
            Unavailable: JetStream isn't ready.
            EngineFailed: it refuses; the message is its own.
        """
        import nats.errors

        payload = json.dumps(body).encode() if body is not None else b""
        ask()
        try:
            answer = await self.connection.request(f"$JS.API.{subject}", payload, timeout=SECONDS * 2)
        except (TimeoutError, nats.errors.Error) as error:
            raise Unavailable(f"JetStream doesn't answer: {error or 'no answer'}", retry_after=0.1) from error
        found: dict[str, Any] = json.loads(answer.data)
        refusal = found.get("error")
        if refusal is not None:
            text, code = str(refusal.get("description", "")), refusal.get("err_code", 0)
            if code in _NOT_FOUND:
                raise NotFound(f"JetStream: {text}")
            if code in _NOT_YET or refusal.get("code") == 503:
                raise Unavailable(f"JetStream: {text}", retry_after=0.2)
            raise EngineFailed(f"JetStream refused: {text}")
        return found

    async def stream(self, name: str) -> dict[str, Any] | None:
        """A stream's configuration and state; None when there is none."""
        try:
            return await self.ask(f"STREAM.INFO.{name}")
        except NotFound:
            return None

    async def consumer(self, stream: str, name: str) -> dict[str, Any] | None:
        try:
            return await self.ask(f"CONSUMER.INFO.{stream}.{name}")
        except NotFound:
            return None

    async def put_stream(self, config: Mapping[str, Any], *, exists: bool) -> None:
        await self.ask(f"STREAM.{'UPDATE' if exists else 'CREATE'}.{config['name']}", config)

    async def put_consumer(self, stream: str, config: Mapping[str, Any]) -> None:
        """Create or change."""
        body = {"stream_name": stream, "config": dict(config)}
        await self.ask(f"CONSUMER.DURABLE.CREATE.{stream}.{config['durable_name']}", body)

    async def remove_stream(self, name: str) -> None:
        """With all that is in it; no such stream is fine."""
        with contextlib.suppress(NotFound):
            await self.ask(f"STREAM.DELETE.{name}")

    async def publish(self, subject: str, data: bytes, headers: Mapping[str, str], stream: str) -> None:
        """Store one message in this stream.

        Raises:
            Unavailable: nobody confirms it.
            EngineFailed: the stream refuses it: it is full, or the message is too large.
        """
        import nats.errors
        import nats.js.errors

        try:
            await self.connection.jetstream().publish(
                subject, data, timeout=SECONDS * 2, headers=dict(headers), stream=stream
            )
        except nats.js.errors.APIError as error:
            raise EngineFailed(f"the stream {stream} refused a message: {error.description}") from error
        except (TimeoutError, nats.errors.Error) as error:
            raise Unavailable(f"the stream {stream} doesn't confirm: {error or 'no answer'}") from error

    async def snapshot(self, stream: str, write: Callable[[bytes], object]) -> dict[str, Any]:
        """A copy of a stream with all its messages as of now, piece by piece; returns its configuration and state.

        Raises:
            NotFound: there is no such stream.
            Unavailable: the server stopped sending.
        """
        pieces: asyncio.Queue[Any] = asyncio.Queue()
        inbox = self.connection.new_inbox()
        subscription = await self.connection.subscribe(inbox, cb=pieces.put)
        size = min(PIECE, self.connection.max_payload)
        try:
            body = {"deliver_subject": inbox, "no_consumers": True, "chunk_size": size, "jsck": True}
            found = await self.ask(f"STREAM.SNAPSHOT.{stream}", body)
            while True:
                async with ambient().timeout(PIECE_SECONDS):
                    piece = await pieces.get()
                if piece.headers and piece.headers.get("Status", "204") != "204":
                    raise EngineFailed(f"JetStream broke the snapshot of {stream} off: {piece.headers}")
                if not piece.data:
                    return found
                write(piece.data)
                if piece.reply:
                    await piece.respond(b"")  # it sends no more than it is told was taken
        except TimeoutError as error:
            raise Unavailable(f"the snapshot of {stream} stopped", retry_after=1.0) from error
        finally:
            await subscription.unsubscribe()

    async def restore(self, config: Mapping[str, Any], state: Mapping[str, Any], pieces: Iterable[bytes]) -> None:
        """Make a stream of this configuration with the messages of a snapshot; its name may be another one.

        Raises:
            Unavailable: the server doesn't take it.
            EngineFailed: it refuses; the message is its own.
        """
        import nats.errors

        asked = await self.ask(f"STREAM.RESTORE.{config['name']}", {"config": dict(config), "state": dict(state)})
        try:
            for piece in pieces:
                await self._hand_over(asked["deliver_subject"], piece)
            await self._hand_over(asked["deliver_subject"], b"")
        except (TimeoutError, nats.errors.Error) as error:
            raise Unavailable(f"restoring {config['name']} stopped: {error or 'no answer'}", retry_after=1.0) from error

    async def _hand_over(self, subject: str, piece: bytes) -> None:
        answer = await self.connection.request(subject, piece, timeout=PIECE_SECONDS)
        refusal = json.loads(answer.data).get("error") if answer.data else None
        if refusal is not None:
            raise EngineFailed(f"JetStream refused the snapshot: {refusal.get('description', refusal)}")

    async def message(self, stream: str, sequence: int) -> tuple[str, bytes, bytes] | None:
        """Subject, raw headers and data of a stored message; None when it is gone."""
        try:
            found = (await self.ask(f"STREAM.MSG.GET.{stream}", {"seq": sequence}))["message"]
        except NotFound:
            return None
        headers = base64.b64decode(found.get("hdrs", ""))
        return str(found["subject"]), headers, base64.b64decode(found.get("data", ""))


def _abandon(connection: Any) -> None:
    """Close the socket of a connection that failed half-way; nats-py leaves that to the garbage collector."""
    transport = getattr(connection, "_transport", None)
    if transport is not None:
        transport.close()
