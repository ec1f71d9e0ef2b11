"""One connection: it reads whatever happens, and knows how it ended."""

import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from wsproto.connection import Connection as Wsproto
from wsproto.connection import ConnectionType
from wsproto.events import Pong, TextMessage

from relay.check.address import parse_address
from relay.check.connection import Connection, Ending, How, Leave
from relay.check.dial import Dialer
from relay.check.errors import CheckError, RelayUnreachable
from relay.check.handshake import Handshake
from relay.check.keepalive import Keepalive
from relay.check.transport import PlainTransport
from tests.check.test_frames import frame


class Opened:
    """A connection, the relay's end of it, and what came of it."""

    def __init__(self, nursery: trio.Nursery) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.peer = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
        self.connection = Connection(PlainTransport(ours), b"", nursery)
        self.messages: list[bytes] = []
        self.ended = trio.Event()
        self.ending: Ending | None = None
        nursery.start_soon(self._run)

    async def _run(self) -> None:
        self.ending = await self.connection.run(lambda message, _now: self.messages.append(message))
        self.ended.set()


@asynccontextmanager
async def opened() -> AsyncIterator[Opened]:
    async with trio.open_nursery() as nursery:
        one = Opened(nursery)
        try:
            yield one
        finally:
            await one.peer.aclose()
            nursery.cancel_scope.cancel()


async def test_pings_are_answered_and_messages_handed_on() -> None:
    async with opened() as one:
        await one.peer.send_all(frame(0x89, b"alive?") + frame(0x81, b"hello"))
        protocol = Wsproto(ConnectionType.SERVER)
        protocol.receive_data(bytes(await one.peer.receive_some()))
        assert [event.payload for event in protocol.events() if isinstance(event, Pong)] == [
            b"alive?"
        ]
        assert one.messages == [b"hello"]


async def test_a_relay_that_does_not_read_is_read_nevertheless() -> None:
    """The answers to its pings find no room; what it says must be read all the same."""
    async with opened() as one:
        for _ in range(100):
            await one.peer.send_all(frame(0x89, b"x" * 125) * 500)
        await one.peer.send_all(frame(0x81, b"end"))
        # the peer has no business knowing when it was read
        while not one.messages:  # noqa: ASYNC110
            await trio.sleep(0.01)
        # and what waits to be sent is bounded, though there were 7 MB of pings
        assert len(one.connection._unsent) < 1 << 19
        assert not one.connection.has_ended


async def test_what_found_no_room_is_sent_later_and_in_order() -> None:
    async with opened() as one:
        texts = [b"%d" % number * 500 for number in range(2_000)]
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                for text in texts:
                    await one.connection.send(text)

            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked()
            protocol = Wsproto(ConnectionType.SERVER)
            received: list[str] = []
            while len("".join(received)) < sum(map(len, texts)):
                protocol.receive_data(bytes(await one.peer.receive_some()))
                received += [
                    event.data for event in protocol.events() if isinstance(event, TextMessage)
                ]
        assert "".join(received).encode() == b"".join(texts)


@pytest.mark.parametrize(
    ("sent", "how", "text"),
    [
        (frame(0x88, b"\x03\xe9bye"), How.CLOSED, "the relay closed it: 1001 bye"),
        (frame(0x88, b""), How.CLOSED, "the relay closed it: 1005"),
        (b"\x83\x00", How.VIOLATION, "the relay broke the protocol: an unknown opcode: 0x3"),
        (b"", How.END_OF_FILE, "the relay ended the connection without a Close frame"),
    ],
)
async def test_a_connection_tells_how_it_ended(sent: bytes, how: How, text: str) -> None:
    async with opened() as one:
        await one.peer.send_all(frame(0x81, b"before") + sent)
        if not sent:
            await one.peer.aclose()
        await one.ended.wait()
        assert one.ending == Ending(how, text)
        assert one.messages == [b"before"]


async def test_leaving_is_not_an_end_by_the_relay() -> None:
    for way in Leave:
        async with opened() as one:
            await trio.testing.wait_all_tasks_blocked()
            await one.connection.leave(way, 0.05)
            await one.ended.wait()
            assert one.ending == Ending(How.LEFT, "left")


async def test_a_held_up_tester_does_not_take_relays_for_dead() -> None:
    keepalive = Keepalive(interval=0.01, patience=0.01)
    async with opened() as one:
        keepalive.add(one.connection)
        await trio.sleep(0.02)
        keepalive.look()
        assert one.connection.pinged is not None
        await trio.sleep(0.02)
        keepalive.look(was_held_up=True)
        assert not one.connection.has_ended
        await trio.sleep(0.02)
        keepalive.look()
        await one.ended.wait()
        assert one.ending is not None
        assert one.ending.how is How.SILENT


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_a_relay_that_accepts_and_says_nothing_is_given_up(scheme: str) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        address = parse_address(f"{scheme}://127.0.0.1:{port}")
        dialer = Dialer(address, nursery, Keepalive(1, 1), deadline=0.2)
        with pytest.raises(RelayUnreachable, match=r"no \w+ within 0.2 s"):
            await dialer.dial()
    for listener in listeners:
        await listener.aclose()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere 127.0.0.1 is all there is")
async def test_connections_to_loopback_come_from_several_addresses() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    sources = set()
    async with trio.open_nursery() as nursery:
        address = parse_address(f"ws://127.0.0.1:{port}")
        dialer = Dialer(address, nursery, Keepalive(1, 1), deadline=0.1)
        for _ in range(2):
            with pytest.raises(RelayUnreachable):
                await dialer.dial()
            async with await listener.accept() as stream:
                sources.add(stream.socket.getpeername()[0])
    await listener.aclose()
    assert len(sources) == 2


ANSWER = b"HTTP/1.1 101 Switching\r\nupgrade: websocket\r\nSEC-WEBSOCKET-ACCEPT:  %s \r\n\r\nrest"


def test_the_handshake_is_read_in_any_pieces() -> None:
    for size in (1, 7, 1_000):
        handshake = Handshake(parse_address("ws://h:81/p?q"))
        assert handshake.request.startswith(b"GET /p?q HTTP/1.1\r\nHost: h:81\r\n")
        answer = ANSWER % handshake._expected.encode()
        whole = answer.index(b"\r\n\r\n") + 4
        rests = [
            handshake.feed(answer[first : min(first + size, whole)])
            for first in range(0, whole, size)
        ]
        assert rests[-1] == b""
        assert set(rests[:-1]) <= {None}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (ANSWER % b"wrong", "a wrong Sec-WebSocket-Accept"),
        (b"HTTP/1.1 301 Moved\r\nLocation: /x\r\n\r\n", "'301 Moved', see '/x'"),
        (b"SSH-2.0\r\n\r\n", "it does not speak HTTP: 'SSH-2.0'"),
        (b"x" * 20_000, "has no end"),
        (b"", "it ended the connection"),
    ],
)
def test_another_answer_to_the_handshake_is_named(answer: bytes, said: str) -> None:
    with pytest.raises(RelayUnreachable, match=said):
        Handshake(parse_address("ws://h")).feed(answer)


@pytest.mark.parametrize(
    ("url", "host", "port", "authority"),
    [
        ("ws://relay.example", "relay.example", 80, "relay.example"),
        ("wss://relay.example", "relay.example", 443, "relay.example"),
        ("wss://relay.example:80", "relay.example", 80, "relay.example:80"),
        ("ws://[::1]:7777/", "::1", 7777, "[::1]:7777"),
    ],
)
def test_a_url_is_taken_apart(url: str, host: str, port: int, authority: str) -> None:
    address = parse_address(url)
    assert (address.host, address.port, address.authority) == (host, port, authority)


@pytest.mark.parametrize("url", ["", "relay.example", "ws:///x", "ws://h:x", "ws://h/\n", "ws://é"])
def test_what_is_no_relays_url_is_refused(url: str) -> None:
    with pytest.raises(CheckError, match="is not a relay's URL"):
        parse_address(url)
