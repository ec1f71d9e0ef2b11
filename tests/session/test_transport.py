import hashlib
import inspect
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from trio_websocket import (
    ConnectionClosed,
    WebSocketConnection,
    WebSocketRequest,
    open_websocket_url,
)
from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import CloseConnection, Pong

from relay.errors import ConnectionLost, PeerClosed, ProtocolViolation
from relay.session.frames import text_frame
from relay.session.stream import SocketStream
from relay.session.transport import BINARY, Compression, Message, WebSocket
from tests.session import wire


@dataclass
class Meeting:
    """A WebSocket over a local socket, and the peer's end of it."""

    websocket: WebSocket
    stream: SocketStream
    peer: SocketStream
    control: list[bytes] = field(default_factory=list)

    async def say(self, data: bytes) -> None:
        await self.peer.send_all(data)

    def answers(self) -> list[object]:
        client = Connection(ConnectionType.CLIENT)
        client.receive_data(b"".join(self.control))
        return list(client.events())


@asynccontextmanager
async def meeting(*, limit: int = 1000) -> AsyncIterator[Meeting]:
    ours, theirs = map(SocketStream, socket.socketpair())
    control: list[bytes] = []
    websocket = WebSocket(ours, max_message_length=limit, send_control=control.append)
    async with ours, theirs:
        yield Meeting(websocket, ours, theirs, control)


@asynccontextmanager
async def accepted(*, limit: int = 1000, following: bytes = b"") -> AsyncIterator[Meeting]:
    async with meeting(limit=limit) as met:
        await met.websocket.accept(wire.UPGRADE + following)
        response = await met.peer.receive_some()
        assert response.startswith(b"HTTP/1.1 101 ")
        assert response.endswith(b"\r\n\r\n")
        yield met


async def rejected(head: bytes) -> bytes:
    async with meeting() as met:
        with pytest.raises(ConnectionLost):
            await met.websocket.accept(head)
        return await met.peer.receive_some()


async def listen(websocket: WebSocket, *, expect_messages: bool = False) -> NoReturn:
    while True:
        messages = await websocket.receive()
        assert expect_messages or not messages


def head(**changes: str | None) -> bytes:
    """Return the request head with some headers changed, or left out (None)."""
    lines = wire.UPGRADE.decode().split("\r\n")[1:-2]
    headers: dict[str, str | None] = {}
    headers |= dict(line.split(": ") for line in lines)
    names = {name.replace("_", "-").lower(): value for name, value in changes.items()}
    headers = {name: names.pop(name.lower(), value) for name, value in headers.items()} | names
    shown = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if value is not None)
    return f"GET / HTTP/1.1\r\n{shown}\r\n".encode("latin-1")


async def test_accepts_and_sends_the_extra_headers() -> None:
    async with meeting() as met:
        await met.websocket.accept(wire.UPGRADE, [(b"X-Greeting", b"hello")])
        response = await met.peer.receive_some()
    # The example of RFC 6455 section 1.3.
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in response
    assert b"X-Greeting: hello\r\n" in response


async def test_an_offered_compression_is_not_taken_up_where_it_is_off() -> None:
    offer = "permessage-deflate; client_max_window_bits, relay-size-limit, "
    async with meeting() as met:
        request_head = head(sec_websocket_extensions=offer)
        await met.websocket.accept(request_head, compression=Compression.OFF)
        assert met.websocket.compression is None
        response = await met.peer.receive_some()
        assert response.startswith(b"HTTP/1.1 101 ")
        assert b"extensions" not in response.lower()


async def test_bytes_behind_the_head_are_the_first_frames() -> None:
    async with accepted(following=wire.text("early") + wire.text("bird")[:3]) as met:
        assert await met.websocket.receive() == [b"early"]
        await met.say(wire.text("bird")[3:])
        assert await met.websocket.receive() == [b"bird"]


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (head(host="r\xe9lay"), 400),
        (head(host="xn--\x80"), 400),
        (head(host="xn--99999999999"), 400),
        (head(host=None), 400),
        (head(connection="close"), 400),
        (head(connection="Upgr\xe4de"), 400),
        (head(upgrade="h2c"), 400),
        (head(sec_websocket_protocol="\xff"), 400),
        (head(sec_websocket_extensions="\xff"), 400),
        (head(sec_websocket_version="8"), 426),
        (head(sec_websocket_version=None), 400),
        (head(sec_websocket_key=None), 400),
        (head(sec_websocket_key="c2hvcnQ="), 400),
        (head(sec_websocket_key="not base64!"), 400),
        (head(sec_websocket_key="\xff"), 400),
        (head(content_length="5"), 400),
        (head(transfer_encoding="chunked"), 400),
        (head().replace(b"GET", b"POST"), 400),
        (head().replace(b"HTTP/1.1", b"HTTP/1.0"), 400),
        (head().replace(b"HTTP/1.1", b"HTTP/2.0"), 400),
        (head()[:-2], 400),
        (b"", 400),
        (b"\r\n\r\n", 400),
        (b"\x00\r\n\r\n", 400),
    ],
)
async def test_what_is_no_valid_upgrade_is_answered(request_head: bytes, status: int) -> None:
    assert (await rejected(request_head)).startswith(f"HTTP/1.1 {status} ".encode())


@settings(max_examples=150, deadline=None)
@given(st.data())
async def test_no_head_is_a_traceback(data: st.DataObject) -> None:
    request_head = bytearray(wire.UPGRADE)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(request_head) - 1))
        length = data.draw(st.integers(0, 3))
        request_head[at : at + length] = data.draw(st.binary(max_size=3))
    async with meeting() as met:
        try:
            await met.websocket.accept(bytes(request_head))
        except ConnectionLost:
            assert (await met.peer.receive_some()).startswith(b"HTTP/1.1 4")
        else:
            assert (await met.peer.receive_some()).startswith(b"HTTP/1.1 101 ")


async def test_a_peer_that_is_gone_before_the_101_is_lost() -> None:
    async with meeting() as met:
        met.peer.reset()
        with pytest.raises(ConnectionLost):
            await met.websocket.accept(wire.UPGRADE)


async def test_all_messages_of_a_chunk_come_at_once() -> None:
    async with accepted() as met:
        fragments = wire.frame(wire.TEXT, b"fo") + wire.frame(wire.FIN, b"ur")
        binary = wire.frame(wire.BINARY_DATA, b"\xff") + wire.frame(wire.FIN, b"\xff")
        await met.say(wire.text("one") + wire.text("") + binary + wire.text("√3") + fragments)
        expected: list[Message] = [b"one", b"", BINARY, "√3".encode(), b"four"]
        assert await met.websocket.receive() == expected


async def test_control_frames_and_parts_are_signs_of_life() -> None:
    async with accepted() as met:
        await met.say(wire.frame(wire.FIN | wire.PONG, b"idle"))
        assert await met.websocket.receive() == []
        await met.say(wire.text("late")[:-1])
        assert await met.websocket.receive() == []
        await met.say(wire.text("late")[-1:])
        assert await met.websocket.receive() == [b"late"]
        assert met.control == []


async def test_a_ping_is_answered_through_the_writer() -> None:
    async with accepted() as met:
        await met.say(wire.frame(wire.FIN | wire.PING, b"you?") + wire.text("hello"))
        assert await met.websocket.receive() == [b"hello"]
        assert met.answers() == [Pong(b"you?")]


async def test_a_close_is_answered_and_told_after_the_messages_before_it() -> None:
    async with accepted() as met:
        await met.say(wire.text("last") + wire.close(1001, "bye") + wire.text("too late"))
        assert await met.websocket.receive() == [b"last"]
        for _ in range(2):
            with pytest.raises(PeerClosed) as closed:
                await met.websocket.receive()
            assert (closed.value.code, closed.value.reason) == (1001, "bye")
        assert met.answers() == [CloseConnection(1001, "bye")]
        assert met.websocket.close_frame(1000, "") == b""
        assert met.websocket.ping_frame() == b""


async def test_a_ping_before_a_close_is_answered_before_it() -> None:
    async with accepted() as met:
        await met.say(wire.frame(wire.FIN | wire.PING, b"you?") + wire.close(1001))
        with pytest.raises(PeerClosed):
            await met.websocket.receive()
        assert met.answers() == [Pong(b"you?"), CloseConnection(1001, "")]


async def test_a_close_is_answered_only_after_what_came_before_it() -> None:
    async with accepted() as met:
        await met.say(wire.text("last") + wire.close(1001))
        assert await met.websocket.receive() == [b"last"]
        # What answers that message may not follow a Close.
        assert met.control == []
        with pytest.raises(PeerClosed):
            await met.websocket.receive()
        assert met.answers() == [CloseConnection(1001, "")]


async def test_our_close_after_the_peers_is_the_answer_to_it() -> None:
    async with accepted() as met:
        await met.say(wire.text("last") + wire.close(4000, "bye"))
        assert await met.websocket.receive() == [b"last"]
        met.control.append(met.websocket.close_frame(1001, "shutting down"))
        assert met.websocket.close_frame(1001, "again") == b""
        with pytest.raises(PeerClosed) as closed:
            await met.websocket.receive()
        assert closed.value.code == 4000
        assert met.answers() == [CloseConnection(4000, "bye")]


async def test_our_close_before_a_violation_is_told_is_the_last_word() -> None:
    async with accepted() as met:
        await met.say(wire.text("last") + b"\xff\xff\xff\xff")
        assert await met.websocket.receive() == [b"last"]
        met.control.append(met.websocket.close_frame(1001, "shutting down"))
        with pytest.raises(ProtocolViolation):
            await met.websocket.receive()
        assert met.answers() == [CloseConnection(1001, "shutting down")]


async def test_a_close_without_a_code_is_1005() -> None:
    async with accepted() as met:
        await met.say(wire.frame(wire.FIN | wire.CLOSE))
        with pytest.raises(PeerClosed) as closed:
            await met.websocket.receive()
        assert (closed.value.code, closed.value.reason) == (1005, "")
        assert met.control == [b"\x88\x00"]


async def test_after_our_close_nothing_is_delivered_or_sent_until_the_peers() -> None:
    async with accepted() as met:
        await met.say(wire.text("before"))
        assert await met.websocket.receive() == [b"before"]
        assert met.websocket.close_frame(1001, "shutting down") == (
            b"\x88\x0f\x03\xe9shutting down"
        )
        assert met.websocket.close_frame(1000, "again") == b""
        assert met.websocket.ping_frame() == b""
        # A Ping at this time used to end a whole server.
        await met.say(wire.frame(wire.FIN | wire.PING) + wire.text("unheard"))
        assert await met.websocket.receive() == []
        await met.say(wire.text("unheard") + wire.close(1001))
        with pytest.raises(PeerClosed):
            await met.websocket.receive()
        assert met.control == []


async def test_a_violation_after_our_close_ends_the_wait() -> None:
    async with accepted() as met:
        met.websocket.close_frame(1000, "")
        await met.say(b"\xff\xff\xff\xff")
        with pytest.raises(ProtocolViolation):
            await met.websocket.receive()
        assert met.control == []


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (wire.text(b"\xff"), 1007),
        (wire.text(b"\xed\xa0\x80"), 1007),
        (wire.frame(wire.TEXT, b"\xc3") + wire.frame(wire.FIN, b""), 1007),
        (wire.frame(wire.FIN | wire.CLOSE, b"\x03\xe8\xff"), 1007),
        (wire.frame(wire.FIN | wire.CLOSE, b"\x03"), 1002),
        (wire.close(1005), 1002),
        (wire.close(5000), 1002),
        (wire.frame(wire.FIN | wire.TEXT, b"x", mask=None), 1002),
        (wire.frame(wire.FIN | 0x40 | wire.TEXT, b"x"), 1002),
        (wire.frame(wire.FIN | 0x3), 1002),
        (wire.frame(wire.PING), 1002),
        (wire.frame(wire.FIN | wire.PING, b"x" * 126), 1002),
        (wire.frame(wire.FIN | wire.CONTINUATION), 1002),
        (wire.frame(wire.TEXT) + wire.text("x"), 1002),
        (wire.frame(wire.FIN | wire.TEXT, length=1001), 1009),
        (wire.frame(wire.BINARY_DATA, b"x" * 600) + wire.frame(wire.FIN, length=401), 1009),
        (wire.frame(wire.FIN | wire.TEXT, length=1 << 62), 1009),
    ],
)
async def test_a_violation_is_told_to_both_sides_after_the_messages_before_it(
    frame: bytes, code: int
) -> None:
    async with accepted(limit=1000) as met:
        await met.say(wire.text("fine") + frame + wire.text("unheard"))
        assert await met.websocket.receive() == [b"fine"]
        for _ in range(2):
            with pytest.raises(ProtocolViolation) as violation:
                await met.websocket.receive()
            assert violation.value.code == code
            assert violation.value.reason
        (answer,) = met.answers()
        assert isinstance(answer, CloseConnection)
        assert answer.code == code


async def test_the_end_of_the_stream_is_a_lost_connection() -> None:
    async with accepted() as met:
        await met.say(wire.text("whole") + wire.text("half")[:5])
        await met.peer.aclose()
        assert await met.websocket.receive() == [b"whole"]
        for _ in range(2):
            with pytest.raises(ConnectionLost) as lost:
                await met.websocket.receive()
            assert type(lost.value) is ConnectionLost


async def test_closing_the_stream_ends_a_waiting_receive() -> None:
    async with accepted() as met, trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(ConnectionLost):
                await met.websocket.receive()

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        await met.websocket.aclose()


async def test_a_cancelled_wait_loses_nothing() -> None:
    async with accepted() as met:
        await met.say(wire.text("interrupted")[:7])
        assert await met.websocket.receive() == []
        with trio.move_on_after(0.01) as patience:
            await met.websocket.receive()
        assert patience.cancelled_caught
        await met.say(wire.text("interrupted")[7:])
        assert await met.websocket.receive() == [b"interrupted"]


async def test_a_flood_of_pings_lets_other_tasks_run() -> None:
    async with accepted() as met:
        other_turns = 0

        async def other() -> None:
            nonlocal other_turns
            while True:
                other_turns += 1
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            await met.say(wire.frame(wire.FIN | wire.PING) * 1000 + wire.text("done"))
            while await met.websocket.receive() != [b"done"]:
                pass
            nursery.cancel_scope.cancel()
        assert met.answers() == [Pong()] * 1000
        assert other_turns > 10


@settings(max_examples=150, deadline=None)
@given(st.data())
async def test_nothing_but_a_lost_connection_leaves_receive(data: st.DataObject) -> None:
    frames = data.draw(st.one_of(wire.conversations(), st.lists(st.binary())))
    closing = data.draw(st.booleans())
    async with accepted(limit=300) as met:
        if closing:
            met.websocket.close_frame(1001, "")

        async def talk() -> None:
            for chunk in data.draw(wire.chunks(frames)):
                await met.say(chunk)
            await met.peer.send_eof()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk)
            with pytest.raises(ConnectionLost):
                await listen(met.websocket, expect_messages=not closing)
            # The peer may be in the middle of a long message.
            while await met.stream.receive_some():
                pass
        assert sum(isinstance(answer, CloseConnection) for answer in met.answers()) <= 1


# With trio_websocket's own client, over TCP.


@asynccontextmanager
async def echo_server() -> AsyncIterator[tuple[str, trio.MemoryReceiveChannel[ConnectionLost]]]:
    ended, endings = trio.open_memory_channel[ConnectionLost](1)

    async def serve(transport: trio.SocketStream) -> None:
        control: list[bytes] = []
        async with SocketStream(transport.socket) as stream:
            request = b""
            while not request.endswith(b"\r\n\r\n"):
                request += await stream.receive_some()
            websocket = WebSocket(stream, max_message_length=600_000, send_control=control.append)
            await websocket.accept(request)
            try:
                while True:
                    for message in await websocket.receive():
                        assert isinstance(message, bytes)
                        if message == b"please close":
                            control.append(websocket.close_frame(4000, "as you wish"))
                        else:
                            await stream.send_all(text_frame(message))
                    while control:
                        await stream.send_all(control.pop(0))
            except ConnectionLost as lost:
                ended.send_nowait(lost)
                if control:
                    await stream.send_all(control.pop())

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        port = listeners[0].socket.getsockname()[1]
        yield f"ws://127.0.0.1:{port}", endings
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("length", [0, 125, 126, 65535, 65536, 300_000])
async def test_a_foreign_client_gets_its_messages_back(length: int) -> None:
    async with echo_server() as (url, _), open_websocket_url(url) as client:
        await client.send_message("x" * length)
        assert await client.get_message() == "x" * length
        await client.send_message("🦤" * (length // 4))
        assert await client.get_message() == "🦤" * (length // 4)


async def test_a_foreign_client_pings_and_closes() -> None:
    async with echo_server() as (url, endings):
        async with open_websocket_url(url) as client:
            await client.ping(b"are you there")
            await client.aclose(1001, "leaving")
        ending = await endings.receive()
        assert isinstance(ending, PeerClosed)
        assert (ending.code, ending.reason) == (1001, "leaving")


async def test_a_foreign_client_is_closed() -> None:
    async with echo_server() as (url, endings), open_websocket_url(url) as client:
        await client.send_message("please close")
        with pytest.raises(ConnectionClosed) as closed:
            await client.get_message()
        assert closed.value.reason is not None
        assert (closed.value.reason.code, closed.value.reason.reason) == (4000, "as you wish")
        ending = await endings.receive()
        assert isinstance(ending, PeerClosed)
        assert ending.code == 4000
        # The client leaves its socket open when the server was the first to close.
        await client._stream.aclose()


async def test_a_foreign_client_resets_the_connection() -> None:
    async with echo_server() as (url, endings), open_websocket_url(url) as client:
        await client.send_message("hello")
        await client.get_message()
        stream = client._stream
        assert isinstance(stream, trio.SocketStream)
        SocketStream(stream.socket).reset()
        assert type(await endings.receive()) is ConnectionLost


# What of trio_websocket is overridden or used though it is private. When one of these fails, read
# the new source, see whether the transport still holds, and record the new digest.
HOOKS: list[tuple[Any, str]] = [
    (WebSocketConnection.__init__, "29c06a80f96dc90a"),
    (WebSocketConnection._send, "2c6048dd9c0d1f1f"),
    (WebSocketConnection._close_stream, "2c1c27278d71c029"),
    (WebSocketConnection.aclose, "8e9261819d889cd4"),
    (WebSocketConnection._handle_request_event, "2ca8a397e467b408"),
    (WebSocketConnection._get_request, "cf68948d369f471c"),
    (WebSocketConnection._accept, "f25c53f608884034"),
    (WebSocketConnection._handle_close_connection_event, "6d4c481a35db5699"),
    (WebSocketConnection._close_web_socket, "24bd193c8a385ce9"),
    (WebSocketRequest.accept, "b034d27ca631ba08"),
]


@pytest.mark.parametrize(("hook", "digest"), HOOKS, ids=lambda it: getattr(it, "__name__", ""))
def test_the_hooks_are_those_that_the_transport_was_written_against(hook: Any, digest: str) -> None:
    assert hashlib.sha256(inspect.getsource(hook).encode()).hexdigest()[:16] == digest
