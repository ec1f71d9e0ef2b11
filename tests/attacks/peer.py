"""A peer that says whatever bytes it is told to, and reads the relay's answers frame by frame."""

import json
import socket
import struct
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

import trio

from relay.protocol.event import Event
from relay.session.frames import frame_size
from tests.corpus import event_message
from tests.session import wire

PATIENCE: Final = 15.0
"""Seconds without a word from the relay that was due: a hang."""

DEFLATE: Final = b"permessage-deflate"


class Frame(NamedTuple):
    opcode: int
    payload: bytes


class Ended(Exception):
    """The relay has ended the connection; `code` is that of its Close, `None` without one."""

    def __init__(self, code: int | None, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class Peer:
    """One connection. Sending to a relay that has left is no error: an attacker does not care."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._unread = b""
        self.heard: list[Any] = []
        """Every message of the relay that was read."""

    async def say(self, *data: bytes) -> None:
        """Send bytes as they are."""
        try:
            with trio.fail_after(PATIENCE):
                await self.stream.send_all(b"".join(data))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def send(self, *messages: object) -> None:
        """Send messages as JSON, each in a frame of its own."""
        await self.say(*[wire.text(json.dumps(one, ensure_ascii=False)) for one in messages])

    async def publish(self, *events: Event) -> None:
        await self.say(*[wire.text(event_message(event)) for event in events])

    async def upgrade(self, *headers: bytes) -> bytes:
        """Complete the opening handshake and return the head of the answer, a 101."""
        lines = b"".join(header + b"\r\n" for header in headers)
        await self.say(wire.UPGRADE[:-2], lines, b"\r\n")
        head = await self.head()
        assert head.startswith(b"HTTP/1.1 101 "), head
        return head

    async def head(self) -> bytes:
        """Return the head of an HTTP answer."""
        while b"\r\n\r\n" not in self._unread:
            await self._more()
        head, _, self._unread = self._unread.partition(b"\r\n\r\n")
        return head

    async def rest(self) -> bytes:
        """Return everything up to the end of the connection."""
        try:
            while True:
                await self._more()
        except Ended:
            return self._unread

    async def raw(self) -> bytes:
        """Return what has come since, whatever it is."""
        if not self._unread:
            await self._more()
        unread, self._unread = self._unread, b""
        return unread

    async def frame(self) -> Frame:
        """Return the next frame, inflated. Raises `Ended`, also for a Close."""
        while True:
            size = frame_size(self._unread[:14])
            if size is not None and len(self._unread) >= sum(size):
                break
            await self._more()
        frame, self._unread = self._unread[: sum(size)], self._unread[sum(size) :]
        payload = frame[size[0] :]
        if frame[0] & wire.RSV1:
            payload = zlib.decompressobj(-15).decompress(payload + b"\0\0\xff\xff")
        opcode = frame[0] & 0xF
        if opcode == wire.CLOSE:
            raise Ended(int.from_bytes(payload[:2], "big"), payload[2:].decode())
        return Frame(opcode, payload)

    async def message(self) -> list[Any]:
        """Return the next message; control frames before it are passed over."""
        while (frame := await self.frame()).opcode != wire.TEXT:
            pass
        message = json.loads(frame.payload)
        assert isinstance(message, list)
        self.heard.append(message)
        return message

    async def until(self, *fields: object) -> list[Any]:
        """Return the next message that begins with these fields."""
        while True:
            message = await self.message()
            if message[: len(fields)] == list(fields):
                return message

    async def alive(self) -> None:
        """Check that the relay still answers this peer."""
        await self.send(["COUNT", "alive?", {"ids": ["0" * 64]}])
        assert (await self.until("COUNT", "alive?"))[2] == {"count": 0}

    async def until_ended(self) -> None:
        """Read until the relay ends the connection. Raises `Ended`, always."""
        while True:
            await self.message()

    async def ended(self) -> int | None:
        """Wait until the relay ends the connection; return the code of its Close.

        `None` when there was none. The connection itself must be over, not only the talk.
        """
        code = None
        try:
            await self.until_ended()
        except Ended as end:
            code = end.code
        # the closing handshake, then the end of the stream
        await self.say(wire.frame(wire.FIN | wire.CLOSE, b"\x03\xe8"))
        await self.rest()
        return code

    def reset(self) -> None:
        """Leave with a reset."""
        self.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.stream.socket.close()

    def leave(self) -> None:
        """Leave with no word but a FIN."""
        self.stream.socket.close()

    async def _more(self) -> None:
        data = b""
        try:
            with trio.fail_after(PATIENCE):
                data = await self.stream.receive_some(1 << 18)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        if not data:
            raise Ended(None)
        self._unread += data


@asynccontextmanager
async def caller(port: int) -> AsyncIterator[Peer]:
    """Connect, without a handshake, for the length of a block."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    try:
        yield Peer(stream)
    finally:
        await trio.aclose_forcefully(stream)


@asynccontextmanager
async def peer(port: int, *headers: bytes) -> AsyncIterator[Peer]:
    """Connect and complete the handshake, for the length of a block."""
    async with caller(port) as one:
        await one.upgrade(*headers)
        yield one


def deflating(offer: bytes = DEFLATE) -> bytes:
    """Return the header that offers compression."""
    return b"Sec-WebSocket-Extensions: " + offer


async def together(
    attacks: Iterable[Callable[[], Coroutine[Any, Any, object]]], at_once: int = 30
) -> None:
    """Run attacks, so many of them at once."""
    limit = trio.CapacityLimiter(at_once)

    async def one(attack: Callable[[], Coroutine[Any, Any, object]]) -> None:
        async with limit:
            await attack()

    async with trio.open_nursery() as nursery:
        for attack in attacks:
            nursery.start_soon(one, attack)
