"""The fast lane against plain wsproto: whatever comes, both must make the same of it."""

import time
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    TextMessage,
)

from relay.session.transport.lane import BINARY, FastLane, Message
from relay.session.transport.size_limit import SizeLimit
from tests.session import wire

NO_LIMIT = 1 << 62
BAD_TEXT = ("close", 1007)


def opened(limit: int = NO_LIMIT) -> FastLane:
    lane = FastLane(limit)
    lane.receive_data(wire.UPGRADE)
    list(lane.events())
    lane.send(AcceptConnection())
    return lane


def outline(event: Event) -> tuple[str, object]:
    if isinstance(event, Ping):
        return "ping", bytes(event.payload)
    if isinstance(event, Pong):
        return "pong", bytes(event.payload)
    assert isinstance(event, CloseConnection)
    return "close", int(event.code)


@dataclass
class Heard:
    messages: list[Message] = field(default_factory=list)
    control: list[tuple[str, object]] = field(default_factory=list)


@dataclass
class Plain:
    """wsproto on its own."""

    connection: Connection
    heard: Heard = field(default_factory=Heard)
    parts: str = ""

    def feed(self, chunk: bytes) -> None:
        self.connection.receive_data(chunk)
        for event in self.connection.events():
            if isinstance(event, TextMessage):
                self.parts += event.data
                if event.message_finished:
                    self.heard.messages.append(self.parts.encode())
                    self.parts = ""
            elif isinstance(event, BytesMessage):
                if event.message_finished:
                    self.heard.messages.append(BINARY)
            else:
                self.heard.control.append(outline(event))


@dataclass
class Fast:
    lane: FastLane
    heard: Heard = field(default_factory=Heard)

    def feed(self, chunk: bytes) -> None:
        self.lane.receive_data(chunk)
        while True:
            self.heard.messages += self.lane.messages()
            self.heard.control += map(outline, self.lane.events())
            if not self.lane.has_backlog:
                break


def compare(plain: Plain, fast: Fast, chunks: list[bytes]) -> None:
    for chunk in chunks:
        plain.feed(chunk)
        fast.feed(chunk)
        assert fast.heard.messages == plain.heard.messages
        if fast.heard.control != plain.heard.control:
            # wsproto may see a bad character before its frame is whole.
            assert plain.heard.control == [*fast.heard.control, BAD_TEXT]
    if fast.heard.control != plain.heard.control:
        missing = fast.lane._partial_size - len(fast.lane._partial)
        assert missing > 0
        fast.feed(bytes(missing))
    assert fast.heard == plain.heard
    assert fast.lane.state == plain.connection.state


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_the_lane_hears_what_wsproto_hears(data: st.DataObject) -> None:
    frames = data.draw(wire.conversations())
    chunks = data.draw(wire.chunks(frames))
    compare(Plain(Connection(ConnectionType.SERVER)), Fast(opened()), chunks)


@settings(max_examples=200, deadline=None)
@given(st.data(), st.sampled_from([0, 1, 60, 125, 126, 300, 65535, 65536]))
def test_the_limit_is_the_same_on_and_beside_the_lane(data: st.DataObject, limit: int) -> None:
    frames = data.draw(wire.conversations())
    chunks = data.draw(wire.chunks(frames))
    plain = Plain(Connection(ConnectionType.SERVER, [SizeLimit(limit)]))
    compare(plain, Fast(opened(limit)), chunks)


@settings(deadline=None)
@given(st.data(), st.lists(st.lists(st.integers(0, 200), min_size=1, max_size=4), max_size=5))
def test_the_limit_counts_the_bytes_of_all_fragments(
    data: st.DataObject, messages: list[list[int]]
) -> None:
    limit = 300
    frames = []
    expected: list[Message] = []
    broken = False
    for fragments in messages:
        for number, length in enumerate(fragments):
            first = wire.TEXT if number == 0 else wire.CONTINUATION
            last = number == len(fragments) - 1
            payload = ("é" * (length // 2) + "x" * (length % 2)).encode()
            frames += [wire.frame(first | wire.FIN * last, payload), *data.draw(wire.controls())]
        broken = broken or sum(fragments) > limit
        if not broken:
            expected.append(b"".join(("é" * (n // 2) + "x" * (n % 2)).encode() for n in fragments))
    fast = Fast(opened(limit))
    for chunk in data.draw(wire.chunks(frames)):
        fast.feed(chunk)
    assert fast.heard.messages == expected
    assert (("close", 1009) in fast.heard.control) == broken


def test_control_frames_do_not_count_as_length() -> None:
    ping = wire.frame(wire.FIN | wire.PING, b"x" * 125)
    fragments = wire.frame(wire.TEXT, b"x" * 60) + ping + wire.frame(wire.FIN, b"x" * 40)
    fast = Fast(opened(limit=100))
    fast.feed(ping + fragments)
    assert fast.heard == Heard([b"x" * 100], [("ping", b"x" * 125)] * 2)


@pytest.mark.parametrize("first", [wire.FIN | wire.TEXT, wire.TEXT, wire.FIN | wire.BINARY_DATA])
def test_a_message_that_is_too_long_is_refused_from_its_header(first: int) -> None:
    fast = Fast(opened(limit=1000))
    fast.feed(wire.frame(first, length=1001))
    assert fast.heard.control == [("close", 1009)]
    fast.feed(bytes(1001) + wire.text("more"))
    assert fast.heard == Heard([], [("close", 1009)])


def test_the_lane_is_open_again_after_a_ping() -> None:
    # No chunk ends where a frame does. If wsproto got whole chunks it would stay in charge.
    stream = wire.frame(wire.FIN | wire.PING) + wire.text("x" * 300) * 10
    fast = Fast(opened())
    for at in range(0, len(stream), 101):
        fast.feed(stream[at : at + 101])
        assert not fast.lane._lane_closed
    assert len(fast.heard.messages) == 10


@pytest.mark.parametrize("frame", [wire.text(""), wire.frame(wire.FIN | wire.PING)])
def test_a_chunk_of_many_tiny_frames_is_worked_off_in_portions(frame: bytes) -> None:
    lane = opened()
    lane.receive_data(frame * 5000)
    calls = 0
    heard = 0
    while lane.has_backlog:
        heard += len(lane.messages()) + len(list(lane.events()))
        calls += 1
    assert heard == 5000
    assert calls >= 4


@pytest.mark.parametrize("chunk", [1, 100, 1000])
@pytest.mark.parametrize("whole", [True, False])
def test_a_long_message_in_small_chunks_takes_linear_time(chunk: int, whole: bool) -> None:
    text = b"x" * (100_000 if chunk == 1 else 500_000)
    stream = wire.text(text)
    if not whole:
        stream = wire.frame(wire.TEXT, text) + wire.frame(wire.FIN | wire.CONTINUATION)
    fast = Fast(opened(limit=500_000))
    started = time.process_time()
    for at in range(0, len(stream), chunk):
        fast.feed(stream[at : at + chunk])
    taken = time.process_time() - started
    assert fast.heard == Heard([text], [])
    # At most 1 s, for single bytes through wsproto. Copying all at every chunk takes minutes.
    assert taken < 10


def test_what_the_opening_handshake_needed_is_given_back() -> None:
    assert not hasattr(opened(), "handshake")
